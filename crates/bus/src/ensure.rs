//! Making a topology true: creates what is missing, updates what differs, deletes nothing.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::read::longer;
use crate::time::nanos;
use crate::topology::{Bucket, Consumer, Retention, Stream, Topology};
use crate::{Bus, Error, ErrorKind};

/// How long a server may take to be ready: JetStream reads its streams, a cluster elects leaders.
const READY_WAIT: Duration = Duration::from_secs(30);

/// What no update can change; the server would refuse with a less helpful text.
const FIXED: [&str; 2] = ["storage", "retention"];

/// A stream as the server writes it, as far as we care. Whatever else an operator set stays.
type Wanted = Map<String, Value>;

fn wanted(value: Value) -> Wanted {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn stream(stream: &Stream) -> Wanted {
    let age = stream.age_max.unwrap_or_default();
    let window = match stream.age_max {
        Some(age) => stream.duplicate_window.min(age),
        None => stream.duplicate_window,
    };
    wanted(json!({
        "name": stream.name,
        "subjects": stream.subjects,
        "retention": match stream.retention {
            Retention::Limits => "limits",
            Retention::WorkQueue => "workqueue",
        },
        "storage": "file",
        "discard": if stream.full_refuses { "new" } else { "old" },
        "max_bytes": stream.bytes_max.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        "max_age": nanos(age),
        "max_msg_size": stream.message_bytes_max.map_or(-1, i64::from),
        "duplicate_window": nanos(window),
        "num_replicas": stream.replicas,
    }))
}

fn bucket(bucket: &Bucket) -> Wanted {
    let age = bucket.age_max.unwrap_or_default();
    let window = Duration::from_secs(120).min(bucket.age_max.unwrap_or(Duration::MAX));
    let name = &bucket.name;
    let mut config = wanted(json!({
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_age": nanos(age),
        "duplicate_window": nanos(window),
        "num_replicas": bucket.replicas,
        "allow_rollup_hdrs": true,
        "allow_direct": true,
    }));
    if bucket.objects {
        config.insert("name".into(), format!("OBJ_{name}").into());
        config.insert("subjects".into(), json!([format!("$O.{name}.C.>"), format!("$O.{name}.M.>")]));
    } else {
        config.insert("name".into(), format!("KV_{name}").into());
        config.insert("subjects".into(), json!([format!("$KV.{name}.>")]));
        config.insert("max_msgs_per_subject".into(), bucket.history.max(1).into());
        // Not `deny_delete`, as other makers of buckets have it: who is to be forgotten is overwritten.
        if bucket.per_message_ttl {
            config.insert("allow_msg_ttl".into(), true.into());
            config.insert("subject_delete_marker_ttl".into(), nanos(Duration::from_secs(3_600)).into());
        }
    }
    config
}

fn consumer(consumer: &Consumer) -> Wanted {
    wanted(json!({
        "durable_name": consumer.durable,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "filter_subject": consumer.filter.clone().unwrap_or_default(),
        "ack_wait": nanos(consumer.ack_wait),
        "max_ack_pending": consumer.ack_pending_max,
        "max_deliver": if consumer.deliveries_max == 0 { -1 } else { i64::from(consumer.deliveries_max) },
    }))
}

/// The fields that differ. The server leaves out what is false, zero or empty.
fn differing<'a>(wanted: &'a Wanted, actual: &Wanted) -> Vec<&'a str> {
    let nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_i64() == Some(0),
        Value::String(value) => value.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
    };
    let same = |wanted: &Value, actual: Option<&Value>| match (wanted, actual) {
        (wanted, None) => nothing(wanted),
        (Value::Array(wanted), Some(Value::Array(actual))) => {
            wanted.len() == actual.len() && wanted.iter().all(|value| actual.contains(value))
        }
        (wanted, Some(actual)) => wanted == actual || nothing(wanted) && nothing(actual),
    };
    wanted.iter().filter(|(field, value)| !same(value, actual.get(*field))).map(|(field, _)| field.as_str()).collect()
}

#[derive(Deserialize)]
struct Done {}

