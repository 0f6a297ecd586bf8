//! The frames of the protocol, as `README.md` has them. JSON text, one object each.

use adapter::contract::outbound::Way;
use adapter::contract::{AccountId, ChannelKind, SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

/// What a page sends. Fields that are not known are passed over.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ClientFrame {
    /// First of all: who it is, and where it was.
    Join(Box<Join>),
    /// The visitor says something.
    Message(Message),
    /// The visitor wants to go on by another channel.
    Switch(Switch),
    /// The visitor types, or stopped.
    Typing {
        /// Types.
        #[serde(default)]
        on: bool,
    },
    /// Everything up to this is on the device.
    Received {
        /// Up to which.
        seq: u64,
    },
    /// Everything up to this was seen.
    Seen {
        /// Up to which.
        seq: u64,
    },
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

/// The first frame.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Join {
    /// The token of the last visit.
    pub(crate) session: Option<String>,
    /// The site's login token.
    pub(crate) login: Option<String>,
    /// The last `seq` that the page has.
    pub(crate) after: u64,
    /// What the visitor says their name is.
    pub(crate) name: Option<String>,
    /// What the visitor says their mail address is.
    pub(crate) email: Option<String>,
    /// The page's language.
    pub(crate) language: Option<String>,
    /// The page's address.
    pub(crate) page: Option<String>,
    /// Words that help to route.
    pub(crate) tags: Vec<String>,
}

/// What the visitor says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Message {
    /// The page's id of it; the same when it is sent again.
    pub(crate) client_msg_id: SmolStr,
    /// The text.
    pub(crate) text: String,
}

/// By what the visitor wants to go on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Switch {
    /// The page's id of the wish; the same when it is sent again.
    pub(crate) client_msg_id: SmolStr,
    /// The kind of medium.
    pub(crate) kind: ChannelKind,
    /// The account.
    pub(crate) account: AccountId,
    /// The visitor's address there, where it is asked for.
    #[serde(default)]
    pub(crate) address: Option<String>,
}

/// What a page is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ServerFrame {
    /// The page is in.
    Joined {
        /// The token for the next visit.
        session: String,
        /// Who the visitor is.
        visitor: SmolStr,
        /// Whether the login was taken.
        identified: bool,
        /// The newest `seq`.
        head: u64,
        /// From where on messages follow: what the page asked for, or 0 when its transcript is not ours.
        after: u64,
        /// The open conversation.
        conversation: Option<SmolStr>,
        /// Who has it.
        agent: Option<Agent>,
        /// Longest text.
        text_chars_max: usize,
        /// By what the visitor may go on when they ask for it.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        ways: Vec<Way>,
    },
    /// A message of the thread, either way.
    Message(Utterance),
    /// A message of the page is stored.
    Ack {
        /// Which.
        client_msg_id: SmolStr,
    },
    /// Messages that cannot be had any more.
    Gap {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The agent types, or stopped.
    Typing {
        /// Types.
        on: bool,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<SmolStr>,
    },
    /// The conversation got or lost its agent.
    Presence {
        /// `joined`, `left`, `waiting`, `closed`.
        state: SmolStr,
        /// Who.
        agent: Option<Agent>,
    },
    /// Something was not done.
    Error {
        /// What, for a program.
        code: &'static str,
        /// What, for a person.
        message: String,
        /// The message that it concerns.
        #[serde(skip_serializing_if = "Option::is_none")]
        client_msg_id: Option<SmolStr>,
        /// When to send it again, with the same id. Absent: not again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// Asks for a pong, for pages whose proxies swallow the protocol's own.
    Pong,
}

/// An agent as the visitor sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Agent {
    /// The name to show.
    pub(crate) name: Option<SmolStr>,
}

/// A message of the thread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Utterance {
    /// Its number in the thread.
    pub(crate) seq: u64,
    /// Its id.
    pub(crate) id: SmolStr,
    /// `agent` or `customer`.
    pub(crate) from: &'static str,
    /// The page's own id of it, when a page sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_msg_id: Option<SmolStr>,
    /// By which other kind of medium it came or went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<SmolStr>,
    /// Who said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<SmolStr>,
    /// What.
    pub(crate) text: String,
    /// When.
    pub(crate) at: Timestamp,
}

impl ServerFrame {
    /// The frame's text.
    pub(crate) fn encode(&self) -> String {
        // No type of ours has a map with keys that are not text.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_documented() {
        let join: ClientFrame =
            serde_json::from_str(r#"{"type":"join","session":null,"login":null,"after":3,"new":1}"#).unwrap();
        assert_eq!(join, ClientFrame::Join(Box::new(Join { after: 3, ..Join::default() })));
        assert!(serde_json::from_str::<ClientFrame>(r#"{"type":"other"}"#).is_err());
        let message = ServerFrame::Message(Utterance {
            seq: 1,
            id: "m1".into(),
            from: "agent",
            client_msg_id: None,
            by: None,
            name: None,
            text: "hi".into(),
            at: Timestamp(5),
        });
        assert_eq!(message.encode(), r#"{"type":"message","seq":1,"id":"m1","from":"agent","text":"hi","at":5}"#);
        assert_eq!(ServerFrame::Pong.encode(), r#"{"type":"pong"}"#);
    }
}
