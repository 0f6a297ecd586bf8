//! What goes over the bus and what comes back.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use crate::Error;

/// Something to publish.
#[derive(Debug, Clone, Default)]
pub struct Publish {
    /// Where.
    pub subject: String,
    /// What.
    pub payload: Bytes,
    /// `content-type` header.
    pub content_type: Option<&'static str>,
    /// `Nats-Msg-Id`.
    pub msg_id: Option<String>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Only if the newest message on a subject of the stream has this sequence (0: there is none).
    pub expect: Option<Expect>,
    /// Only if the newest message of the whole stream has this sequence (0: there was none).
    pub expect_last: Option<u64>,
}

/// A fence: (subject, its newest sequence). The subject may be another than the one published on.
#[derive(Debug, Clone)]
pub struct Expect {
    /// Whose newest message is looked at.
    pub subject: String,
    /// The sequence it must have; 0: there must be none.
    pub seq: u64,
}

/// What the stream answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The sequence under which it is stored.
    pub seq: u64,
    /// It was there already, by its msg id.
    pub duplicate: bool,
}

/// A core message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it was published.
    pub subject: String,
    /// Where an answer goes, if one is wanted.
    pub reply: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// Its bytes.
    pub payload: Bytes,
}

/// A message of a stream.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its sequence in the stream.
    pub seq: u64,
    /// Where it was published.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its bytes.
    pub payload: Bytes,
    /// When the server stored it, milliseconds since the epoch.
    pub at_ms: u64,
}

/// Headers of a received message.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    map: Option<HeaderMap>,
}

impl Headers {
    /// The first value of a header; names are compared as they are written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let name = name.parse::<HeaderName>().ok()?;
        self.map.as_ref()?.get(name).map(HeaderValue::as_str)
    }

    /// Every header with its first value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (String, &str)> {
        self.map
            .iter()
            .flat_map(HeaderMap::iter)
            .filter_map(|(name, values)| values.first().map(|value| (name.to_string(), value.as_str())))
    }
}

impl From<Option<HeaderMap>> for Headers {
    fn from(map: Option<HeaderMap>) -> Self {
        Self { map }
    }
}

impl From<async_nats::Message> for Message {
    fn from(message: async_nats::Message) -> Self {
        Self {
            subject: message.subject.into_string(),
            reply: message.reply.map(async_nats::Subject::into_string),
            headers: Headers { map: message.headers },
            payload: message.payload,
        }
    }
}

/// A header of JetStream's with a number or name of ours in it: neither can hold a line break.
pub(crate) fn insert(map: &mut HeaderMap, name: &'static str, value: &str) -> Result<(), Error> {
    let name: HeaderName = name.parse().map_err(|_| Error::config(format!("header name {name:?} is not legal")))?;
    // The value may hold a customer's address: it is not shown.
    let value: HeaderValue =
        value.parse().map_err(|_| Error::config(format!("the value of header {name} holds a line break")))?;
    map.insert(name, value);
    Ok(())
}

impl Publish {
    /// The headers as the client library wants them; `None` when there are none, which is cheaper.
    pub(crate) fn header_map(&self) -> Result<Option<HeaderMap>, Error> {
        let fenced = self.expect.is_some() || self.expect_last.is_some();
        if self.content_type.is_none() && self.msg_id.is_none() && self.headers.is_empty() && !fenced {
            return Ok(None);
        }
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            insert(&mut map, name, value)?;
        }
        if let Some(content_type) = self.content_type {
            insert(&mut map, "content-type", content_type)?;
        }
        if let Some(msg_id) = &self.msg_id {
            insert(&mut map, "Nats-Msg-Id", msg_id)?;
        }
        if let Some(seq) = self.expect_last {
            insert(&mut map, "Nats-Expected-Last-Sequence", &seq.to_string())?;
        }
        if let Some(expect) = &self.expect {
            insert(&mut map, "Nats-Expected-Last-Subject-Sequence", &expect.seq.to_string())?;
            if expect.subject != self.subject {
                insert(&mut map, "Nats-Expected-Last-Subject-Sequence-Subject", &expect.subject)?;
            }
        }
        Ok(Some(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_names_its_subject_only_when_it_is_another() {
        let mut publish = Publish { subject: "a.log".into(), ..Publish::default() };
        assert!(publish.header_map().unwrap().is_none());
        publish.expect = Some(Expect { subject: "a.log".into(), seq: 3 });
        let headers = Headers::from(publish.header_map().unwrap());
        assert_eq!(headers.get("Nats-Expected-Last-Subject-Sequence"), Some("3"));
        assert_eq!(headers.get("Nats-Expected-Last-Subject-Sequence-Subject"), None);
        publish.expect = Some(Expect { subject: "a.epoch".into(), seq: 3 });
        let headers = Headers::from(publish.header_map().unwrap());
        assert_eq!(headers.get("Nats-Expected-Last-Subject-Sequence-Subject"), Some("a.epoch"));
    }

    #[test]
    fn a_line_break_in_a_header_is_refused() {
        let publish = Publish { msg_id: Some("a\r\nb".into()), ..Publish::default() };
        assert_eq!(publish.header_map().unwrap_err().kind, crate::ErrorKind::Config);
    }
}
