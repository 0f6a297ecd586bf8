//! Reports of mail servers: not delivered (RFC 3464), reported as abuse (RFC 5965). Pure.

use adapter::contract::SmolStr;
use adapter::contract::envelope::ReceiptStatus;
use mail_parser::{Message, MessagePart, MimeHeaders, PartType};

use crate::headers::{Headers, ids};

/// Most recipients of one report.
const RECIPIENTS_MAX: usize = 50;
const REASON_CHARS_MAX: usize = 500;

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Report {
    /// What it says of each recipient.
    pub(crate) outcomes: Vec<Outcome>,
    /// The ids that the reported mail may have, without brackets.
    pub(crate) ids: Vec<String>,
    /// The addresses that its return path may have been.
    pub(crate) return_paths: Vec<String>,
}

/// What became of the mail to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: ReceiptStatus,
    pub(crate) recipient: Option<SmolStr>,
    pub(crate) code: Option<SmolStr>,
    pub(crate) reason: Option<String>,
}

/// Reads a report; `None` when the mail is none.
pub(crate) fn read(mail: &Message<'_>) -> Option<Report> {
    let of_type = |kind: &str, subtype: &str| mail.parts.iter().find(|part| part.is_content_type(kind, subtype));
    let mut report = if let Some(part) =
        of_type("message", "delivery-status").or_else(|| of_type("message", "global-delivery-status"))
    {
        delivery(part.contents())
    } else if let Some(part) = of_type("message", "feedback-report") {
        feedback(part.contents())
    } else {
        return None;
    };
    for part in &mail.parts {
        if let Some(header) = original(part) {
            report.ids.extend(header.ids("message-id"));
            report.return_paths.extend(header.first("return-path").map(str::to_owned));
        }
    }
    Some(report)
}

/// The header of the mail that a part returns.
fn original(part: &MessagePart<'_>) -> Option<Headers> {
    if part.is_content_type("text", "rfc822-headers") || part.is_content_type("message", "global-headers") {
        return Some(Headers::parse(part.contents()));
    }
    match &part.body {
        PartType::Message(message) => Some(Headers::parse(message.raw_message())),
        _ => None,
    }
}

/// The groups of fields, parted by empty lines.
fn groups(body: &[u8]) -> Vec<Headers> {
    let mut groups = Vec::new();
    let mut rest = body;
    while !rest.is_empty() && groups.len() <= RECIPIENTS_MAX {
        let headers = Headers::parse(rest);
        rest = rest.get(headers.body_at()..).unwrap_or_default();
        groups.push(headers);
    }
    groups
}

fn delivery(body: &[u8]) -> Report {
    let mut report = Report::default();
    for group in groups(body) {
        report.ids.extend(group.all("original-message-id").flat_map(ids));
        report.ids.extend(group.all("x-original-message-id").flat_map(ids));
        let Some(action) = group.first("action") else { continue };
        let status = match action.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default() {
            word if word.eq_ignore_ascii_case("delayed") => ReceiptStatus::Delayed,
            word if word.eq_ignore_ascii_case("delivered") => ReceiptStatus::Delivered,
            word if word.eq_ignore_ascii_case("relayed") || word.eq_ignore_ascii_case("expanded") => {
                ReceiptStatus::Sent
            }
            _ => ReceiptStatus::Failed,
        };
        let typed = |value: &str| value.split_once(';').map_or(value, |(_, rest)| rest).trim().to_owned();
        let recipient = group.first("final-recipient").or_else(|| group.first("original-recipient")).map(typed);
        let code = group.first("status").and_then(|value| value.split_whitespace().next()).map(SmolStr::from);
        let reason = group.first("diagnostic-code").map(typed).map(|text| short(&text));
        let recipient = recipient.filter(|text| !text.is_empty() && text.len() <= 254).map(SmolStr::from);
        report.outcomes.push(Outcome { status, recipient, code: code.filter(|code| code.len() <= 16), reason });
    }
    report
}

fn feedback(body: &[u8]) -> Report {
    let headers = Headers::parse(body);
    let kind = headers.first("feedback-type").unwrap_or("abuse").to_ascii_lowercase();
    let recipient = headers.first("original-rcpt-to").map(|text| text.trim_matches(['<', '>', ' ']).to_owned());
    let outcome = Outcome {
        status: ReceiptStatus::Complained,
        recipient: recipient.filter(|text| !text.is_empty() && text.len() <= 254).map(SmolStr::from),
        code: Some(kind.chars().take(32).collect::<String>().into()),
        reason: headers.first("user-agent").map(short),
    };
    Report {
        // "not-spam" takes a complaint back, which no status can say.
        outcomes: if kind == "not-spam" { Vec::new() } else { vec![outcome] },
        ids: Vec::new(),
        return_paths: headers.first("original-mail-from").map(str::to_owned).into_iter().collect(),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}
