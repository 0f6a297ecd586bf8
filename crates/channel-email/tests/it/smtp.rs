//! A mail server that takes mails, or answers as it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A mail as it was handed over.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) text: String,
}

/// What to do instead of taking a mail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Answer RCPT so.
    Rcpt(&'static str),
    /// Take it, and hang up without a word.
    Drop,
    /// Take it, and say this.
    Say(&'static str),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) taken: Vec<Taken>,
    pub(crate) acts: VecDeque<Act>,
}

#[derive(Clone)]
pub(crate) struct MailServer {
    pub(crate) port: u16,
    pub(crate) state: Arc<Mutex<State>>,
}

impl MailServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let server = Self { port, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        server
    }

    pub(crate) fn act(&self, act: Act) {
        self.state.lock().unwrap().acts.push_back(act);
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.state.lock().unwrap().taken.clone()
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let _ = write.write_all(b"220 mx ready\r\n").await;
    let (mut from, mut to) = (String::new(), String::new());
    while let Ok(Some(line)) = lines.next_line().await {
        let upper = line.to_uppercase();
        let answer = if upper.starts_with("EHLO") {
            "250-mx\r\n250 8BITMIME".to_owned()
        } else if upper.starts_with("MAIL FROM:") {
            line[10..].split(' ').next().unwrap().trim_matches(['<', '>']).clone_into(&mut from);
            "250 ok".to_owned()
        } else if upper.starts_with("RCPT TO:") {
            line[8..].trim_matches(['<', '>', ' ']).clone_into(&mut to);
            let mut state = state.lock().unwrap();
            match state.acts.front() {
                Some(Act::Rcpt(answer)) => {
                    let answer = (*answer).to_owned();
                    state.acts.pop_front();
                    answer
                }
                _ => "250 ok".to_owned(),
            }
        } else if upper == "DATA" {
            let _ = write.write_all(b"354 go\r\n").await;
            let mut text = String::new();
            while let Ok(Some(line)) = lines.next_line().await {
                if line == "." {
                    break;
                }
                text.push_str(line.strip_prefix('.').unwrap_or(&line));
                text.push('\n');
            }
            let act = {
                let mut state = state.lock().unwrap();
                state.taken.push(Taken { from: from.clone(), to: to.clone(), text });
                state.acts.pop_front()
            };
            match act {
                Some(Act::Drop) => return,
                Some(Act::Say(answer)) => answer.to_owned(),
                _ => "250 2.0.0 Ok: queued as 4F3D2A".to_owned(),
            }
        } else if upper == "QUIT" {
            let _ = write.write_all(b"221 bye\r\n").await;
            return;
        } else {
            "250 ok".to_owned()
        };
        let _ = write.write_all(format!("{answer}\r\n").as_bytes()).await;
    }
}
