//! Vonage: JSON of its webhooks, and NCCO.

use adapter::contract::{Millis, SmolStr, Timestamp};
use serde_json::{Value, json};

use super::script::{Callee, Dial, Record, Say, Script};
use super::told::{self, Recording, Spoken, Told, Transcript};

/// The type of an NCCO.
pub(crate) const CONTENT_TYPE: &str = "application/json";
/// Longest text that is spoken by one action.
const SAY_CHARS_MAX: usize = 1500;
/// How long a key is waited for once everything was said.
const KEY_SECONDS: u32 = 3;
/// Longest wait for a key that the provider takes.
const KEY_SECONDS_MAX: u32 = 10;

/// Reads an event, or the parameters of a call as an object. `None`: it is not about a leg of a call.
pub(crate) fn told(event: &Value) -> Option<Told> {
    let text = |name: &str| event.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let number = |name: &str| match event.get(name)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let recorded = text("recording_uuid").and_then(told::id);
    // Events of recordings and of steps name the conversation alone; which call it is, our own address says.
    let leg = ["uuid", "call_uuid"].into_iter().find_map(|name| text(name).and_then(told::id));
    if leg.is_none() && recorded.is_none() && text("conversation_uuid").is_none() {
        return None;
    }
    let at_raw = text("timestamp").and_then(told::address);
    let written = text("transcription_url").and_then(told::address);
    // That something was written down names the recording again.
    let recording = text("recording_url").filter(|_| written.is_none()).and_then(|url| {
        let id = recorded.clone()?;
        let absent = number("size") == Some(0);
        let duration = text("start_time").and_then(time).zip(text("end_time").and_then(time));
        let duration = duration.map(|(from, to)| to.since(from));
        Some(Recording { id, source: told::address(url)?, duration, bytes: number("size"), absent })
    });
    let transcript = recorded
        .filter(|_| recording.is_none())
        .map(|recording| Transcript { recording, of: written.map_or(Spoken::Failed, Spoken::At) });
    Some(Told {
        leg: leg.unwrap_or_default(),
        parent: None,
        from: text("from").and_then(told::address).map(|number| plus(&number)),
        to: text("to").and_then(told::address).map(|number| plus(&number)),
        outbound: text("direction") == Some("outbound"),
        state: text("status").and_then(state),
        seq: None,
        at: at_raw.as_deref().and_then(time),
        at_raw,
        duration: number("duration").map(|seconds| Millis::from_secs(seconds.min(u64::from(u32::MAX)))),
        digits: digits(event),
        name: None,
        attested: false,
        recording,
        transcript,
        dialed: None,
        bridged: None,
    })
}

/// Numbers come without the plus sign.
fn plus(number: &SmolStr) -> SmolStr {
    let bare = number.len() > 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    if bare { format!("+{number}").into() } else { number.clone() }
}

/// As the newer API tells them, and the older one.
fn digits(event: &Value) -> SmolStr {
    let found = match event.get("dtmf") {
        Some(Value::Object(dtmf)) => dtmf.get("digits").and_then(Value::as_str),
        Some(Value::String(digits)) => Some(digits.as_str()),
        _ => None,
    };
    found.filter(|digits| digits.len() <= 32).unwrap_or_default().into()
}

fn state(word: &str) -> Option<&'static str> {
    Some(match word {
        // That a leg was begun (`started`) is followed by that it rings.
        "ringing" => "ringing",
        "answered" => "answered",
        "completed" | "disconnected" => "completed",
        "busy" => "busy",
        "timeout" | "unanswered" | "rejected" => "no_answer",
        "failed" => "failed",
        "cancelled" => "canceled",
        _ => return None,
    })
}

fn time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

/// What was said, out of a transcript as the provider keeps it: by channels and sentences.
pub(crate) fn transcript(value: &Value) -> Spoken {
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut said = Vec::new();
    for channel in list(value, "channels") {
        for part in list(&channel, "transcript") {
            let sentence = ["sentence", "raw_sentence"].into_iter().find_map(|name| part.get(name)?.as_str());
            said.extend(sentence.map(str::to_owned));
        }
    }
    told::transcript(&said.join(" "))
}

