//! A trace: who writes when, who works when, and how long everything takes. The same trace can be given
//! to our engine, to the engine under another policy, and to the peers.

use contract::envelope::{AuthLevel, Envelope, EnvelopeKind, Part, Receipt, ReceiptStatus, Scope, SenderAuth, Text};
use contract::{AgentId, ChannelKind, Encoding, Millis, SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

/// Times are spans since the beginning of the trace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// What to call it.
    pub name: String,
    /// How long it goes on.
    pub span: Millis,
    /// Customers' matters, by time.
    pub arrivals: Vec<Arrival>,
    /// What agents do, by time.
    #[serde(default)]
    pub duties: Vec<Duty>,
    /// How agents answer offers, and what they do while they talk.
    #[serde(default)]
    pub habits: Habits,
}

/// A matter that a customer comes with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// When.
    pub at: Millis,
    /// Who; also the key of the customer's threads.
    pub customer: SmolStr,
    /// The customer is logged in: the same person on every channel.
    #[serde(default)]
    pub proven: bool,
    /// By which kind of channel.
    pub channel: SmolStr,
    /// In which language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<SmolStr>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<SmolStr>,
    /// How long an agent is busy with it, without the work afterwards.
    pub handle: Millis,
    /// How long the customer waits before leaving. Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<Millis>,
    /// What the customer says besides, whether or not somebody has answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<More>,
    /// The message that was recorded; absent: one is made from the above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Box<Envelope>>,
}

/// Another message of a matter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct More {
    /// How long after the first.
    pub after: Millis,
    /// By which kind of channel.
    pub channel: SmolStr,
}

/// What an agent does at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    /// When.
    pub at: Millis,
    /// Who.
    pub agent: AgentId,
    /// What.
    pub what: DutyKind,
}

/// What agents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DutyKind {
    /// Takes work.
    Available,
    /// Takes no new work.
    Busy,
    /// Has a break.
    Away,
    /// Takes no new work, finishes what there is, then signs out.
    Leave,
    /// Signs out at once.
    Offline,
    /// The agent's tool vanishes.
    Gone,
    /// The agent's tool is there again.
    Back,
}

/// How agents work. Rates are cases in a thousand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Habits {
    /// Until an agent reacts to an offer, or to a conversation that was simply assigned: the median.
    pub answer: Millis,
    /// Spread of the logarithm of it.
    pub answer_sigma: f64,
    /// Offers that are declined.
    pub declines: u64,
    /// Offers that nobody answers.
    pub silent: u64,
    /// Conversations in which the agent does more than talk to the end: notes, parks, transfers.
    pub fidgets: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self { answer: Millis(4_000), answer_sigma: 0.5, declines: 0, silent: 0, fidgets: 0 }
    }
}

const ENVELOPE: &str = r#"{
    "v": 1, "kind": "message", "tenant": "main", "account": { "kind": "chat", "id": "web" },
    "dedup_key": "", "thread": { "key": "" },
    "sender": { "identity": { "scheme": "visitor", "value": "v", "scope": "account", "scope_id": "web" } },
    "sender_auth": { "level": "unverified" }, "received_at": 0
}"#;

#[expect(clippy::expect_used, reason = "decodes this file's own constants")]
fn constant<T: serde::de::DeserializeOwned>(json: &str) -> T {
    Encoding::Json.decode(json.as_bytes(), usize::MAX).expect("the constant is well-formed")
}

impl Arrival {
    /// A chat of ten minutes with somebody who waits for ever.
    #[must_use]
    pub fn new(at: Millis, customer: &str) -> Self {
        let channel = SmolStr::new_static("chat");
        Self { at, customer: SmolStr::new(customer), channel, handle: Millis(600_000), ..Self::default() }
    }

    /// Under which name the customer is known on a channel: whoever only claims to be somebody is a
    /// stranger on each of them.
    pub(crate) fn address(&self, channel: &str) -> SmolStr {
        if self.proven { self.customer.clone() } else { SmolStr::from(format!("{}.{channel}", self.customer)) }
    }

    /// Its first message.
    #[must_use]
    pub fn envelope(&self, dedup_key: &str, at: Timestamp) -> Envelope {
        self.message(&self.channel, dedup_key, at)
    }

    /// A message of it by a channel.
    pub(crate) fn message(&self, channel: &str, dedup_key: &str, at: Timestamp) -> Envelope {
        let mut envelope: Envelope = match &self.recorded {
            Some(recorded) => (**recorded).clone(),
            None => constant(ENVELOPE),
        };
        envelope.dedup_key = SmolStr::new(dedup_key);
        envelope.received_at = at;
        if self.recorded.is_some() {
            return envelope;
        }
        if let Ok(kind) = ChannelKind::new(channel) {
            envelope.account.kind = kind;
        }
        let address = self.address(channel);
        envelope.thread.key = address.clone();
        envelope.language = self.language.clone();
        envelope.tags.clone_from(&self.tags);
        envelope.content = vec![said("hello")];
        let identity = &mut envelope.sender.identity;
        identity.value = address;
        if self.proven {
            identity.scheme = SmolStr::new_static("login");
            identity.scope = Scope::Global;
            identity.scope_id = None;
            envelope.sender_auth = SenderAuth { level: AuthLevel::VerifiedJwt, detail: None };
        }
        envelope
    }
}

