//! Who may do what on the bus: least privilege, by the server and not by good manners.
//!
//! Every user has an inbox of its own, `_INBOX_<user>.>`, that nobody else may listen to. Requests
//! are answered by the router alone, so it alone may publish to the inboxes of others.

use contract::token::encode;

use crate::embedded::User;
use crate::topology::{self, CURSORS, DEAD, EVENTS, FETCH, LEDGER, MEDIA, MEMORY, OUT};

/// The user of the router.
pub const ROUTER: &str = "router";
/// The user of operators.
pub const ADMIN: &str = "admin";

/// `adapter-<kind>`: the user of a channel's adapter.
#[must_use]
pub fn adapter_user(kind: &str) -> String {
    format!("adapter-{}", encode(kind))
}

/// `agent-<tenant>-<agent>`: the user of an agent's tools. A dash of the tenant's own is written
/// `=2D`, or two agents could share a name.
#[must_use]
pub fn agent_user(tenant: &str, agent: &str) -> String {
    format!("agent-{}-{}", encode(tenant).replace('-', "=2D"), encode(agent))
}

fn inbox(user: &str) -> String {
    format!("_INBOX_{user}.>")
}

/// May look at a stream and read it, as readers, scans and gets of this crate do.
fn reading(publish: &mut Vec<String>, stream: &str, filter: &str) {
    publish.push(format!("$JS.API.STREAM.INFO.{stream}"));
    publish.push(format!("$JS.API.STREAM.MSG.GET.{stream}"));
    publish.push(format!("$JS.API.CONSUMER.CREATE.{stream}.*.{filter}"));
    publish.push(format!("$JS.API.CONSUMER.DELETE.{stream}.*"));
    publish.push(format!("$JS.FC.{stream}.>"));
}

/// The router: the whole bus of its account. It answers requests, so it must be able to publish to
/// every inbox, and those have no common prefix; it listens only to what is its own.
#[must_use]
pub fn router() -> User {
    User {
        name: ROUTER.into(),
        publish: vec![">".into()],
        subscribe: vec!["tl.v1.>".into(), "$SRV.>".into(), "$KV.>".into(), "$JS.EVENT.>".into(), inbox(ROUTER)],
        answers: false,
    }
}

/// An operator: admin commands, putting dead messages back, reading what is dead and what happened, taking dead messages away,
/// reading the buckets, discovery.
#[must_use]
pub fn admin() -> User {
    let mut publish = vec![
        "tl.v1.cmd.*.admin.>".into(),
        // Dead letters go back to where they came from.
        "tl.v1.in.>".into(),
        "tl.v1.out.>".into(),
        "$SRV.>".into(),
        "$JS.API.INFO".into(),
        "$JS.API.STREAM.NAMES".into(),
        "$JS.API.STREAM.LIST".into(),
        "$JS.API.STREAM.INFO.*".into(),
        "$JS.API.CONSUMER.LIST.*".into(),
        "$JS.API.CONSUMER.INFO.*.*".into(),
        format!("$JS.API.STREAM.MSG.DELETE.{DEAD}"),
        inbox(ADMIN),
    ];
    reading(&mut publish, DEAD, ">");
    reading(&mut publish, EVENTS, ">");
    for bucket in [
        topology::CUSTOMERS,
        topology::IDENTITIES,
        topology::CONVERSATIONS,
        topology::AGENTS,
        topology::POLICY,
        topology::CHANNELS,
        topology::MEMBERS,
        topology::LEDGER,
        topology::CURSORS,
        topology::MEMORY,
    ] {
        reading(&mut publish, &format!("KV_{bucket}"), ">");
    }
    // A customer is given what is stored of it, with its attachments.
    reading(&mut publish, &format!("OBJ_{MEDIA}"), ">");
    let subscribe = vec!["tl.v1.event.>".into(), "tl.v1.dead.>".into(), inbox(ADMIN)];
    User { name: ADMIN.into(), publish, subscribe, answers: false }
}

/// `hook-<kind>`: the stage of dead letters that came by a channel's webhook.
#[must_use]
pub fn hook_stage(kind: &str) -> String {
    format!("hook-{}", encode(kind))
}

