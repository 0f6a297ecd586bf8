use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const SECRET: &str = "xyzzy";

fn tenant() -> TenantId {
    TenantId::new("main").unwrap()
}

fn done(kind: &str, value: Value) -> Result<Vec<u8>, Failure> {
    let reply = json!({ "id": "", "ok": true, "result": { "type": kind, "value": value } });
    Ok(reply.to_string().into_bytes())
}

fn refused(kind: &str) -> Result<Vec<u8>, Failure> {
    let reply = json!({ "id": "", "ok": false, "refusal": { "kind": kind, "message": "there is none" } });
    Ok(reply.to_string().into_bytes())
}

fn conversation(id: &str, state: &str, ready_at: u64) -> Value {
    let thread = |kind: &str| {
        json!({
            "account": { "kind": kind, "id": "desk", "address": SECRET },
            "thread": { "key": SECRET, "subject": SECRET }
        })
    };
    json!({
        "conversation": id, "customer": "u5", "customer_name": "Ada", "state": state, "queue": "orders",
        "threads": [thread("email"), thread("chat"), thread("email")], "opened_at": 1, "ready_at": ready_at,
        "a_field_of_tomorrow": SECRET
    })
}

fn fact(at: u64, name: &str, data: Value) -> Value {
    json!({
        "position": format!("5.10.{at}"), "tenant": "main", "at": at, "conversation": "c1",
        "event": { "type": name, "data": data }
    })
}

/// A router that knows one busy and one free agent and three conversations.
fn answer(question: &AdminCommand) -> Result<Vec<u8>, Failure> {
    let agent = |id: &str, load: u32| {
        json!({
            "agent": id, "name": id, "presence": "available", "connected": true, "load": load, "capacity": 2,
            "queues": ["orders", "returns"], "conversations": ["c2"]
        })
    };
    match question {
        AdminCommand::StatusShow { .. } => done(
            "status",
            json!({
                "counts": {
                    "conversations": { "waiting": 2, "active": 700 }, "agents": { "available": 2 },
                    "waiting": { "orders": 2 }, "oldest_ready_at": { "orders": 7 }, "policy_version": 3
                },
                "customers": 9,
                "shard": {
                    "shard": 5, "epoch": 2, "owner": "r1", "seq": 10, "cursor": 4, "outputs_done": 8, "kv_done": 11
                }
            }),
        ),
        AdminCommand::AgentList {} => done("agents", json!([agent("anna", 1), agent("ben", 2)])),
        AdminCommand::ConversationList { .. } => done(
            "conversations",
            json!([
                conversation("c2", "active", 1),
                conversation("c3", "waiting", 9),
                conversation("c1", "waiting", 7)
            ]),
        ),
        AdminCommand::ConversationExplain { conversation: ConversationId(1) } => done("conversation", detail()),
        AdminCommand::ConversationExplain { conversation: ConversationId(2) } => refused("unavailable"),
        _ => refused("not_found"),
    }
}

fn detail() -> Value {
    let view = conversation("c1", "waiting", 7);
    let account = json!({ "kind": "chat", "id": "web" });
    let envelope = |kind: &str| {
        json!({
            "v": 1, "kind": kind, "tenant": "main", "account": account, "dedup_key": SECRET, "direction": "in",
            "thread": { "key": SECRET, "subject": SECRET },
            "sender": {
                "identity": { "scheme": "visitor", "value": SECRET, "scope": "account", "scope_id": "web" },
                "display": SECRET
            },
            "sender_auth": { "level": "unverified" }, "received_at": 1,
            "content": [{ "type": "text", "body": SECRET }]
        })
    };
    let decision = json!({
        "eligible": [{ "agent": "anna", "load": 1, "capacity": 2 }],
        "excluded": [{ "agent": "ben", "because": { "rule": "full", "load": 2, "capacity": 2 } }],
        "tie_break": "only_candidate"
    });
    let offer = |number: u32| json!({ "offer": format!("o{number}"), "conversation": "c1", "agent": "anna" });
    let mut first = offer(1);
    first["expires_at"] = json!(40);
    first["decision"] = decision.clone();
    let mut second = first.clone();
    second["offer"] = json!("o2");
    let mut declined = offer(1);
    declined["reason"] = json!("lunch");
    let thread = json!({ "account": account, "thread": { "key": SECRET } });
    let sent = json!({
        "conversation": "c1", "message": "m2", "agent": "anna", "thread": thread, "thread_seq": 2,
        "content": [{ "type": "text", "body": SECRET }]
    });
    let transferred =
        json!({ "conversation": "c1", "by": "anna", "to_queue": "returns", "to_agent": "ben", "note": SECRET });
    let parked = json!({ "conversation": "c1", "agent": "anna", "reason": SECRET });
    let bounced = json!({
        "conversation": "c1", "thread": thread, "messages": ["m2"], "status": "failed", "reason": SECRET
    });
    json!({
        "conversation": view,
        "explanation": {
            "conversation": view, "waiting_ms": 5, "position": 0, "asked": ["anna"], "round": 1,
            "now": decision, "summary": "waits: none of 2 members can take it now"
        },
        "facts": [
            fact(10, "message.received", json!({
                "conversation": "c1", "message": "m1", "thread_seq": 1, "envelope": envelope("message") })),
            fact(11, "message.amended", json!({ "conversation": "c1", "envelope": envelope("edit") })),
            fact(12, "offer.created", first),
            fact(13, "offer.declined", declined),
            fact(14, "offer.created", second),
            fact(15, "message.sent", sent),
            fact(16, "note.added", json!({ "conversation": "c1", "agent": "anna", "text": SECRET })),
            fact(17, "conversation.transferred", transferred),
            fact(18, "conversation.parked", parked),
            fact(19, "customer.signalled", json!({ "conversation": "c1", "envelope": envelope("contact_event") })),
            fact(20, "message.status_changed", bounced),
            fact(21, "thing.seen_tomorrow", json!({ "text": SECRET })),
        ]
    })
}

