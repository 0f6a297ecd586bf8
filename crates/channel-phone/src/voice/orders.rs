//! What is ordered of a call, as requests to the provider, and what its answers mean. Pure.

use std::time::Duration;

use adapter::contract::SmolStr;
use adapter::failure::SendFailure;
use adapter::http::StatusCode;
use serde_json::{Value, json};

use super::script::{Callee, Script};
use super::{twilio, vonage};

/// Which provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    /// Twilio.
    Twilio,
    /// Vonage.
    Vonage,
}

/// A request to the provider's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Its method.
    pub(crate) method: &'static str,
    /// The path; of Twilio behind the account's (`/2010-04-01/Accounts/AC…`), of Vonage behind the host.
    pub(crate) path: String,
    /// What it says.
    pub(crate) body: Body,
}

/// What a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// Fields of a form; a name may be there several times.
    Form(Vec<(&'static str, String)>),
    /// JSON.
    Json(Value),
}

impl Provider {
    /// A leg that is up hears something else from now on.
    pub(crate) fn redirect(self, leg: &str, script: &Script) -> Ask {
        match self {
            Self::Twilio => self.update(leg, Body::Form(vec![("Twiml", twilio::twiml(script))])),
            Self::Vonage => {
                let ncco = vonage::ncco(script).unwrap_or_else(|| json!([]));
                let destination = json!({ "type": "ncco", "ncco": ncco });
                self.update(leg, Body::Json(json!({ "action": "transfer", "destination": destination })))
            }
        }
    }

    /// A leg ends.
    pub(crate) fn hang_up(self, leg: &str) -> Ask {
        match self {
            Self::Twilio => self.update(leg, Body::Form(vec![("Status", "completed".to_owned())])),
            Self::Vonage => self.update(leg, Body::Json(json!({ "action": "hangup" }))),
        }
    }

    fn update(self, leg: &str, body: Body) -> Ask {
        match self {
            Self::Twilio => Ask { method: "POST", path: format!("/Calls/{leg}.json"), body },
            Self::Vonage => Ask { method: "PUT", path: format!("/v1/calls/{leg}"), body },
        }
    }

    /// Somebody is called and hears this; `status` is told how it goes.
    pub(crate) fn call(self, to: &Callee, from: &str, ring_seconds: u32, script: &Script, status: &str) -> Ask {
        match self {
            Self::Twilio => {
                let mut form = vec![
                    ("To", to.as_str().to_owned()),
                    ("From", from.to_owned()),
                    ("Timeout", ring_seconds.to_string()),
                    ("Twiml", twilio::twiml(script)),
                    ("StatusCallback", status.to_owned()),
                    ("StatusCallbackMethod", "POST".to_owned()),
                ];
                let events = ["initiated", "ringing", "answered", "completed"];
                form.extend(events.map(|event| ("StatusCallbackEvent", event.to_owned())));
                Ask { method: "POST", path: "/Calls.json".to_owned(), body: Body::Form(form) }
            }
            Self::Vonage => {
                let endpoint = match to {
                    Callee::Number(number) => json!({ "type": "phone", "number": vonage::bare(number) }),
                    Callee::Sip(uri) => json!({ "type": "sip", "uri": uri }),
                };
                let body = json!({
                    "to": [endpoint], "from": { "type": "phone", "number": vonage::bare(from) },
                    "ringing_timer": ring_seconds, "ncco": vonage::ncco(script).unwrap_or_else(|| json!([])),
                    "event_url": [status], "event_method": "POST",
                });
                Ask { method: "POST", path: "/v1/calls".to_owned(), body: Body::Json(body) }
            }
        }
    }

    /// The id of a leg that was begun.
    pub(crate) fn begun(self, answer: &Value) -> Option<SmolStr> {
        let name = match self {
            Self::Twilio => "sid",
            Self::Vonage => "uuid",
        };
        answer.get(name).and_then(Value::as_str).and_then(super::told::id)
    }
}

/// What the provider said to a request that concerned a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It is done.
    Done,
    /// There is no such leg any more.
    Over,
    /// It failed.
    Failed(SendFailure),
}

/// Reads an answer. `after`: when the provider wants to be asked again.
pub(crate) fn answered(status: StatusCode, after: Option<Duration>, body: &Value) -> Answered {
    // Twilio's number of an error; Vonage has none for calls.
    let code = body.get("code").and_then(Value::as_u64);
    let said = code.map_or_else(|| status.as_u16().to_string(), |code| code.to_string());
    let message = format!("the provider answered {}", status.as_u16());
    let again = || match after {
        Some(after) => SendFailure::retryable_after(after, said.clone(), message.clone()),
        None => SendFailure::retryable(said.clone(), message.clone()),
    };
    match (status.as_u16(), code) {
        (200..=299, _) => Answered::Done,
        // 21220: the call is not in progress; 20404: there is none.
        (404, _) | (_, Some(21_220 | 20_404)) => Answered::Over,
        (408 | 425 | 429 | 503, _) | (_, Some(20_429)) => Answered::Failed(again()),
        (500..=599, _) => Answered::Failed(SendFailure::unknown(said, message)),
        _ => Answered::Failed(SendFailure::permanent(said, message)),
    }
}

#[cfg(test)]
mod tests {
    use adapter::failure::Class;

    use super::*;

    fn of(status: u16, body: &Value) -> Answered {
        answered(StatusCode::from_u16(status).unwrap(), None, body)
    }

    #[test]
    fn what_an_answer_means() {
        assert_eq!(of(204, &Value::Null), Answered::Done);
        assert_eq!(of(201, &json!({ "sid": "CA1" })), Answered::Done);
        assert_eq!(of(404, &Value::Null), Answered::Over);
        assert_eq!(of(400, &json!({ "code": 21220, "message": "Call is not in-progress" })), Answered::Over);
        let class = |status: u16, body: Value| match of(status, &body) {
            Answered::Failed(failure) => failure.class,
            other => panic!("{other:?}"),
        };
        assert_eq!(class(400, json!({ "code": 21211 })), Class::Permanent);
        assert_eq!(class(401, json!({})), Class::Permanent);
        assert_eq!(class(429, json!({ "code": 20429 })), Class::Retryable { after: None });
        assert_eq!(class(503, json!({})), Class::Retryable { after: None });
        // It may have been done.
        assert_eq!(class(500, json!({})), Class::Unknown);
        assert_eq!(class(502, Value::Null), Class::Unknown);
    }

    #[test]
    fn what_a_failure_says_holds_nothing_of_the_answer() {
        let secret = json!({ "code": 21211, "message": "the number +4930123 of Ann" });
        let Answered::Failed(failure) = of(400, &secret) else { panic!() };
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("21211", "the provider answered 400"));
    }

    #[test]
    fn a_leg_is_ended_and_its_id_is_read() {
        assert_eq!(Provider::Twilio.hang_up("CA1").path, "/Calls/CA1.json");
        assert_eq!(Provider::Vonage.hang_up("u-1").body, Body::Json(json!({ "action": "hangup" })));
        assert_eq!(Provider::Twilio.begun(&json!({ "sid": "CA9" })), Some("CA9".into()));
        assert_eq!(Provider::Vonage.begun(&json!({ "uuid": "u/../x" })), None);
    }
}
