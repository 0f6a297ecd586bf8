//! Phone calls over Vonage, end to end, in the true order of its webhooks and in another one, each twice.

use contract::envelope::{MediaStatus, Part};
use contract::{AgentId, Event};
use serde_json::{Value, json};
use throughline_tests::daemon::{TENANT, free_port};
use throughline_tests::phone::{LONG, RECORDING};
use throughline_tests::phone_vonage::{OURS_BARE, SIGNATURE_SECRET, Vonage};
use throughline_tests::{AgentTool, Daemon, until};

const CALL: &str = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab";
const LEG: &str = "aaaaaaaa-0000-cccc-dddd-0123456789ab";
const ANN: &str = "4930111222";
const ANNA: &str = "4930200300";

async fn start(vonage: &Vonage) -> Daemon {
    let api = format!("http://127.0.0.1:{}", vonage.api.port);
    let account = include_str!("phone_vonage.toml").replace("{api}", &api);
    Daemon::builder()
        .without_chat()
        .account("phone-vienna", &account)
        .amend("name = \"Anna\"\n", &format!("name = \"Anna\"\nphone = \"+{ANNA}\"\n"))
        .env("VONAGE_SIGNATURE", SIGNATURE_SECRET)
        .env("VONAGE_KEY", &vonage.private_key)
        .set("webhook.listen", format!("\"127.0.0.1:{}\"", vonage.port))
        .set("webhook.public_base_url", format!("\"{}\"", throughline_tests::phone::BASE))
        .set("fetch.hosts_allowed", "[\"127.0.0.1\"]")
        .start()
        .await
}

fn of(uuid: &str, from: &str, to: &str, direction: &str, more: Value) -> Value {
    let mut event = json!({ "uuid": uuid, "from": from, "to": to, "direction": direction, "conversation_uuid": "CON-a",
        "timestamp": "2025-11-25T09:00:00.000Z" });
    for (name, value) in more.as_object().into_iter().flatten() {
        event[name] = value.clone();
    }
    event
}

fn caller(more: Value) -> Value {
    of(CALL, ANN, OURS_BARE, "inbound", more)
}

fn agent(more: Value) -> Value {
    of(LEG, OURS_BARE, ANNA, "outbound", more)
}

fn nothing() -> Value {
    json!({ "dtmf": { "digits": "", "timed_out": true } })
}

fn pressed(digit: &str) -> Value {
    json!({ "dtmf": { "digits": digit, "timed_out": false } })
}

