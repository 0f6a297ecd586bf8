//! Twilio: forms of its webhooks, and TwiML.

use std::fmt::Write as _;

use adapter::contract::{SmolStr, Timestamp};

use super::script::{Callee, Dial, Record, Say, Script};
use super::told::{self, Recording, Spoken, Told, Transcript};

/// The type of a TwiML document.
pub(crate) const CONTENT_TYPE: &str = "text/xml; charset=utf-8";
/// Longest text that is spoken by one verb.
const SAY_CHARS_MAX: usize = 3000;

/// Reads a form. `None`: it is not about a call.
pub(crate) fn told(form: &[(String, String)]) -> Option<Told> {
    let field = |name: &str| {
        let found = form.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        found.filter(|value| !value.is_empty())
    };
    let leg = field("CallSid").and_then(told::id)?;
    let direction = field("Direction").unwrap_or_default();
    let at_raw = field("Timestamp").and_then(told::address);
    Some(Told {
        leg,
        parent: field("ParentCallSid").and_then(told::id),
        from: field("From").and_then(told::address),
        to: field("To").and_then(told::address),
        outbound: direction.starts_with("outbound"),
        state: field("CallStatus").and_then(state),
        seq: field("SequenceNumber").and_then(|n| n.parse().ok()),
        at: at_raw.as_deref().and_then(time),
        at_raw,
        duration: field("CallDuration").and_then(told::seconds),
        // Hanging up while a message is taken is told as if it were a key.
        digits: field("Digits").filter(|digits| *digits != "hangup").map(SmolStr::from).unwrap_or_default(),
        name: field("CallerName").and_then(told::address),
        attested: field("StirVerstat") == Some("TN-Validation-Passed-A"),
        recording: recording(&field),
        transcript: transcript(&field),
        dialed: field("DialCallSid").and_then(told::id).zip(field("DialCallStatus").and_then(state)),
        bridged: field("DialBridged").map(|bridged| bridged == "true"),
    })
}

fn recording<'a>(field: &impl Fn(&str) -> Option<&'a str>) -> Option<Recording> {
    let id = field("RecordingSid").and_then(told::id)?;
    let status = field("RecordingStatus");
    let duration = field("RecordingDuration").and_then(told::seconds);
    // What a verb's action tells comes before the file is ready, and without a status.
    let absent = status.is_some_and(|status| status != "completed");
    Some(Recording { source: id.clone(), id, duration, bytes: None, absent })
}

fn transcript<'a>(field: &impl Fn(&str) -> Option<&'a str>) -> Option<Transcript> {
    let status = field("TranscriptionStatus")?;
    let recording = field("RecordingSid").and_then(told::id)?;
    let text = field("TranscriptionText").filter(|_| status == "completed");
    Some(Transcript { recording, of: text.map_or(Spoken::Failed, told::transcript) })
}

fn state(word: &str) -> Option<&'static str> {
    Some(match word {
        "queued" | "initiated" | "ringing" => "ringing",
        "in-progress" | "answered" => "answered",
        "completed" => "completed",
        "busy" => "busy",
        "no-answer" => "no_answer",
        "failed" => "failed",
        "canceled" => "canceled",
        _ => return None,
    })
}

fn time(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

/// Writes a script as TwiML.
pub(crate) fn twiml(script: &Script) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>");
    match script {
        Script::Wait { say, music, seconds, key, next } => {
            if let Some(key) = key {
                open(
                    &mut xml,
                    "Gather",
                    &[
                        ("input", "dtmf"),
                        ("numDigits", "1"),
                        ("timeout", "1"),
                        ("actionOnEmptyResult", "false"),
                        ("action", key),
                        ("method", "POST"),
                    ],
                );
            }
            says(&mut xml, say);
            match music {
                Some(music) => element(&mut xml, "Play", &[], music),
                None => empty(&mut xml, "Pause", &[("length", &seconds.to_string())]),
            }
            if key.is_some() {
                xml.push_str("</Gather>");
            }
            element(&mut xml, "Redirect", &[("method", "POST")], next);
        }
        Script::End { say } => {
            says(&mut xml, say);
            xml.push_str("<Hangup/>");
        }
        Script::Record(record) => voicemail(&mut xml, record),
        Script::Dial(dial) => dials(&mut xml, dial),
        Script::Whisper { say, seconds, take } => {
            let seconds = seconds.to_string();
            open(
                &mut xml,
                "Gather",
                &[
                    ("input", "dtmf"),
                    ("numDigits", "1"),
                    ("timeout", &seconds),
                    ("actionOnEmptyResult", "false"),
                    ("action", take),
                    ("method", "POST"),
                ],
            );
            says(&mut xml, say);
            xml.push_str("</Gather><Hangup/>");
        }
        // The document of an agent's leg ends, and the two are joined.
        Script::Join => {}
        Script::Hold { .. } => xml.push_str("<Hangup/>"),
    }
    xml.push_str("</Response>");
    xml
}

