//! The pure half from outside, for the fuzzer.

use std::path::Path;
use std::sync::Arc;

use adapter::contract::envelope::Account;
use adapter::contract::{AccountId, ChannelKind, TenantId};
use adapter::webhook::{Hook, Request, Siblings, Verdict};

use crate::expr::{Eval, Expr, Type};
use crate::hook::Endpoint;
use crate::settings::Settings;

/// The hook of no one's account that believes every request, by the settings of its file.
#[must_use]
pub fn endpoint(settings: &str) -> Option<impl Fn(&Request) -> Verdict + use<>> {
    let table: adapter::toml::Table = adapter::toml::from_str(settings).ok()?;
    let table = table.get("settings")?.as_table()?.clone();
    let settings = Settings::read(&table, Path::new("")).ok()?;
    let account = Account {
        kind: ChannelKind::new("webhook").ok()?,
        id: AccountId::new("fuzz").ok()?,
        provider: None,
        address: None,
    };
    let endpoint = Endpoint::trusting(Arc::new(settings), TenantId::new("main").ok()?, account);
    Some(move |request: &Request| endpoint.receive(request, &Siblings::of([])))
}

/// Reads an account's settings.
pub fn settings(text: &str) {
    if let Ok(table) = adapter::toml::from_str(text) {
        let _ = Settings::read(&table, Path::new(""));
    }
}

/// Reads an expression and evaluates it on a value.
pub fn expression(text: &str, value: &adapter::serde_json::Value) {
    const VARIABLES: &[(&str, Type)] = &[("item", Type::Any)];
    if let Ok((expr, _)) = Expr::read(text, VARIABLES, &[]) {
        let variables = [std::borrow::Cow::Borrowed(value)];
        let mut budget = 100_000;
        let mut eval = Eval { variables: &variables, locals: Vec::new(), budget: &mut budget };
        let _ = eval.value(&expr);
    }
}
