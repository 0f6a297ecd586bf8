//! Making a topology true: creates what is missing, updates what differs, deletes nothing.

mod loss;

use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::{join_all, try_join_all};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::read::longer;
use crate::time::nanos;
use crate::topology::{Bucket, Consumer, Limits, Placement, Retention, Storage, Stream, Topology};
use crate::{Bus, Error, ErrorKind};
use loss::{Held, Leave, Loss};

/// How long a server may take to be ready: JetStream reads its streams, a cluster elects leaders, copies are made.
const READY_WAIT: Duration = Duration::from_secs(30);

/// How often it is looked whether copies are complete.
const LOOK: Duration = Duration::from_millis(200);

/// How many refused streams one error names.
const REFUSED_SHOWN: usize = 3;

/// What no update can change; the server would refuse with a less helpful text.
const FIXED: [&str; 2] = ["storage", "retention"];

/// How many copies there are, and where; the server takes one change of these at a time.
const COPIES: &str = "num_replicas";
pub(crate) const PLACE: &str = "placement";

/// A stream as the server writes it, as far as we care. Whatever else an operator set stays.
type Wanted = Map<String, Value>;

fn wanted(value: Value) -> Wanted {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// On what a stream is, and where.
fn settled(mut config: Wanted, topology: &Topology) -> Wanted {
    let storage = match topology.storage {
        Storage::File => "file",
        Storage::Memory => "memory",
    };
    config.insert("storage".into(), storage.into());
    if let Some(placement) = &topology.placement {
        config.insert(PLACE.into(), placed(placement));
    }
    config
}

/// A placement as the server writes it: without what is empty, and nothing at all for none.
pub(crate) fn placed(Placement { cluster, tags }: &Placement) -> Value {
    let mut placement = Map::new();
    if let Some(cluster) = cluster {
        placement.insert("cluster".into(), cluster.as_str().into());
    }
    if !tags.is_empty() {
        placement.insert("tags".into(), json!(tags));
    }
    if placement.is_empty() { Value::Null } else { Value::Object(placement) }
}

fn bytes(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
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
        "discard": if stream.full_refuses { "new" } else { "old" },
        "max_bytes": bytes(stream.bytes_max),
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
        "name": bucket.stream_name(),
        "retention": "limits",
        "discard": "new",
        "max_age": nanos(age),
        "duplicate_window": nanos(window),
        "num_replicas": bucket.replicas,
        "allow_rollup_hdrs": true,
        "allow_direct": true,
    }));
    if bucket.objects {
        config.insert("subjects".into(), json!([format!("$O.{name}.C.>"), format!("$O.{name}.M.>")]));
        config.insert("max_bytes".into(), bytes(bucket.bytes_max).into());
    } else {
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

/// The limits of a stream as the server writes them.
fn limits(config: &Wanted) -> Limits {
    let number = |field: &str| config.get(field).and_then(Value::as_u64).filter(|number| *number > 0);
    Limits { bytes_max: number("max_bytes"), age_max: number("max_age").map(Duration::from_nanos) }
}

/// Fields with their old and their new value.
fn told(fields: &[&str], before: &Wanted, after: &Wanted) -> String {
    let show = |config: &Wanted, field: &str| {
        config.get(field).filter(|value| !value.is_null()).map_or_else(|| "unset".into(), Value::to_string)
    };
    let each = fields.iter().map(|field| format!("{field} {} -> {}", show(before, field), show(after, field)));
    each.collect::<Vec<_>>().join(", ")
}

fn name_of(wanted: &Wanted) -> &str {
    wanted.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// What no update mends, and what to do about it.
fn fixed(field: &str, wanted: &Wanted, actual: &Wanted) -> Error {
    let show = |config: &Wanted| config.get(field).map_or_else(|| "unset".into(), Value::to_string);
    let advice = if field == "storage" {
        ": set streams.storage back, or take a backup, delete the streams and start anew; `throughline restore` brings \
         streams back on what they were kept before"
    } else {
        ""
    };
    Error::config(format!(
        "stream {}: {field} is {}, wanted is {}, and it cannot be changed while the stream exists{advice}",
        name_of(wanted),
        show(actual),
        show(wanted)
    ))
}

/// One error for all streams that are refused.
fn together(refused: &[String]) -> Error {
    let mut text = refused.iter().take(REFUSED_SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    if let Some(more) = refused.len().checked_sub(REFUSED_SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} more streams"));
    }
    Error::config(text)
}

/// The server is still at an earlier change of where the copies are.
fn is_moving(error: &Error) -> bool {
    // "stream move already in progress", "stream reconfiguration already in progress".
    error.source.to_string().contains("already in progress")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server drops messages by the time of day at which they were stored, and says no more than that"
)]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Tries until it is done, as long as waiting may mend what fails.
async fn until_ready<T, F>(deadline: Instant, attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pause = Duration::ZERO;
    loop {
        // Creating and updating may be done twice: an unknown outcome is looked at again.
        match attempt().await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                pause = longer(pause);
                tracing::debug!(%error, "topology is not ready, trying again");
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
}

#[derive(Deserialize)]
struct Done {}

/// A stream as it is.
#[derive(Deserialize)]
struct Seen {
    config: Wanted,
    state: State,
    cluster: Option<Group>,
}

#[derive(Deserialize)]
struct State {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
}

/// The servers that have a stream.
#[derive(Deserialize)]
struct Group {
    leader: Option<String>,
    /// All but the leader.
    #[serde(default)]
    replicas: Vec<Peer>,
}

#[derive(Deserialize)]
struct Peer {
    current: bool,
}

impl Seen {
    /// As many servers have it as should, and each of them all of it.
    fn is_whole(&self) -> bool {
        let copies = self.config.get(COPIES).and_then(Value::as_u64).unwrap_or(1);
        self.cluster.as_ref().is_none_or(|group| {
            let others = group.replicas.iter().filter(|peer| peer.current).count();
            group.leader.is_some() && others == group.replicas.len() && others as u64 + 1 == copies
        })
    }
}

/// What is to be done about a stream.
enum Look<'a> {
    Same,
    Missing,
    Differs {
        /// As it is.
        config: Wanted,
        /// What differs.
        fields: Vec<&'a str>,
        /// What goes by that, and may.
        losses: Vec<String>,
    },
}

/// The change to begin with: the server does not make more copies, or fewer, and put them elsewhere in one. Few copies
/// find a place more easily, and are moved more cheaply.
fn first<'a>(fields: &[&'a str], before: &Wanted, after: &Wanted) -> Vec<&'a str> {
    let copies = |config: &Wanted| config.get(COPIES).and_then(Value::as_u64).unwrap_or(1);
    let both = fields.contains(&COPIES) && fields.contains(&PLACE);
    let later = match (both, copies(after) > copies(before)) {
        (false, _) => None,
        (true, true) => Some(COPIES),
        (true, false) => Some(PLACE),
    };
    fields.iter().copied().filter(|field| Some(*field) != later).collect()
}

