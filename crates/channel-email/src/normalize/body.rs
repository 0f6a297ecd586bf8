//! Text and files of a mail. Pure.

use adapter::contract::envelope::{Media, MediaStatus, Part, Text};
use mail_parser::{Message, MessagePart, MimeHeaders, PartType};

use super::{Facts, Place, one_line};
use crate::{html, quote};

/// Longest text that an envelope carries; the whole of a longer one becomes a file.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest text that is told apart into new and quoted.
const SPLIT_BYTES_MAX: usize = 48 * 1024;
const FILE_NAME_CHARS_MAX: usize = 200;

/// Bytes that are to be stored, and which part of the content stands for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Index into the content.
    pub(crate) part: usize,
    pub(crate) bytes: Vec<u8>,
}

/// The parts of the message, and the bytes that belong to them.
pub(super) fn read(place: &Place, facts: &mut Facts<'_>) -> (Vec<Part>, Vec<File>) {
    let Facts { mail, warnings, raw, .. } = facts;
    let Some(mail) = mail else {
        warnings.push("the mail has no readable structure".to_owned());
        let text = clean(&String::from_utf8_lossy(raw.get(..TEXT_BYTES_MAX).unwrap_or(raw)));
        return (vec![Part::text(text.trim().to_owned())], Vec::new());
    };
    let mut content = Content { parts: Vec::new(), files: Vec::new(), bytes: 0, left_out: 0, place };
    if mail.parts.len() > place.parts_max {
        warnings.push(format!("{} parts; only the first {} were looked at", mail.parts.len(), place.parts_max));
    }
    if mail.parts.iter().any(|part| part.is_encoding_problem) {
        warnings.push("a part's encoding is damaged".to_owned());
    }
    let (text, html) = (texts(mail, place.parts_max), htmls(mail, place.parts_max));
    content.text(text.as_deref(), html.as_deref(), warnings);
    for index in mail.attachments.iter().filter(|index| (**index as usize) < place.parts_max) {
        if let Some(part) = mail.part(*index) {
            content.attachment(part);
        }
    }
    if content.left_out > 0 {
        warnings.push(format!("{} attachments are over a limit; the raw mail has them", content.left_out));
    }
    (content.parts, content.files)
}

/// The plain text, where the sender wrote one.
fn texts(mail: &Message<'_>, parts_max: usize) -> Option<String> {
    let parts = mail.text_body.iter().filter(|index| (**index as usize) < parts_max);
    let texts: Vec<String> = parts
        .filter_map(|index| match &mail.part(*index)?.body {
            PartType::Text(text) => Some(clean(text)),
            _ => None,
        })
        .filter(|text| !text.trim().is_empty())
        .collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// The HTML, where there is any.
fn htmls(mail: &Message<'_>, parts_max: usize) -> Option<String> {
    let parts = mail.html_body.iter().filter(|index| (**index as usize) < parts_max);
    let texts: Vec<String> = parts
        .filter_map(|index| match &mail.part(*index)?.body {
            PartType::Html(text) => Some(text.replace('\0', "")),
            _ => None,
        })
        .filter(|text| !text.trim().is_empty())
        .collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// Text with plain line ends and without control characters.
fn clean(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").chars().filter(|c| !c.is_control() || "\n\t".contains(*c)).collect()
}

struct Content<'p> {
    place: &'p Place,
    parts: Vec<Part>,
    files: Vec<File>,
    /// Bytes of files so far.
    bytes: usize,
    left_out: usize,
}

impl Content<'_> {
    fn text(&mut self, text: Option<&str>, html: Option<&str>, warnings: &mut Vec<String>) {
        let readable = html.map(html::read);
        let whole = match (text, &readable) {
            (Some(text), _) => text.trim_end().to_owned(),
            (None, Some(readable)) => readable.all.clone(),
            (None, None) => String::new(),
        };
        let mut part = Text { body: whole.clone(), ..Text::default() };
        if whole.len() <= SPLIT_BYTES_MAX {
            let split = quote::split(&whole);
            let marked = readable.filter(|readable| readable.visible.is_some());
            // What a program marked is surer than what a habit looks like.
            (part.visible, part.quoted) = match marked {
                Some(marked) if text.is_none() || split.quoted.is_none() => (marked.visible, marked.quoted),
                _ => (split.visible, split.quoted),
            };
            for long in [&mut part.visible, &mut part.quoted].into_iter().flatten() {
                long.truncate(html::floor(long, SPLIT_BYTES_MAX));
            }
        }
        let cut = whole.len() > TEXT_BYTES_MAX;
        if cut {
            part.body.truncate(html::floor(&whole, TEXT_BYTES_MAX));
            warnings.push(format!("the text has {} bytes; all of it is in a file", whole.len()));
        }
        self.parts.push(Part::Text(part));
        if cut {
            self.file("text/plain", Some("message.txt".to_owned()), None, whole.into_bytes());
        }
        if let Some(html) = html {
            self.file("text/html", Some("message.html".to_owned()), None, html.as_bytes().to_vec());
        }
    }

    fn attachment(&mut self, part: &MessagePart<'_>) {
        let bytes = match &part.body {
            PartType::Text(text) | PartType::Html(text) => text.as_bytes(),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => bytes,
            PartType::Message(message) => message.raw_message(),
            PartType::Multipart(_) => return,
        };
        let mime = match (&part.body, part.content_type()) {
            (PartType::Message(_), None) => "message/rfc822".to_owned(),
            (_, Some(kind)) => format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")),
            (_, None) => "application/octet-stream".to_owned(),
        };
        let mime: String = mime.chars().filter(|c| c.is_ascii_graphic()).take(100).collect::<String>();
        let name = part.attachment_name().map(file_name).filter(|name| !name.is_empty());
        let cid = part.content_id().map(|id| id.trim_matches(['<', '>']).chars().take(200).collect::<String>());
        self.file(&mime.to_ascii_lowercase(), name, cid.filter(|cid| !cid.is_empty()), bytes.to_vec());
    }

    fn file(&mut self, mime: &str, name: Option<String>, cid: Option<String>, bytes: Vec<u8>) {
        if self.parts.len() > self.place.attachments_max {
            self.left_out += 1;
            return;
        }
        let size = bytes.len();
        let fits = self.bytes + size <= self.place.attachments_bytes_max;
        let mut media = adapter::media::unavailable(Some(mime), name.as_deref(), size as u64, "too_large");
        media.inline_cid = cid.map(Into::into);
        if fits {
            media = Media { status: Some(MediaStatus::Pending), reason: None, ..media };
            self.bytes += size;
            self.files.push(File { part: self.parts.len(), bytes });
        } else {
            self.left_out += 1;
        }
        self.parts.push(Part::Media(media));
    }
}

/// A name without folders, so that nothing is written elsewhere by it.
fn file_name(name: &str) -> String {
    let line = one_line(name);
    let last = line.rsplit(['/', '\\']).next().unwrap_or_default().trim_start_matches('.');
    last.chars().filter(|c| !matches!(c, '<' | '>' | '"' | '|' | '*' | '?' | ':')).take(FILE_NAME_CHARS_MAX).collect()
}
