//! The wall over answers made up on the spot, to work on the page without a router:
//! `cargo run -p throughline-desk --example preview -- 127.0.0.1:8090 [down]`.

use std::error::Error;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::TenantId;
use contract::command::AdminCommand;
use serde_json::{Value, json};

type Problem = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8090".to_owned());
    let down = arguments.next().is_some_and(|word| word == "down");
    let ask = move |question: AdminCommand| async move {
        if down {
            return Err(throughline_desk::Failure::unreachable("no router is running for this tenant"));
        }
        let reply = match question {
            AdminCommand::StatusShow { .. } => done("status", status()),
            AdminCommand::AgentList {} => done("agents", agents()),
            AdminCommand::ConversationList { .. } => done("conversations", conversations()),
            AdminCommand::ConversationExplain { conversation } => explain(&conversation.to_string()),
            _ => refused(),
        };
        Ok(reply.to_string().into_bytes())
    };
    let listener = tokio::net::TcpListener::bind(&address).await?;
    axum::serve(listener, throughline_desk::router_asking(ask, TenantId::new("main")?)).await?;
    Ok(())
}

fn done(kind: &str, value: Value) -> Value {
    json!({ "id": "", "ok": true, "result": { "type": kind, "value": value } })
}

fn refused() -> Value {
    json!({ "id": "", "ok": false, "refusal": { "kind": "not_found", "message": "there is no such conversation" } })
}

/// So many seconds before the preview began.
#[expect(clippy::disallowed_methods, reason = "a preview has no other clock to show times by")]
fn ago(seconds: u64) -> u64 {
    static BEGUN: LazyLock<Duration> =
        LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    u64::try_from(BEGUN.as_millis()).unwrap_or_default().saturating_sub(seconds * 1000)
}

fn status() -> Value {
    json!({
        "counts": {
            "conversations": { "waiting": 4, "offered": 1, "active": 7, "parked": 1, "wrapping": 1 },
            "agents": { "available": 3, "busy": 1, "away": 1, "offline": 1, "disconnected": 1 },
            "waiting": { "orders": 1, "billing:de": 3 },
            "oldest_ready_at": { "orders": ago(14), "billing:de": ago(767) },
            "policy_version": 3
        },
        "customers": 1204,
        "shard": {
            "shard": 5, "epoch": 12, "owner": "router-7f9c",
            "seq": 48211, "cursor": 90112, "outputs_done": 48211, "kv_done": 48208
        }
    })
}

fn agent(id: &str, name: &str, presence: &str, connected: bool, load: u32, queues: &[&str], held: &[&str]) -> Value {
    json!({
        "agent": id, "name": name, "presence": presence, "connected": connected, "load": load, "capacity": 100,
        "queues": queues, "conversations": held
    })
}

fn agents() -> Value {
    json!([
        agent("anna", "Anna Weber", "available", true, 75, &["orders", "returns"], &["c17", "c20", "c31"]),
        agent("ben", "Ben", "available", true, 25, &["orders"], &["c44"]),
        agent("cleo", "Cleo", "available", true, 100, &["billing:de"], &["c18", "c19"]),
        agent("dan", "Dan", "away", true, 25, &["billing:de"], &["c25"]),
        agent("eve", "Eve", "busy", true, 125, &["billing:de", "orders"], &["c21", "c26"]),
        agent("fay", "Fay", "available", false, 0, &["orders"], &[]),
        agent("gus", "gus", "offline", false, 0, &["returns"], &[]),
    ])
}

#[expect(clippy::too_many_arguments, reason = "one line per conversation reads best")]
fn conversation(
    number: u64,
    name: Option<&str>,
    state: &str,
    queue: &str,
    agent: Option<&str>,
    opened: u64,
    ready: u64,
    channels: &[&str],
) -> Value {
    let threads: Vec<Value> = channels
        .iter()
        .map(|kind| json!({ "account": { "kind": kind, "id": "main" }, "thread": { "key": format!("t{number}") } }))
        .collect();
    json!({
        "conversation": format!("c{number}"), "customer": format!("u{}", number + 100), "customer_name": name,
        "state": state, "queue": queue, "agent": agent, "priority": 0,
        "requirement": { "skills": { "lang:de": 3 } }, "threads": threads,
        "opened_at": ago(opened), "ready_at": ago(ready)
    })
}

