//! Phone calls end to end: callers and agents' phones at a provider that plays what we answer, in the true order of its
//! webhooks and in another one, each twice.

use std::time::Duration;

use contract::envelope::{EnvelopeKind, MediaStatus, Part, ReceiptStatus};
use contract::event::{EnqueueReason, Presence};
use contract::{AgentId, ConversationId, Event};
use throughline_tests::daemon::{Builder, TENANT, free_port};
use throughline_tests::phone::{ACCOUNT, LONG, OURS, Order, RECORDING, TOKEN, Twilio, Twiml};
use throughline_tests::{AgentTool, Daemon, until, within};

const ANN: &str = "+4930111222";
const ANNA: &str = "+4930200300";
const BEN: &str = "+4930200400";
const CALL: &str = "CA11111111111111111111111111111111";
const LEG: &str = "CAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

async fn start(twilio: &Twilio) -> Daemon {
    let account = include_str!("phone_voice.toml").replace("{api}", &format!("http://127.0.0.1:{}", twilio.api.port));
    builder(twilio.port).account("phone-berlin", &account).env("TWILIO_TOKEN", TOKEN).start().await
}

fn builder(port: u16) -> Builder {
    Daemon::builder()
        .without_chat()
        .amend("name = \"Anna\"\n", &format!("name = \"Anna\"\nphone = \"{ANNA}\"\n"))
        .amend("name = \"Ben\"\n", &format!("name = \"Ben\"\nphone = \"{BEN}\"\n"))
        // The caller's number says German, and the rules ask for who speaks it.
        .amend("skills = { \"lang:en\" = 10 }", "skills = { \"lang:de\" = 9, \"lang:en\" = 10 }")
        .set("webhook.listen", format!("\"127.0.0.1:{port}\""))
        .set("webhook.public_base_url", format!("\"{}\"", throughline_tests::phone::BASE))
}

/// The fields that Twilio sends with everything of a leg.
fn leg<'a>(sid: &'a str, from: &'a str, to: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields =
        vec![("CallSid", sid), ("AccountSid", ACCOUNT), ("From", from), ("To", to), ("ApiVersion", "2010-04-01")];
    fields.extend_from_slice(more);
    fields
}

fn caller<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    leg(CALL, ANN, OURS, &[&[("Direction", "inbound")], more].concat())
}

fn agent<'a>(sid: &'a str, parent: &'a str, to: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    leg(sid, OURS, to, &[&[("Direction", "outbound-dial"), ("ParentCallSid", parent)], more].concat())
}

/// Something that the provider tells: where, and what.
type Word<'a> = (String, Vec<(&'a str, &'a str)>);

/// Tells it all in this order, or backwards and each twice.
async fn tell(twilio: &Twilio, mut words: Vec<Word<'_>>, shuffled: bool) {
    if shuffled {
        words.reverse();
        words = words.iter().flat_map(|word| [word.clone(), word.clone()]).collect();
    }
    for (url, fields) in words {
        assert_eq!(twilio.post(&url, &fields).await.0, 200, "{url}");
    }
}

/// Somebody calls, and is greeted.
async fn calls(twilio: &Twilio) -> Twiml {
    let (status, page) = twilio.post(&twilio.console("incoming"), &caller(&[("CallStatus", "ringing")])).await;
    assert_eq!(status, 200);
    assert!(page.said().contains("Vielen Dank"), "{page:?}");
    page
}

