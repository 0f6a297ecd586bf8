//! One HTTP request at a time, as small as the tests need it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head, lines as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Sends a request to `host:port` and reads the answer; an error for a person when there is none.
///
/// # Errors
/// When nobody listens, the answer does not come in time or is not HTTP.
pub async fn request(
    address: &str,
    method: &str,
    path: &str,
    body: Option<&str>,
    limit: Duration,
) -> Result<Response, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        if let Some(body) = body {
            text += &format!("Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        text += body.unwrap_or_default();
        stream.write_all(text.as_bytes()).await.map_err(|error| error.to_string())?;
        read(&mut stream).await
    };
    let answer = tokio::time::timeout(limit, exchange).await;
    answer.map_err(|_| format!("{method} http://{address}{path}: no answer within {limit:?}"))?
}

/// Posts JSON with more lines in its head, each with its end.
///
/// # Errors
/// As [`request`].
pub async fn post(address: &str, path: &str, head: &str, body: &str, limit: Duration) -> Result<Response, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{head}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.map_err(|error| error.to_string())?;
        read(&mut stream).await
    };
    let answer = tokio::time::timeout(limit, exchange).await;
    answer.map_err(|_| format!("POST http://{address}{path}: no answer within {limit:?}"))?
}

async fn read(stream: &mut TcpStream) -> Result<Response, String> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.map_err(|error| error.to_string())? == 0 {
            return Err("the answer ended in its head".to_owned());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut body = bytes.split_off(head_end + 4);
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        stream.read_to_end(&mut body).await.map_err(|error| error.to_string())?;
        body = unchunk(&body).ok_or("the answer's chunks are cut")?;
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().map_err(|_| "the answer's length is no number")?;
        while body.len() < length {
            if stream.read_buf(&mut body).await.map_err(|error| error.to_string())? == 0 {
                return Err("the answer ended early".to_owned());
            }
        }
    } else {
        stream.read_to_end(&mut body).await.map_err(|error| error.to_string())?;
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("not an HTTP answer")?;
    Ok(Response { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let at = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).ok()?.split(';').next()?.trim(), 16).ok()?;
        let rest = bytes.get(at + 2..)?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(rest.get(..size)?);
        bytes = rest.get(size + 2..)?;
    }
}

/// A page.
///
/// # Errors
/// As [`request`].
pub async fn get(address: &str, path: &str) -> Result<Response, String> {
    request(address, "GET", path, None, Duration::from_secs(5)).await
}