fn action(ncco: &Value, name: &str) -> Value {
    let found = ncco.as_array().into_iter().flatten().find(|action| action["action"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {ncco:#}")).clone()
}

fn event_url(ncco: &Value, name: &str) -> String {
    action(ncco, name)["eventUrl"][0].as_str().expect("an address").to_owned()
}

fn said(ncco: &Value) -> String {
    let texts = ncco.as_array().into_iter().flatten().filter_map(|action| action["text"].as_str());
    texts.collect::<Vec<_>>().join(" ")
}

/// Tells it all in this order, or backwards and each twice.
async fn tell(vonage: &Vonage, mut words: Vec<(String, Value)>, shuffled: bool) {
    if shuffled {
        words.reverse();
        words = words.iter().flat_map(|word| [word.clone(), word.clone()]).collect();
    }
    for (url, event) in words {
        let status = vonage.post(&url, &event).await.0;
        assert!(matches!(status, 200 | 204), "{url}: {status}");
    }
}

/// Somebody calls, and waits until they are next.
async fn waits(vonage: &Vonage) -> Value {
    let (status, mut ncco) = vonage.post(&vonage.console("incoming"), &caller(json!({}))).await;
    assert_eq!((status, said(&ncco).contains("Vielen Dank")), (200, true), "{ncco:#}");
    for _ in 0..200 {
        ncco = vonage.post(&event_url(&ncco, "input"), &caller(nothing())).await.1;
        if said(&ncco).contains("als Nächstes") {
            return ncco;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the caller is never next; last of all: {ncco:#}")
}

async fn takes(vonage: &Vonage, ncco: &Value, shuffled: bool) {
    let status = event_url(ncco, "connect");
    let rings = vec![
        (status.clone(), agent(json!({ "status": "started" }))),
        (status.clone(), agent(json!({ "status": "ringing" }))),
        (status, agent(json!({ "status": "answered" }))),
    ];
    tell(vonage, rings, shuffled).await;
    let whisper = action(ncco, "connect")["endpoint"][0]["onAnswer"]["url"].as_str().expect("an address").to_owned();
    let (_, heard) = vonage.post(&whisper, &agent(json!({}))).await;
    assert!(said(&heard).contains("support"), "{heard:#}");
    let (status, joined) = vonage.post(&event_url(&heard, "input"), &agent(pressed("1"))).await;
    assert_eq!((status, joined), (204, Value::Null));
}

async fn facts<T>(daemon: &Daemon, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
    daemon.events(TENANT).await.iter().filter_map(|record| pick(&record.event)).collect()
}

async fn closed(daemon: &Daemon) -> (Option<AgentId>, Option<String>) {
    until(LONG, "the end", async || {
        let closed = facts(daemon, |event| match event {
            Event::ConversationClosed { by, reason, .. } => {
                Some((by.clone(), reason.as_ref().map(ToString::to_string)))
            }
            _ => None,
        });
        closed.await.into_iter().next()
    })
    .await
}

async fn answered(shuffled: bool) {
    let vonage = Vonage::start(free_port()).await;
    let daemon = start(&vonage).await;
    waits(&vonage).await;
    let _anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let order = vonage.ordered(&format!("PUT /v1/calls/{CALL}"), 0).await;
    let ncco = &order.body["destination"]["ncco"];
    assert_eq!(action(ncco, "connect")["endpoint"][0]["number"], ANNA);
    takes(&vonage, ncco, shuffled).await;
    let words = vec![
        (event_url(ncco, "connect"), agent(json!({ "status": "completed", "duration": "30" }))),
        (vonage.console("event"), caller(json!({ "status": "completed", "duration": "60" }))),
    ];
    // The agent hangs up: the caller's leg ends.
    let (_, after) =
        vonage.post(&event_url(ncco, "notify"), &json!({ "payload": {}, "conversation_uuid": "CON-a" })).await;
    assert_eq!(after, json!([]));
    tell(&vonage, words, shuffled).await;
    let (by, reason) = closed(&daemon).await;
    assert_eq!((by.as_ref().map(AgentId::as_str), reason), (Some("anna"), None));
    assert_eq!(vonage.orders().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_put_through_and_wrapped_up() {
    answered(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_put_through_whatever_the_order_of_webhooks() {
    answered(true).await;
}

async fn voicemail(shuffled: bool) {
    let vonage = Vonage::start(free_port()).await;
    let daemon = start(&vonage).await;
    let ncco = waits(&vonage).await;
    let (_, ncco) = vonage.post(&event_url(&ncco, "input"), &caller(pressed("2"))).await;
    let record = action(&ncco, "record");
    let file = |name: &str| format!("http://127.0.0.1:{}/v1/files/{name}", vonage.api.port);
    let transcribed = json!({ "conversation_uuid": "CON-a", "type": "record", "recording_uuid": "rec-1",
        "status": "transcribed", "transcription_url": file("transcript-1") });
    let words = vec![
        (vonage.console("event"), caller(json!({ "status": "completed" }))),
        (
            event_url(&ncco, "record"),
            json!({ "recording_url": file("rec-1"), "recording_uuid": "rec-1", "size": RECORDING.len(),
                "conversation_uuid": "CON-a", "start_time": "2025-11-25T08:59:00Z", "end_time": "2025-11-25T08:59:17Z" }),
        ),
        (record["transcription"]["eventUrl"][0].as_str().expect("an address").to_owned(), transcribed),
    ];
    tell(&vonage, words, shuffled).await;
    let bytes = until(LONG, "the recording", async || {
        let stored = facts(&daemon, |event| match event {
            Event::MessageAmended { envelope, .. } => envelope.content.iter().find_map(|part| match part {
                Part::Media(media) if media.status == Some(MediaStatus::Stored) => media.bytes,
                _ => None,
            }),
            _ => None,
        });
        stored.await.into_iter().next()
    })
    .await;
    assert_eq!(bytes, RECORDING.len() as u64);
    let said = until(LONG, "what was said", async || {
        let said = facts(&daemon, |event| match event {
            Event::MessageAmended { envelope, .. } => envelope.call.as_ref().and_then(|call| call.transcript.clone()),
            _ => None,
        });
        Some(said.await).filter(|said| !said.is_empty())
    })
    .await;
    assert_eq!(said, ["Please call me."]);
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    anna.sees("the conversation", |event| matches!(event, Event::ConversationAssigned { .. }).then_some(())).await;
    assert_eq!(vonage.orders(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voicemail_waits_for_an_agent() {
    voicemail(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voicemail_waits_whatever_the_order_of_webhooks() {
    voicemail(true).await;
}

async fn callback(shuffled: bool) {
    let vonage = Vonage::start(free_port()).await;
    let daemon = start(&vonage).await;
    let ncco = waits(&vonage).await;
    let (_, ncco) = vonage.post(&event_url(&ncco, "input"), &caller(pressed("1"))).await;
    assert!(said(&ncco).contains("rufen Sie zurück"), "{ncco:#}");
    tell(&vonage, vec![(vonage.console("event"), caller(json!({ "status": "completed" })))], shuffled).await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let order = vonage.ordered("POST /v1/calls", 0).await;
    assert_eq!(order.body["to"][0]["number"], ANN);
    let status = order.body["event_url"][0].as_str().expect("an address").to_owned();
    let back = "bbbbbbbb-0000-cccc-dddd-000000000001";
    let called = |word: &str| of(back, OURS_BARE, ANN, "outbound", json!({ "status": word }));
    let words = vec![
        (status.clone(), called("started")),
        (status.clone(), called("ringing")),
        (status.clone(), called("answered")),
    ];
    tell(&vonage, words, shuffled).await;
    let ncco = &order.body["ncco"];
    takes(&vonage, ncco, shuffled).await;
    let conversation = anna
        .sees("the conversation", |event| match event {
            Event::ConversationAssigned { conversation, .. } => Some(*conversation),
            _ => None,
        })
        .await;
    anna.close(conversation, "solved").await;
    let hung_up = vonage.ordered(&format!("PUT /v1/calls/{back}"), 0).await;
    assert_eq!(hung_up.body, json!({ "action": "hangup" }));
    let words =
        vec![(event_url(ncco, "connect"), agent(json!({ "status": "completed" }))), (status, called("completed"))];
    tell(&vonage, words, shuffled).await;
    assert_eq!(closed(&daemon).await.0.as_ref().map(AgentId::as_str), Some("anna"));
    assert_eq!(vonage.orders().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_be_called_back_is() {
    callback(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_be_called_back_is_whatever_the_order_of_webhooks() {
    callback(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_who_does_not_take_it_is_hung_up_and_the_caller_waits_on() {
    let vonage = Vonage::start(free_port()).await;
    let daemon = start(&vonage).await;
    waits(&vonage).await;
    let _anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let order = vonage.ordered(&format!("PUT /v1/calls/{CALL}"), 0).await;
    let ncco = &order.body["destination"]["ncco"];
    let whisper = action(ncco, "connect")["endpoint"][0]["onAnswer"]["url"].as_str().expect("an address").to_owned();
    let (_, heard) = vonage.post(&whisper, &agent(json!({}))).await;
    // A voicemail box presses nothing.
    vonage.post(&event_url(&heard, "input"), &agent(nothing())).await;
    let hung_up = vonage.ordered(&format!("PUT /v1/calls/{LEG}"), 0).await;
    assert_eq!(hung_up.body, json!({ "action": "hangup" }));
    tell(&vonage, vec![(event_url(ncco, "connect"), agent(json!({ "status": "completed" })))], false).await;
    let (_, after) =
        vonage.post(&event_url(ncco, "notify"), &json!({ "payload": {}, "conversation_uuid": "CON-a" })).await;
    assert!(said(&after).contains("Geduld"), "{after:#}");
    until(LONG, "the queue", async || {
        let failed = |event: &Event| match event {
            Event::ConversationEnqueued { reason: contract::event::EnqueueReason::CallFailed, .. } => Some(()),
            _ => None,
        };
        facts(&daemon, failed).await.into_iter().next()
    })
    .await;
}
