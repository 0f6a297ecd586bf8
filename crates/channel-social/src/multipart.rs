//! Forms with a file in them (RFC 7578). Pure.

use adapter::bytes::{BufMut, Bytes, BytesMut};

/// A file of a form.
#[derive(Debug, Clone)]
pub(crate) struct File<'a> {
    /// The field.
    pub(crate) field: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its MIME type.
    pub(crate) mime: &'a str,
    /// Its bytes.
    pub(crate) bytes: Bytes,
}

/// The form, and its content type. Nobody who writes a field may guess `boundary`.
pub(crate) fn form<'a>(
    boundary: &str,
    fields: impl IntoIterator<Item = (&'a str, String)>,
    file: &File<'_>,
) -> (String, Bytes) {
    let mut body = BytesMut::with_capacity(file.bytes.len() + 2048);
    for (name, value) in fields {
        let head = format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{}\"\r\n\r\n", quoted(name));
        body.put_slice(head.as_bytes());
        body.put_slice(value.as_bytes());
        body.put_slice(b"\r\n");
    }
    let head = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"{}\"; filename=\"{}\"\r\ncontent-type: {}\r\n\r\n",
        quoted(file.field),
        quoted(file.name),
        file.mime.chars().filter(|char| char.is_ascii_graphic()).collect::<String>(),
    );
    body.put_slice(head.as_bytes());
    body.put_slice(&file.bytes);
    body.put_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body.freeze())
}

/// As browsers write names.
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_line() {
        let file = File {
            field: "photo",
            name: "a\"\r\nx: y.png",
            mime: "image/png\r\nx: y",
            bytes: Bytes::from_static(b"PNG"),
        };
        let (mime, body) = form("b", [("chat_id", "17".to_owned())], &file);
        assert_eq!(mime, "multipart/form-data; boundary=b");
        assert_eq!(
            body,
            "--b\r\ncontent-disposition: form-data; name=\"chat_id\"\r\n\r\n17\r\n--b\r\ncontent-disposition: form-data; \
             name=\"photo\"; filename=\"a%22%0D%0Ax: y.png\"\r\ncontent-type: image/pngx:y\r\n\r\nPNG\r\n--b--\r\n"
        );
    }
}
