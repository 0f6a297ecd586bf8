//! A customer as tools see it.

use contract::{CustomerId, SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::{Held, State};

/// A customer; also the value in the `customers` bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerView {
    /// Who.
    pub customer: CustomerId,
    /// The name to show.
    pub display: Option<SmolStr>,
    /// When it was first met.
    pub created_at: Timestamp,
    /// Its identities.
    pub identities: Vec<Held>,
}

impl State {
    /// A customer as tools see it.
    #[must_use]
    pub fn view(&self, id: CustomerId) -> Option<CustomerView> {
        let customer = self.customer(id)?;
        Some(CustomerView {
            customer: id,
            display: customer.display.clone(),
            created_at: customer.created_at,
            identities: customer.identities.clone(),
        })
    }
}
