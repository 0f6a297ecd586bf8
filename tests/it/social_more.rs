//! Telegram, LINE and Slack from the platform's request to the answer, against APIs that are as strict as theirs and
//! fail as theirs do.

use std::sync::Mutex;

use adapter::runtime::secret::SecretString;
use adapter::verify::{Algorithm, Encoding, sign};
use contract::envelope::{MediaStatus, Part, ReceiptStatus};
use contract::{ConversationId, Event, MessageId};
use serde_json::{Value, json};
use throughline_tests::daemon::{Builder, TENANT, free_port};
use throughline_tests::standin::{LineApi, SlackApi, Standin, Telegram, Whim};
use throughline_tests::{AgentTool, Daemon, PATIENCE, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BOT: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
const SECRET: &str = "a-secret-token-of-ours";
const USER: &str = "U4af4980629b3a1c2d3e4f5a6b7c8d9e0";

fn builder(webhooks: u16, name: &str, account: &str) -> Builder {
    Daemon::builder()
        .without_chat()
        .account(name, account)
        .env("BOT_TOKEN", BOT)
        .env("HOOK_SECRET", SECRET)
        .env("LINE_TOKEN", "the channel's access token")
        .env("SLACK_TOKEN", "xoxb-the-bots-token")
        .set("webhook.listen", format!("\"127.0.0.1:{webhooks}\""))
}

fn telegram(api: &Standin) -> String {
    format!(
        "kind = \"social\"\naccount = \"bot\"\nprovider = \"telegram\"\n[settings]\ntoken = {{ env = \"BOT_TOKEN\" }}\n\
         secret_token = [{{ env = \"HOOK_SECRET\" }}]\nset_webhook = false\napi_base = \"http://127.0.0.1:{}\"\n\
         http = {{ timeout_ms = 3000 }}\n",
        api.port
    )
}

fn update(id: u64, message: Value) -> String {
    let mut message = message;
    message["chat"] = json!({ "id": 17, "type": "private", "first_name": "Ann" });
    message["from"] = json!({ "id": 17, "is_bot": false, "first_name": "Ann" });
    message["date"] = json!(1_764_000_000);
    message["message_id"] = json!(id);
    json!({ "update_id": 800_000 + id, "message": message }).to_string()
}

/// Posts; the status and the body of the answer.
async fn post(webhooks: u16, account: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", webhooks)).await.expect("the listener");
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "POST /hook/social/{account} HTTP/1.1\r\nhost: hooks.example\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        stream.write_all(body.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    let answer = within(PATIENCE, "an answer", exchange).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body.to_owned())
}

async fn tell(webhooks: u16, body: &str) -> u16 {
    post(webhooks, "bot", &[("x-telegram-bot-api-secret-token", SECRET)], body).await.0
}

async fn becomes(daemon: &Daemon, message: MessageId, wanted: &ReceiptStatus) {
    until(PATIENCE * 4, &format!("{message} to be {wanted:?}"), async || {
        let events = daemon.events(TENANT).await;
        let mut found = events.iter().filter_map(|record| match &*record.event {
            Event::MessageStatusChanged { messages, status, .. } if messages.contains(&message) => Some(status.clone()),
            _ => None,
        });
        found.any(|status| status == *wanted).then_some(())
    })
    .await;
}

fn texts(taken: &[throughline_tests::standin::Message]) -> Vec<&str> {
    taken.iter().map(|message| message.text.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn telegram_is_answered_exactly_once_or_the_outcome_is_unknown() {
    let (api, webhooks) = (Standin::start(Telegram { token: BOT }).await, free_port());
    let daemon = builder(webhooks, "social-bot", &telegram(&api)).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;

    let body = update(1, json!({ "text": "Where is my parcel?" }));
    assert_eq!(post(webhooks, "bot", &[], &body).await, (401, String::new()));
    assert_eq!(post(webhooks, "bot", &[("x-telegram-bot-api-secret-token", "x")], &body).await, (401, String::new()));
    assert_eq!(tell(webhooks, &body).await, 200);
    // It comes again, and that changes nothing.
    assert_eq!(tell(webhooks, &body).await, 200);
    let conversation = anna.hears("Where is my parcel?").await;

    // The platform wants us to wait; then it goes, once.
    api.next(&[Whim::Busy(1)]);
    let said = anna.say(conversation, "It *left* yesterday.").await.message.expect("an id");
    becomes(&daemon, said, &ReceiptStatus::Sent).await;
    assert_eq!(texts(&api.taken()), ["It *left* yesterday."]);
    // What may have arrived is never sent again.
    for whim in [Whim::TakeAndCut, Whim::Hang] {
        api.next(&[whim]);
        let said = anna.say(conversation, &format!("{whim:?}")).await.message.expect("an id");
        becomes(&daemon, said, &ReceiptStatus::Unknown).await;
    }
    let said = anna.say(conversation, "the last").await.message.expect("an id");
    becomes(&daemon, said, &ReceiptStatus::Sent).await;
    assert_eq!(texts(&api.taken()), ["It *left* yesterday.", "TakeAndCut", "the last"]);
    assert_eq!(texts(&api.asked()).iter().filter(|text| **text == "Hang").count(), 1);

    // Authentic and not understood: kept, and acknowledged.
    assert_eq!(tell(webhooks, &json!({ "update_id": 99, "chat_boost": {} }).to_string()).await, 200);
    until(PATIENCE, "a dead letter", async || (daemon.dead_letters(TENANT).await.len() == 1).then_some(())).await;
    let logs = daemon.logs();
    assert!(!logs.contains(BOT) && !logs.contains(SECRET), "a secret stands in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn telegram_shows_that_an_agent_is_writing() {
    let (api, webhooks) = (Standin::start(Telegram { token: BOT }).await, free_port());
    let daemon = builder(webhooks, "social-bot", &telegram(&api)).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    assert_eq!(tell(webhooks, &update(1, json!({ "text": "Is anybody there?" }))).await, 200);
    let conversation = anna.hears("Is anybody there?").await;
    let tool = daemon.connect(&bus::permissions::agent_user(TENANT, "anna")).await;
    let signal = |what: &str, customer: bool| {
        let at = adapter::now();
        let live = json!({
            "conversation": conversation, "author": { "agent": "anna" }, "customer": customer, "what": what, "at": at,
            "threads": [{ "account": { "kind": "social", "id": "bot" }, "thread": { "key": "17" } }],
        });
        bus::Publish {
            subject: format!("tl.v1.live.{TENANT}.{conversation}.typing"),
            payload: live.to_string().into(),
            content_type: Some(contract::Encoding::Json.content_type()),
            ..bus::Publish::default()
        }
    };
    // Neither the customer's own writing nor an end is shown; and what is shown is not shown again at once.
    tool.send(signal("typing", true)).await.expect("sent");
    tool.send(signal("stopped", false)).await.expect("sent");
    until(PATIENCE, "the sign to be shown", async || {
        tool.send(signal("typing", false)).await.expect("sent");
        (!api.taken().is_empty()).then_some(())
    })
    .await;
    tool.send(signal("typing", false)).await.expect("sent");
    let said = anna.say(conversation, "Here I am.").await.message.expect("an id");
    becomes(&daemon, said, &ReceiptStatus::Sent).await;
    assert_eq!(texts(&api.taken()), ["(typing)", "Here I am."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn telegram_parts_that_went_before_a_kill_do_not_go_again() {
    let (api, webhooks) = (Standin::start(Telegram { token: BOT }).await, free_port());
    let mut daemon = builder(webhooks, "social-bot", &telegram(&api)).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    assert_eq!(tell(webhooks, &update(1, json!({ "text": "tell me everything" }))).await, 200);
    let conversation = anna.hears("tell me everything").await;
    let text = ["a", "b", "c"].map(|letter| letter.repeat(4000)).join(" ");
    api.next(&[Whim::Take, Whim::Hang]);
    let said = anna.say(conversation, &text).await.message.expect("an id");
    until(PATIENCE, "the second part to be under way", async || (api.asked().len() == 2).then_some(())).await;
    daemon.kill9();
    daemon.restart().await;
    becomes(&daemon, said, &ReceiptStatus::Unknown).await;
    let asked = api.asked();
    assert_eq!(asked.iter().filter(|message| message.text.starts_with('a')).count(), 1, "the first part went once");
    assert_eq!(asked.iter().filter(|message| message.text.starts_with('b')).count(), 1, "the second is not repeated");
    assert_eq!(api.taken().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn telegram_an_album_stays_whole_and_its_pictures_are_stored() {
    let (api, webhooks) = (Standin::start(Telegram { token: BOT }).await, free_port());
    let daemon = builder(webhooks, "social-bot", &telegram(&api)).start().await;
    let picture = |id: u64| {
        let photo =
            json!([{ "file_id": format!("photo{id}"), "file_unique_id": format!("u{id}"), "width": 9, "height": 9 }]);
        update(id, json!({ "photo": photo, "media_group_id": "13871234567890123456" }))
    };
    // All at once, and each twice.
    let posts = [1, 2, 3, 3, 2, 1].map(|id| {
        let body = picture(id);
        async move { tell(webhooks, &body).await }
    });
    assert_eq!(futures_util::future::join_all(posts).await, [200; 6]);
    let stored = until(PATIENCE * 2, "three pictures in one conversation", async || {
        let events = daemon.events(TENANT).await;
        let mut of: Vec<ConversationId> = Vec::new();
        let mut stored = 0;
        for record in &events {
            match &*record.event {
                Event::MessageReceived { conversation, envelope, .. } => {
                    assert_eq!(envelope.group.as_ref().map(|group| group.id.as_str()), Some("13871234567890123456"));
                    of.push(*conversation);
                }
                Event::MessageAmended { envelope, .. } => {
                    stored += envelope.content.iter().filter(|part| matches!(part, Part::Media(media) if media.status == Some(MediaStatus::Stored) && media.store_key.is_some())).count();
                }
                _ => {}
            }
        }
        assert!(of.len() <= 3 && of.iter().all(|one| *one == of[0]), "{of:?}");
        (of.len() == 3 && stored == 3).then_some(stored)
    })
    .await;
    assert_eq!(stored, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn line_is_answered_by_its_token_and_then_by_pushes_that_are_known_again() {
    let token = "the channel's access token";
    let line = LineApi { token, reply_token: Mutex::new(Some("reply-1")) };
    let (api, webhooks) = (Standin::start(line).await, free_port());
    let account = format!(
        "kind = \"social\"\naccount = \"line\"\nprovider = \"line\"\n[settings]\naccess_token = {{ env = \"LINE_TOKEN\" }}\n\
         channel_secret = [{{ env = \"HOOK_SECRET\" }}]\napi_base = \"http://127.0.0.1:{0}\"\n\
         data_api_base = \"http://127.0.0.1:{0}\"\nhttp = {{ timeout_ms = 3000 }}\n",
        api.port
    );
    let daemon = builder(webhooks, "social-line", &account).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let event = |id: u64, text: &str| {
        json!({ "destination": "Ubot", "events": [{ "type": "message", "mode": "active", "timestamp": 1_764_000_000_000_u64,
            "source": { "type": "user", "userId": USER }, "webhookEventId": format!("01FZ{id}"),
            "deliveryContext": { "isRedelivery": false }, "replyToken": format!("reply-{id}"),
            "message": { "id": id.to_string(), "type": "text", "text": text } }] })
        .to_string()
    };
    let signed = |body: &str| sign(Algorithm::Sha256, &SecretString::new(SECRET), &[body.as_bytes()], Encoding::Base64);
    let none = r#"{"destination":"Ubot","events":[]}"#;
    assert_eq!(post(webhooks, "line", &[("x-line-signature", &signed(none))], none).await.0, 200);
    let body = event(1, "Hello?");
    assert_eq!(post(webhooks, "line", &[("x-line-signature", &signed(none))], &body).await, (401, String::new()));
    assert_eq!(post(webhooks, "line", &[("x-line-signature", &signed(&body))], &body).await.0, 200);
    let conversation = anna.hears("Hello?").await;
    let said = anna.say(conversation, "by the token").await.message.expect("an id");
    becomes(&daemon, said, &ReceiptStatus::Sent).await;
    // The token is used up: what follows is pushed, and a push whose answer was lost is known again.
    for (whims, text) in [
        (&[Whim::TakeAndCut][..], "taken and cut"),
        (&[Whim::Hang][..], "no answer"),
        (&[Whim::Busy(1), Whim::Fail(500)][..], "too fast, then broken"),
    ] {
        api.next(whims);
        let said = anna.say(conversation, text).await.message.expect("an id");
        becomes(&daemon, said, &ReceiptStatus::Sent).await;
    }
    let taken = api.taken();
    assert_eq!(texts(&taken), ["by the token", "taken and cut", "no answer", "too fast, then broken"]);
    let receivers: Vec<&str> = taken.iter().map(|message| message.to.as_str()).collect();
    assert_eq!(receivers, ["reply", USER, USER, USER]);
    let cut: Vec<_> = api.asked().into_iter().filter(|message| message.text == "taken and cut").collect();
    assert_eq!((cut.len(), &cut[0].key), (2, &cut[1].key), "the repeat has the same key");
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_is_answered_in_the_thread() {
    let (api, webhooks) = (Standin::start(SlackApi { token: "xoxb-the-bots-token" }).await, free_port());
    let account = format!(
        "kind = \"social\"\naccount = \"slack\"\nprovider = \"slack\"\n[settings]\nbot_token = {{ env = \"SLACK_TOKEN\" }}\n\
         signing_secret = [{{ env = \"HOOK_SECRET\" }}]\nteam_id = \"T1\"\napp_id = \"A0WN\"\nbot_user_id = \"UB0T\"\n\
         api_base = \"http://127.0.0.1:{0}/api\"\nfiles_hosts = [\"127.0.0.1:{0}\"]\nhttp = {{ timeout_ms = 3000 }}\n",
        api.port
    );
    let daemon = builder(webhooks, "social-slack", &account).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let send = async |body: &str, skew: u64| {
        let when = (runtime::clock::now() / 1000 - skew).to_string();
        let parts: [&[u8]; 4] = [b"v0:", when.as_bytes(), b":", body.as_bytes()];
        let signature = sign(Algorithm::Sha256, &SecretString::new(SECRET), &parts, Encoding::Hex);
        let headers = [("x-slack-signature", format!("v0={signature}")), ("x-slack-request-timestamp", when)];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        post(webhooks, "slack", &headers, body).await
    };
    let challenge = r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#;
    assert_eq!(send(challenge, 0).await, (200, "3eZbrw1a".to_owned()));
    assert_eq!(post(webhooks, "slack", &[], challenge).await, (401, String::new()));
    let event = |id: &str, ts: &str, text: &str| {
        json!({ "type": "event_callback", "team_id": "T1", "event_id": id, "event": { "type": "message", "channel": "C1",
            "channel_type": "channel", "user": "U1", "ts": ts, "text": text } })
        .to_string()
    };
    let body = event("Ev1", "1764000000.000100", "a &lt;question&gt;");
    assert_eq!(send(&body, 400).await, (401, String::new()), "replayed too late");
    assert_eq!(send(&body, 0).await.0, 200);
    // The same message as a mention, under another event.
    assert_eq!(send(&event("Ev2", "1764000000.000100", "a &lt;question&gt;"), 0).await.0, 200);
    let conversation = anna.hears("a <question>").await;
    api.next(&[Whim::Busy(1), Whim::Take, Whim::TakeAndCut]);
    let said = anna.say(conversation, "an <!channel> answer").await.message.expect("an id");
    becomes(&daemon, said, &ReceiptStatus::Sent).await;
    let said = anna.say(conversation, "cut").await.message.expect("an id");
    becomes(&daemon, said, &ReceiptStatus::Unknown).await;
    let taken = api.taken();
    assert_eq!(texts(&taken), ["an &lt;!channel&gt; answer", "cut"]);
    assert!(taken.iter().all(|message| message.to == "C1/1764000000.000100"), "{taken:?}");
    let received = daemon.events(TENANT).await;
    let received = received.iter().filter(|record| matches!(&*record.event, Event::MessageReceived { .. })).count();
    assert_eq!(received, 1);
}
