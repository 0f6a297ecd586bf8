//! Shows customers that an agent is writing, where their provider has a sign for it. A sign that is lost or late is no
//! harm: nothing is tried again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use adapter::contract::envelope::{Account, Thread};
use adapter::contract::outbound::{Live, OutCommand};
use adapter::contract::{ConversationId, Millis, Timestamp};
use adapter::failure::SendFailure;
use adapter::limit::Keyed;
use adapter::live::Signal;
use adapter::{Context, OpenError};
use tokio::time::Instant;

use crate::api::CHATS_MAX;

/// What is older says nothing of now.
const LATE: Millis = Millis::from_secs(10);
/// How long showing it may take.
const SHOWING: Duration = Duration::from_secs(3);

/// The threads of conversations that were answered, for signals that name none.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    threads: Mutex<HashMap<ConversationId, Thread>>,
}

impl Typing {
    /// Remembers by which thread a conversation is answered.
    pub(crate) fn learn(&self, command: &OutCommand) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever is forgotten is learned again with the next answer.
        if threads.len() >= CHATS_MAX {
            threads.clear();
        }
        threads.insert(command.conversation, command.thread.clone());
    }

    /// The threads of an account on which an agent is writing.
    fn of(&self, live: &Live, account: &Account, now: Timestamp) -> Vec<Thread> {
        if live.customer || live.what != "typing" || now.since(live.at) > LATE {
            return Vec::new();
        }
        if live.threads.is_empty() {
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            return threads.get(&live.conversation).cloned().into_iter().collect();
        }
        let ours = live.threads.iter().filter(|one| one.account.kind == account.kind && one.account.id == account.id);
        ours.map(|one| one.thread.clone()).collect()
    }

    /// Shows it until the process drains, in each thread no oftener than `every`: so long the provider's sign lasts.
    ///
    /// # Errors
    /// When signals cannot be listened to any more.
    pub(crate) async fn follow<F>(
        &self,
        context: &Context,
        every: Duration,
        show: impl Fn(Thread) -> F + Send,
    ) -> Result<(), OpenError>
    where
        F: Future<Output = Result<(), SendFailure>> + Send,
    {
        let mut signals = context.live.subscribe().await.map_err(|error| OpenError::new("live signals", error))?;
        let shown = Keyed::new(1.0 / every.as_secs_f64(), 1.0, CHATS_MAX);
        loop {
            let signal = tokio::select! {
                () = context.shutdown.draining() => return Ok(()),
                signal = signals.next() => signal,
            };
            let Some(signal) = signal else {
                return Err(OpenError("the subscription to live signals ended".into()));
            };
            let Signal::Live(live) = signal else { continue };
            for thread in self.of(&live, &context.account, adapter::now()) {
                if shown.take(&thread.key, Instant::now()).is_err() {
                    continue;
                }
                match tokio::time::timeout(SHOWING, show(thread)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => tracing::debug!(code = %failure.code, "it is not shown that an agent writes"),
                    Err(_) => tracing::debug!("it is not shown in time that an agent writes"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kit;

    fn live(more: serde_json::Value) -> Live {
        let mut live = json!({
            "conversation": "c1", "author": { "agent": "anna" }, "what": "typing", "at": kit::NOW.0,
        });
        live.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(live).unwrap()
    }

    #[test]
    fn agents_who_write_on_our_threads_are_shown_while_they_do() {
        let (typing, account) = (Typing::default(), kit::place("telegram").account);
        let shown = |live: &Live| -> Vec<String> {
            typing.of(live, &account, kit::NOW).into_iter().map(|thread| thread.key.to_string()).collect()
        };
        let thread = |id: &str| json!({ "account": { "kind": "social", "id": id }, "thread": { "key": "17" } });
        let ours = json!({ "threads": [thread("telegram"), thread("other")] });
        assert_eq!(shown(&live(ours)), ["17"]);
        // One that names no threads means the conversation's, once it was answered.
        assert_eq!(shown(&live(json!({}))), Vec::<String>::new());
        typing.learn(&kit::command("telegram", json!({ "key": "18" }), json!([])));
        assert_eq!(shown(&live(json!({}))), ["18"]);
        let late = kit::NOW.0 - 10_001;
        for not in [json!({ "customer": true }), json!({ "what": "stopped" }), json!({ "at": late })] {
            assert_eq!(shown(&live(not.clone())), Vec::<String>::new(), "{not}");
        }
    }
}
