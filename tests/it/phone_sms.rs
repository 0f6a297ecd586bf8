//! Text messages end to end: heard, routed, answered, told of, before providers that fail in every way.

use std::time::Duration;

use contract::envelope::{Envelope, MediaStatus, Part, ReceiptStatus};
use contract::{ConversationId, Event, MessageId};
use throughline_tests::agent::text_of;
use throughline_tests::daemon::{Builder, TENANT, free_port};
use throughline_tests::phone::{ACCOUNT, BASE, OURS, TOKEN};
use throughline_tests::phone_sms::{API_SECRET, STOPPED, TwilioSms, VonageSms, message_id, sid};
use throughline_tests::phone_vonage::{API_KEY, SIGNATURE_SECRET};
use throughline_tests::standin::{Standin, Whim};
use throughline_tests::{AgentTool, Daemon, until};

/// What takes several tries of the channel, with its pauses between.
const LONG: Duration = Duration::from_secs(120);
const ANN: &str = "+4930111222";
const ANN_BARE: &str = "4930111222";

fn builder(port: u16) -> Builder {
    Daemon::builder()
        .without_chat()
        .set("webhook.listen", format!("\"127.0.0.1:{port}\""))
        .set("webhook.public_base_url", format!("\"{BASE}\""))
}

fn twilio(twilio: &TwilioSms) -> Builder {
    let account = format!(
        "kind = \"phone\"\nprovider = \"twilio\"\naccount = \"berlin\"\naddress = \"{OURS}\"\n[settings]\n\
         account_sid = \"{ACCOUNT}\"\nauth_token = [{{ env = \"TWILIO_TOKEN\" }}]\n\
         api_base = \"http://127.0.0.1:{}\"\nhttp = {{ timeout_ms = 3000 }}\n[settings.sms]\nper_second_max = 100.0\n",
        twilio.api.port
    );
    builder(twilio.port).account("phone-berlin", &account).env("TWILIO_TOKEN", TOKEN)
}

fn vonage(vonage: &VonageSms, join_seconds: u32) -> Builder {
    let account = format!(
        "kind = \"phone\"\nprovider = \"vonage\"\naccount = \"vienna\"\naddress = \"{OURS}\"\n[settings]\n\
         api_key = \"{API_KEY}\"\napi_secret = {{ env = \"VONAGE_SECRET\" }}\n\
         signature_secret = [{{ env = \"VONAGE_SIGNATURE\" }}]\nsms_base = \"http://127.0.0.1:{}\"\n\
         http = {{ timeout_ms = 3000 }}\n[settings.sms]\njoin_seconds = {join_seconds}\n",
        vonage.api.port
    );
    builder(vonage.port)
        .account("phone-vienna", &account)
        .env("VONAGE_SECRET", API_SECRET)
        .env("VONAGE_SIGNATURE", SIGNATURE_SECRET)
}

