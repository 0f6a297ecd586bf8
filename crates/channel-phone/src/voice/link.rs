//! What the addresses carry that we hand out for a call: which step comes next, of which call, for which order.
//!
//! The whole path and query is signed, with the account; a request that comes by it is the provider's too, by its own
//! signature, and must be about the leg that the address names.

use adapter::contract::{AgentId, SmolStr};

/// What every address of a call begins with, behind the account.
pub(crate) const PREFIX: &str = "voice/";

/// What is asked or told at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A caller has waited a round.
    Wait,
    /// A caller who waits pressed a key, or none.
    Key,
    /// A message was left; what now?
    Recorded,
    /// A voicemail can be fetched.
    Voicemail,
    /// What was said in it.
    Transcript,
    /// How the leg of a customer goes whom we called, or redirected.
    Status,
    /// How the leg of an agent goes who hears first who calls.
    Agent,
    /// How the leg of an agent goes who is joined at once.
    Joined,
    /// An agent answered: what do they hear?
    Whisper,
    /// An agent pressed a key, or none.
    Take,
    /// The agent's leg has ended: what does the customer hear?
    Dialed,
    /// The recording of a talk can be fetched.
    Talk,
}

impl Step {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Wait, "wait"),
        (Self::Key, "key"),
        (Self::Recorded, "recorded"),
        (Self::Voicemail, "voicemail"),
        (Self::Transcript, "transcript"),
        (Self::Status, "status"),
        (Self::Agent, "agent"),
        (Self::Joined, "joined"),
        (Self::Whisper, "whisper"),
        (Self::Take, "take"),
        (Self::Dialed, "dialed"),
        (Self::Talk, "talk"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(step, _)| *step == self).map_or("", |(_, name)| name)
    }

    /// Whether it is about an agent's leg, and not the customer's.
    pub(crate) const fn of_agent(self) -> bool {
        matches!(self, Self::Agent | Self::Joined | Self::Whisper | Self::Take)
    }
}

/// What an address carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// What it is for.
    pub(crate) step: Step,
    /// The call: the key of its thread.
    pub(crate) thread: SmolStr,
    /// The leg of the customer; absent while it is being called, since its id is not known before.
    pub(crate) leg: Option<SmolStr>,
    /// The order that it follows from.
    pub(crate) command: Option<SmolStr>,
    /// The agent whom that is about.
    pub(crate) agent: Option<AgentId>,
    /// The language of whoever listens.
    pub(crate) language: SmolStr,
    /// How many rounds the caller has waited.
    pub(crate) round: u32,
    /// In how many rounds in a row nobody knew of the call.
    pub(crate) absent: u32,
}

impl Link {
    /// The same call, another step.
    pub(crate) fn to(&self, step: Step) -> Self {
        Self { step, ..self.clone() }
    }

    /// Path and query behind the account, not signed yet.
    pub(crate) fn write(&self) -> String {
        let mut query = form(&[("t", &self.thread), ("l", &self.language)]);
        let optional = [
            ("g", self.leg.as_deref()),
            ("c", self.command.as_deref()),
            ("a", self.agent.as_ref().map(AgentId::as_str)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                query.push('&');
                query.push_str(&form(&[(name, value)]));
            }
        }
        for (name, value) in [("n", self.round), ("x", self.absent)] {
            if value > 0 {
                query.push_str(&format!("&{name}={value}"));
            }
        }
        format!("{PREFIX}{}?{query}", self.step.name())
    }

    /// Reads what was signed: `suffix` behind the account, and the parameters. `None`: it is none of these addresses.
    pub(crate) fn read(suffix: &str, query: &str) -> Option<Self> {
        let name = suffix.strip_prefix(PREFIX)?;
        let (step, _) = Step::ALL.into_iter().find(|(_, known)| *known == name)?;
        let value = |name: &str| crate::query::parameter(query, name).filter(|value| !value.is_empty());
        let number = |name: &str| value(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        Some(Self {
            step,
            thread: value("t")?.into(),
            leg: value("g").map(SmolStr::from),
            command: value("c").map(SmolStr::from),
            agent: value("a").and_then(|agent| AgentId::new(agent).ok()),
            language: value("l")?.into(),
            round: number("n"),
            absent: number("x"),
        })
    }
}

fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", crate::query::encode(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (step, name) in Step::ALL {
            let link = Link {
                step,
                thread: "CA1".into(),
                leg: Some("CA2".into()),
                command: Some("main/m17".into()),
                agent: AgentId::new("anna & ben=ü").ok(),
                language: "de-DE".into(),
                round: 3,
                absent: 1,
            };
            for link in [link.clone(), Link { leg: None, command: None, agent: None, round: 0, absent: 0, ..link }] {
                let written = link.write();
                assert!(written.starts_with(&format!("voice/{name}?")), "{written}");
                let (suffix, query) = written.split_once('?').unwrap();
                assert_eq!(Link::read(suffix, query), Some(link));
            }
        }
        for (suffix, query) in
            [("voice/wait", ""), ("voice/wait", "t=CA1"), ("voice/other", "t=CA1&l=de"), ("", "t=a&l=b")]
        {
            assert_eq!(Link::read(suffix, query), None, "{suffix}?{query}");
        }
        // One that is there twice is as good as absent.
        assert_eq!(Link::read("voice/wait", "t=CA1&t=CA2&l=de"), None);
    }
}
