//! A trace leads from the adapter that took a message in, over the router, to the adapter that sends the answer; and
//! holds nothing of what was said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{Bus, Publish, Subscription, permissions};
use contract::codec::CONTENT_TYPE;
use contract::command::{AgentCommand, Done, Reply};
use contract::feed::FeedItem;
use contract::{AgentId, Encoding, Event, subject};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use runtime::trace::PARENT;
use throughline_tests::chat::Visit;
use throughline_tests::daemon::{TENANT, free_port};
use throughline_tests::standin::{Asked, Judged, Message, Provider, Standin};
use throughline_tests::streams::tenant;
use throughline_tests::{AgentTool, ChatClient, Daemon, PATIENCE, Vendor, until, within};

/// A collector.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Vec<u8>>>>);

impl Collector {
    /// Every span that came, by its trace. None of these words is in them.
    fn traces(&self, said: &[&str]) -> BTreeMap<Vec<u8>, Vec<Span>> {
        let bodies = self.0.lock().unwrap().clone();
        assert!(!bodies.is_empty(), "nothing was exported");
        let all = String::from_utf8_lossy(&bodies.concat()).into_owned();
        assert!(!said.iter().any(|words| all.contains(words)), "what was said is in the traces");
        let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
        for body in &bodies {
            let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP");
            for span in request.resource_spans.into_iter().flat_map(|it| it.scope_spans).flat_map(|it| it.spans) {
                traces.entry(span.trace_id.clone()).or_default().push(span);
            }
        }
        traces
    }
}

/// The spans of a name.
fn named(spans: &[Span], name: &str) -> Vec<Span> {
    spans.iter().filter(|span| span.name == name).cloned().collect()
}

impl Provider for Collector {
    fn judge(&self, asked: &Asked) -> Judged {
        if asked.method != "POST" || asked.path != "/v1/traces" {
            return Judged::Wrong(format!("{} {}", asked.method, asked.path));
        }
        if asked.header("content-type") != Some("application/x-protobuf") {
            return Judged::Wrong("not protobuf".to_owned());
        }
        self.0.lock().unwrap().push(asked.body.clone());
        Judged::Answer(200, "application/x-protobuf", Vec::new())
    }

    fn taken(&self, _: usize, _: &Message) -> (u16, serde_json::Value) {
        (200, serde_json::json!({}))
    }

