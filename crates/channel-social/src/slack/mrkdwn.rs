//! Slack's marked-up text: what is in angle brackets is put into words, and the three escaped signs are undone. Pure.

use adapter::contract::SmolStr;
use adapter::contract::envelope::{Entity, Text, TextFormat};
use adapter::contract::limits::LIST_MAX;

/// Reads a text.
pub(super) fn decode(raw: &str) -> Text {
    let mut body = String::with_capacity(raw.len());
    let mut entities = Vec::new();
    let mut rest = raw;
    while let Some(open) = rest.find('<') {
        let (before, from) = rest.split_at(open);
        unescape(before, &mut body);
        let inner = from.get(1..).unwrap_or_default();
        let Some(close) = inner.find('>') else {
            // Never written by the platform: kept as it is.
            rest = from;
            break;
        };
        let (inside, after) = inner.split_at(close);
        let (kind, shown, value) = bracket(inside);
        let offset = body.len();
        unescape(&shown, &mut body);
        let length = body.len() - offset;
        if let (Ok(offset), Ok(length), true) =
            (u32::try_from(offset), u32::try_from(length), entities.len() < LIST_MAX)
        {
            let value = value.map(|value| {
                let mut plain = String::new();
                unescape(value, &mut plain);
                SmolStr::from(plain)
            });
            entities.push(Entity { kind: SmolStr::new_static(kind), offset, length, value });
        }
        rest = after.get(1..).unwrap_or_default();
    }
    unescape(rest, &mut body);
    Text { body, format: TextFormat::Mrkdwn, entities, ..Text::default() }
}

/// What stands in angle brackets: its kind, what is shown of it, what it points to.
fn bracket(inside: &str) -> (&'static str, String, Option<&str>) {
    let (target, label) = match inside.split_once('|') {
        Some((target, label)) => (target, Some(label).filter(|label| !label.is_empty())),
        None => (inside, None),
    };
    let sign = |sign: char, text: &str| if text.starts_with(sign) { text.to_owned() } else { format!("{sign}{text}") };
    if let Some(user) = target.strip_prefix('@') {
        return ("mention", sign('@', label.unwrap_or(user)), Some(user));
    }
    if let Some(channel) = target.strip_prefix('#') {
        return ("channel", sign('#', label.unwrap_or(channel)), Some(channel));
    }
    if let Some(special) = target.strip_prefix('!') {
        return match special.split_once('^') {
            Some(("date", _)) => ("date", label.unwrap_or("date").to_owned(), Some(special)),
            Some((_, group)) => ("mention", sign('@', label.unwrap_or(group)), Some(group)),
            None => ("mention", sign('@', label.unwrap_or(special)), Some(special)),
        };
    }
    let shown = label.unwrap_or_else(|| target.strip_prefix("mailto:").unwrap_or(target));
    if let Some(mail) = target.strip_prefix("mailto:") {
        return ("email", shown.to_owned(), Some(mail));
    }
    if let Some(number) = target.strip_prefix("tel:") {
        return ("phone", shown.to_owned(), Some(number));
    }
    ("url", shown.to_owned(), Some(target))
}

/// Undoes the three signs that are escaped, once.
fn unescape(text: &str, to: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, from) = rest.split_at(at);
        to.push_str(before);
        let signs = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>')];
        match signs.into_iter().find(|(escaped, _)| from.starts_with(escaped)) {
            Some((escaped, sign)) => {
                to.push(sign);
                rest = from.get(escaped.len()..).unwrap_or_default();
            }
            None => {
                to.push('&');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    to.push_str(rest);
}

/// Text as it is sent: nothing in it means anything to the platform.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_put_into_words() {
        let text = decode(
            "hi <@U024BE7LH>, see <#C024BE7LR|general> or <https://shop.example/?a=1&amp;b=2|the shop> &lt;3 <mailto:a@b.example|a@b.example> <!here> <!subteam^S1|@crew> <!date^1392734382^{date}|Feb 18>",
        );
        assert_eq!(text.body, "hi @U024BE7LH, see #general or the shop <3 a@b.example @here @crew Feb 18");
        let found: Vec<(&str, &str, &str)> = text
            .entities
            .iter()
            .map(|entity| {
                let (from, to) = (entity.offset as usize, (entity.offset + entity.length) as usize);
                (entity.kind.as_str(), &text.body[from..to], entity.value.as_deref().unwrap_or_default())
            })
            .collect();
        assert_eq!(found[0], ("mention", "@U024BE7LH", "U024BE7LH"));
        assert_eq!(found[2], ("url", "the shop", "https://shop.example/?a=1&b=2"));
        assert_eq!(found[3], ("email", "a@b.example", "a@b.example"));
        assert_eq!(found[5], ("mention", "@crew", "S1"));
    }

    #[test]
    fn signs_are_undone_once_and_what_is_odd_is_kept() {
        assert_eq!(decode("&amp;lt; & &x; <open").body, "&lt; & &x; <open");
        assert_eq!(decode("a<>b").body, "ab");
        assert_eq!(escape("<a> & b"), "&lt;a&gt; &amp; b");
        assert_eq!(decode(&escape("<@U1> & <!channel>")).body, "<@U1> & <!channel>");
    }
}