impl Bus {
    /// Creates what is missing and updates what differs; never deletes or recreates a stream. Waits
    /// up to half a minute while JetStream is not ready. A difference that no update can mend, or that would drop
    /// what is stored and is not allowed to, is a `Config` error that names the stream and both values; then nothing
    /// is changed.
    pub async fn ensure(&self, topology: &Topology) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WAIT;
        let streams = topology.streams.iter().map(stream).chain(topology.buckets.iter().map(bucket));
        let streams: Vec<Wanted> = streams.map(|config| settled(config, topology)).collect();
        // All are looked at before one is changed.
        let looks: Vec<_> =
            streams.iter().map(|wanted| until_ready(deadline, move || self.look(wanted, topology))).collect();
        let (mut changing, mut refused) = (Vec::new(), Vec::new());
        for (wanted, look) in streams.iter().zip(join_all(looks).await) {
            match look {
                Ok(Look::Same) => {}
                Ok(Look::Missing | Look::Differs { .. }) => changing.push(wanted),
                Err(error) if error.kind == ErrorKind::Config => refused.push(error.source.to_string()),
                Err(error) => return Err(error),
            }
        }
        if !refused.is_empty() {
            return Err(together(&refused));
        }
        let changes: Vec<_> = changing
            .into_iter()
            .map(|wanted| until_ready(deadline, move || self.change_stream(wanted, topology, deadline)))
            .collect();
        try_join_all(changes).await?;
        let consumers: Vec<(&str, Wanted)> =
            topology.consumers.iter().map(|wanted| (wanted.stream.as_str(), consumer(wanted))).collect();
        let consumers: Vec<_> = consumers
            .iter()
            .map(|(stream, wanted)| until_ready(deadline, move || self.ensure_consumer(stream, wanted.clone())))
            .collect();
        try_join_all(consumers).await?;
        Ok(())
    }

    async fn seen(&self, name: &str) -> Result<Seen, Error> {
        self.api(&format!("STREAM.INFO.{name}"), None)
            .await
            .map_err(|error: Error| error.of_reading().while_doing(format_args!("asking for stream {name}")))
    }

    /// What is to be done about a stream; changes nothing.
    async fn look<'a>(&self, wanted: &'a Wanted, topology: &Topology) -> Result<Look<'a>, Error> {
        let name = name_of(wanted);
        let seen = match self.seen(name).await {
            Ok(seen) => seen,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Look::Missing),
            Err(error) => return Err(error),
        };
        let fields = differing(wanted, &seen.config);
        if fields.is_empty() {
            return Ok(Look::Same);
        }
        if let Some(field) = FIXED.into_iter().find(|field| fields.contains(field)) {
            return Err(fixed(field, wanted, &seen.config));
        }
        let named = |names: &[String]| names.iter().any(|other| other == name);
        let may_drop = named(&topology.may_drop);
        let leave = Leave { bytes: may_drop, age: may_drop || named(&topology.may_lapse) };
        let losses = self.losses(name, &seen, limits(wanted), leave).await?;
        Ok(Look::Differs { config: seen.config, fields, losses })
    }

    /// What new limits take out of a stream, in words. An error when they must not.
    async fn losses(&self, name: &str, seen: &Seen, after: Limits, leave: Leave) -> Result<Vec<String>, Error> {
        let before = limits(&seen.config);
        if !loss::is_lower(before, after) {
            return Ok(Vec::new());
        }
        let now = now_ms();
        let oldest = self.next_on(name, ">", seen.state.first_seq).await?;
        let age = oldest.map_or(Duration::ZERO, |oldest| Duration::from_millis(now.saturating_sub(oldest.at_ms)));
        let held = Held { bytes: seen.state.bytes, age };
        let (losses, refused) = match loss::weigh(before, after, held, leave) {
            Ok(losses) => (losses, false),
            Err(refused) => (vec![refused], true),
        };
        let mut texts = Vec::new();
        for loss in losses {
            let how_much = match loss {
                Loss::Bytes { after, held, .. } => format!("about {} bytes", held - after),
                Loss::Age { after, .. } => {
                    let until = now.saturating_sub(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                    let count = self.stored_before(name, &seen.state, until).await?;
                    format!("up to {count} messages")
                }
            };
            texts.push(format!("{loss}: {how_much}"));
        }
        if refused {
            return Err(Error::config(format!(
                "stream {name}: {} would be dropped; set it back, or have it dropped by naming it in streams.may_drop",
                texts.join(", ")
            )));
        }
        Ok(texts)
    }

    /// How many messages were stored before a moment; those that were deleted meanwhile may be counted, too.
    async fn stored_before(&self, name: &str, state: &State, moment_ms: u64) -> Result<u64, Error> {
        let (mut low, mut high) = (state.first_seq, state.last_seq.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next_on(name, ">", middle).await? {
                Some(stored) if stored.at_ms < moment_ms => low = stored.seq + 1,
                _ => high = middle,
            }
        }
        Ok(low.saturating_sub(state.first_seq).min(state.messages))
    }

    async fn change_stream(&self, wanted: &Wanted, topology: &Topology, deadline: Instant) -> Result<(), Error> {
        let name = name_of(wanted);
        loop {
            let (config, fields, losses) = match self.look(wanted, topology).await? {
                Look::Same => return Ok(()),
                Look::Missing => return self.create_stream(wanted).await,
                Look::Differs { config, fields, losses } => (config, fields, losses),
            };
            for loss in losses {
                tracing::warn!(stream = name, "a lower limit drops what is stored: {loss}");
            }
            let step = first(&fields, &config, wanted);
            match self.update_stream(config, &step, wanted).await {
                Ok(()) if step.len() == fields.len() => return Ok(()),
                Ok(()) => {}
                Err(error) if is_moving(&error) => {}
                Err(error) => return Err(error),
            }
            if !self.whole(name, deadline).await {
                tracing::warn!(
                    stream = name,
                    "its copies are still on their way; the rest is changed at the next start"
                );
                return Ok(());
            }
        }
    }

    /// Waits until all copies of a stream are there; `false`: it takes longer.
    async fn whole(&self, name: &str, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
            if self.seen(name).await.is_ok_and(|seen| seen.is_whole()) {
                return true;
            }
        }
        false
    }

    async fn create_stream(&self, wanted: &Wanted) -> Result<(), Error> {
        let name = name_of(wanted);
        let created: Result<Done, Error> =
            self.api(&format!("STREAM.CREATE.{name}"), Some(&Value::Object(wanted.clone()))).await;
        created.map_err(|error| error.while_doing(format_args!("creating stream {name}")))?;
        tracing::debug!(stream = name, "stream created");
        Ok(())
    }

    /// Changes some of the fields.
    async fn update_stream(&self, mut config: Wanted, fields: &[&str], wanted: &Wanted) -> Result<(), Error> {
        let name = name_of(wanted);
        let changes = told(fields, &config, wanted);
        let new = wanted.iter().filter(|(field, _)| fields.contains(&field.as_str()));
        config.extend(new.map(|(field, value)| (field.clone(), value.clone())));
        let updated: Result<Done, Error> =
            self.api(&format!("STREAM.UPDATE.{name}"), Some(&Value::Object(config))).await;
        match updated {
            Ok(_) => tracing::info!(stream = name, changes, "stream updated"),
            Err(error) if error.is_transient() || error.kind == ErrorKind::Forbidden => return Err(error),
            Err(error) => {
                let text = format!("stream {name}: changing {changes}: {}", error.source);
                return Err(Error::new(ErrorKind::Config, text));
            }
        }
        if fields.contains(&COPIES) || fields.contains(&PLACE) {
            // Other servers have elected a leader once it answers.
            self.stream_info(name).await?;
        }
        Ok(())
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

    #[test]
    fn a_placement_is_ours_only_when_it_was_told() {
        let actual = wanted(json!({ "storage": "file", "placement": { "cluster": "east" } }));
        let differs = |placement: Option<Placement>| {
            let topology = Topology { placement, ..Topology::default() };
            !differing(&settled(Map::new(), &topology), &actual).is_empty()
        };
        let east = Placement { cluster: Some("east".into()), tags: Vec::new() };
        assert!(!differs(None));
        assert!(!differs(Some(east.clone())));
        assert!(differs(Some(Placement { tags: vec!["ssd".into()], ..east })));
        assert!(differs(Some(Placement::default())), "none at all is a placement, too");
        let bare = wanted(json!({ "storage": "file" }));
        let topology = Topology { placement: Some(Placement::default()), ..Topology::default() };
        assert!(differing(&settled(Map::new(), &topology), &bare).is_empty());
    }

    #[test]
    fn copies_and_their_place_change_one_after_the_other() {
        let copies = |count: u32| wanted(json!({ "num_replicas": count }));
        let both = ["max_age", "num_replicas", "placement"];
        assert_eq!(first(&both, &copies(1), &copies(3)), ["max_age", "placement"]);
        assert_eq!(first(&both, &copies(3), &copies(1)), ["max_age", "num_replicas"]);
        assert_eq!(first(&both[..2], &copies(1), &copies(3)), ["max_age", "num_replicas"]);
    }

    #[test]
    fn a_stream_is_whole_when_every_copy_is() {
        let whole = |cluster: Value| {
            let state = json!({ "messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0 });
            let seen = json!({ "config": { "num_replicas": 3 }, "state": state, "cluster": cluster });
            serde_json::from_value::<Seen>(seen).unwrap().is_whole()
        };
        let peer = |current: bool| json!({ "name": "b", "current": current });
        assert!(whole(json!({ "leader": "a", "replicas": [peer(true), peer(true)] })));
        assert!(!whole(json!({ "leader": "a", "replicas": [peer(true), peer(false)] })));
        assert!(!whole(json!({ "leader": "a", "replicas": [peer(true), peer(true), peer(true)] })), "it is moved");
        assert!(!whole(json!({ "leader": "a" })));
        assert!(!whole(json!({ "replicas": [peer(true), peer(true)] })));
    }

    #[test]
    fn what_changes_is_told_with_both_values() {
        let before = wanted(json!({ "num_replicas": 1 }));
        let after = wanted(json!({ "num_replicas": 3, "placement": { "tags": ["ssd"] } }));
        let text = told(&["num_replicas", "placement"], &before, &after);
        assert_eq!(text, r#"num_replicas 1 -> 3, placement unset -> {"tags":["ssd"]}"#);
        let refused: Vec<String> = (0..5).map(|n| format!("S{n}")).collect();
        assert_eq!(together(&refused).source.to_string(), "S0; S1; S2; and 2 more streams");
        assert_eq!(together(&refused[..3]).source.to_string(), "S0; S1; S2");
    }
}
