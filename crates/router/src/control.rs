//! What a shard's owner is asked on the subject of its pings: to rest for a backup, or to hand the shard over.
//!
//! An empty question is a ping and is answered with the owner's name. The rest is JSON between programs of ours.

use std::time::Duration;

use bus::{Bus, ErrorKind as BusKind, Publish};
use contract::subject;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// How long an owner may take to come to rest: a large checkpoint takes its time.
pub(crate) const REST_WITHIN: Duration = Duration::from_secs(60);
/// Longest rest that is granted at once; who needs longer asks again.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(60);
/// How long an owner is looked for while a shard changes hands.
const OWNER_WITHIN: Duration = Duration::from_secs(10);

/// What is asked of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum Ask {
    /// To decide nothing for some time, with everything that follows from what was decided stored.
    Hold {
        /// For how long, milliseconds.
        ms: u64,
    },
    /// To go on.
    Release,
}

/// A shard at rest: as long as these numbers stay, nothing was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The owner's epoch.
    pub epoch: u64,
    /// The newest record of the journal.
    pub seq: u64,
    /// Everything in `IN` up to this sequence is decided.
    pub cursor: u64,
}

/// What the owner answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It rests.
    Held(Held),
    /// It goes on.
    Released,
    /// It does not, and why.
    Refused(String),
}

/// Something for a leader to do between two batches.
pub(crate) enum Control {
    /// A question from outside.
    Ask(Ask, oneshot::Sender<Answer>),
    /// The shard goes to another process.
    Yield,
}

/// Where a leader hears of it.
pub(crate) type Controls = mpsc::Receiver<Control>;

async fn ask(bus: &Bus, shard: u16, question: &Ask) -> Result<Answer, Error> {
    let payload = serde_json::to_vec(question).map_err(|error| Error::unreadable("question", error))?;
    let publish = Publish { subject: subject::owner(shard), payload: payload.into(), ..Publish::default() };
    let until = Instant::now() + OWNER_WITHIN;
    loop {
        match bus.request(publish.clone(), REST_WITHIN + Duration::from_secs(5)).await {
            Ok(answer) => {
                return serde_json::from_slice(&answer.payload).map_err(|error| Error::unreadable("answer", error));
            }
            Err(error) if error.kind == BusKind::NoResponders && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Has a shard's owner rest for so long, at most [`HOLD_MAX`]; asked again before that is over, it rests on.
///
/// # Errors
/// When nobody owns the shard, or its owner cannot come to rest.
pub async fn hold(bus: &Bus, shard: u16, time: Duration) -> Result<Held, Error> {
    let ms = u64::try_from(time.min(HOLD_MAX).as_millis()).unwrap_or(u64::MAX);
    match ask(bus, shard, &Ask::Hold { ms }).await? {
        Answer::Held(held) => Ok(held),
        Answer::Refused(why) => Err(Error::new(ErrorKind::Stopping, why)),
        Answer::Released => Err(Error::unreadable("answer", "it says that it goes on")),
    }
}

/// Lets a shard's owner go on.
///
/// # Errors
/// When nobody owns the shard; the rest ends by itself.
pub async fn release(bus: &Bus, shard: u16) -> Result<(), Error> {
    ask(bus, shard, &Ask::Release).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_json_that_stays() {
        let text = |value: &Ask| serde_json::to_string(value).unwrap();
        assert_eq!(text(&Ask::Hold { ms: 5 }), r#"{"ask":"hold","ms":5}"#);
        assert_eq!(text(&Ask::Release), r#"{"ask":"release"}"#);
        let held = Answer::Held(Held { epoch: 1, seq: 2, cursor: 3 });
        assert_eq!(serde_json::to_string(&held).unwrap(), r#"{"held":{"epoch":1,"seq":2,"cursor":3}}"#);
    }
}
