//! A mailbox: as much IMAP as a reader speaks, and some of the ways in which servers fail.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server has, and how it behaves.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: u32,
    pub(crate) mails: Vec<(u32, Vec<u8>)>,
    /// Every line that a client sent.
    pub(crate) commands: Vec<String>,
    /// The next so many logins fail.
    pub(crate) refuse_logins: u32,
    /// Says nothing of UIDNEXT.
    pub(crate) hides_uid_next: bool,
    /// Does not offer IDLE.
    pub(crate) no_idle: bool,
}

#[derive(Clone)]
pub(crate) struct Mailbox {
    pub(crate) port: u16,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Mailbox {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { uid_validity: 7, uid_next: 1, ..State::default() }));
        let mailbox = Self { port, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        mailbox
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    pub(crate) fn deliver(&self, mail: impl AsRef<[u8]>) -> u32 {
        self.with(|state| {
            let uid = state.uid_next;
            state.uid_next += 1;
            state.mails.push((uid, mail.as_ref().to_vec()));
            uid
        })
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let _ = write.write_all(b"* OK ready\r\n").await;
    while let Ok(Some(line)) = lines.next_line().await {
        state.lock().unwrap().commands.push(line.clone());
        let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
        let upper = command.to_uppercase();
        if upper == "IDLE" {
            let before = state.lock().unwrap().mails.len();
            let _ = write.write_all(b"+ idling\r\n").await;
            loop {
                tokio::select! {
                    done = lines.next_line() => {
                        let Ok(Some(_)) = done else { return };
                        break;
                    }
                    () = tokio::time::sleep(Duration::from_millis(20)) => {
                        let now = state.lock().unwrap().mails.len();
                        if now > before {
                            let _ = write.write_all(format!("* {now} EXISTS\r\n").as_bytes()).await;
                            let Ok(Some(_)) = lines.next_line().await else { return };
                            break;
                        }
                    }
                }
            }
            let _ = write.write_all(format!("{tag} OK done\r\n").as_bytes()).await;
            continue;
        }
        let answer = answer(&mut state.lock().unwrap(), tag, command, &upper);
        if write.write_all(&answer).await.is_err() || upper == "LOGOUT" {
            return;
        }
    }
}

fn answer(state: &mut State, tag: &str, command: &str, upper: &str) -> Vec<u8> {
    let ok = |text: String| format!("{text}{tag} OK done\r\n").into_bytes();
    if upper.starts_with("LOGIN") {
        if state.refuse_logins > 0 {
            state.refuse_logins -= 1;
            return format!("{tag} NO [AUTHENTICATIONFAILED] not now\r\n").into_bytes();
        }
        return ok(String::new());
    }
    if upper == "CAPABILITY" {
        let idle = if state.no_idle { "" } else { " IDLE" };
        return ok(format!("* CAPABILITY IMAP4rev1{idle}\r\n"));
    }
    if upper.starts_with("EXAMINE") {
        let next =
            if state.hides_uid_next { String::new() } else { format!("* OK [UIDNEXT {}] x\r\n", state.uid_next) };
        let (exists, validity) = (state.mails.len(), state.uid_validity);
        return ok(format!("* {exists} EXISTS\r\n* OK [UIDVALIDITY {validity}] x\r\n{next}"));
    }
    if let Some(query) = upper.strip_prefix("UID SEARCH UID ") {
        let set = query.split(' ').next().unwrap();
        let found: Vec<String> = select(state, set).map(|(_, uid, _)| uid.to_string()).collect();
        return ok(format!("* SEARCH {}\r\n", found.join(" ")));
    }
    if let Some(query) = command.strip_prefix("UID FETCH ") {
        let (set, items) = query.split_once(' ').unwrap();
        let mut out = Vec::new();
        for (seq, uid, raw) in select(state, set) {
            if items.contains("BODY.PEEK[]") {
                let cut =
                    items.split("<0.").nth(1).map(|rest| rest.split('>').next().unwrap().parse::<usize>().unwrap());
                let raw = &raw[..raw.len().min(cut.unwrap_or(usize::MAX))];
                let origin = if cut.is_some() { "<0>" } else { "" };
                out.extend(format!("* {seq} FETCH (UID {uid} BODY[]{origin} {{{}}}\r\n", raw.len()).into_bytes());
                out.extend_from_slice(raw);
                out.extend_from_slice(b")\r\n");
            } else {
                let size = raw.len();
                let date = "\"03-Mar-2025 10:00:00 +0000\"";
                let line = format!("* {seq} FETCH (UID {uid} RFC822.SIZE {size} INTERNALDATE {date})\r\n");
                out.extend(line.into_bytes());
            }
        }
        out.extend(format!("{tag} OK done\r\n").into_bytes());
        return out;
    }
    ok(String::new())
}

/// Sequence number, UID and bytes of a set.
fn select<'a>(state: &'a State, set: &str) -> impl Iterator<Item = (usize, u32, &'a [u8])> {
    let last = state.mails.iter().map(|(uid, _)| *uid).max().unwrap_or(0);
    let number = |text: &str| if text == "*" { last } else { text.parse().unwrap() };
    let ranges: Vec<(u32, u32)> = set
        .split(',')
        .map(|range| {
            range.split_once(':').map_or_else(|| (number(range), number(range)), |(a, b)| (number(a), number(b)))
        })
        .collect();
    let mails = state.mails.iter().enumerate().map(|(at, (uid, raw))| (at + 1, *uid, raw.as_slice()));
    mails.filter(move |(_, uid, _)| ranges.iter().any(|(a, b)| (a..=b).contains(&uid)))
}
