//! Where a chat is: the chat's id, the topic within it, and the business in whose name the bot speaks.
//!
//! Written `<chat>`, `<chat>#<topic>`, `<business>:<chat>`; a message is `<business>:<chat>/<message>`, since its
//! number means something in its chat only.

use adapter::contract::SmolStr;

use crate::read::At;

/// An address that can be answered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The connection of a business account, when the bot speaks for one.
    pub(super) business: Option<SmolStr>,
    /// The chat.
    pub(super) chat: SmolStr,
    /// The topic of a forum.
    pub(super) topic: Option<SmolStr>,
}

impl Address {
    /// A chat with the bot itself.
    pub(super) const fn direct(chat: SmolStr) -> Self {
        Self { business: None, chat, topic: None }
    }

    /// Where a message, or something else that has a `chat`, is.
    pub(super) fn of(at: At<'_>) -> Option<Self> {
        let chat = at.get("chat").id("id")?;
        let topic = if at.flag("is_topic_message") { at.id("message_thread_id") } else { None };
        Some(Self { business: at.id("business_connection_id"), chat, topic })
    }

    /// Reads what [`Display`](std::fmt::Display) wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (business, rest) = match text.rsplit_once(':') {
            Some((business, rest)) if !business.is_empty() => (Some(business.into()), rest),
            Some(_) => return None,
            None => (None, text),
        };
        let (chat, topic) = match rest.split_once('#') {
            Some((chat, topic)) => (chat, Some(topic)),
            None => (rest, None),
        };
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let legal = number(chat.strip_prefix('-').unwrap_or(chat)) && topic.is_none_or(number);
        legal.then(|| Self { business, chat: chat.into(), topic: topic.map(SmolStr::from) })
    }

    /// The id of a message in this chat.
    pub(super) fn message(&self, number: &str) -> SmolStr {
        let chat = &self.chat;
        match &self.business {
            Some(business) => format!("{business}:{chat}/{number}").into(),
            None => format!("{chat}/{number}").into(),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(business) = &self.business {
            write!(f, "{business}:")?;
        }
        f.write_str(&self.chat)?;
        match &self.topic {
            Some(topic) => write!(f, "#{topic}"),
            None => Ok(()),
        }
    }
}

/// The number of a message within its chat, from its id.
pub(super) fn number(external: &str) -> Option<&str> {
    let number = external.rsplit_once('/')?.1;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["17", "-1001234567890", "-100#12", "a:b:17", "conn_1:17#3"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "x", "-", "17#", "#1", ":17", "17#x", "conn:"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_message_is_named_with_its_chat() {
        let address = Address::parse("-100#12").unwrap();
        // Reactions come without the topic, so it is no part of the name.
        assert_eq!(address.message("7"), "-100/7");
        assert_eq!(number("-100/7"), Some("7"));
        assert_eq!(number("7"), None);
        assert_eq!(number("-100/x"), None);
    }
}
