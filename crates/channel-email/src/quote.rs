//! What is new in a plain text and what it quotes, by the habits of mail programs. Pure.
//!
//! Heuristics: the whole text is always kept beside the split.

/// Most lines that are looked at.
const LINES_MAX: usize = 20_000;

/// A text, split.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Split {
    /// What is new; `None` when nothing was found to part it from.
    pub(crate) visible: Option<String>,
    /// What is quoted.
    pub(crate) quoted: Option<String>,
}

/// Words with which the line before a quotation ends or begins, by language.
const WROTE: [&str; 16] = [
    "wrote",
    "writes",
    "schrieb",
    "a écrit",
    "escribió",
    "ha scritto",
    "scrisse",
    "skrev",
    "schreef",
    "escreveu",
    "napisał",
    "napisał(a)",
    "пишет",
    "написал",
    "kirjoitti",
    "yazdı",
];
/// What stands between dashes above an original that is not marked line by line.
const ORIGINAL: [&str; 12] = [
    "original message",
    "original appointment",
    "ursprüngliche nachricht",
    "originalnachricht",
    "message d'origine",
    "message original",
    "mensaje original",
    "messaggio originale",
    "oorspronkelijk bericht",
    "mensagem original",
    "原始邮件",
    "原邮件",
];
/// The fields of the header that Outlook writes above an original; one of each line must follow.
const FROM: [&str; 7] = ["from", "von", "de", "da", "van", "发件人", "差出人"];
const SENT: [&str; 10] =
    ["sent", "date", "gesendet", "datum", "envoyé", "enviado", "inviato", "verzonden", "发送时间", "送信日時"];
/// How a line of a signature without dashes begins, as devices write it.
const DEVICE: [&str; 7] = [
    "sent from my ",
    "von meinem ",
    "envoyé de mon ",
    "enviado desde mi ",
    "inviato da ",
    "get outlook for ",
    "verzonden vanaf mijn ",
];

/// Splits a text.
pub(crate) fn split(text: &str) -> Split {
    let lines: Vec<&str> = text.lines().take(LINES_MAX).map(str::trim_end).collect();
    let mut visible: Vec<&str> = Vec::new();
    let mut quoted: Vec<&str> = Vec::new();
    let mut found = false;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let rest = lines.get(at..).unwrap_or_default();
        if line.starts_with('>') {
            found = true;
            quoted.push(line);
            at += 1;
        } else if let Some(length) = attribution(rest) {
            found = true;
            let above = rest.get(..length).unwrap_or_default();
            quoted.extend(above);
            at += length;
            let below = lines.get(at..).unwrap_or_default();
            // Marked line by line, what is between the lines is an answer; otherwise all of it is quoted.
            let marked = below.iter().find(|line| !line.is_empty()).is_some_and(|line| line.starts_with('>'));
            if !marked {
                quoted.extend(below);
                at = lines.len();
            }
        } else if is_original(line) || is_header_block(rest) {
            found = true;
            quoted.extend(rest);
            at = lines.len();
        } else {
            visible.push(line);
            at += 1;
        }
    }
    let (kept, signed) = without_signature(&visible);
    if !found && !signed {
        return Split::default();
    }
    let (visible, quoted) = (join(kept), join(&quoted));
    // A forward, or nothing but a signature: then there is nothing to part.
    if visible.is_empty() {
        return Split::default();
    }
    Split { visible: Some(visible), quoted: (!quoted.is_empty()).then_some(quoted) }
}

fn join(lines: &[&str]) -> String {
    let mut text = String::new();
    let mut empty = 0;
    for line in lines {
        if line.trim().is_empty() {
            empty += 1;
            continue;
        }
        if !text.is_empty() {
            text.push_str(if empty > 0 { "\n\n" } else { "\n" });
        }
        empty = 0;
        text.push_str(line);
    }
    text
}

/// How many lines the sentence above a quotation has: it ends with a colon and says who wrote.
fn attribution(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    if first.is_empty() || first.len() > 400 {
        return None;
    }
    let mut sentence = String::new();
    for (count, line) in lines.iter().take(3).enumerate() {
        if line.is_empty() || line.starts_with('>') {
            return None;
        }
        sentence.push_str(line);
        sentence.push(' ');
        let lower = sentence.trim_end().to_lowercase();
        let Some(said) = lower.strip_suffix(':').or_else(|| lower.strip_suffix('：')) else { continue };
        // A date or an address in it, lest a sentence of the customer's be taken for it.
        let dated = said.bytes().filter(u8::is_ascii_digit).count() >= 4 || said.contains('@');
        let wrote = WROTE.iter().any(|word| {
            said.ends_with(word) || said.contains(&format!(" {word} ")) || said.starts_with(&format!("{word} "))
        });
        return (dated && wrote && said.len() <= 600).then_some(count + 1);
    }
    None
}

