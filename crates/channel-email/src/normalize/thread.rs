//! Which thread a mail belongs to. Pure.

use adapter::contract::SmolStr;
use adapter::contract::envelope::{Thread, ThreadKind};

use super::{Facts, Place, delivered_to, reply_target};
use crate::address::Mailbox;
use crate::token::{Token, key_of};

/// Most ids that are tried.
const IDS_MAX: usize = 50;
const SUBJECT_CHARS_MAX: usize = 300;

/// What stands before the subject of an answer or a forward, in lower case and without the colon.
const PREFIXES: [&str; 26] = [
    "re", "aw", "antw", "antwort", "sv", "vs", "ref", "rv", "odp", "ynt", "回复", "回覆", "答复", "fwd", "fw", "wg",
    "tr", "rif", "r", "i", "enc", "doorst", "vl", "转发", "轉寄", "res",
];

/// A mail's thread.
pub(super) struct Found {
    pub(super) thread: Thread,
    /// A token of ours says so.
    pub(super) proven: bool,
    /// The ids that it answers, newest first, when no token says so.
    pub(super) ids: Vec<String>,
}

/// Finds the thread: by a token in an address that the mail was written to, by one in an id that it
/// answers, else by its root and its sender, so that knowing an id of somebody's thread does not lead
/// into it.
pub(super) fn find(place: &Place, facts: &Facts<'_>) -> Found {
    let references = facts.headers.ids("references");
    let in_reply_to = facts.headers.ids("in-reply-to");
    let mut ids: Vec<String> = Vec::new();
    for id in in_reply_to.iter().chain(references.iter().rev()).take(IDS_MAX) {
        if !ids.contains(id) {
            ids.push(id.clone());
        }
    }
    let token = in_addresses(place, facts).or_else(|| ids.iter().find_map(|id| place.tokens.read_message_id(id)));
    let own = facts.message_id.as_ref();
    let root = references.first().or(in_reply_to.first()).or(own);
    let proven = token.is_some();
    let key = token.map_or_else(
        || {
            let from = facts.sender().map_or("", Mailbox::as_str);
            key_of(&["thread", root.unwrap_or(&facts.synthetic_id), from])
        },
        |token| token.thread,
    );
    let subject = plain_subject(&facts.subject);
    let thread = Thread {
        key,
        kind: ThreadKind::Thread,
        external_id: root.map(|id| id.as_str().into()),
        sub_id: own.map(|id| id.as_str().into()),
        subject: (!subject.is_empty()).then(|| SmolStr::from(subject)),
        reply_target: reply_target(facts),
    };
    Found { thread, proven, ids: if proven { Vec::new() } else { ids } }
}

/// A token in an address that the mail was sent to.
pub(super) fn in_addresses(place: &Place, facts: &Facts<'_>) -> Option<Token> {
    let visible = facts.mail.iter().flat_map(|mail| {
        let to = mail.header_values("To").chain(mail.header_values("Cc"));
        super::addresses_of(to.filter_map(|value| value.as_address())).into_iter().map(|(address, _)| address)
    });
    let all: Vec<Mailbox> = delivered_to(&facts.headers).into_iter().chain(visible).collect();
    all.iter().filter_map(|address| place.ours.detail(address)).find_map(|detail| place.tokens.read_detail(detail))
}

/// A subject without what answers and forwards put before it.
pub(crate) fn plain_subject(subject: &str) -> String {
    let mut rest = subject.trim();
    while let Some((head, tail)) = rest.split_once([':', '：']) {
        // `Re[2]` and `Re (2)` count.
        let word = head.split(['[', '(']).next().unwrap_or_default().trim().to_lowercase();
        if !PREFIXES.contains(&word.as_str()) {
            break;
        }
        rest = tail.trim_start();
    }
    rest.chars().take(SUBJECT_CHARS_MAX).collect()
}
