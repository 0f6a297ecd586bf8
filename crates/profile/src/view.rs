//! A customer as tools see it.

use contract::CustomerId;
use contract::answer::CustomerView;

use crate::state::State;

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