fn conversations() -> Value {
    json!([
        conversation(17, Some("Ada Lovelace"), "active", "orders", Some("anna"), 1900, 1900, &["email", "chat"]),
        conversation(18, Some("<b>Bobby</b> & Söhne"), "active", "billing:de", Some("cleo"), 700, 700, &["whatsapp"]),
        conversation(19, None, "active", "billing:de", Some("cleo"), 650, 650, &["chat"]),
        conversation(20, Some("Grace"), "active", "returns", Some("anna"), 620, 620, &["email"]),
        conversation(21, Some("Linus"), "active", "orders", Some("eve"), 600, 600, &["sms"]),
        conversation(25, Some("Barbara"), "active", "billing:de", Some("dan"), 5400, 5400, &["voice"]),
        conversation(26, Some("Edsger"), "wrapping", "billing:de", Some("eve"), 540, 540, &["chat"]),
        conversation(31, Some("Alan"), "parked", "returns", Some("anna"), 90_000, 90_000, &["email"]),
        conversation(40, Some("Margaret Hamilton"), "waiting", "billing:de", None, 767, 767, &["chat"]),
        conversation(41, None, "waiting", "billing:de", None, 303, 303, &["email"]),
        conversation(42, Some("Annie"), "waiting", "billing:de", None, 61, 61, &["whatsapp"]),
        conversation(43, Some("Katherine Johnson"), "waiting", "orders", None, 14, 14, &["chat"]),
        conversation(44, Some("Radia"), "active", "orders", Some("ben"), 88, 88, &["chat"]),
        conversation(45, Some("Hedy"), "offered", "orders", Some("ben"), 6, 6, &["email"]),
    ])
}

fn decision(first: &str) -> Value {
    json!({
        "eligible": [{ "agent": first, "load": 25, "capacity": 100 }],
        "excluded": [
            { "agent": "cleo", "because": { "rule": "missing_skill", "skill": "lang:de", "needed": 3, "has": 1 } },
            { "agent": "fay", "because": { "rule": "disconnected" } }
        ],
        "unlisted": 2,
        "tie_break": "only_candidate"
    })
}

fn explain(id: &str) -> Value {
    let all = conversations();
    let Some(view) = all.as_array().and_then(|all| all.iter().find(|view| view["conversation"] == id)) else {
        return refused();
    };
    let waits = view["state"] == "waiting";
    let fact = |index: u32, seconds: u64, name: &str, data: Value| {
        json!({
            "position": format!("5.48000.{index}"), "tenant": "main", "at": ago(seconds), "conversation": id,
            "event": { "type": name, "data": data }
        })
    };
    let thread = json!({ "account": { "kind": "chat", "id": "main" }, "thread": { "key": "t" } });
    let offer = |number: u32, agent: &str| json!({ "offer": format!("o{number}"), "conversation": id, "agent": agent });
    let made = |number: u32, agent: &str, seconds: u64| {
        json!({
            "offer": format!("o{number}"), "conversation": id, "agent": agent,
            "expires_at": ago(seconds) + 30_000, "decision": decision(agent)
        })
    };
    let declined = json!({ "offer": "o9", "conversation": id, "agent": "dan", "reason": "lunch" });
    let envelope = json!({
        "v": 1, "kind": "message", "tenant": "main", "account": { "kind": "chat", "id": "main" },
        "dedup_key": "t/1", "direction": "in", "thread": { "key": "t" },
        "sender": { "identity": { "scheme": "visitor", "value": "7Qk2", "scope": "account", "scope_id": "main" } },
        "sender_auth": { "level": "unverified" }, "received_at": ago(767),
        "content": [{ "type": "text", "body": "not for the wall" }]
    });
    let summary =
        if waits { "waits: none of 4 members can take it now".to_owned() } else { "is with somebody".to_owned() };
    done(
        "conversation",
        json!({
            "conversation": view,
            "explanation": {
                "conversation": view, "waiting_ms": 767_000, "position": waits.then_some(0),
                "asked": ["dan", "eve"], "round": 2, "summary": summary,
                "now": {
                    "eligible": [],
                    "excluded": [
                        { "agent": "cleo", "because": { "rule": "full", "load": 100, "capacity": 100 } },
                        { "agent": "dan", "because": { "rule": "presence", "presence": "away" } },
                        { "agent": "eve", "because": { "rule": "already_asked" } },
                        { "agent": "fay", "because": { "rule": "disconnected" } },
                        { "agent": "gus", "because": {
                            "rule": "missing_skill", "skill": "lang:de", "needed": 3, "has": 0 } }
                    ]
                }
            },
            "facts": [
                fact(0, 767, "conversation.opened", json!({ "conversation": id, "customer": "u140", "thread": thread })),
                fact(1, 767, "message.received", json!({
                    "conversation": id, "message": "m1", "thread_seq": 1, "envelope": envelope })),
                fact(2, 767, "conversation.enqueued", json!({
                    "conversation": id, "queue": "billing:de", "priority": 0, "requirement": {},
                    "ready_at": ago(767), "reason": "opened" })),
                fact(3, 766, "offer.created", made(8, "eve", 766)),
                fact(4, 736, "offer.expired", offer(8, "eve")),
                fact(5, 736, "offer.created", made(9, "dan", 736)),
                fact(6, 730, "offer.declined", declined),
                fact(7, 730, "conversation.round_exhausted", json!({ "conversation": id, "next_round_at": ago(700) })),
                fact(8, 700, "conversation.round_started", json!({ "conversation": id, "round": 2 })),
                fact(9, 640, "something.new_happened", json!({ "conversation": id })),
            ]
        }),
    )
}
