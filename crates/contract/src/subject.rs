//! Every subject of the bus: the one place that writes and reads them.

use std::fmt::Write;

use crate::id::{AccountId, AgentId, ChannelKind, ConversationId, CustomerId, TenantId};
use crate::token::{self, encode_into};

/// What every subject begins with.
pub const PREFIX: &str = "tl.v1";

/// Joins encoded tokens onto the prefix and a fixed middle.
fn build(fixed: &str, tokens: &[&str]) -> String {
    let mut subject = String::with_capacity(64);
    subject.push_str(PREFIX);
    subject.push('.');
    subject.push_str(fixed);
    for token in tokens {
        subject.push('.');
        encode_into(&mut subject, token);
    }
    subject
}

/// `tl.v1.in.<shard>.<tenant>.<kind>.<account>`: where an adapter publishes.
#[must_use]
pub fn inbound(shard: u16, tenant: &TenantId, kind: &ChannelKind, account: &AccountId) -> String {
    build(&format!("in.{shard}"), &[tenant.as_str(), kind.as_str(), account.as_str()])
}

/// `tl.v1.in.<tenant>.<kind>.<account>`: where an adapter publishes that does not know shards.
#[must_use]
pub fn inbound_unsharded(tenant: &TenantId, kind: &ChannelKind, account: &AccountId) -> String {
    build("in", &[tenant.as_str(), kind.as_str(), account.as_str()])
}

/// Everything inbound of one shard.
#[must_use]
pub fn inbound_all(shard: u16) -> String {
    format!("{PREFIX}.in.{shard}.*.*.*")
}

/// What an inbound subject names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The shard.
    pub shard: u16,
    /// The tenant.
    pub tenant: TenantId,
    /// The channel kind.
    pub kind: ChannelKind,
    /// The account.
    pub account: AccountId,
}

/// Reads an inbound subject.
#[must_use]
pub fn parse_inbound(subject: &str) -> Option<Inbound> {
    let mut tokens = subject.strip_prefix("tl.v1.in.")?.split('.');
    let parsed = Inbound {
        shard: tokens.next()?.parse().ok()?,
        tenant: TenantId::new(token::decode(tokens.next()?)?).ok()?,
        kind: ChannelKind::new(token::decode(tokens.next()?)?).ok()?,
        account: AccountId::new(token::decode(tokens.next()?)?).ok()?,
    };
    tokens.next().is_none().then_some(parsed)
}

/// What a shard writes of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// The records.
    Log,
    /// The owners.
    Epoch,
    /// The snapshots.
    Checkpoint,
}

/// `tl.v1.journal.<shard>.<log|epoch|checkpoint>`.
#[must_use]
pub fn journal(shard: u16, which: Journal) -> String {
    let which = match which {
        Journal::Log => "log",
        Journal::Epoch => "epoch",
        Journal::Checkpoint => "checkpoint",
    };
    format!("{PREFIX}.journal.{shard}.{which}")
}

/// Everything a shard writes of itself.
#[must_use]
pub fn journal_all(shard: u16) -> String {
    format!("{PREFIX}.journal.{shard}.*")
}

/// `tl.v1.owner.<shard>`: answered by the shard's owner, and by nobody else.
#[must_use]
pub fn owner(shard: u16) -> String {
    format!("{PREFIX}.owner.{shard}")
}

/// `tl.v1.out.<tenant>.<kind>.<account>`: what a channel is to send.
#[must_use]
pub fn out(tenant: &TenantId, kind: &ChannelKind, account: &AccountId) -> String {
    build("out", &[tenant.as_str(), kind.as_str(), account.as_str()])
}

/// Everything outbound of one channel kind.
#[must_use]
pub fn out_kind(kind: &ChannelKind) -> String {
    format!("{PREFIX}.out.*.{}.*", token::encode(kind.as_str()))
}

/// `tl.v1.event.<tenant>.<noun>.<customer>`: facts; `-` where none concerns a customer.
#[must_use]
pub fn event(tenant: &TenantId, noun: &str, customer: Option<CustomerId>) -> String {
    let mut subject = build("event", &[tenant.as_str()]);
    // Nouns are plain tokens and customers are letter and digits: neither needs encoding.
    let _ = match customer {
        Some(customer) => write!(subject, ".{noun}.{customer}"),
        None => write!(subject, ".{noun}.-"),
    };
    subject
}

/// All facts of one customer.
#[must_use]
pub fn event_customer(tenant: &TenantId, customer: CustomerId) -> String {
    format!("{}.*.{customer}", build("event", &[tenant.as_str()]))
}

/// The messages of one customer.
#[must_use]
pub fn event_messages(tenant: &TenantId, customer: CustomerId) -> String {
    event(tenant, "message", Some(customer))
}

/// The notes about one customer.
#[must_use]
pub fn event_notes(tenant: &TenantId, customer: CustomerId) -> String {
    event(tenant, "note", Some(customer))
}

/// `tl.v1.agent.<tenant>.<agent>.<noun>.<past>`: one item of an agent's feed; `name` is the event's.
#[must_use]
pub fn feed(tenant: &TenantId, agent: &AgentId, name: &str) -> String {
    format!("{}.{name}", build("agent", &[tenant.as_str(), agent.as_str()]))
}

/// The name under which heartbeats go on a feed.
pub const FEED_HEARTBEAT: &str = "feed.beat";

/// The whole feed of an agent.
#[must_use]
pub fn feed_all(tenant: &TenantId, agent: &AgentId) -> String {
    format!("{}.>", build("agent", &[tenant.as_str(), agent.as_str()]))
}

