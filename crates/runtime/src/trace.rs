//! Traces: one from the adapter that took a message in, over the router and the agent, to the adapter that sends the
//! answer. They go to an OTLP collector; without one, what others began is passed on and nothing is recorded.
//!
//! The way over the bus is the header [`PARENT`] as W3C Trace Context has it; a record that holds several messages has
//! [`PARENTS`] instead, one for each, separated by commas, empty where there is none. Attributes are ids and kinds, never
//! what somebody wrote.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

/// The header with the trace of a message.
pub const PARENT: &str = "traceparent";
/// The header with the traces of a record of several messages.
pub const PARENTS: &str = "Tl-Trace";
/// As long as every trace context of version 00 is.
const PARENT_LEN: usize = 55;

static ON: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();

/// The answer to a request.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send>>;

/// Carries requests by what it was given.
struct Carrier<F>(F);

impl<F> std::fmt::Debug for Carrier<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Carrier")
    }
}

impl<F: Fn(Request<Bytes>) -> Answer + Send + Sync> HttpClient for Carrier<F> {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        (self.0)(request)
    }
}

/// Starts to record. Once per process. `send` carries requests to the collector; it is called by a thread of its own,
/// outside any runtime.
///
/// # Errors
/// With what is wrong with the address.
pub fn init(
    send: impl Fn(Request<Bytes>) -> Answer + Send + Sync + 'static,
    endpoint: &str,
    ratio: f64,
    instance: &str,
) -> Result<(), String> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Carrier(send))
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| error.to_string())?;
    let resource = Resource::builder_empty()
        .with_service_name("throughline")
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("throughline");
    ON.set((provider, tracer)).map_err(|_| "traces are on already".to_owned())
}

/// Sends what is left. Blocks for a moment.
pub fn end() {
    if let Some((provider, _)) = ON.get()
        && let Err(error) = provider.shutdown_with_timeout(Duration::from_secs(2))
    {
        tracing::debug!(%error, "the last traces were not sent");
    }
}

/// Whether spans are recorded here.
#[must_use]
pub fn is_on() -> bool {
    ON.get().is_some()
}

/// What a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something is put on the bus.
    Producer,
    /// Something is taken from the bus.
    Consumer,
    /// Somebody outside is called.
    Client,
    /// Somebody outside calls.
    Server,
}

/// Something that takes time. It ends when this is dropped.
#[derive(Debug)]
pub struct Span {
    inner: Option<opentelemetry_sdk::trace::Span>,
    /// Where nothing is recorded: what goes on.
    parent: Option<String>,
}

/// Reads a trace context of version 00.
fn read(parent: &str) -> Option<SpanContext> {
    if parent.len() != PARENT_LEN || !parent.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut parts = parent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || trace.len() != 32 || span.len() != 16 || flags.len() != 2 || parts.next().is_some() {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::default())).filter(SpanContext::is_valid)
}

fn write(context: &SpanContext) -> Option<String> {
    let flags = if context.is_sampled() { "01" } else { "00" };
    context.is_valid().then(|| format!("00-{}-{}-{flags}", context.trace_id(), context.span_id()))
}

/// Begins a span, within the one that another process began where `parent` is a trace context.
#[must_use]
pub fn start(name: &'static str, kind: Kind, parent: Option<&str>) -> Span {
    let parent = parent.and_then(|parent| Some((parent, read(parent)?)));
    let Some((_, tracer)) = ON.get() else {
        return Span { inner: None, parent: parent.map(|(text, _)| text.to_owned()) };
    };
    let kind = match kind {
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
        Kind::Client => SpanKind::Client,
        Kind::Server => SpanKind::Server,
    };
    let context = match parent {
        Some((_, parent)) => Context::new().with_remote_span_context(parent),
        None => Context::new(),
    };
    let span = tracer.build_with_context(tracer.span_builder(name).with_kind(kind), &context);
    Span { inner: Some(span), parent: None }
}

impl Span {
    /// What to put into [`PARENT`], so that it goes on elsewhere.
    #[must_use]
    pub fn context(&self) -> Option<String> {
        match &self.inner {
            Some(span) => write(span.span_context()),
            None => self.parent.clone(),
        }
    }

    /// Says more of it: an id or a kind.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.inner {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// It came to nothing; a word on why.
    pub fn fail(&mut self, why: &'static str) {
        if let Some(span) = &mut self.inner {
            span.set_status(Status::error(why));
        }
    }
}

/// The trace of the `nth` message of a record, from its headers.
#[must_use]
pub fn nth<'a>(parent: Option<&'a str>, parents: Option<&'a str>, nth: usize) -> Option<&'a str> {
    match parents {
        Some(parents) => parents.split(',').nth(nth).filter(|parent| !parent.is_empty()),
        None => parent,
    }
}

/// The header of a record of several messages; `None`: no message has a trace.
#[must_use]
pub fn join(contexts: &[Option<String>]) -> Option<String> {
    let any = contexts.iter().any(Option::is_some);
    any.then(|| contexts.iter().map(|context| context.as_deref().unwrap_or_default()).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn contexts_are_read_as_the_standard_has_them() {
        let context = read(CONTEXT).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(write(&context).unwrap(), CONTEXT);
        let long = format!("{CONTEXT}-00");
        for wrong in [
            "",
            "00",
            &CONTEXT.replace("00-0a", "ff-0a"),
            &CONTEXT.replace("0af7", "00gg"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            &long,
        ] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_others_began_goes_on_where_nothing_is_recorded() {
        assert!(!is_on());
        assert_eq!(start("x", Kind::Consumer, Some(CONTEXT)).context().as_deref(), Some(CONTEXT));
        assert_eq!(start("x", Kind::Consumer, Some("nonsense\r\nx: y")).context(), None);
        assert_eq!(start("x", Kind::Consumer, None).context(), None);
    }

    #[test]
    fn each_message_of_a_record_has_its_own() {
        let header = join(&[None, Some(CONTEXT.to_owned()), None]).unwrap();
        assert_eq!(nth(None, Some(&header), 0), None);
        assert_eq!(nth(None, Some(&header), 1), Some(CONTEXT));
        assert_eq!(nth(None, Some(&header), 7), None);
        assert_eq!(nth(Some(CONTEXT), None, 3), Some(CONTEXT));
        assert_eq!(join(&[None, None]), None);
    }
}
