//! Text out of HTML: what is new and what is quoted, by the marks that mail programs leave. Pure.
//!
//! The HTML itself is kept whole beside it; nothing here makes it safe to show.

use mail_parser::decoders::html::add_html_token;

/// Most HTML that is read.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest tag that is looked into.
const TAG_BYTES_MAX: usize = 64 * 1024;

/// Text that was read from HTML.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Readable {
    /// All of it.
    pub(crate) all: String,
    /// What is new, when marks of a quotation were found.
    pub(crate) visible: Option<String>,
    /// What is quoted.
    pub(crate) quoted: Option<String>,
}

/// Collects text into one of two places, and into the whole.
#[derive(Default)]
struct Out {
    all: Lines,
    visible: Lines,
    quoted: Lines,
}

#[derive(Default)]
struct Lines {
    text: String,
    /// White space or line ends that come before the next word, if there is one.
    spaces: usize,
    breaks: usize,
}

impl Lines {
    fn space(&mut self) {
        self.spaces = 1;
    }

    fn line_end(&mut self, count: usize) {
        self.breaks = (self.breaks + 1).min(2).max(count);
    }

    fn block(&mut self) {
        self.breaks = self.breaks.max(1);
    }

    fn push(&mut self, piece: &str) {
        if !self.text.is_empty() {
            if self.breaks > 0 {
                self.text.extend(std::iter::repeat_n('\n', self.breaks));
            } else if self.spaces > 0 {
                self.text.push(' ');
            }
        }
        (self.spaces, self.breaks) = (0, 0);
        self.text.push_str(piece);
    }
}

impl Out {
    fn each(&mut self, quoted: bool, act: impl Fn(&mut Lines)) {
        act(&mut self.all);
        act(if quoted { &mut self.quoted } else { &mut self.visible });
    }
}

/// Where a quotation ends.
enum Quote {
    /// With the element that began it: its name, and how deep it nests in itself.
    Element { name: String, depth: usize },
    /// With the mail.
    Rest,
}

/// Reads HTML.
pub(crate) fn read(html: &str) -> Readable {
    let html = html.get(..floor(html, BYTES_MAX)).unwrap_or_default();
    let mut out = Out::default();
    let mut quote: Option<Quote> = None;
    let mut marked = false;
    let mut rest = html;
    while let Some(first) = rest.chars().next() {
        match first {
            '<' => {
                if let Some(after) = rest.strip_prefix("<!--") {
                    rest = after.split_once("-->").map_or("", |(_, behind)| behind);
                    continue;
                }
                let Some((tag, behind)) = split_tag(rest) else {
                    // No tag: a lone sign.
                    out.each(quote.is_some(), |lines| lines.push("<"));
                    rest = rest.get(1..).unwrap_or_default();
                    continue;
                };
                rest = behind;
                let (name, closing) = name_of(tag);
                if matches!(name.as_str(), "style" | "script" | "title" | "head") && !closing {
                    rest = skip_element(rest, &name);
                    continue;
                }
                shape(&mut out, quote.is_some(), &name, closing);
                quote = next_quote(quote, &name, closing, tag, &mut marked);
            }
            '&' => {
                let end = rest.char_indices().take(34).find(|(_, c)| *c == ';').map(|(at, _)| at + 1);
                let mut piece = String::new();
                match end.and_then(|end| rest.get(..end).map(|entity| (entity, end))) {
                    Some((entity, end)) if entity.len() > 2 && !entity.contains([' ', '<']) => {
                        add_html_token(&mut piece, entity.as_bytes(), false);
                        rest = rest.get(end..).unwrap_or_default();
                    }
                    _ => {
                        piece.push('&');
                        rest = rest.get(1..).unwrap_or_default();
                    }
                }
                if piece.chars().all(|c| c.is_whitespace() || is_invisible(c)) {
                    out.each(quote.is_some(), Lines::space);
                } else {
                    out.each(quote.is_some(), |lines| lines.push(&piece));
                }
            }
            c if c.is_whitespace() || is_invisible(c) => {
                out.each(quote.is_some(), Lines::space);
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
            }
            _ => {
                let end = rest
                    .find(|c: char| c == '<' || c == '&' || c.is_whitespace() || is_invisible(c))
                    .unwrap_or(rest.len());
                let word = rest.get(..end).unwrap_or_default();
                out.each(quote.is_some(), |lines| lines.push(word));
                rest = rest.get(end..).unwrap_or_default();
            }
        }
    }
    let some = |lines: Lines| (marked && !lines.text.is_empty()).then_some(lines.text);
    let (visible, quoted) = (some(out.visible), some(out.quoted));
    match quoted {
        // A mark with nothing in it, or nothing before it (a forward), splits nothing.
        Some(quoted) if visible.is_some() => Readable { all: out.all.text, visible, quoted: Some(quoted) },
        _ => Readable { all: out.all.text, visible: None, quoted: None },
    }
}

