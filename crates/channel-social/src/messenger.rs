//! Messenger: what pages write and read, by [`page`](crate::page).

use adapter::{AccountFile, Prepared, Problem};

use crate::meta::Register;
use crate::page::{self, Product};

/// Checks an account's settings.
///
/// # Errors
/// With every problem, by path.
pub(crate) fn prepare(file: &AccountFile, register: &Register) -> Result<Box<dyn Prepared>, Vec<Problem>> {
    page::prepare(file, Product::Messenger, register)
}