/// A report of what became of a message that was sent.
pub(crate) fn receipt(
    customer: &SmolStr,
    channel: &str,
    dedup_key: &str,
    status: ReceiptStatus,
    message: contract::MessageId,
) -> Envelope {
    let mut envelope: Envelope = constant(ENVELOPE);
    envelope.kind = EnvelopeKind::Receipt;
    if let Ok(kind) = ChannelKind::new(channel) {
        envelope.account.kind = kind;
    }
    envelope.thread.key = customer.clone();
    envelope.dedup_key = SmolStr::new(dedup_key);
    let empty: Receipt = constant(r#"{ "status": "accepted" }"#);
    let command_id = Some(SmolStr::from(format!("main/{message}")));
    envelope.receipt = Some(Receipt { status, command_id, ..empty });
    envelope
}

pub(crate) fn said(text: &str) -> Part {
    Part::Text(Text { body: text.to_owned(), ..Text::default() })
}

impl Trace {
    /// Reads a trace from JSON, or arrivals from CSV: a line of names, then a line each. `at_ms`,
    /// `customer`, `channel` and `handle_ms` are needed; `language`, `tags` (separated by `;`) and
    /// `patience_ms` are not. Fields hold no commas and no quotes.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text).map_err(|error| error.to_string());
        }
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, names) = lines.next().ok_or("the trace is empty")?;
        let names: Vec<&str> = names.split(',').map(str::trim).collect();
        let mut arrivals = Vec::new();
        for (number, line) in lines {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let field = |name: &str| {
                let at = names.iter().position(|known| *known == name)?;
                fields.get(at).copied().filter(|field| !field.is_empty())
            };
            let needed = |name: &str| field(name).ok_or_else(|| format!("line {}: {name} is missing", number + 1));
            let span = |name: &str, text: &str| {
                text.parse().map(Millis).map_err(|_| format!("line {}: {name} is no number", number + 1))
            };
            arrivals.push(Arrival {
                at: span("at_ms", needed("at_ms")?)?,
                customer: SmolStr::new(needed("customer")?),
                channel: SmolStr::new(needed("channel")?),
                handle: span("handle_ms", needed("handle_ms")?)?,
                language: field("language").map(SmolStr::new),
                tags: field("tags").into_iter().flat_map(|tags| tags.split(';')).map(SmolStr::new).collect(),
                patience: field("patience_ms").map(|text| span("patience_ms", text)).transpose()?,
                ..Arrival::default()
            });
        }
        arrivals.sort_by_key(|arrival| arrival.at);
        let span = arrivals.last().map_or(Millis(0), |last| Millis(last.at.0 + 3_600_000));
        Ok(Self { name: "trace".to_owned(), span, arrivals, ..Self::default() })
    }

    /// Everybody of a company is there all the time, where the trace does not say who is.
    #[must_use]
    pub fn staffed_by(mut self, company: &crate::Company) -> Self {
        if self.duties.is_empty() {
            let duty =
                |worker: &crate::Worker| Duty { at: Millis(0), agent: worker.agent.clone(), what: DutyKind::Available };
            self.duties = company.workers().iter().map(duty).collect();
        }
        self
    }

    /// When each agent is there to work: from becoming available until anything else.
    #[must_use]
    pub fn shifts(&self, agent: &AgentId) -> Vec<(Millis, Millis)> {
        let mut shifts = Vec::new();
        let (mut since, mut here, mut willing) = (None, true, false);
        for duty in self.duties.iter().filter(|duty| duty.agent == *agent) {
            match duty.what {
                DutyKind::Available => willing = true,
                DutyKind::Gone => here = false,
                DutyKind::Back => here = true,
                DutyKind::Busy | DutyKind::Away | DutyKind::Leave | DutyKind::Offline => willing = false,
            }
            match (since, here && willing) {
                (None, true) => since = Some(duty.at),
                (Some(from), false) => {
                    shifts.push((from, duty.at));
                    since = None;
                }
                _ => {}
            }
        }
        shifts.extend(since.filter(|from| *from < self.span).map(|from| (from, self.span)));
        shifts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_from_csv_and_json() {
        let csv =
            "at_ms,customer,channel,handle_ms,tags,patience_ms\n5000,ann,chat,60000,buy;vip,\n1000,bob,email,9,,70\n";
        let trace = Trace::read(csv).unwrap();
        assert_eq!(trace.arrivals[0].customer, "bob");
        assert_eq!(trace.arrivals[0].patience, Some(Millis(70)));
        assert_eq!(trace.arrivals[1].tags, ["buy", "vip"]);
        assert_eq!(Trace::read(&serde_json::to_string(&trace).unwrap()).unwrap(), trace);
        assert!(Trace::read("at_ms,customer\n1,ann\n").unwrap_err().contains("channel is missing"));
    }

    #[test]
    fn shifts_are_when_somebody_takes_work() {
        let agent = AgentId::new("anna").unwrap();
        let duty = |at, what| Duty { at: Millis(at), agent: agent.clone(), what };
        let duties = vec![
            duty(5, DutyKind::Available),
            duty(10, DutyKind::Away),
            duty(20, DutyKind::Available),
            duty(30, DutyKind::Gone),
            duty(35, DutyKind::Back),
        ];
        let trace = Trace { span: Millis(50), duties, ..Trace::default() };
        let shifts = trace.shifts(&agent);
        assert_eq!(shifts, [(Millis(5), Millis(10)), (Millis(20), Millis(30)), (Millis(35), Millis(50))]);
    }
}