/// Soft hyphens and zero-width signs, which fill the previews of newsletters.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{feff}' | '\u{0}')
}

/// The largest index up to `max` that is between characters.
pub(crate) fn floor(text: &str, max: usize) -> usize {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// The tag at the beginning and what is behind it.
fn split_tag(text: &str) -> Option<(&str, &str)> {
    let second = text.chars().nth(1)?;
    if !(second.is_ascii_alphabetic() || matches!(second, '/' | '!' | '?')) {
        return None;
    }
    let mut quote = None;
    for (at, c) in text.char_indices().skip(1) {
        if at > TAG_BYTES_MAX {
            return None;
        }
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '>') => return Some((text.get(1..at)?, text.get(at + 1..)?)),
            _ => {}
        }
    }
    // A quote that never ends: up to the next sign then.
    let at = text.find('>')?;
    Some((text.get(1..at)?, text.get(at + 1..)?))
}

fn name_of(tag: &str) -> (String, bool) {
    let closing = tag.starts_with('/');
    let name = tag.trim_start_matches('/').split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default();
    (name.chars().take(16).collect::<String>().to_ascii_lowercase(), closing)
}

fn skip_element<'a>(text: &'a str, name: &str) -> &'a str {
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find("</")) {
        at += found + 2;
        let Some(rest) = text.get(at..) else { return "" };
        let ends = rest.get(name.len()..).is_some_and(|end| !end.starts_with(|c: char| c.is_ascii_alphanumeric()));
        if ends && rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            return rest.split_once('>').map_or("", |(_, behind)| behind);
        }
    }
    // Never closed: what follows is not shown by a browser either, save for a head.
    if name == "head" { text } else { "" }
}

fn shape(out: &mut Out, quoted: bool, name: &str, closing: bool) {
    match name {
        "br" => out.each(quoted, |lines| lines.line_end(1)),
        "p" | "blockquote" | "table" | "ul" | "ol" | "pre" | "h1" | "h2" | "h3" | "h4" | "hr" => {
            out.each(quoted, |lines| lines.breaks = 2);
        }
        "div" | "tr" | "section" | "article" | "header" | "footer" | "h5" | "h6" | "dt" | "dd" => {
            out.each(quoted, Lines::block);
        }
        "li" if !closing => out.each(quoted, |lines| {
            lines.block();
            lines.push("- ");
        }),
        "td" | "th" => out.each(quoted, Lines::space),
        _ => {}
    }
}

fn next_quote(quote: Option<Quote>, name: &str, closing: bool, tag: &str, marked: &mut bool) -> Option<Quote> {
    match quote {
        None if !closing => {
            let found = mark(name, tag)?;
            *marked = true;
            Some(found)
        }
        None => None,
        Some(Quote::Element { name: open, depth }) if open == name => {
            let depth = if closing { depth - 1 } else { depth + 1 };
            (depth > 0).then_some(Quote::Element { name: open, depth })
        }
        same => same,
    }
}