/// `tl.v1.cmd.<tenant>.agent.<agent>.<noun>.<verb>`: a command of an agent's tool.
#[must_use]
pub fn agent_command(tenant: &TenantId, agent: &AgentId, verb: &str) -> String {
    format!("{}.agent.{}.{verb}", build("cmd", &[tenant.as_str()]), token::encode(agent.as_str()))
}

/// `tl.v1.cmd.<tenant>.admin.<noun>.<verb>`: a command of an operator.
#[must_use]
pub fn admin_command(tenant: &TenantId, verb: &str) -> String {
    format!("{}.admin.{verb}", build("cmd", &[tenant.as_str()]))
}

/// `tl.v1.cmd.<tenant>.channel.<kind>.<account>.<noun>.<verb>`: a question of a channel adapter.
#[must_use]
pub fn channel_query(tenant: &TenantId, kind: &ChannelKind, account: &AccountId, verb: &str) -> String {
    format!(
        "{}.channel.{}.{}.{verb}",
        build("cmd", &[tenant.as_str()]),
        token::encode(kind.as_str()),
        token::encode(account.as_str())
    )
}

/// Who sent a command, and what it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The tenant.
    pub tenant: TenantId,
    /// The sender.
    pub sender: Sender,
    /// What it asks, `noun.verb`.
    pub verb: String,
}

/// Who sent a command. The bus's permissions make it true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// An agent's tool.
    Agent(AgentId),
    /// An operator's.
    Admin,
    /// A channel adapter, for one account.
    Channel(ChannelKind, AccountId),
}

/// Reads the subject of a command.
#[must_use]
pub fn parse_command(subject: &str) -> Option<Command> {
    let mut tokens = subject.strip_prefix("tl.v1.cmd.")?.split('.');
    let tenant = TenantId::new(token::decode(tokens.next()?)?).ok()?;
    let sender = match tokens.next()? {
        "agent" => Sender::Agent(AgentId::new(token::decode(tokens.next()?)?).ok()?),
        "admin" => Sender::Admin,
        "channel" => Sender::Channel(
            ChannelKind::new(token::decode(tokens.next()?)?).ok()?,
            AccountId::new(token::decode(tokens.next()?)?).ok()?,
        ),
        _ => return None,
    };
    let (noun, verb) = (tokens.next()?, tokens.next()?);
    tokens.next().is_none().then(|| Command { tenant, sender, verb: format!("{noun}.{verb}") })
}

/// `tl.v1.live.<tenant>.<conversation>.<what>`: typing, presence and other lossy signals.
#[must_use]
pub fn live(tenant: &TenantId, conversation: ConversationId, what: &str) -> String {
    format!("{}.{conversation}.{what}", build("live", &[tenant.as_str()]))
}

/// All live signals of a tenant.
#[must_use]
pub fn live_all(tenant: &TenantId) -> String {
    format!("{}.>", build("live", &[tenant.as_str()]))
}

/// `tl.v1.lookup.<tenant>`: asks who a customer is.
#[must_use]
pub fn lookup(tenant: &TenantId) -> String {
    build("lookup", &[tenant.as_str()])
}

/// `tl.v1.classify.<tenant>`: asks what a conversation is about.
#[must_use]
pub fn classify(tenant: &TenantId) -> String {
    build("classify", &[tenant.as_str()])
}

/// `tl.v1.dead.<tenant>.<stage>`: what could not be processed.
#[must_use]
pub fn dead(tenant: &TenantId, stage: &str) -> String {
    build("dead", &[tenant.as_str(), stage])
}

/// All dead letters of a tenant.
#[must_use]
pub fn dead_all(tenant: &TenantId) -> String {
    format!("{}.*", build("dead", &[tenant.as_str()]))
}

/// Whether a subject is one of a tenant's dead letters.
#[must_use]
pub fn is_dead_of(subject: &str, tenant: &TenantId) -> bool {
    let prefix = build("dead", &[tenant.as_str()]);
    subject.strip_prefix(&prefix).is_some_and(|stage| stage.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn name()(text in "[^\\pC]{1,32}") -> String { text }
    }

    proptest! {
        #[test]
        fn inbound_round_trips(shard in 0u16..64, tenant in name(), kind in name(), account in name()) {
            let expected = Inbound {
                shard,
                tenant: TenantId::new(tenant).unwrap(),
                kind: ChannelKind::new(kind).unwrap(),
                account: AccountId::new(account).unwrap(),
            };
            let subject = inbound(shard, &expected.tenant, &expected.kind, &expected.account);
            prop_assert_eq!(parse_inbound(&subject), Some(expected));
        }

        #[test]
        fn commands_round_trip(tenant in name(), agent in name()) {
            let (tenant, agent) = (TenantId::new(tenant).unwrap(), AgentId::new(agent).unwrap());
            let subject = agent_command(&tenant, &agent, "offer.accept");
            prop_assert_eq!(
                parse_command(&subject),
                Some(Command { tenant, sender: Sender::Agent(agent), verb: "offer.accept".into() })
            );
        }
    }

    #[test]
    fn foreign_subjects_are_refused() {
        for bad in [
            "tl.v1.in.0.main.chat",
            "tl.v1.in.x.main.chat.web",
            "tl.v2.in.0.main.chat.web",
            "tl.v1.in.0.main.chat.web.x",
            "tl.v1.in.0.main.ch=2.web",
        ] {
            assert_eq!(parse_inbound(bad), None, "{bad}");
        }
        for bad in ["tl.v1.cmd.main.agent.anna.accept", "tl.v1.cmd.main.root.a.b", "tl.v1.cmd.main.admin.a.b.c"] {
            assert_eq!(parse_command(bad), None, "{bad}");
        }
    }
}
