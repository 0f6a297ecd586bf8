//! The header of a mail as it was written, before anything is decoded. Pure.
//!
//! What decides about trust and threads is read from here and not from a decoded form, so that no
//! encoded word can pretend to be something else.

/// Most header fields that are looked at.
const FIELDS_MAX: usize = 2000;
/// Longest header block that is looked at.
const BYTES_MAX: usize = 512 * 1024;
/// Longest value that is kept.
const VALUE_BYTES_MAX: usize = 32 * 1024;
/// Most ids of one field.
const IDS_MAX: usize = 200;
/// Longest id that is believed to be one.
const ID_BYTES_MAX: usize = 512;

/// The fields, in the order in which they stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers {
    fields: Vec<(String, String)>,
    /// Where the body begins.
    body_at: usize,
}

impl Headers {
    /// Reads the block at the beginning of `raw`.
    pub(crate) fn parse(raw: &[u8]) -> Self {
        let mut headers = Self { fields: Vec::new(), body_at: raw.len() };
        let mut at = 0;
        while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
            let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |found| found + 1);
            let line = rest.get(..length).unwrap_or_default();
            at += length;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                headers.body_at = at;
                break;
            }
            if at <= BYTES_MAX {
                headers.take(line);
            }
        }
        headers
    }

    fn take(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) {
            if let Some((_, value)) = self.fields.last_mut()
                && value.len() + text.len() <= VALUE_BYTES_MAX
            {
                value.push(' ');
                value.push_str(text.trim());
            }
            return;
        }
        // A line that is no field (an mbox's "From ", garbage) is passed over.
        let Some((name, value)) = text.split_once(':') else { return };
        let name = name.trim_end();
        let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        if legal && self.fields.len() < FIELDS_MAX {
            let value: String = value.trim().chars().take(VALUE_BYTES_MAX / 4).collect();
            self.fields.push((name.to_ascii_lowercase(), value));
        }
    }

    /// Where the body begins in the bytes that were read.
    pub(crate) const fn body_at(&self) -> usize {
        self.body_at
    }

    /// Every value of a field, topmost first; `name` in lower case.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The topmost value of a field.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether a field is there, whatever it says.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The ids of a field, in order.
    pub(crate) fn ids(&self, name: &str) -> Vec<String> {
        self.all(name).flat_map(ids).take(IDS_MAX).collect()
    }
}

/// The ids in a text, without brackets; what is too long or no id is left out.
pub(crate) fn ids(text: &str) -> Vec<String> {
    let sound = |id: &str| {
        !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    let mut found = Vec::new();
    if text.contains('<') {
        for piece in text.split('<').skip(1) {
            if let Some((id, _)) = piece.split_once('>') {
                // Folded within the brackets, as some clients do.
                let id: String = id.chars().filter(|c| !c.is_whitespace()).collect();
                if sound(&id) {
                    found.push(id);
                }
            }
        }
    } else {
        // Without brackets, as some programs write them.
        found.extend(text.split_whitespace().filter(|word| word.contains('@') && sound(word)).map(str::to_owned));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unfolded_and_keep_their_order() {
        let raw = b"From x\r\nA: 1\r\nb : two\r\n\tthree\r\nA: 4\r\n\r\nbody";
        let headers = Headers::parse(raw);
        assert_eq!(headers.all("a").collect::<Vec<_>>(), ["1", "4"]);
        assert_eq!(headers.first("b"), Some("two three"));
        assert_eq!(&raw[headers.body_at()..], b"body");
        assert_eq!(Headers::parse(b"A: 1").body_at(), 4);
    }

    #[test]
    fn ids_are_found_however_they_are_written() {
        assert_eq!(ids("<a@x> (comment) <b@y>\t<c@\r\n z>"), ["a@x", "b@y", "c@z"]);
        assert_eq!(ids("a@x b@y nonsense"), ["a@x", "b@y"]);
        assert_eq!(ids("<>"), Vec::<String>::new());
        assert_eq!(ids(&format!("<{}@x>", "a".repeat(600))), Vec::<String>::new());
    }
}
