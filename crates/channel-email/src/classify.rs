//! Who or what wrote a mail: a person, a program, a list, a server that could not deliver. Pure.
//!
//! Classified and passed on, never dropped.

use adapter::contract::envelope::MailClass;

use crate::address::Mailbox;
use crate::headers::Headers;

/// The header that everything of ours has: its account's address, or a loop would not be known.
pub(crate) const LOOP: &str = "X-Loop";

/// How automatic replies begin their subjects, in lower case.
const SUBJECTS: [&str; 26] = [
    "auto:",
    "autoreply",
    "auto-reply",
    "auto reply",
    "automatic reply",
    "automatic response",
    "autoresponse",
    "automated reply",
    "out of office",
    "out of the office",
    "away from my mail",
    "i am out of the office",
    "abwesenheitsnotiz",
    "abwesenheit",
    "automatische antwort",
    "réponse automatique",
    "absence du bureau",
    "respuesta automática",
    "fuera de la oficina",
    "risposta automatica",
    "fuori sede",
    "automatisch antwoord",
    "resposta automática",
    "odpowiedź automatyczna",
    "自动回复",
    "自動返信",
];

/// The parts before the @ of addresses that servers write from.
const SERVERS: [&str; 2] = ["mailer-daemon", "mail-daemon"];
/// The parts before the @ of addresses that programs write from.
const PROGRAMS: [&str; 6] = ["no-reply", "noreply", "do-not-reply", "donotreply", "no_reply", "bounce"];

/// What a mail that is no report is. `ours` is the account's address.
pub(crate) fn class(headers: &Headers, from: Option<&Mailbox>, subject: &str, ours: &Mailbox) -> MailClass {
    let auto_submitted = headers.first("auto-submitted").map(keyword);
    // A postmaster may be a person, too.
    let by_itself = has_null_return_path(headers) || auto_submitted.as_deref().is_some_and(|word| word != "no");
    if from.is_some_and(|from| SERVERS.contains(&from.local()) || (from.local() == "postmaster" && by_itself)) {
        return MailClass::Bounce;
    }
    if auto_submitted.as_deref().is_some_and(|word| word != "no") {
        return MailClass::AutoReply;
    }
    if headers.has("x-autoreply") && headers.first("x-autoreply").map(keyword).as_deref() != Some("no")
        || headers.has("x-autorespond")
        || headers.has("x-autoresponder")
        || headers.has("x-auto-reply-from")
        || headers.all(&LOOP.to_ascii_lowercase()).any(|value| value.trim().eq_ignore_ascii_case(ours.as_str()))
    {
        return MailClass::AutoReply;
    }
    let precedence: Vec<String> =
        ["precedence", "x-precedence"].into_iter().filter_map(|name| headers.first(name)).map(keyword).collect();
    let says = |word: &str| precedence.iter().any(|found| found == word);
    if says("auto_reply") || says("auto-reply") {
        return MailClass::AutoReply;
    }
    if headers.has("list-id") || headers.has("list-unsubscribe") || says("list") || says("bulk") || says("junk") {
        return MailClass::List;
    }
    let suppress = headers.first("x-auto-response-suppress").unwrap_or_default().to_ascii_lowercase();
    // Exchange stamps "DR, RN, NRN, OOF, AutoReply" on what it writes itself; people's mail has none of it.
    let suppressed = suppress.split(',').map(str::trim).any(|word| matches!(word, "all" | "oof" | "autoreply"));
    let subject = subject.trim().to_lowercase();
    let by_program = from.is_some_and(|from| {
        PROGRAMS.iter().any(|name| from.local() == *name || from.local().starts_with(&format!("{name}+")))
    });
    if suppressed
        || has_null_return_path(headers)
        || by_program
        || SUBJECTS.iter().any(|start| subject.starts_with(start))
    {
        return MailClass::AutoReply;
    }
    MailClass::Human
}

/// Whether nobody wants to hear of this mail's delivery.
fn has_null_return_path(headers: &Headers) -> bool {
    headers.first("return-path").is_some_and(|path| path.replace(char::is_whitespace, "") == "<>")
}

/// The first word, in lower case: what stands behind a semicolon or in a comment is beside the point.
fn keyword(value: &str) -> String {
    let word = value.split(|c: char| c == ';' || c == '(' || c.is_whitespace()).find(|word| !word.is_empty());
    word.unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str, from: &str, subject: &str) -> MailClass {
        let ours = Mailbox::parse("support@shop.example").unwrap();
        class(&Headers::parse(header.as_bytes()), Mailbox::parse(from).as_ref(), subject, &ours)
    }

    #[test]
    fn programs_are_told_from_people() {
        let person = "ann@example.com";
        for (header, from, subject, expected) in [
            ("", person, "Order 4711", MailClass::Human),
            ("Auto-Submitted: no\r\n", person, "x", MailClass::Human),
            ("X-Auto-Response-Suppress: DR\r\n", person, "x", MailClass::Human),
            ("Auto-Submitted: auto-replied (vacation)\r\n", person, "x", MailClass::AutoReply),
            ("Auto-Submitted: auto-generated; x=y\r\n", person, "x", MailClass::AutoReply),
            ("X-Autoreply: yes\r\n", person, "x", MailClass::AutoReply),
            ("X-Autorespond: x\r\n", person, "x", MailClass::AutoReply),
            ("X-Autoresponder: x\r\n", person, "x", MailClass::AutoReply),
            ("Precedence: auto_reply\r\n", person, "x", MailClass::AutoReply),
            ("X-Auto-Response-Suppress: OOF, AutoReply\r\n", person, "x", MailClass::AutoReply),
            ("X-Loop: support@shop.example\r\n", person, "x", MailClass::AutoReply),
            ("Return-Path: <>\r\n", person, "x", MailClass::AutoReply),
            ("", "no-reply@example.com", "x", MailClass::AutoReply),
            ("", person, "Abwesenheitsnotiz: bis Montag", MailClass::AutoReply),
            ("", person, "Automatic reply: Order", MailClass::AutoReply),
            ("List-Id: <a.example.com>\r\n", person, "x", MailClass::List),
            ("List-Unsubscribe: <https://x>\r\n", person, "x", MailClass::List),
            ("Precedence: bulk\r\n", person, "x", MailClass::List),
            ("X-Precedence: junk\r\n", person, "x", MailClass::List),
            ("", "MAILER-DAEMON@mx.example.com", "Undelivered", MailClass::Bounce),
            ("", "postmaster@example.com", "Our order", MailClass::Human),
            ("Auto-Submitted: auto-replied\r\n", "postmaster@example.com", "x", MailClass::Bounce),
        ] {
            assert_eq!(of(header, from, subject), expected, "{header}{from} {subject}");
        }
    }
}
