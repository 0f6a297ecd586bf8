//! A trace leads from the adapter that took a message in, over the router, to the adapter that sends the answer; and
//! holds nothing of what was said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use throughline_tests::chat::Visit;
use throughline_tests::standin::{Asked, Judged, Message, Provider, Standin};
use throughline_tests::{AgentTool, ChatClient, Daemon};

/// A collector.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Vec<u8>>>>);

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

    let bodies = collector.0.lock().unwrap().clone();
    assert!(!bodies.is_empty(), "nothing was exported");
    let all = String::from_utf8_lossy(&bodies.concat()).into_owned();
    assert!(!all.contains("parcel") && !all.contains("other one"), "what was said is in the traces");
    let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
    for body in &bodies {
        let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP");
        for span in request.resource_spans.into_iter().flat_map(|it| it.scope_spans).flat_map(|it| it.spans) {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
    }
    let named = |spans: &[Span], name: &str| spans.iter().filter(|span| span.name == name).cloned().collect::<Vec<_>>();
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