fn voicemail(xml: &mut String, record: &Record) {
    says(xml, &record.say);
    let (max, silence) = (record.seconds_max.to_string(), record.silence_seconds.to_string());
    let mut attributes = vec![
        ("action", record.done.as_str()),
        ("method", "POST"),
        ("maxLength", &max),
        ("timeout", &silence),
        ("finishOnKey", "#"),
        ("playBeep", "true"),
        ("recordingStatusCallback", &record.recorded),
        ("recordingStatusCallbackMethod", "POST"),
        ("recordingStatusCallbackEvent", "completed absent"),
    ];
    if let Some((transcript, _)) = &record.transcript {
        attributes.extend([("transcribe", "true"), ("transcribeCallback", transcript.as_str())]);
    }
    empty(xml, "Record", &attributes);
    // Who says nothing at all gets here.
    says(xml, &record.thanks);
    xml.push_str("<Hangup/>");
}

fn dials(xml: &mut String, dial: &Dial) {
    says(xml, &dial.say);
    let ring = dial.ring_seconds.to_string();
    let mut attributes =
        vec![("action", dial.done.as_str()), ("method", "POST"), ("timeout", &ring), ("callerId", &dial.from)];
    if let Some(recorded) = &dial.recorded {
        attributes.extend([
            ("record", "record-from-answer-dual"),
            ("recordingStatusCallback", recorded.as_str()),
            ("recordingStatusCallbackMethod", "POST"),
            ("recordingStatusCallbackEvent", "completed absent"),
        ]);
    }
    open(xml, "Dial", &attributes);
    let mut attributes = vec![
        ("statusCallback", dial.status.as_str()),
        ("statusCallbackMethod", "POST"),
        ("statusCallbackEvent", "initiated ringing answered completed"),
    ];
    if let Some(whisper) = &dial.whisper {
        attributes.extend([("url", whisper.as_str()), ("method", "POST")]);
    }
    let name = match &dial.to {
        Callee::Number(_) => "Number",
        Callee::Sip(_) => "Sip",
    };
    element(xml, name, &attributes, dial.to.as_str());
    xml.push_str("</Dial>");
}

fn says(xml: &mut String, all: &[Say]) {
    for say in all {
        let text: String = say.text.chars().take(SAY_CHARS_MAX).collect();
        element(xml, "Say", &[("language", &say.language)], &text);
    }
}

fn open(xml: &mut String, name: &str, attributes: &[(&str, &str)]) {
    begin(xml, name, attributes);
    xml.push('>');
}

fn empty(xml: &mut String, name: &str, attributes: &[(&str, &str)]) {
    begin(xml, name, attributes);
    xml.push_str("/>");
}

fn element(xml: &mut String, name: &str, attributes: &[(&str, &str)], text: &str) {
    open(xml, name, attributes);
    escape(xml, text);
    // Writing to a text does not fail.
    let _ = write!(xml, "</{name}>");
}

fn begin(xml: &mut String, name: &str, attributes: &[(&str, &str)]) {
    let _ = write!(xml, "<{name}");
    for (name, value) in attributes {
        let _ = write!(xml, " {name}=\"");
        escape(xml, value);
        xml.push('"');
    }
}

/// What XML does not allow at all is left out; it comes from names that customers give themselves.
fn escape(xml: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\'' => xml.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => {}
            char if char.is_control() => xml.push(' '),
            char => xml.push(char),
        }
    }
}
