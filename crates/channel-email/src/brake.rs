//! Holds back automatic mail, lest two programs write to each other for ever.
//!
//! What was sent is remembered on the bus, so that a restart does not begin to count anew.

use adapter::bus::ErrorKind;
use adapter::contract::{Millis, Timestamp};
use adapter::cursor::Cursors;
use adapter::failure::SendFailure;
use serde::{Deserialize, Serialize};

use crate::token::key_of;

const HOUR: Millis = Millis::from_secs(3600);
const DAY: Millis = Millis::from_secs(86_400);
/// Most mails to one address that are remembered.
const REMEMBERED_MAX: usize = 256;

/// How many are let through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) per_hour: u32,
    pub(crate) per_thread_day: u32,
}

/// A mail that nobody wrote.
pub(crate) struct Automatic<'a> {
    pub(crate) command: &'a str,
    pub(crate) to: &'a str,
    pub(crate) thread: &'a str,
    pub(crate) text: &'a str,
}

/// What one address got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Got {
    mails: Vec<One>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct One {
    at: Timestamp,
    command: String,
    thread: String,
    text: String,
}

/// Lets a mail through, and remembers it.
///
/// # Errors
/// Permanent, when it is one too many; retryable, when nothing can be remembered now.
pub(crate) async fn take(memory: &Cursors, limits: Limits, mail: &Automatic<'_>) -> Result<(), SendFailure> {
    let name = format!("auto-{}", key_of(&["auto", mail.to]));
    let unavailable = || SendFailure::retryable("brake", "what was sent automatically cannot be looked up");
    for _ in 0..5 {
        let held = memory.get::<Got>(&name).await.map_err(|_| unavailable())?;
        let Some(got) = weigh(held.value.unwrap_or_default(), limits, mail, adapter::now())? else { return Ok(()) };
        match memory.update(&name, &got, held.revision).await {
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.kind, ErrorKind::Fenced(_)) => {}
            Err(_) => return Err(unavailable()),
        }
    }
    Err(unavailable())
}

/// What is to be remembered when the mail goes; `None`: it was counted at an earlier try.
fn weigh(mut got: Got, limits: Limits, mail: &Automatic<'_>, now: Timestamp) -> Result<Option<Got>, SendFailure> {
    let (thread, text) = (key_of(&[mail.thread]), key_of(&[mail.text]));
    if got.mails.iter().any(|one| one.command == mail.command) {
        return Ok(None);
    }
    got.mails.retain(|one| now.since(one.at) < DAY);
    let count = |fits: &dyn Fn(&One) -> bool| got.mails.iter().filter(|one| fits(one)).count();
    let braked = |code: &'static str, message: &'static str| Err(SendFailure::permanent(code, message));
    if count(&|one| now.since(one.at) < HOUR) >= limits.per_hour as usize {
        return braked("auto_limit_address", "too many automatic mails to this address within an hour");
    }
    if count(&|one| one.thread == thread.as_str()) >= limits.per_thread_day as usize {
        return braked("auto_limit_thread", "too many automatic mails in this thread within a day");
    }
    if count(&|one| one.text == text.as_str() && one.thread == thread.as_str()) > 0 {
        return braked("auto_repeated", "the same automatic mail went to this address within a day");
    }
    got.mails.push(One { at: now, command: mail.command.to_owned(), thread: thread.into(), text: text.into() });
    let skip = got.mails.len().saturating_sub(REMEMBERED_MAX);
    got.mails = got.mails.split_off(skip);
    Ok(Some(got))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_hour: 3, per_thread_day: 2 };

    fn run(mails: &[(u64, &str, &str)]) -> Vec<Result<(), String>> {
        let mut got = Got::default();
        let mut outcomes = Vec::new();
        for (n, (at, thread, text)) in mails.iter().enumerate() {
            let command = format!("main/m{n}");
            let mail = Automatic { command: &command, to: "a@b", thread, text };
            outcomes.push(match weigh(got.clone(), LIMITS, &mail, Timestamp(*at)) {
                Ok(next) => {
                    got = next.unwrap();
                    Ok(())
                }
                Err(failure) => Err(failure.code.to_string()),
            });
        }
        outcomes
    }

    #[test]
    fn a_loop_of_two_programs_ends() {
        let refused = |code: &str| Err(code.to_owned());
        assert_eq!(
            run(&[(0, "t", "a"), (1, "t", "b"), (2, "t", "c"), (DAY.0 + 2, "t", "c")]),
            [Ok(()), Ok(()), refused("auto_limit_thread"), Ok(())]
        );
        assert_eq!(
            run(&[(0, "t", "a"), (1, "u", "a"), (2, "v", "a"), (3, "w", "a"), (HOUR.0 + 1, "w", "a")]),
            [Ok(()), Ok(()), Ok(()), refused("auto_limit_address"), Ok(())]
        );
        assert_eq!(run(&[(0, "t", "a"), (1, "t", "a")]), [Ok(()), refused("auto_repeated")]);
    }

    #[test]
    fn a_mail_that_is_tried_again_counts_once() {
        let mail = Automatic { command: "main/m1", to: "a@b", thread: "t", text: "x" };
        let got = weigh(Got::default(), LIMITS, &mail, Timestamp(1)).unwrap().unwrap();
        assert_eq!(weigh(got, LIMITS, &mail, Timestamp(2)), Ok(None));
    }
}
