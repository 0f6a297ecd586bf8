//! What makes two addresses the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::id::AccountId;
use crate::time::Millis;

/// How long a customer is silent before what is known of it leaves memory, unless the policy says otherwise.
const REST_AFTER: Millis = Millis::from_secs(30 * 24 * 3600);

/// What makes two addresses the same, and which of them say nothing about who somebody is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Identities {
    /// Where telephone numbers without a country code are from (ISO 3166, `DE`), unless the account says better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<SmolStr>,
    /// The same by account. Absent: the country of the account's own number, then `region`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<AccountId, SmolStr>,
    /// `ann+shop@example.com` is `ann@example.com`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_plus_tags: bool,
    /// Mail domains where dots before the `@` do not count.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ignore_dots: BTreeSet<SmolStr>,
    /// How many identities of a scheme a customer may have. Absent: 1 `login`, 5 `email`, 5 `tel`, 64 of all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub most: BTreeMap<SmolStr, u32>,
    /// Values by scheme that belong to nobody: a front desk's number, a shared mailbox, a kiosk's login. They are
    /// neither linked nor followed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub blocked: BTreeMap<SmolStr, BTreeSet<SmolStr>>,
    /// How long a customer who has nothing open is silent before what is known of it leaves memory and lies in the
    /// key-value side alone, until it is heard of again. 0: never.
    #[serde(skip_serializing_if = "is_usual")]
    pub rest_after_ms: Millis,
    /// How long such a customer is silent before it is forgotten by itself, as `customer.erase` does. 0: never.
    #[serde(skip_serializing_if = "is_never")]
    pub forget_after_ms: Millis,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            region: None,
            regions: BTreeMap::new(),
            ignore_plus_tags: false,
            ignore_dots: BTreeSet::new(),
            most: BTreeMap::new(),
            blocked: BTreeMap::new(),
            rest_after_ms: REST_AFTER,
            forget_after_ms: Millis(0),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_usual(after: &Millis) -> bool {
    *after == REST_AFTER
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_never(after: &Millis) -> bool {
    after.0 == 0
}
