//! Opening hours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// When something is open, on the wall clock of a place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// The place, as in the IANA time zone database: `Europe/Berlin`.
    pub time_zone: SmolStr,
    /// By day of the week: spans like `09:00-12:30`, as many as there are shifts. The end may be `24:00`;
    /// a span that ends before it begins goes on over midnight. A day that is absent is closed.
    #[serde(default)]
    pub week: Week,
    /// Days that are other than their day of the week: by date, like `2026-12-24`, or `12-25` for every year.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holidays: BTreeMap<SmolStr, Holiday>,
}

/// Spans by day of the week.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Week {
    /// Monday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mon: Vec<SmolStr>,
    /// Tuesday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tue: Vec<SmolStr>,
    /// Wednesday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wed: Vec<SmolStr>,
    /// Thursday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thu: Vec<SmolStr>,
    /// Friday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fri: Vec<SmolStr>,
    /// Saturday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sat: Vec<SmolStr>,
    /// Sunday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sun: Vec<SmolStr>,
}

/// A day that is other than its day of the week.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Holiday {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<SmolStr>,
    /// When it is open all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<SmolStr>,
}