    fn busy(&self, seconds: u32) -> (u16, Option<u32>, serde_json::Value) {
        (429, Some(seconds), serde_json::json!({}))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_leads_from_the_customer_to_the_agent_and_back() {
    let collector = Collector::default();
    let standin = Standin::start(collector.clone()).await;
    let mut daemon = Daemon::builder()
        .set("trace.endpoint", format!("\"http://127.0.0.1:{}/v1/traces\"", standin.port))
        .start()
        .await;
    let _agent = AgentTool::automatic(&daemon, "ben", |text| Some(format!("re: {text}"))).await;
    let mut customer = ChatClient::open(&daemon, "ann", Visit::in_language("en")).await;
    customer.say("where is my parcel").await;
    customer.hears("agent", "re: where is my parcel").await;
    customer.say("and the other one").await;
    customer.hears("agent", "re: and the other one").await;
    assert!(daemon.terminate().await.success());

    let traces = collector.traces(&["parcel", "other one"]);
    let whole: Vec<&Vec<Span>> = traces.values().filter(|spans| !named(spans, "send").is_empty()).collect();
    assert_eq!(whole.len(), 2, "each message of the customer and its answer are one trace: {traces:#?}");
    for spans in whole {
        let [accept] = <[Span; 1]>::try_from(named(spans, "accept")).expect("one message came in");
        let [decide] = <[Span; 1]>::try_from(named(spans, "decide")).expect("and was decided");
        assert!(accept.parent_span_id.is_empty());
        assert_eq!(decide.parent_span_id, accept.span_id);
        let sent = named(spans, "send");
        assert!(sent.iter().all(|send| send.parent_span_id == decide.span_id), "{spans:#?}");
    }
}

/// What an agent's tool sees on its feed, with the trace that it is part of.
async fn seen<T>(feed: &mut Subscription, what: &str, pick: impl Fn(&Event) -> Option<T>) -> (T, String) {
    within(PATIENCE, what, async {
        loop {
            let message = feed.next().await.expect("the feed");
            if message.subject.ends_with(subject::FEED_HEARTBEAT) {
                continue;
            }
            let encoding = Encoding::detect(message.headers.get(CONTENT_TYPE), &message.payload).expect("an encoding");
            let item: FeedItem = encoding.decode(&message.payload, message.payload.len()).expect("an item");
            if let Some(found) = pick(&item.record.event) {
                let parent = message.headers.get(PARENT);
                return (found, parent.unwrap_or_else(|| panic!("{what} is part of no trace")).to_owned());
            }
        }
    })
    .await
}

/// Commands as a tool sends them that answers what it has seen.
async fn command(bus: &Bus, agent: &AgentId, command: &AgentCommand, parent: &str) {
    let request = Publish {
        subject: subject::agent_command(&tenant(TENANT), agent, command.verb()),
        payload: command.encode(command.verb(), Encoding::Json).expect("a command").into(),
        content_type: Some(Encoding::Json.content_type()),
        headers: vec![(PARENT, parent.to_owned())],
        ..Publish::default()
    };
    let answer = bus.request(request, Duration::from_secs(5)).await.expect("an answer");
    let reply: Reply<Done> = Encoding::Json.decode(&answer.payload, answer.payload.len()).expect("a reply");
    assert!(reply.ok, "{}: {:?}", command.verb(), reply.refusal);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a span says of itself.
fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|found| found.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.as_str()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_is_one_from_a_webhook_to_the_agent_and_back() {
    let collector = Collector::default();
    let standin = Standin::start(collector.clone()).await;
    let vendor = Vendor::start(free_port()).await;
    let builder = Daemon::builder()
        .without_chat()
        .set("trace.endpoint", format!("\"http://127.0.0.1:{}/v1/traces\"", standin.port));
    let mut daemon = vendor.join(builder).start().await;
    // Present, and doing nothing by itself: what is done is done here, by another door of the same agent.
    let tool = AgentTool::open(&daemon, "ben").await;
    let ben = AgentId::new("ben").unwrap();
    let bus = daemon.connect(&permissions::agent_user(TENANT, "ben")).await;
    let mut feed = bus.subscribe(&subject::feed_all(&tenant(TENANT), &ben)).await.expect("ben's own feed");
    tool.available().await;

    let taken = vendor.says("e1", "chat-7", "Ann", "where is my parcel").await.expect("an answer");
    assert_eq!(taken.status, 200, "{}", taken.body);
    let offered = |event: &Event| match event {
        Event::OfferCreated { offer, .. } => Some(*offer),
        _ => None,
    };
    let (offer, with_offer) = seen(&mut feed, "the offer", offered).await;
    command(&bus, &ben, &AgentCommand::OfferAccept { offer }, &with_offer).await;
    let assigned = |event: &Event| match event {
        Event::ConversationAssigned { conversation, .. } => Some(*conversation),
        _ => None,
    };
    let (conversation, with_assignment) = seen(&mut feed, "the assignment", assigned).await;
    let content = desk::tool::text("it is under way");
    let answer = AgentCommand::MessageSend { conversation, content, reply_to: None, via: None, purpose: None };
    command(&bus, &ben, &answer, &with_assignment).await;
    until(PATIENCE, "the answer", async || (vendor.api.taken().len() == 1).then_some(())).await;
    assert!(daemon.terminate().await.success());

    let traces = collector.traces(&["parcel", "under way"]);
    let mut of_sends = traces.values().filter(|spans| !named(spans, "send").is_empty());
    let spans = of_sends.next().expect("the answer is in a trace");
    assert!(of_sends.next().is_none(), "and in one");
    let [send] = <[Span; 1]>::try_from(named(spans, "send")).expect("it went once");
    // From the answer back to where it began.
    let mut way = vec![&send];
    let parent = |of: &Span| spans.iter().find(|span| span.span_id == of.parent_span_id);
    while let Some(before) = way.last().and_then(|last| parent(last)) {
        way.push(before);
    }
    let names: Vec<&str> = way.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["send", "decide", "decide", "decide", "accept", "receive"], "{spans:#?}");
    assert!(way.last().is_some_and(|first| first.parent_span_id.is_empty()), "{spans:#?}");
    for (at, seen) in [(3, &with_offer), (2, &with_assignment)] {
        let said = format!("00-{}-{}-01", hex(&way[at].trace_id), hex(&way[at].span_id));
        assert_eq!(*seen, said, "the tool saw what it answered as part of this");
    }
    for at in [0, 4] {
        assert_eq!(attribute(way[at], "channel.kind"), Some("webhook"));
        assert_eq!(attribute(way[at], "channel.account"), Some("acme"));
    }
}