impl Bus {
    /// Creates what is missing and updates what differs; never deletes or recreates a stream. Waits
    /// up to half a minute while JetStream is not ready. A difference that no update can mend is a
    /// `Config` error that names the stream and the field.
    pub async fn ensure(&self, topology: &Topology) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WAIT;
        let streams = topology.streams.iter().map(stream).chain(topology.buckets.iter().map(bucket));
        try_join_all(streams.map(|wanted| self.until_ready(deadline, wanted, Self::ensure_stream))).await?;
        let consumers = topology.consumers.iter().map(|wanted| {
            let stream = &wanted.stream;
            self.until_ready(deadline, consumer(wanted), move |bus, wanted| bus.ensure_consumer(stream, wanted))
        });
        try_join_all(consumers).await?;
        Ok(())
    }

    async fn until_ready<'a, F>(
        &'a self,
        deadline: Instant,
        wanted: Wanted,
        attempt: impl Fn(&'a Self, Wanted) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let mut pause = Duration::ZERO;
        loop {
            // Creating and updating may be done twice: an unknown outcome is looked at again.
            match attempt(self, wanted.clone()).await {
                Err(error) if error.is_transient() && Instant::now() < deadline => {
                    pause = longer(pause);
                    tracing::debug!(%error, "topology is not ready, trying again");
                    tokio::time::sleep(pause).await;
                }
                result => return result,
            }
        }
    }

    async fn ensure_stream(&self, wanted: Wanted) -> Result<(), Error> {
        let name = wanted.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut config = match self.stream_info(&name).await {
            Ok(info) => info.config,
            Err(error) if error.kind == ErrorKind::NotFound => {
                let created: Result<Done, Error> =
                    self.api(&format!("STREAM.CREATE.{name}"), Some(&Value::Object(wanted))).await;
                created.map_err(|error| error.while_doing(format_args!("creating stream {name}")))?;
                tracing::debug!(stream = name, "stream created");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let fields = differing(&wanted, &config);
        if fields.is_empty() {
            return Ok(());
        }
        if let Some(field) = FIXED.into_iter().find(|field| fields.contains(field)) {
            let show = |config: &Wanted| config.get(field).map_or_else(|| "unset".into(), Value::to_string);
            return Err(Error::config(format!(
                "stream {name}: {field} is {}, wanted is {}, and it cannot be changed while the stream exists",
                show(&config),
                show(&wanted)
            )));
        }
        let fields = fields.join(", ");
        config.extend(wanted);
        let updated: Result<Done, Error> =
            self.api(&format!("STREAM.UPDATE.{name}"), Some(&Value::Object(config))).await;
        match updated {
            Ok(_) => {
                tracing::info!(stream = name, fields, "stream updated");
                Ok(())
            }
            Err(error) if error.is_transient() || error.kind == ErrorKind::Forbidden => Err(error),
            Err(error) => {
                Err(Error::new(ErrorKind::Config, format!("stream {name}: changing {fields}: {}", error.source)))
            }
        }
    }

    /// Deletes a durable consumer; no error when there is none.
    ///
    /// # Errors
    /// When the server does not.
    pub async fn forget_consumer(&self, stream: &str, durable: &str) -> Result<(), Error> {
        match self.api(&format!("CONSUMER.DELETE.{stream}.{durable}"), None).await {
            Ok(Done {}) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.while_doing(format_args!("deleting consumer {durable} of stream {stream}"))),
        }
    }

    async fn ensure_consumer(&self, stream: &str, wanted: Wanted) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Info {
            config: Wanted,
        }
        let name = wanted.get("durable_name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let found: Result<Info, Error> = self.api(&format!("CONSUMER.INFO.{stream}.{name}"), None).await;
        let config = match found {
            Ok(info) if differing(&wanted, &info.config).is_empty() => return Ok(()),
            Ok(mut info) => {
                info.config.extend(wanted);
                info.config
            }
            Err(error) if error.kind == ErrorKind::NotFound => wanted,
            Err(error) => return Err(error),
        };
        let what = format!("CONSUMER.DURABLE.CREATE.{stream}.{name}");
        let request = json!({ "stream_name": stream, "config": config });
        match self.api(&what, Some(&request)).await {
            Ok(Done {}) => {
                tracing::debug!(stream, consumer = name, "consumer created or updated");
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::Other => {
                Err(Error::config(format!("consumer {name} of stream {stream}: {}", error.source)))
            }
            Err(error) => Err(error.while_doing(format_args!("consumer {name} of stream {stream}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_means_empty() {
        let wanted = wanted(json!({ "max_age": 0, "subjects": ["b", "a"], "discard": "new", "deny_delete": true }));
        let actual = super::wanted(json!({ "subjects": ["a", "b"], "discard": "old", "deny_delete": true }));
        assert_eq!(differing(&wanted, &actual), ["discard"]);
    }
}
