//! WhatsApp and Messenger: heard, routed, answered, before a Graph API that fails in every way.

use std::time::Duration;

use adapter::runtime::secret::SecretString;
use adapter::verify::{Algorithm, Encoding, sign};
use contract::envelope::{Envelope, MediaStatus, Part, ReceiptStatus};
use contract::{ConversationId, Event, MessageId};
use serde_json::{Value, json};
use throughline_tests::daemon::{Builder, TENANT, free_port};
use throughline_tests::graph::{ACCESS_TOKEN, APP_SECRET, FILE, Graph, NUMBER, PAGE, Temper, VERIFY_TOKEN};
use throughline_tests::{AgentTool, Daemon, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What takes several tries of the channel, with its pauses between.
const LONG: Duration = Duration::from_secs(120);
/// A customer's number, their id, and somebody on the page.
const PHONE: &str = "16505551234";
const PERSON: &str = "US.13491208655302741918";
const SOMEBODY: &str = "5280253105329443";

fn builder(graph: &Graph, port: u16) -> Builder {
    Daemon::builder()
        .without_chat()
        .account("social-wa", &graph.whatsapp())
        .account("social-page", &graph.messenger())
        .env("META_SECRET", APP_SECRET)
        .env("META_TOKEN", ACCESS_TOKEN)
        .env("META_VERIFY", VERIFY_TOKEN)
        .set("webhook.listen", format!("\"127.0.0.1:{port}\""))
        .set("fetch.hosts_allowed", "[\"127.0.0.1\"]")
}

/// Says something to the endpoint of an account; the status, or `None` when nobody answers.
pub(crate) async fn say(port: u16, account: &str, body: &Value) -> Option<u16> {
    let body = body.to_string();
    let secret = SecretString::new(APP_SECRET);
    let signature = sign(Algorithm::Sha256, &secret, &[body.as_bytes()], Encoding::Hex);
    let request = format!(
        "POST /hook/social/{account} HTTP/1.1\r\nhost: hooks.example\r\nconnection: close\r\n\
         x-hub-signature-256: sha256={signature}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    };
    tokio::time::timeout(Duration::from_secs(20), exchange).await.ok().flatten()
}

/// Says it again and again until it was taken, as the platform does.
async fn delivered(port: u16, account: &str, body: &Value) {
    until(LONG, "an event to be taken", async || (say(port, account, body).await == Some(200)).then_some(())).await;
}

fn seconds() -> String {
    (runtime::clock::now() / 1000).to_string()
}

pub(crate) fn change(value: Value) -> Value {
    let mut value = value;
    value["metadata"] = json!({ "display_phone_number": "15550783881", "phone_number_id": NUMBER });
    json!({ "object": "whatsapp_business_account",
        "entry": [{ "id": "102290129340398", "changes": [{ "field": "messages", "value": value }] }] })
}

fn whatsapp(id: &str, kind: &str, of: Value) -> Value {
    change(json!({
        "contacts": [{ "wa_id": PHONE, "user_id": PERSON, "profile": { "name": "Sheena" } }],
        "messages": [{ "id": id, "from": PHONE, "from_user_id": PERSON, "timestamp": seconds(), "type": kind, kind: of }],
    }))
}

fn messenger(message: Value) -> Value {
    let item = json!({ "sender": { "id": SOMEBODY }, "recipient": { "id": PAGE }, "timestamp": runtime::clock::now(),
        "message": message });
    json!({ "object": "page", "entry": [{ "id": PAGE, "time": runtime::clock::now(), "messaging": [item] }] })
}

/// Everything that customers said, with its conversation.
async fn received(daemon: &Daemon) -> Vec<(ConversationId, Envelope)> {
    let events = daemon.events(TENANT).await;
    let received = events.iter().filter_map(|record| match &*record.event {
        Event::MessageReceived { conversation, envelope, .. } => Some((*conversation, (**envelope).clone())),
        _ => None,
    });
    received.collect()
}

async fn states(daemon: &Daemon, message: MessageId) -> Vec<ReceiptStatus> {
    let events = daemon.events(TENANT).await;
    let states = events.iter().filter_map(|record| match &*record.event {
        Event::MessageStatusChanged { messages, status, .. } if messages.contains(&message) => Some(status.clone()),
        _ => None,
    });
    states.collect()
}

async fn becomes(daemon: &Daemon, message: MessageId, wanted: &ReceiptStatus) {
    until(LONG, &format!("{message} to be {wanted:?}"), async || {
        states(daemon, message).await.contains(wanted).then_some(())
    })
    .await;
}

async fn anna(daemon: &Daemon) -> AgentTool {
    AgentTool::automatic(daemon, "anna", |_| None).await
}

async fn answer(agent: &AgentTool, conversation: ConversationId, text: &str) -> MessageId {
    agent
        .sees("the conversation", |event| match event {
            Event::ConversationAssigned { conversation: of, .. } if *of == conversation => Some(()),
            _ => None,
        })
        .await;
    agent.say(conversation, text).await.message.expect("the id of the answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_arrives_once_or_is_told_to_be_of_unknown_outcome() {
    let (graph, port) = (Graph::start().await, free_port());
    let daemon = builder(&graph, port).start().await;
    let anna = anna(&daemon).await;
    delivered(port, "wa", &whatsapp("wamid.1", "text", json!({ "body": "Does it come in blue?" }))).await;
    let conversation = anna.hears("Does it come in blue?").await;

    // Refused twice, it goes when it is taken: once.
    graph.next([Temper::Busy(1), Temper::Down]);
    let said = answer(&anna, conversation, "It does.").await;
    becomes(&daemon, said, &ReceiptStatus::Sent).await;
    let taken = graph.taken();
    assert_eq!((taken.len(), taken[0].to.as_str(), taken[0].said.as_str()), (1, PHONE, "It does."));

    // Taken, and the answer lost: nobody knows, and nobody tries again.
    graph.next([Temper::TakeAndCut]);
    let lost = anna.say(conversation, "How many?").await.message.expect("an id");
    becomes(&daemon, lost, &ReceiptStatus::Unknown).await;
    graph.next([Temper::Hang]);
    let hung = anna.say(conversation, "Still there?").await.message.expect("an id");
    becomes(&daemon, hung, &ReceiptStatus::Unknown).await;
    assert_eq!(graph.taken().len(), 2);
    assert_eq!(graph.asked(), 5);

    // What the platform reports later settles it, by the mark that we gave it.
    let sent = graph.taken()[1].clone();
    let status = |word: &str| {
        change(json!({ "statuses": [{ "id": sent.id, "status": word, "timestamp": seconds(), "recipient_id": PHONE,
            "biz_opaque_callback_data": sent.message["biz_opaque_callback_data"] }] }))
    };
    // Out of order, and twice.
    for word in ["read", "delivered", "sent", "read"] {
        delivered(port, "wa", &status(word)).await;
    }
    becomes(&daemon, lost, &ReceiptStatus::Read).await;
    assert!(!states(&daemon, hung).await.contains(&ReceiptStatus::Read));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_went_do_not_go_again_after_a_kill() {
    let (graph, port) = (Graph::start().await, free_port());
    let mut daemon = builder(&graph, port).start().await;
    let agent = anna(&daemon).await;
    delivered(port, "wa", &whatsapp("wamid.1", "text", json!({ "body": "Tell me everything" }))).await;
    let conversation = agent.hears("Tell me everything").await;
    let text: String = (0..3).map(|n| format!("{n}").repeat(4096)).collect();
    // The first part is taken; the second is refused for a while, and then the program is gone.
    graph.next([Temper::TakeAndCut]);
    let first = answer(&agent, conversation, "One").await;
    becomes(&daemon, first, &ReceiptStatus::Unknown).await;
    agent.say(conversation, &text).await;
    until(LONG, "the first parts", async || (graph.taken().len() >= 2).then_some(())).await;
    daemon.kill9();
    daemon.start().await;
    // Whatever went before the kill, no part goes twice, and what was interrupted is told.
    until(LONG, "the rest, or a word of what is not known", async || {
        let events = daemon.events(TENANT).await;
        let ended = events.iter().any(|record| match &*record.event {
            Event::MessageStatusChanged { messages, status, .. } => {
                !messages.contains(&first) && matches!(status, ReceiptStatus::Sent | ReceiptStatus::Unknown)
            }
            _ => false,
        });
        ended.then_some(())
    })
    .await;
    let mut said: Vec<String> = graph.taken().into_iter().map(|taken| taken.said).collect();
    let count = said.len();
    said.sort();
    said.dedup();
    assert_eq!(said.len(), count, "a part went twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_between_two_parts_the_rest_goes_and_nothing_else() {
    let (graph, port) = (Graph::start().await, free_port());
    let mut daemon = builder(&graph, port).start().await;
    let agent = anna(&daemon).await;
    delivered(port, "page", &messenger(json!({ "mid": "m_1", "text": "Tell me everything" }))).await;
    let conversation = agent.hears("Tell me everything").await;
    delivered(port, "page", &messenger(json!({ "mid": "m_2", "text": "Please" }))).await;
    let text: String = (0..3).map(|n| format!("{n}").repeat(2000)).collect();
    // A person answers late: the page may say so, and the second part has to wait.
    graph.next([Temper::Late, Temper::Late, Temper::Busy(6)]);
    let said = answer(&agent, conversation, &text).await;
    until(LONG, "the second part to be refused", async || (graph.asked() >= 3).then_some(())).await;
    // That the refusal was read and written down can be seen by nobody from outside.
    tokio::time::sleep(Duration::from_secs(2)).await;
    daemon.kill9();
    daemon.start().await;
    becomes(&daemon, said, &ReceiptStatus::Sent).await;
    let taken = graph.taken();
    let starts: Vec<char> = taken.iter().filter_map(|taken| taken.said.chars().next()).collect();
    assert_eq!(starts, ['0', '1', '2']);
    assert!(taken.iter().all(|taken| taken.to == SOMEBODY && taken.said.chars().count() == 2000));
    assert_eq!(taken[0].message["tag"], "HUMAN_AGENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_customer_shows_is_stored_and_can_be_read() {
    let (graph, port) = (Graph::start().await, free_port());
    let daemon = builder(&graph, port).start().await;
    let agent = anna(&daemon).await;
    let image = json!({ "id": "1003383421387256", "mime_type": "image/png", "caption": "It is broken" });
    delivered(port, "wa", &whatsapp("wamid.1", "image", image)).await;
    let stored = agent
        .sees("the picture", |event| match event {
            Event::MessageAmended { envelope, .. } => envelope.content.iter().find_map(|part| match part {
                Part::Media(media) if media.status == Some(MediaStatus::Stored) => Some(media.clone()),
                _ => None,
            }),
            _ => None,
        })
        .await;
    assert_eq!((stored.bytes, stored.mime.as_deref()), (Some(FILE.len() as u64), Some("image/png")));
    let key = stored.store_key.expect("where it is");
    let objects = daemon.connect(bus::permissions::ADMIN).await.objects(bus::topology::MEDIA).await.expect("the store");
    let read = within(LONG, "the bytes", async { objects.get(&key, 1 << 20).await }).await;
    assert_eq!(read.expect("the store").as_deref(), Some(FILE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_hour_changes_nothing() {
    let (graph, port) = (Graph::start().await, free_port());
    let mut daemon = builder(&graph, port).start().await;
    let mut events: Vec<(&str, Value)> = (0..6)
        .map(|n| ("wa", whatsapp(&format!("wamid.{n}"), "text", json!({ "body": format!("message {n}") }))))
        .collect();
    let pictures: Vec<Value> = (0..3)
        .map(|n| json!({ "type": "image", "payload": { "url": format!("https://cdn.example/{n}.jpg") } }))
        .collect();
    events.push(("page", messenger(json!({ "mid": "m_album", "attachments": pictures }))));
    events.push(("page", messenger(json!({ "mid": "m_text", "text": "And this" }))));
    // Everything comes three times, at once and in no order, while the program is killed.
    let mut posts = tokio::task::JoinSet::new();
    for round in 0..3 {
        let mut order: Vec<usize> = (0..events.len()).collect();
        order.rotate_left(round * 3);
        if round == 1 {
            order.reverse();
        }
        for at in order {
            let (account, body) = (events[at].0, events[at].1.clone());
            posts.spawn(async move { delivered(port, account, &body).await });
        }
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    daemon.kill9();
    daemon.start().await;
    while let Some(done) = posts.join_next().await {
        done.expect("a post");
    }
    let found = until(LONG, "everything", async || {
        let found = received(&daemon).await;
        (found.len() >= events.len()).then_some(found)
    })
    .await;
    let mut ids: Vec<String> =
        found.iter().filter_map(|(_, envelope)| envelope.external_id.as_ref().map(ToString::to_string)).collect();
    ids.sort();
    let wanted = ["m_album", "m_text", "wamid.0", "wamid.1", "wamid.2", "wamid.3", "wamid.4", "wamid.5"];
    assert_eq!(ids, wanted, "each once");
    let mut conversations: Vec<ConversationId> = found.iter().map(|(conversation, _)| *conversation).collect();
    conversations.sort();
    conversations.dedup();
    assert_eq!(conversations.len(), 2, "one for each customer");
    let album =
        found.iter().find(|(_, envelope)| envelope.external_id.as_deref() == Some("m_album")).expect("the album");
    assert_eq!(album.1.content.iter().filter(|part| matches!(part, Part::Media(_))).count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_event_is_nothing_and_one_that_is_not_understood_is_kept() {
    let (graph, port) = (Graph::start().await, free_port());
    let daemon = builder(&graph, port).start().await;
    let body = whatsapp("wamid.1", "text", json!({ "body": "x" })).to_string();
    let place = format!("127.0.0.1:{port}");
    let forged =
        throughline_tests::http::request(&place, "POST", "/hook/social/wa", Some(&body), Duration::from_secs(20));
    let refused = forged.await.expect("an answer");
    assert_eq!((refused.status, refused.body.as_str()), (401, ""));
    let hello = format!("/hook/social/wa?hub.mode=subscribe&hub.challenge=17&hub.verify_token={VERIFY_TOKEN}");
    let hello = throughline_tests::http::get(&format!("127.0.0.1:{port}"), &hello).await.expect("an answer");
    assert_eq!((hello.status, hello.body.as_str()), (200, "17"));
    let strange =
        json!({ "object": "page", "entry": [{ "id": PAGE, "changes": [{ "field": "ratings", "value": {} }] }] });
    delivered(port, "page", &strange).await;
    let dead = until(LONG, "the dead letter", async || {
        let dead = daemon.dead_letters(TENANT).await;
        dead.into_iter().next()
    })
    .await;
    assert!(dead.1.reason.contains("not known"), "{}", dead.1.reason);
    assert!(received(&daemon).await.is_empty());
}