struct Response {
    status: u16,
    headers: String,
    body: String,
}

impl Response {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn serve(router: Router) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn get_from(address: std::net::SocketAddr, path: &str) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (headers, body) = text.split_once("\r\n\r\n").unwrap();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, headers: headers.to_ascii_lowercase(), body: body.to_owned() }
}

async fn get_once(path: &str) -> Response {
    get_from(serve(router_asking(|question| async move { answer(&question) }, tenant())).await, path).await
}

#[tokio::test]
async fn the_overview_is_composed_of_three_answers() {
    let response = get_once("/wall/state").await;
    assert_eq!(response.status, 200, "{}", response.body);
    let state = response.json();
    let ids: Vec<_> = state["conversations"].as_array().unwrap().iter().map(|row| &row["conversation"]).collect();
    assert_eq!(ids, ["c1", "c3", "c2"], "who waits longest comes first");
    assert_eq!(state["conversations"][0]["channels"], json!(["chat", "email"]));
    assert_eq!(state["open"], 702);
    assert_eq!(state["states"], json!({ "waiting": 2, "active": 700 }));
    let orders = json!({ "waiting": 2, "oldest_ready_at": 7, "members": 2, "ready": 1 });
    let returns = json!({ "waiting": 0, "oldest_ready_at": null, "members": 2, "ready": 1 });
    assert_eq!(state["queues"], json!({ "orders": orders, "returns": returns }));
    assert_eq!(
        state["shard"],
        json!({ "shard": 5, "owner": "r1", "epoch": 2, "seq": 10, "outputs_behind": 2, "views_behind": 0 })
    );
    assert!(response.headers.contains("cache-control: no-store"), "{}", response.headers);
}

#[tokio::test]
async fn the_panel_has_the_explanation_and_how_each_offer_ended() {
    let response = get_once("/wall/conversation/c1").await;
    assert_eq!(response.status, 200, "{}", response.body);
    let panel = response.json();
    assert_eq!(panel["explanation"]["position"], 0);
    assert_eq!(
        panel["explanation"]["now"]["left_out"],
        json!([{ "agent": "ben", "because": "has no room (2 of 2 in use)" }])
    );
    let offers = panel["offers"].as_array().unwrap();
    assert_eq!(offers.len(), 2);
    assert_eq!(
        (&offers[0]["outcome"], &offers[0]["ended_at"], &offers[0]["reason"]),
        (&json!("declined"), &json!(13), &json!("lunch"))
    );
    assert_eq!(offers[0]["choice"]["why"], "nobody else could take it");
    assert_eq!(offers[1]["outcome"], Value::Null);
    let facts: Vec<_> = panel["facts"].as_array().unwrap().iter().map(|fact| fact["text"].as_str().unwrap()).collect();
    assert_eq!(
        facts,
        [
            "message from customer by chat",
            "message edited by customer",
            "offered to anna (o1)",
            "declined by anna (o1): lunch",
            "offered to anna (o2)",
            "message from agent anna by chat",
            "note by anna",
            "transferred by anna to ben in returns",
            "parked by anna until the customer writes",
            "something happened to the customer's address",
            "message to customer: failed",
            "thing seen tomorrow",
        ]
    );
}

