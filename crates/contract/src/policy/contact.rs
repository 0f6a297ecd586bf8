//! How a customer is reached, over all channels.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::id::{AccountId, ChannelKind};
use crate::time::Millis;

/// Which messages of a customer belong to one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Continuity {
    /// All, by whatever channel they come: one open conversation per customer.
    #[default]
    Customer,
    /// Those that the rules would put where it is: one open conversation per rule.
    Topic,
    /// Those of the same thread: each mail thread, each number, each chat is a conversation of its own.
    Thread,
}

/// How a customer is reached, over all channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Contact {
    /// The account by which answers go that nobody fetched. Absent: they wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_by: Option<ContactAccount>,
    /// The kinds of medium whose answers may lie unread while the customer is away.
    pub unread_of: BTreeSet<ChannelKind>,
    /// How long an answer lies unread before it goes by `unread_by`.
    pub unread_after_ms: Millis,
    /// How long it is between two such messages to one customer, at least.
    pub unread_every_ms: Millis,
    /// How many answers go in one, at most: of more, the newest.
    pub unread_most: u32,
    /// Also to an address that the customer only claims: whoever has it then reads the answers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unread_to_claimed: bool,
    /// The subject of such a message.
    pub unread_subject: SmolStr,
    /// How long the token of a switch counts.
    pub switch_ms: Millis,
    /// What is written to the address that a conversation is to go on by.
    pub switch_text: SmolStr,
    /// By what customers may go on when they ask for it themselves. Empty: agents alone offer it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub switch_to: Vec<SwitchWay>,
    /// What is written to an address that a customer typed who wants to go on there. It says nothing of the
    /// conversation, since the address may be somebody else's.
    pub switch_asked_text: SmolStr,
    /// The subject of such a message.
    pub switch_asked_subject: SmolStr,
    /// What the customer is told then; `{address}` is the address.
    pub switch_told_text: SmolStr,
    /// What a customer is told who is to write there; `{address}` is where to, `{token}` what to write.
    pub switch_shown_text: SmolStr,
    /// What a customer is told whose wish cannot be met now.
    pub switch_refused_text: SmolStr,
    /// How often a customer may ask in an hour.
    pub switch_customer_hour_max: u32,
    /// How often one address is written to in a day, whoever typed it.
    pub switch_address_day_max: u32,
    /// How many addresses are written to in an hour, over all customers.
    pub switch_hour_max: u32,
    /// The kinds of medium that also show what is said by another while the conversation runs on both.
    pub mirrored_to: BTreeSet<ChannelKind>,
    /// Purposes for which a customer must have allowed it; others are allowed until they are forbidden.
    pub opt_in: BTreeSet<SmolStr>,
}

/// An account to send by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ContactAccount {
    /// The kind of medium.
    pub kind: ChannelKind,
    /// The account.
    pub account: AccountId,
}

/// An account by which customers may go on when they ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwitchWay {
    /// The kind of medium.
    pub kind: ChannelKind,
    /// The account.
    pub account: AccountId,
    /// What customers are shown; absent: the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// Where customers write to: a number, an address, or a link that holds `{token}`. Absent: they type an address of
    /// their own, and are written to there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SmolStr>,
}

impl Default for Contact {
    fn default() -> Self {
        let chat: BTreeSet<ChannelKind> = ChannelKind::new("chat").into_iter().collect();
        Self {
            unread_by: None,
            unread_of: chat.clone(),
            unread_after_ms: Millis::from_secs(600),
            unread_every_ms: Millis::from_secs(900),
            unread_most: 10,
            unread_to_claimed: false,
            unread_subject: SmolStr::new_static("Our answer to your message"),
            switch_ms: Millis::from_secs(24 * 3600),
            switch_text: SmolStr::new_static("Let us go on here: just answer this message."),
            switch_to: Vec::new(),
            switch_asked_text: SmolStr::new_static(
                "Somebody asked us to go on by this address. If it was you, just answer this message: the conversation \
                 then goes on here. If it was not you, please do not answer; nothing will happen.",
            ),
            switch_asked_subject: SmolStr::new_static("Shall we go on here?"),
            switch_told_text: SmolStr::new_static(
                "A message is on its way to {address}, if we may write there. Answer it, and we go on there. You can \
                 stay here as well.",
            ),
            switch_shown_text: SmolStr::new_static("Write to us at {address} and send this along: {token}"),
            switch_refused_text: SmolStr::new_static("That is not possible now. Please try again later."),
            switch_customer_hour_max: 3,
            switch_address_day_max: 3,
            switch_hour_max: 200,
            mirrored_to: chat,
            opt_in: BTreeSet::from([SmolStr::new_static("marketing")]),
        }
    }
}