/// Whether a tag begins a quotation.
fn mark(name: &str, tag: &str) -> Option<Quote> {
    let element = || Some(Quote::Element { name: name.to_owned(), depth: 1 });
    let class = attribute(tag, "class").unwrap_or_default();
    let id = attribute(tag, "id").unwrap_or_default();
    let has = |word: &str| class.split_whitespace().any(|found| found.eq_ignore_ascii_case(word));
    // Outlook puts the mark before what it quotes, not around it.
    if ["divRplyFwdMsg", "appendonsend", "mail-editor-reference-message-container"].contains(&id.as_str())
        || id.ends_with("_divRplyFwdMsg")
        || has("OutlookMessageHeader")
    {
        return Some(Quote::Rest);
    }
    let container = [
        "gmail_quote",
        "gmail_quote_container",
        "gmail_extra",
        "yahoo_quoted",
        "protonmail_quote",
        "moz-cite-prefix",
        "zmail_extra",
        "tutanota_quote",
        "qqmail_quote",
    ];
    let known = container.into_iter().any(has)
        || id.starts_with("yahoo_quoted_")
        || class.split_whitespace().any(|word| word.starts_with("yahoo_quoted_"));
    let cited = name == "blockquote" && attribute(tag, "type").is_some_and(|kind| kind.eq_ignore_ascii_case("cite"));
    if known || cited { element() } else { None }
}

/// The value of an attribute.
fn attribute(tag: &str, wanted: &str) -> Option<String> {
    let mut rest = tag;
    while let Some(at) = rest.find('=') {
        let name = rest.get(..at)?.rsplit(|c: char| c.is_whitespace() || c == '"' || c == '\'').next()?.trim();
        let value = rest.get(at + 1..)?.trim_start();
        let (value, behind) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value.get(1..)?.split_once(quote).unwrap_or((value.get(1..)?, "")),
            _ => value.split_once(char::is_whitespace).unwrap_or((value, "")),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value.to_owned());
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_become_lines() {
        let html = "<html><head><title>x</title><style>a{}</style></head><body><p>Dear&nbsp;team,</p>\
                    <div>one<br>two</div><ul><li>a</li><li>b &amp; c</li></ul><!-- no --> 3 &lt; 4 &euro;</body>";
        assert_eq!(read(html).all, "Dear team,\n\none\ntwo\n\n- a\n- b & c\n\n3 < 4 \u{20ac}");
    }

    #[test]
    fn the_marks_of_mail_programs_split() {
        for (client, html) in [
            (
                "gmail",
                "<div>new</div><div class=\"gmail_quote gmail_quote_container\"><div class=\"gmail_attr\">On …</div><blockquote>old</blockquote></div>",
            ),
            ("outlook", "<div>new</div><hr><div id=\"divRplyFwdMsg\" dir=\"ltr\"><b>From:</b> us</div><div>old</div>"),
            ("outlook mobile", "<div>new</div><div id=\"appendonsend\"></div><hr>old"),
            ("yahoo", "<div>new</div><div id=\"yahoo_quoted_1234\" class=\"yahoo_quoted\">old</div>"),
            ("proton", "<div>new</div><div class=\"protonmail_quote\">old</div>"),
            (
                "thunderbird",
                "<p>new</p><div class=\"moz-cite-prefix\">Am …</div><blockquote type=\"cite\">old</blockquote>",
            ),
            ("apple", "<div>new</div><div><blockquote type=\"cite\"><div>On …</div>old</blockquote></div>"),
        ] {
            let read = read(html);
            assert_eq!(read.visible.as_deref(), Some("new"), "{client}");
            assert!(read.quoted.unwrap().contains("old"), "{client}");
        }
    }

    #[test]
    fn what_is_written_below_a_quotation_is_new() {
        let read = read("<blockquote type=cite>old<blockquote>older</blockquote></blockquote><p>new</p>");
        assert_eq!((read.visible.as_deref(), read.quoted.as_deref()), (Some("new"), Some("old\n\nolder")));
    }

    #[test]
    fn a_forward_is_all_visible() {
        let read = read("<div class=\"gmail_quote\">forwarded</div>");
        assert_eq!((read.all.as_str(), read.visible, read.quoted), ("forwarded", None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(html in "\\PC{0,300}|(<[a-z/!\"'= ]{0,8}>?|&[a-z#0-9]{0,5};?|[a-z ]){0,40}") {
            let _ = read(&html);
        }
    }
}