#[tokio::test]
async fn what_people_write_stays_out() {
    for path in ["/wall/state", "/wall/conversation/c1"] {
        let response = get_once(path).await;
        assert_eq!(response.status, 200);
        assert!(!response.body.contains(SECRET), "{path}: {}", response.body);
    }
}

#[tokio::test]
async fn many_pages_cost_the_router_one_set_of_requests() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let ask = move |question| {
        let counter = Arc::clone(&counter);
        async move {
            counter.fetch_add(1, SeqCst);
            tokio::time::sleep(Duration::from_millis(30)).await;
            answer(&question)
        }
    };
    let address = serve(router_asking(ask, tenant())).await;
    let pages = futures_util::future::join_all((0..20).map(|_| get_from(address, "/wall/state"))).await;
    assert!(pages.iter().all(|page| page.status == 200 && page.body == pages[0].body));
    assert_eq!(asked.load(SeqCst), 3);
}

#[tokio::test]
async fn failures_have_a_status_and_a_reason() {
    let ask = |_| async { Err(Failure::unreachable("no router is running")) };
    let address = serve(router_asking(ask, tenant())).await;
    for path in ["/wall/state", "/wall/conversation/c1"] {
        let response = get_from(address, path).await;
        assert_eq!(response.status, 503);
        assert_eq!(response.json(), json!({ "reason": "unreachable", "message": "no router is running" }));
        assert!(response.headers.contains("cache-control: no-store"));
    }
    for (path, status, reason) in [
        ("/wall/conversation/c2", 503, "unreachable"),
        ("/wall/conversation/c9", 404, "not_found"),
        ("/wall/conversation/u9", 400, "malformed_id"),
        ("/wall/conversation/c09", 400, "malformed_id"),
        ("/wall/conversation/c1%2e%3e", 400, "malformed_id"),
    ] {
        let response = get_once(path).await;
        assert_eq!((response.status, response.json()["reason"].as_str()), (status, Some(reason)), "{path}");
    }
    let nonsense = |_| async { Ok(format!("{{\"ok\":true,\"result\":\"{SECRET}\"}}").into_bytes()) };
    let response = get_from(serve(router_asking(nonsense, tenant())).await, "/wall/state").await;
    assert_eq!((response.status, response.json()["reason"].as_str()), (502, Some("unreadable")));
    assert!(!response.body.contains(SECRET), "{}", response.body);
    let other = |_| async { done("agents", json!([])) };
    let response = get_from(serve(router_asking(other, tenant())).await, "/wall/state").await;
    assert_eq!((response.status, response.json()["reason"].as_str()), (502, Some("unreadable")));
}

#[tokio::test]
async fn every_answer_is_guarded() {
    for (path, kind) in [
        ("/", "text/html"),
        ("/wall.js", "text/javascript"),
        ("/wall.css", "text/css"),
        ("/wall.svg", "image/svg+xml"),
        ("/wall/state", "application/json"),
        ("/wall/conversation/x", "application/json"),
    ] {
        let Response { headers, .. } = get_once(path).await;
        assert!(headers.contains(&format!("content-type: {kind}")), "{path}: {headers}");
        assert!(headers.contains("content-security-policy: default-src 'self';"), "{path}: {headers}");
        assert!(headers.contains("x-content-type-options: nosniff"), "{path}: {headers}");
    }
}

/// The values of `name="…"` in markup.
fn attributes<'a>(markup: &'a str, name: &str) -> Vec<&'a str> {
    let marker = format!(" {name}=\"");
    markup.split(&marker).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn the_page_names_only_its_own_files() {
    let mut files = attributes(PAGE, "src");
    files.extend(attributes(PAGE, "href").into_iter().filter(|href| !href.starts_with('#')));
    files.sort_unstable();
    assert_eq!(files, ["wall.css", "wall.js", "wall.svg"]);
    for file in files {
        assert_eq!(get_once(&format!("/{file}")).await.status, 200);
    }
    for (name, text) in [("page", PAGE), ("script", SCRIPT), ("style", STYLE)] {
        for foreign in ["http:", "https:", "//cdn", "url(", "@import", "import(", "data:"] {
            assert!(!text.contains(foreign), "{name} has {foreign}");
        }
    }
    // What the policy of the page forbids, and what would take text for markup.
    assert!(attributes(PAGE, "style").is_empty() && !PAGE.contains("<style") && !PAGE.contains("<script>"));
    for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
        assert!(!SCRIPT.contains(sink), "{sink}");
    }
}

#[test]
fn the_script_finds_everything_it_looks_for() {
    let ids = attributes(PAGE, "id");
    for id in SCRIPT.split("byId(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(ids.contains(&id), "{id}");
    }
}