fn is_original(line: &str) -> bool {
    let words = line.trim_matches(|c: char| c == '-' || c == '_' || c == '=' || c.is_whitespace());
    let ruled = line.trim_start().starts_with("--") && line.trim_end().ends_with("--");
    ruled && ORIGINAL.contains(&words.to_lowercase().as_str())
}

/// Outlook's header above an original: From, then Sent within the next lines.
fn is_header_block(lines: &[&str]) -> bool {
    let field = |line: &str, names: &[&str]| {
        let line = line.trim_start_matches('*').to_lowercase();
        let line = line.replace("*:", ":");
        names.iter().any(|name| {
            line.strip_prefix(name).is_some_and(|rest| {
                let rest = rest.trim_start_matches(['*', ' ', '\u{a0}']);
                rest.starts_with(':') || rest.starts_with('：')
            })
        })
    };
    let is_rule = |line: &str| line.len() >= 10 && line.chars().all(|c| c == '_' || c == '-');
    let mut rest = lines.iter().filter(|line| !line.is_empty());
    let Some(mut first) = rest.next() else { return false };
    if is_rule(first) {
        let Some(next) = rest.next() else { return false };
        first = next;
    }
    field(first, &FROM) && rest.take(3).any(|line| field(line, &SENT))
}

/// The lines before a signature, and whether there is one.
fn without_signature<'a, 'b>(lines: &'a [&'b str]) -> (&'a [&'b str], bool) {
    let dashes = lines.iter().position(|line| *line == "--" || *line == "-- ");
    let device = lines.iter().rposition(|line| !line.is_empty()).filter(|last| {
        lines.get(*last).is_some_and(|line| {
            let line = line.to_lowercase();
            line.len() < 80 && DEVICE.iter().any(|start| line.starts_with(start))
        })
    });
    match dashes.or(device) {
        Some(at) => (lines.get(..at).unwrap_or_default(), true),
        None => (lines, false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn visible(text: &str) -> Option<String> {
        split(text).visible
    }

    #[test]
    fn a_text_without_quotation_is_not_split() {
        assert_eq!(split("Hello,\n\nwhere is my order? I wrote:\n\nnothing"), Split::default());
        assert_eq!(split(""), Split::default());
    }

    #[test]
    fn the_habits_of_mail_programs() {
        for text in [
            "new\n\nOn Mon, 3 Mar 2025 at 10:00, Shop <support@shop.example> wrote:\n\n> old\n> older",
            "new\n\nOn Mon, 3 Mar 2025 at 10:00, Shop support\n<support@shop.example> wrote:\n> old",
            "new\n\nAm 03.03.2025 um 10:00 schrieb Shop:\n> old",
            "new\n\nLe lun. 3 mars 2025 à 10:00, Shop <support@shop.example> a écrit :\n\n> old",
            "new\n\n-----Original Message-----\nFrom: Shop\nold",
            "new\n\n------------------ 原始邮件 ------------------\nold",
            "new\n\n________________________________\nFrom: Shop <support@shop.example>\nSent: Monday\nTo: Ann\nSubject: x\n\nold",
            "new\n\nVon: Shop\nGesendet: Montag\nAn: Ann\nBetreff: x\n\nold",
            "new\n-- \nAnn Lee",
            "new\n\nSent from my iPhone",
        ] {
            assert_eq!(visible(text).as_deref(), Some("new"), "{text}");
        }
    }

    #[test]
    fn answers_between_the_lines_are_new() {
        let split = split("On 3 Mar 2025 Shop wrote:\n> Which order?\n4711\n> Which size?\nlarge");
        assert_eq!(split.visible.as_deref(), Some("4711\nlarge"));
        assert_eq!(split.quoted.as_deref(), Some("On 3 Mar 2025 Shop wrote:\n> Which order?\n> Which size?"));
    }

    #[test]
    fn a_forward_is_all_visible() {
        assert_eq!(split("-----Original Message-----\nFrom: x\nbody"), Split::default());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}|(>? ?[a-z:0-9-]{0,9}\n){0,30}") {
            let split = split(&text);
            prop_assert!(split.visible.is_none_or(|visible| !visible.is_empty()));
        }
    }
}