/// Everything that customers said.
async fn received(daemon: &Daemon) -> Vec<Envelope> {
    let events = daemon.events(TENANT).await;
    let received = events.iter().filter_map(|record| match &*record.event {
        Event::MessageReceived { envelope, .. } => Some((**envelope).clone()),
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

/// What customers said to be done with them.
async fn signals(daemon: &Daemon) -> Vec<String> {
    let events = daemon.events(TENANT).await;
    let signals = events.iter().filter_map(|record| match &*record.event {
        Event::CustomerSignalled { envelope, .. } => {
            Some(format!("{} {}", envelope.signal.as_ref()?.name, envelope.sender.identity.value))
        }
        _ => None,
    });
    signals.collect()
}

async fn signalled(daemon: &Daemon, wanted: &str) {
    until(LONG, wanted, async || signals(daemon).await.iter().any(|signal| signal == wanted).then_some(())).await;
}

async fn assigned(agent: &AgentTool, conversation: ConversationId) {
    agent
        .sees("the conversation", |event| match event {
            Event::ConversationAssigned { conversation: of, .. } if *of == conversation => Some(()),
            _ => None,
        })
        .await;
}

async fn says(agent: &AgentTool, conversation: ConversationId, text: &str) -> MessageId {
    agent.say(conversation, text).await.message.expect("the id of the answer")
}

fn texts(api: &Standin) -> Vec<String> {
    api.taken().into_iter().map(|message| message.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn phone_sms_an_answer_goes_once_or_is_told_to_be_unknown() {
    let port = free_port();
    let provider = TwilioSms::start(port).await;
    let daemon = twilio(&provider).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let incoming = "SM11111111111111111111111111111111";
    assert_eq!(provider.text(incoming, ANN, "Does it come in blue? 👋", &[]).await, 200);
    let conversation = anna.hears("Does it come in blue? 👋").await;
    assigned(&anna, conversation).await;

    // Refused twice, it goes when it is taken: once.
    provider.api.next(&[Whim::Busy(1), Whim::Fail(503)]);
    let said = says(&anna, conversation, "It does.").await;
    becomes(&daemon, said, &ReceiptStatus::Accepted).await;
    assert_eq!((texts(&provider.api), provider.api.taken()[0].to.as_str()), (vec!["It does.".to_owned()], ANN));

    // Its fate comes out of order, and each twice.
    let asked = provider.api.asked().len() - 1;
    for status in ["sent", "delivered", "sent", "queued", "delivered"] {
        assert_eq!(provider.became(asked, &sid(1), ANN, status, &[]).await, 200);
    }
    becomes(&daemon, said, &ReceiptStatus::Delivered).await;

    // Taken, and the answer lost; read, and never answered: nobody knows, and nobody tries again.
    provider.api.next(&[Whim::TakeAndCut]);
    let lost = says(&anna, conversation, "How many?").await;
    becomes(&daemon, lost, &ReceiptStatus::Unknown).await;
    provider.api.next(&[Whim::Hang]);
    let hung = says(&anna, conversation, "Still there?").await;
    becomes(&daemon, hung, &ReceiptStatus::Unknown).await;
    assert_eq!((provider.api.asked().len(), provider.api.taken().len()), (5, 2));
    // What is told later names it by the address that we gave it, though its id was never known.
    assert_eq!(provider.became(3, &sid(2), ANN, "delivered", &[]).await, 200);
    becomes(&daemon, lost, &ReceiptStatus::Delivered).await;

    // The same text again is the same message.
    assert_eq!(provider.text(incoming, ANN, "Does it come in blue? 👋", &[]).await, 200);
    assert_eq!(provider.text("SM3", ANN, "Two.", &[]).await, 200);
    anna.hears("Two.").await;
    let heard: Vec<String> = received(&daemon).await.iter().map(|envelope| text_of(&envelope.content)).collect();
    assert_eq!(heard, ["Does it come in blue? 👋", "Two."]);
    assert_eq!(states(&daemon, said).await.last(), Some(&ReceiptStatus::Delivered));
    assert!(!states(&daemon, hung).await.contains(&ReceiptStatus::Delivered));
}

#[tokio::test(flavor = "multi_thread")]
async fn phone_sms_a_receipt_may_come_before_the_answer_to_the_send() {
    let port = free_port();
    let provider = TwilioSms::start(port).await;
    let daemon = twilio(&provider).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    assert_eq!(provider.text("SM1", ANN, "Hello", &[]).await, 200);
    let conversation = anna.hears("Hello").await;
    assigned(&anna, conversation).await;
    provider.api.next(&[Whim::Hang]);
    let said = says(&anna, conversation, "Good morning").await;
    until(LONG, "the text to be asked for", async || (!provider.api.asked().is_empty()).then_some(())).await;
    assert_eq!(provider.became(0, &sid(1), ANN, "delivered", &[]).await, 200);
    becomes(&daemon, said, &ReceiptStatus::Delivered).await;
    // The send then ends without an answer, which says less than the receipt did. What comes next has waited for that.
    let next = says(&anna, conversation, "What can I do?").await;
    becomes(&daemon, next, &ReceiptStatus::Accepted).await;
    assert_eq!(states(&daemon, said).await.last(), Some(&ReceiptStatus::Delivered));
    assert!(!states(&daemon, said).await.contains(&ReceiptStatus::Unknown));
    assert_eq!(provider.api.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn phone_sms_pictures_come_and_who_says_stop_is_left_alone() {
    let port = free_port();
    let provider = TwilioSms::start(port).await;
    let daemon = twilio(&provider).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let media = format!("https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages/MM1/Media/ME1");
    let more = [("NumMedia", "1"), ("MediaUrl0", media.as_str()), ("MediaContentType0", "image/jpeg")];
    assert_eq!(provider.text("MM1", ANN, "This one", &more).await, 200);
    let conversation = anna.hears_part("This one").await;
    until(LONG, "the picture", async || {
        let events = daemon.events(TENANT).await;
        let stored = events.iter().any(|record| match &*record.event {
            Event::MessageAmended { envelope, .. } => envelope.content.iter().any(
                |part| matches!(part, Part::Media(media) if media.status == Some(MediaStatus::Stored) && media.store_key.is_some()),
            ),
            _ => false,
        });
        stored.then_some(())
    })
    .await;

    assigned(&anna, conversation).await;
    assert_eq!(provider.text("SM2", ANN, "Stop.", &[]).await, 200);
    signalled(&daemon, &format!("opt_out {ANN}")).await;
    // A wish is no message, and begins no conversation.
    assert_eq!(received(&daemon).await.len(), 1);

    // Somebody else told the provider alone, which we learn when it refuses a text.
    assert_eq!(provider.text("SM3", STOPPED, "One question", &[]).await, 200);
    let other = anna.hears("One question").await;
    assigned(&anna, other).await;
    let said = says(&anna, other, "Yes?").await;
    becomes(&daemon, said, &ReceiptStatus::Failed).await;
    signalled(&daemon, &format!("opt_out {STOPPED}")).await;
    assert!(provider.api.taken().is_empty());

    // Who cannot sign is not heard.
    let url = format!("{BASE}/hook/phone/berlin/sms");
    let (status, _) =
        throughline_tests::phone::exchange(port, "POST", &url, "x-twilio-signature: AAAA\r\n", "Body=x").await;
    assert_eq!(status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn phone_sms_parts_are_joined_in_any_order_over_a_crash() {
    let port = free_port();
    let provider = VonageSms::start(port).await;
    let mut daemon = vonage(&provider, 5).start().await;
    let whole = |number: u32| Some(("7", number, 3));
    assert_eq!(provider.text("A3", ANN_BARE, "blue?", whole(3)).await, 200);
    assert_eq!(provider.text("A1", ANN_BARE, "Does it ", whole(1)).await, 200);
    // One that is never whole, from somebody else.
    assert_eq!(provider.text("B2", "4930111333", "of the rest", Some(("7", 2, 2))).await, 200);
    daemon.kill9();
    daemon.start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    for _ in 0..2 {
        until(LONG, "the last part to be taken", async || {
            (provider.text("A2", ANN_BARE, "come in ", whole(2)).await == 200).then_some(())
        })
        .await;
    }
    assert_eq!(provider.text("A3", ANN_BARE, "blue?", whole(3)).await, 200);
    anna.hears("Does it come in blue?").await;
    anna.hears_part("of the rest").await;
    let heard = received(&daemon).await;
    let of = |from: &str| heard.iter().filter(|envelope| envelope.sender.identity.value == from).collect::<Vec<_>>();
    assert_eq!((heard.len(), of(ANN).len()), (2, 1));
    assert_eq!(of(ANN)[0].content, [Part::text("Does it come in blue?")]);
    let missing = Part::Unsupported { kind: "missing_part".into() };
    assert_eq!(of("+4930111333")[0].content, [missing, Part::text("of the rest")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn phone_sms_over_vonage_is_answered_and_told_of() {
    let port = free_port();
    let provider = VonageSms::start(port).await;
    let daemon = vonage(&provider, 60).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    assert_eq!(provider.text("A1", ANN_BARE, "Hello & 1=1", None).await, 200);
    let conversation = anna.hears("Hello & 1=1").await;
    assigned(&anna, conversation).await;
    provider.api.next(&[Whim::Busy(1)]);
    let said = says(&anna, conversation, "Добрый день").await;
    becomes(&daemon, said, &ReceiptStatus::Accepted).await;
    assert_eq!((texts(&provider.api), provider.api.asked().len()), (vec!["Добрый день".to_owned()], 2));
    for status in ["accepted", "delivered", "buffered", "delivered"] {
        assert_eq!(provider.became(&provider.reference(1), &message_id(1), ANN_BARE, status).await, 200);
    }
    becomes(&daemon, said, &ReceiptStatus::Delivered).await;
    provider.api.next(&[Whim::TakeAndCut]);
    let lost = says(&anna, conversation, "Anything else?").await;
    becomes(&daemon, lost, &ReceiptStatus::Unknown).await;
    assert_eq!(provider.became(&provider.reference(2), &message_id(2), ANN_BARE, "delivered").await, 200);
    becomes(&daemon, lost, &ReceiptStatus::Delivered).await;
    assert_eq!(provider.api.asked().len(), 3);
    assert_eq!(states(&daemon, said).await.last(), Some(&ReceiptStatus::Delivered));
}