/// The caller waits until they hear something.
async fn hears(twilio: &Twilio, page: &Twiml, fields: &[(&str, &str)], text: &str) -> Twiml {
    let mut page = page.clone();
    for _ in 0..200 {
        let next = page.text("Redirect").unwrap_or_else(|| panic!("the caller does not wait: {page:?}"));
        let (status, new) = twilio.post(&next, fields).await;
        assert_eq!(status, 200);
        if new.said().contains(text) {
            return new;
        }
        page = new;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{text:?} is not said; last of all: {page:?}");
}

fn twiml(order: &Order) -> Twiml {
    Twiml(order.body["Twiml"].as_str().unwrap_or_default().to_owned())
}

/// The agent's phone rings, the agent hears who calls and presses a key.
async fn takes(twilio: &Twilio, dial: &Twiml, sid: &str, parent: &str, number: &str, shuffled: bool) {
    let status = dial.attribute("Number", "statusCallback").expect("where the leg is told of");
    let rings = vec![
        (status.clone(), agent(sid, parent, number, &[("CallStatus", "initiated"), ("SequenceNumber", "0")])),
        (status, agent(sid, parent, number, &[("CallStatus", "ringing"), ("SequenceNumber", "1")])),
    ];
    tell(twilio, rings, shuffled).await;
    let whisper = dial.attribute("Number", "url").expect("what the agent hears");
    let (_, page) = twilio.post(&whisper, &agent(sid, parent, number, &[("CallStatus", "in-progress")])).await;
    assert!(page.said().contains("support"), "{page:?}");
    let take = page.attribute("Gather", "action").expect("where the key goes");
    let pressed = agent(sid, parent, number, &[("CallStatus", "in-progress"), ("Digits", "1")]);
    let (status, joined) = twilio.post(&take, &pressed).await;
    assert_eq!((status, joined.0.contains("Hangup")), (200, false), "{joined:?}");
}

/// A redirect of the caller to an agent's number.
async fn dialed(twilio: &Twilio, sid: &str, number: &str, after: usize) -> Twiml {
    let dial = twiml(&twilio.ordered(&format!("POST /Calls/{sid}.json"), after).await);
    assert_eq!(dial.text("Number").as_deref(), Some(number));
    assert_eq!(dial.attribute("Dial", "callerId").as_deref(), Some(OURS));
    dial
}

async fn facts<T>(daemon: &Daemon, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
    daemon.events(TENANT).await.iter().filter_map(|record| pick(&record.event)).collect()
}

async fn closed(daemon: &Daemon) -> (ConversationId, Option<AgentId>, Option<String>) {
    until(LONG, "the end", async || {
        let closed = facts(daemon, |event| match event {
            Event::ConversationClosed { conversation, by, reason, .. } => {
                Some((*conversation, by.clone(), reason.as_ref().map(ToString::to_string)))
            }
            _ => None,
        });
        closed.await.into_iter().next()
    })
    .await
}

/// One call is one conversation of one customer, whatever came how often.
async fn is_one(daemon: &Daemon) {
    let named = |name: &'static str| facts(daemon, move |event| (event.name() == name).then_some(()));
    assert_eq!(named("conversation.opened").await.len(), 1);
    assert_eq!(named("customer.created").await.len(), 1);
    assert_eq!(named("message.received").await.len(), 1);
    assert_eq!(daemon.dead_letters(TENANT).await.len(), 0);
}

async fn answered(shuffled: bool) {
    let twilio = Twilio::start(free_port(), "berlin").await;
    let daemon = start(&twilio).await;
    let page = calls(&twilio).await;
    let waits = caller(&[("CallStatus", "in-progress")]);
    let page = hears(&twilio, &page, &waits, "als Nächstes").await;
    assert!(page.said().contains("drücken Sie die 1") && page.said().contains("drücken Sie die 2"), "{page:?}");
    assert!(!page.said().contains("Wartezeit"), "what nobody can tell is not guessed: {page:?}");
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let dial = dialed(&twilio, CALL, ANNA, 0).await;
    takes(&twilio, &dial, LEG, CALL, ANNA, shuffled).await;
    let state = anna
        .sees("the leg", |event| match event {
            Event::MessageAmended { envelope, .. } => {
                envelope.call.clone().filter(|call| call.state == "answered" && call.agent.is_some())
            }
            _ => None,
        })
        .await;
    assert_eq!((state.leg.as_str(), state.command_id.is_some()), (LEG, true));
    // The caller hangs up.
    let status = dial.attribute("Number", "statusCallback").expect("where the leg is told of");
    let words = vec![
        (status, agent(LEG, CALL, ANNA, &[("CallStatus", "completed"), ("SequenceNumber", "3")])),
        (
            dial.attribute("Dial", "action").expect("what comes after"),
            caller(&[
                ("CallStatus", "completed"),
                ("DialCallSid", LEG),
                ("DialCallStatus", "completed"),
                ("DialBridged", "true"),
            ]),
        ),
        (twilio.console("event"), caller(&[("CallStatus", "completed"), ("SequenceNumber", "2")])),
    ];
    tell(&twilio, words, shuffled).await;
    let (_, by, reason) = closed(&daemon).await;
    assert_eq!((by.as_ref().map(AgentId::as_str), reason), (Some("anna"), None));
    is_one(&daemon).await;
    assert_eq!(twilio.orders().len(), 1, "nothing else was ordered");
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
    let twilio = Twilio::start(free_port(), "berlin").await;
    let daemon = start(&twilio).await;
    let page = calls(&twilio).await;
    let page = hears(&twilio, &page, &caller(&[("CallStatus", "in-progress")]), "drücken Sie die 2").await;
    let key = page.attribute("Gather", "action").expect("where keys go");
    let (_, page) = twilio.post(&key, &caller(&[("CallStatus", "in-progress"), ("Digits", "2")])).await;
    assert!(page.said().contains("nach dem Ton"), "{page:?}");
    let made = [("RecordingSid", "RE77777777777777777777777777777777"), ("RecordingDuration", "17")];
    let at = |name: &str| page.attribute("Record", name).expect("an address");
    let words = vec![
        (at("action"), caller(&[&made[..], &[("CallStatus", "completed"), ("Digits", "hangup")]].concat())),
        (twilio.console("event"), caller(&[("CallStatus", "completed"), ("SequenceNumber", "2")])),
        (
            at("recordingStatusCallback"),
            [&made[..], &[("CallSid", CALL), ("AccountSid", ACCOUNT), ("RecordingStatus", "completed")]].concat(),
        ),
        (
            at("transcribeCallback"),
            [
                &made[..1],
                &[
                    ("CallSid", CALL),
                    ("AccountSid", ACCOUNT),
                    ("TranscriptionStatus", "completed"),
                    ("TranscriptionText", "Please call me."),
                ],
            ]
            .concat(),
        ),
    ];
    tell(&twilio, words, shuffled).await;
    let stored = until(LONG, "the recording", async || {
        let stored = facts(&daemon, |event| match event {
            Event::MessageAmended { envelope, .. } if envelope.kind == EnvelopeKind::Media => {
                envelope.content.iter().find_map(|part| match part {
                    Part::Media(media) if media.status == Some(MediaStatus::Stored) => Some(media.clone()),
                    _ => None,
                })
            }
            _ => None,
        });
        stored.await.into_iter().next()
    })
    .await;
    assert_eq!((stored.bytes, stored.voice), (Some(RECORDING.len() as u64), true));
    let objects = daemon.connect(bus::permissions::ADMIN).await.objects(bus::topology::MEDIA).await.expect("the store");
    let key = stored.store_key.expect("where it is");
    let read = within(LONG, "the bytes", async { objects.get(&key, 1 << 20).await }).await;
    assert_eq!(read.expect("the store").as_deref(), Some(RECORDING));
    let said = facts(&daemon, |event| match event {
        Event::MessageAmended { envelope, .. } => envelope.call.as_ref().and_then(|call| call.transcript.clone()),
        _ => None,
    });
    assert_eq!(said.await, ["Please call me."]);
    // It waits for an agent as it did, and nobody is called.
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let conversation = assigned(&anna).await;
    assert_eq!(conversation.to_string(), "c1");
    is_one(&daemon).await;
    assert_eq!(twilio.orders(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voicemail_waits_for_an_agent() {
    voicemail(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voicemail_waits_whatever_the_order_of_webhooks() {
    voicemail(true).await;
}

async fn assigned(agent: &AgentTool) -> ConversationId {
    agent
        .sees("the conversation", |event| match event {
            Event::ConversationAssigned { conversation, .. } => Some(*conversation),
            _ => None,
        })
        .await
}

async fn callback(shuffled: bool) {
    let twilio = Twilio::start(free_port(), "berlin").await;
    let daemon = start(&twilio).await;
    let page = calls(&twilio).await;
    let page = hears(&twilio, &page, &caller(&[("CallStatus", "in-progress")]), "drücken Sie die 1").await;
    let key = page.attribute("Gather", "action").expect("where keys go");
    let (_, page) = twilio.post(&key, &caller(&[("CallStatus", "in-progress"), ("Digits", "1")])).await;
    assert!(page.said().contains("rufen Sie zurück") && page.0.contains("<Hangup/>"), "{page:?}");
    let gone = vec![(twilio.console("event"), caller(&[("CallStatus", "completed"), ("SequenceNumber", "2")]))];
    tell(&twilio, gone, shuffled).await;

    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let conversation = assigned(&anna).await;
    let order = twilio.ordered("POST /Calls.json", 0).await;
    assert_eq!(order.body["To"], ANN);
    let dial = twiml(&order);
    assert!(dial.said().contains("Rückruf"), "{dial:?}");
    let status = order.body["StatusCallback"].as_str().expect("where the leg is told of").to_owned();
    let back = format!("CA{:032x}", 0xb001);
    let called = |more: &[(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> {
        // The id is made by the provider.
        let sid: &'static str = "CA0000000000000000000000000000b001";
        assert_eq!(sid, back);
        leg(sid, OURS, ANN, &[&[("Direction", "outbound-api")], more].concat())
    };
    let words = vec![
        (status.clone(), called(&[("CallStatus", "initiated"), ("SequenceNumber", "0")])),
        (status.clone(), called(&[("CallStatus", "ringing"), ("SequenceNumber", "1")])),
        (status.clone(), called(&[("CallStatus", "in-progress"), ("SequenceNumber", "2")])),
    ];
    tell(&twilio, words, shuffled).await;
    takes(&twilio, &dial, LEG, &back, ANNA, shuffled).await;

    // The agent closes: the leg that the customer is on now is ended, and not the first one.
    anna.close(conversation, "solved").await;
    let hung_up = twilio.ordered(&format!("POST /Calls/{back}.json"), 0).await;
    assert_eq!(hung_up.body["Status"], "completed");
    let words = vec![
        (
            dial.attribute("Number", "statusCallback").expect("an address"),
            agent(LEG, &back, ANNA, &[("CallStatus", "completed"), ("SequenceNumber", "3")]),
        ),
        (status, called(&[("CallStatus", "completed"), ("SequenceNumber", "3")])),
    ];
    tell(&twilio, words, shuffled).await;
    assert_eq!(closed(&daemon).await.1.as_ref().map(AgentId::as_str), Some("anna"));
    is_one(&daemon).await;
    assert_eq!(twilio.orders().len(), 2, "nobody is called twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_be_called_back_is() {
    callback(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_be_called_back_is_whatever_the_order_of_webhooks() {
    callback(true).await;
}

async fn not_reached(shuffled: bool) {
    let twilio = Twilio::start(free_port(), "berlin").await;
    let daemon = start(&twilio).await;
    let page = calls(&twilio).await;
    hears(&twilio, &page, &caller(&[("CallStatus", "in-progress")]), "als Nächstes").await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let dial = dialed(&twilio, CALL, ANNA, 0).await;
    // Else she is asked again, sooner or later.
    anna.presence(Presence::Away).await;
    let status = dial.attribute("Number", "statusCallback").expect("an address");
    // A voicemail box picks up, hears who calls and presses nothing.
    let whisper = dial.attribute("Number", "url").expect("what is heard");
    let (_, heard) = twilio.post(&whisper, &agent(LEG, CALL, ANNA, &[("CallStatus", "in-progress")])).await;
    assert!(heard.0.ends_with("</Gather><Hangup/></Response>"), "{heard:?}");
    let ended = caller(&[
        ("CallStatus", "in-progress"),
        ("DialCallSid", LEG),
        ("DialCallStatus", "completed"),
        ("DialBridged", "true"),
    ]);
    let words = vec![
        (status.clone(), agent(LEG, CALL, ANNA, &[("CallStatus", "ringing"), ("SequenceNumber", "1")])),
        (status.clone(), agent(LEG, CALL, ANNA, &[("CallStatus", "in-progress"), ("SequenceNumber", "2")])),
        (status, agent(LEG, CALL, ANNA, &[("CallStatus", "completed"), ("SequenceNumber", "3")])),
    ];
    tell(&twilio, words, shuffled).await;
    let (_, page) = twilio.post(&dial.attribute("Dial", "action").expect("what comes after"), &ended).await;
    assert!(page.said().contains("Geduld"), "the caller waits on: {page:?}");
    let again = until(LONG, "the queue", async || {
        let again = facts(&daemon, |event| match event {
            Event::ConversationEnqueued { reason: EnqueueReason::CallFailed, from, .. } => Some(from.clone()),
            _ => None,
        });
        again.await.into_iter().next()
    })
    .await;
    assert_eq!(again.as_ref().map(AgentId::as_str), Some("anna"));
    hears(&twilio, &page, &caller(&[("CallStatus", "in-progress")]), "als Nächstes").await;
    let _ben = AgentTool::automatic(&daemon, "ben", |_| None).await;
    let dial = dialed(&twilio, CALL, BEN, 1).await;
    takes(&twilio, &dial, "CAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", CALL, BEN, shuffled).await;
    let gone = vec![(twilio.console("event"), caller(&[("CallStatus", "completed"), ("SequenceNumber", "9")]))];
    tell(&twilio, gone, shuffled).await;
    assert_eq!(closed(&daemon).await.1.as_ref().map(AgentId::as_str), Some("ben"));
    is_one(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_who_is_not_reached_loses_the_call_to_the_next() {
    not_reached(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_who_is_not_reached_loses_the_call_whatever_the_order_of_webhooks() {
    not_reached(true).await;
}

async fn abandoned(shuffled: bool) {
    let twilio = Twilio::start(free_port(), "berlin").await;
    let daemon = start(&twilio).await;
    let wait = calls(&twilio).await.text("Redirect").expect("the next round");
    let words = vec![
        (wait.clone(), caller(&[("CallStatus", "in-progress")])),
        (wait, caller(&[("CallStatus", "completed")])),
        (twilio.console("event"), caller(&[("CallStatus", "completed"), ("SequenceNumber", "2")])),
    ];
    tell(&twilio, words, shuffled).await;
    let (_, by, reason) = closed(&daemon).await;
    assert_eq!((by, reason.as_deref()), (None, Some("abandoned")));
    let abandoned = facts(&daemon, |event| matches!(event, Event::ConversationAbandoned { .. }).then_some(()));
    assert_eq!(abandoned.await.len(), 1);
    is_one(&daemon).await;
    assert_eq!(twilio.orders(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_while_waiting_is_gone() {
    abandoned(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_while_waiting_is_gone_whatever_the_order_of_webhooks() {
    abandoned(true).await;
}

/// What became of the order that was given first.
async fn becomes(daemon: &Daemon, wanted: ReceiptStatus) {
    until(LONG, &format!("an order to be {wanted:?}"), async || {
        let states = facts(daemon, |event| match event {
            Event::MessageStatusChanged { status, .. } if *status == wanted => Some(()),
            _ => None,
        });
        states.await.into_iter().next()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_repeated_until_the_agent_rings() {
    let twilio = Twilio::start(free_port(), "berlin").await;
    let daemon = start(&twilio).await;
    let page = calls(&twilio).await;
    hears(&twilio, &page, &caller(&[("CallStatus", "in-progress")]), "als Nächstes").await;
    // Nobody knows whether it was done, twice; the second time it was, and the agent rings.
    twilio.answers(&[503, 500]);
    let _anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let dial = dialed(&twilio, CALL, ANNA, 1).await;
    takes(&twilio, &dial, LEG, CALL, ANNA, false).await;
    becomes(&daemon, ReceiptStatus::Accepted).await;
    assert_eq!(twilio.orders().len(), 2, "who is being called is not cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_never_called_twice_for_one_order() {
    let twilio = Twilio::start(free_port(), "berlin").await;
    let daemon = start(&twilio).await;
    let page = calls(&twilio).await;
    let page = hears(&twilio, &page, &caller(&[("CallStatus", "in-progress")]), "drücken Sie die 1").await;
    let key = page.attribute("Gather", "action").expect("where keys go");
    twilio.post(&key, &caller(&[("CallStatus", "in-progress"), ("Digits", "1")])).await;
    tell(&twilio, vec![(twilio.console("event"), caller(&[("CallStatus", "completed")]))], false).await;
    twilio.answers(&[502]);
    let _anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    becomes(&daemon, ReceiptStatus::Unknown).await;
    let calls = twilio.orders().into_iter().filter(|order| order.what == "POST /Calls.json").count();
    assert_eq!(calls, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_or_of_another_call_is_nothing() {
    let twilio = Twilio::start(free_port(), "berlin").await;
    let daemon = start(&twilio).await;
    let rings = caller(&[("CallStatus", "ringing")]);
    let incoming = twilio.console("incoming");
    assert_eq!(twilio.post_signed_for(&format!("{incoming}?x=1"), &incoming, &rings).await.0, 401);
    let waits = caller(&[("CallStatus", "in-progress")]);
    let page = calls(&twilio).await;
    let next = hears(&twilio, &page, &waits, "als Nächstes").await.text("Redirect").expect("the next round");
    // The provider's signature is right, ours is not.
    for forged in
        [next.replace(CALL, LEG), next.replace("/wait?", "/take?"), next.replace('?', "?n=5&"), format!("{next}0")]
    {
        let status = twilio.post(&forged, &waits).await.0;
        assert!(matches!(status, 401 | 403 | 404), "{forged}: {status}");
    }
    // Ours is right, and the request is of another call.
    let other = leg(LEG, "+4930999999", OURS, &[("CallStatus", "in-progress"), ("Direction", "inbound")]);
    assert_eq!(twilio.post(&next, &other).await.0, 403);
    is_one(&daemon).await;
}