/// Writes a script as an NCCO. `None`: the one that runs goes on.
pub(crate) fn ncco(script: &Script) -> Option<Value> {
    let actions = match script {
        Script::Wait { say, music, seconds, key, next } => {
            let mut actions: Vec<Value> = talks(say, true);
            if let Some(music) = music {
                actions.push(json!({ "action": "stream", "streamUrl": [music], "bargeIn": true }));
            }
            let seconds = if music.is_some() { KEY_SECONDS } else { (*seconds).min(KEY_SECONDS_MAX) };
            actions.push(input(seconds, key.as_ref().unwrap_or(next)));
            actions
        }
        Script::End { say } => talks(say, false),
        Script::Record(record) => voicemail(record),
        Script::Dial(dial) => connects(dial),
        Script::Whisper { say, seconds, take } => {
            let mut actions = talks(say, true);
            actions.push(input((*seconds).min(KEY_SECONDS_MAX), take));
            actions
        }
        Script::Join => return None,
        Script::Hold { take } => vec![input(KEY_SECONDS_MAX, take)],
    };
    Some(Value::Array(actions))
}

fn voicemail(record: &Record) -> Vec<Value> {
    let mut actions = talks(&record.say, false);
    let mut action = json!({
        "action": "record", "format": "mp3", "beepStart": true, "endOnKey": "#",
        "endOnSilence": record.silence_seconds, "timeOut": record.seconds_max,
        "eventUrl": [record.recorded], "eventMethod": "POST",
    });
    if let (Some((transcript, language)), Some(fields)) = (&record.transcript, action.as_object_mut()) {
        let wanted = json!({ "language": language, "eventUrl": [transcript], "eventMethod": "POST" });
        fields.insert("transcription".to_owned(), wanted);
    }
    actions.push(action);
    actions.extend(talks(&record.thanks, false));
    actions
}

fn connects(dial: &Dial) -> Vec<Value> {
    let mut actions = talks(&dial.say, false);
    if let Some(recorded) = &dial.recorded {
        actions.push(json!({
            "action": "record", "format": "mp3", "split": "conversation", "channels": 2,
            "eventUrl": [recorded], "eventMethod": "POST",
        }));
    }
    let endpoint = match (&dial.to, &dial.whisper) {
        (Callee::Number(number), Some(whisper)) => {
            json!({ "type": "phone", "number": bare(number), "onAnswer": { "url": whisper } })
        }
        (Callee::Number(number), None) => json!({ "type": "phone", "number": bare(number) }),
        (Callee::Sip(uri), _) => json!({ "type": "sip", "uri": uri }),
    };
    actions.push(json!({
        "action": "connect", "from": bare(&dial.from), "timeout": dial.ring_seconds, "endpoint": [endpoint],
        "eventUrl": [dial.status], "eventMethod": "POST",
    }));
    // What comes after the agent's leg is asked then: the answer replaces this document.
    actions.push(json!({ "action": "notify", "payload": {}, "eventUrl": [dial.done], "eventMethod": "POST" }));
    actions
}

/// A number as the provider wants it.
pub(crate) fn bare(number: &str) -> &str {
    number.strip_prefix('+').unwrap_or(number)
}

fn input(seconds: u32, url: &str) -> Value {
    json!({
        "action": "input", "type": ["dtmf"], "dtmf": { "timeOut": seconds, "maxDigits": 1 },
        "eventUrl": [url], "eventMethod": "POST",
    })
}

/// Text that could be taken for markup is spoken as words.
fn talks(all: &[Say], barge_in: bool) -> Vec<Value> {
    let talk = |say: &Say| {
        let plain = |char: char| if matches!(char, '<' | '>' | '&') || char.is_control() { ' ' } else { char };
        let text: String = say.text.chars().take(SAY_CHARS_MAX).map(plain).collect();
        let mut action = json!({ "action": "talk", "text": text, "language": say.language });
        if let Some(fields) = action.as_object_mut().filter(|_| barge_in) {
            fields.insert("bargeIn".to_owned(), true.into());
        }
        action
    };
    all.iter().map(talk).collect()
}