/// A channel's adapter: writes only its own inbound subjects, reads only its own outbound ones, and works off what it put
/// aside to fetch. In
/// the buckets `channels` (`<tenant>.<kind>.<account>`), `ledger`, `cursors` and `memory` (`<kind>.…`) it writes the keys of
/// its kind. It can read the others', since a read by the leader is not told apart by key.
#[must_use]
pub fn adapter(kind: &str) -> User {
    let name = adapter_user(kind);
    let (durable, fetches, hooks) = (topology::out_consumer(kind), topology::fetch_consumer(kind), hook_stage(kind));
    let kind = encode(kind);
    let channels = topology::CHANNELS;
    let mut publish = vec![
        format!("tl.v1.in.*.*.{kind}.*"),
        // The same without the shard; the account's mapping puts it in.
        format!("tl.v1.in.*.{kind}.*"),
        format!("tl.v1.cmd.*.channel.{kind}.>"),
        "tl.v1.live.>".into(),
        format!("tl.v1.fetch.*.{kind}.*"),
        format!("tl.v1.dead.*.{}", encode(&hooks)),
        format!("$KV.{channels}.*.{kind}.*"),
        format!("$KV.{LEDGER}.{kind}.>"),
        format!("$KV.{CURSORS}.{kind}.>"),
        format!("$KV.{MEMORY}.{kind}.>"),
        format!("$O.{MEDIA}.>"),
        format!("$JS.API.STREAM.PURGE.OBJ_{MEDIA}"),
        inbox(&name),
    ];
    for (stream, durable) in [(OUT, &durable), (FETCH, &fetches)] {
        publish.extend([
            // The stage is named after the consumer.
            format!("tl.v1.dead.*.{}", encode(durable)),
            format!("$JS.API.CONSUMER.INFO.{stream}.{durable}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"),
            format!("$JS.ACK.{stream}.{durable}.>"),
            // The form with domain and account.
            format!("$JS.ACK.*.*.{stream}.{durable}.>"),
        ]);
    }
    reading(&mut publish, &format!("KV_{channels}"), &format!("$KV.{channels}.*.{kind}.*"));
    for bucket in [LEDGER, CURSORS, MEMORY] {
        reading(&mut publish, &format!("KV_{bucket}"), &format!("$KV.{bucket}.{kind}.>"));
    }
    reading(&mut publish, &format!("OBJ_{MEDIA}"), &format!("$O.{MEDIA}.>"));
    let subscribe = vec!["tl.v1.live.>".into(), inbox(&name)];
    User { name, publish, subscribe, answers: false }
}

/// An agent's tools: that agent's feed and commands, typing in the tenant's conversations.
#[must_use]
pub fn agent(tenant: &str, agent: &str) -> User {
    let name = agent_user(tenant, agent);
    let (tenant, agent) = (encode(tenant), encode(agent));
    User {
        publish: vec![
            format!("tl.v1.cmd.{tenant}.agent.{agent}.>"),
            format!("tl.v1.live.{tenant}.*.typing"),
            inbox(&name),
        ],
        subscribe: vec![format!("tl.v1.agent.{tenant}.{agent}.>"), format!("tl.v1.live.{tenant}.>"), inbox(&name)],
        answers: false,
        name,
    }
}

/// `classifier-<tenant>`: the user of a program that says what conversations are about.
#[must_use]
pub fn classifier_user(tenant: &str) -> String {
    format!("classifier-{}", encode(tenant).replace('-', "=2D"))
}

/// A classifier: hears the questions of its tenant, and answers what it was asked.
#[must_use]
pub fn classifier(tenant: &str) -> User {
    let name = classifier_user(tenant);
    User {
        publish: vec![inbox(&name)],
        subscribe: vec![format!("tl.v1.classify.{}", encode(tenant)), inbox(&name)],
        answers: true,
        name,
    }
}

/// `lookup-<tenant>`: the user of a program that knows the company's customers.
#[must_use]
pub fn lookup_user(tenant: &str) -> String {
    format!("lookup-{}", encode(tenant).replace('-', "=2D"))
}

/// A lookup: hears who its tenant asks for, and answers what it was asked.
#[must_use]
pub fn lookup(tenant: &str) -> User {
    let name = lookup_user(tenant);
    User {
        publish: vec![inbox(&name)],
        subscribe: vec![format!("tl.v1.lookup.{}", encode(tenant)), inbox(&name)],
        answers: true,
        name,
    }
}

/// The router, operators, one adapter per kind and the agents (tenant, agent).
#[must_use]
pub fn all(kinds: &[&str], agents: &[(&str, &str)]) -> Vec<User> {
    let mut users = vec![router(), admin()];
    users.extend(kinds.iter().map(|kind| adapter(kind)));
    users.extend(agents.iter().map(|(tenant, name)| agent(tenant, name)));
    let mut tenants: Vec<&str> = agents.iter().map(|(tenant, _)| *tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    for tenant in tenants {
        users.extend([classifier(tenant), lookup(tenant)]);
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_token_and_never_shared() {
        assert_eq!(agent_user("main", "anna"), "agent-main-anna");
        assert_ne!(agent_user("a-b", "c"), agent_user("a", "b-c"));
        assert_eq!(agent_user("main", "anna@example.org"), "agent-main-anna=40example=2Eorg");
        for user in all(&["chat", "e mail"], &[("main", "a b")]) {
            assert!(!user.name.contains(['.', ' ', '*', '>']), "{}", user.name);
        }
    }

    #[test]
    fn an_agent_sees_one_feed() {
        let user = agent("main", "anna");
        assert_eq!(user.subscribe, ["tl.v1.agent.main.anna.>", "tl.v1.live.main.>", "_INBOX_agent-main-anna.>"]);
        assert!(!user.publish.iter().any(|subject| subject.starts_with("$JS") || subject == ">"));
    }
}
