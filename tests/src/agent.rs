//! An agent's tool: follows the feed, and by itself takes offers and answers where it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::permissions;
use contract::command::{AgentCommand, AgentQuery, Done, Refusal, RefusalKind};
use contract::envelope::Part;
use contract::event::Presence;
use contract::feed::Snapshot;
use contract::{AgentId, ConversationId, Event, EventRecord, MessageId, OfferId};
use desk::tool::{Commander, News, Tool};
use tokio::sync::{mpsc, watch};

use crate::streams::tenant;
use crate::{Daemon, PATIENCE};

/// What a tool does by itself with a customer's message: the text of the answer, or nothing.
pub type Answer = dyn Fn(&str) -> Option<String> + Send + Sync;

/// How a tool works.
#[derive(Clone, Default)]
pub struct Habits {
    /// Takes every offer.
    pub accepts: bool,
    /// Answers messages of the conversations it holds.
    pub answers: Option<Arc<Answer>>,
    /// Gives a sign of life so often, besides the usual one: where the policy's silence is short.
    pub sign_of_life: Option<Duration>,
}

/// An answer that the router acknowledged.
#[derive(Debug, Clone)]
pub struct Said {
    /// In which conversation.
    pub conversation: ConversationId,
    /// The message that it answers.
    pub to: MessageId,
    /// The id it was given.
    pub message: Option<MessageId>,
    /// What.
    pub text: String,
}

#[derive(Default)]
struct State {
    facts: Vec<EventRecord>,
    snapshot: Option<Snapshot>,
    snapshots: u32,
    said: Vec<Said>,
    refusals: Vec<String>,
    answered: BTreeSet<(ConversationId, MessageId)>,
    heard: BTreeMap<(ConversationId, MessageId), String>,
}

/// An agent's tool. Its connection closes when it is dropped.
pub struct AgentTool {
    name: String,
    commander: Commander,
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<u64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AgentTool {
    /// Connects, follows the feed, and does nothing by itself.
    ///
    /// # Panics
    /// When the feed cannot be had.
    pub async fn open(daemon: &Daemon, name: &str) -> Self {
        Self::with(daemon, name, Habits::default()).await
    }

    /// Connects, follows the feed, takes every offer and answers with what `answer` says; and is
    /// available.
    ///
    /// # Panics
    /// When the feed cannot be had, or presence is refused.
    pub async fn automatic(
        daemon: &Daemon,
        name: &str,
        answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let tool =
            Self::with(daemon, name, Habits { accepts: true, answers: Some(Arc::new(answer)), ..Habits::default() })
                .await;
        tool.available().await;
        tool
    }

    /// Connects and follows the feed with these habits.
    ///
    /// # Panics
    /// When the feed cannot be had.
    pub async fn with(daemon: &Daemon, name: &str, habits: Habits) -> Self {
        let agent = AgentId::new(name).expect("a name");
        let bus = daemon.connect(&permissions::agent_user(crate::daemon::TENANT, name)).await;
        let tenant = tenant(crate::daemon::TENANT);
        let tool = Tool::open(bus.clone(), tenant.clone(), agent.clone()).await;
        let tool = tool.unwrap_or_else(|refusal| panic!("the feed of {name}: {refusal}"));
        let commander = tool.commander();
        let state = Arc::new(Mutex::new(State::default()));
        let (changes, changed) = watch::channel(0);
        let changes = Arc::new(changes);
        let (work, jobs) = mpsc::channel(100_000);
        let sign_of_life = habits.sign_of_life;
        let worker = Worker {
            commander: commander.clone(),
            habits,
            agent: agent.clone(),
            state: Arc::clone(&state),
            changes: Arc::clone(&changes),
        };
        let follow = {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                let mut tool = tool;
                loop {
                    match tool.next().await {
                        Ok(news) => {
                            {
                                let mut state = lock(&state);
                                match &news {
                                    News::Snapshot(snapshot) => {
                                        state.snapshot = Some((**snapshot).clone());
                                        state.snapshots += 1;
                                    }
                                    News::Fact(fact) => state.facts.push((**fact).clone()),
                                }
                            }
                            changes.send_modify(|count| *count += 1);
                            let _ = work.send(news).await;
                        }
                        // Nobody answered for half a minute: a daemon that is down so long comes back.
                        Err(_) => match Tool::open(bus.clone(), tenant.clone(), agent.clone()).await {
                            Ok(again) => tool = again,
                            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                        },
                    }
                }
            })
        };
        let mut tasks = vec![follow, tokio::spawn(worker.run(jobs))];
        if let Some(every) = sign_of_life {
            let commander = commander.clone();
            tasks.push(tokio::spawn(async move {
                let mut tick = tokio::time::interval(every);
                loop {
                    tick.tick().await;
                    let _ = commander.query::<Done>(&AgentQuery::FeedAck { seq: 0 }).await;
                }
            }));
        }
        Self { name: name.to_owned(), commander, state, changed, tasks }
    }

    /// Sends commands as this agent.
    pub fn commander(&self) -> &Commander {
        &self.commander
    }

    /// Sends a command.
    ///
    /// # Errors
    /// With the router's refusal.
    pub async fn command(&self, command: AgentCommand) -> Result<Done, Refusal> {
        self.commander.command(&command).await
    }

    /// Sends a command that must be done.
    ///
    /// # Panics
    /// With the router's refusal.
    #[track_caller]
    pub fn does(&self, command: AgentCommand) -> impl Future<Output = Done> {
        let at = std::panic::Location::caller();
        async move {
            let done = self.command(command.clone()).await;
            done.unwrap_or_else(|refusal| panic!("{at}: {} of {}: {refusal}", command.verb(), self.name))
        }
    }

    /// Takes offers from now on.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn available(&self) {
        self.presence(Presence::Available).await;
    }

    /// Sets the presence.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn presence(&self, presence: Presence) {
        self.does(AgentCommand::PresenceSet { presence, reason: None }).await;
    }

    /// Takes an offer.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn accept(&self, offer: OfferId) {
        self.does(AgentCommand::OfferAccept { offer }).await;
    }

    /// Answers a customer.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn say(&self, conversation: ConversationId, text: &str) -> Done {
        self.does(AgentCommand::MessageSend {
            conversation,
            content: desk::tool::text(text),
            reply_to: None,
            via: None,
            purpose: None,
        })
        .await
    }

    /// Ends a conversation.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn close(&self, conversation: ConversationId, disposition: &str) {
        let disposition = Some(disposition.into());
        self.does(AgentCommand::ConversationClose { conversation, disposition }).await;
    }

    /// Waits for a fact on the feed; facts of before count.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn sees<T>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        self.sees_record(what, |record| pick(&record.event)).await
    }

    /// As [`sees`](Self::sees), with where and when the fact was decided.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn sees_record<T>(&self, what: &str, mut pick: impl FnMut(&EventRecord) -> Option<T>) -> T {
        self.until(what, |state| state.facts.iter().find_map(&mut pick)).await
    }

    async fn until<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.changed.clone();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = look(&lock(&self.state)) {
                    return found;
                }
                assert!(changed.changed().await.is_ok(), "the tool of {} has ended", self.name);
            }
        };
        match tokio::time::timeout(PATIENCE * 2, wait).await {
            Ok(found) => found,
            Err(_) => {
                let state = lock(&self.state);
                let seen: Vec<&str> = state.facts.iter().map(|record| record.event.name()).collect();
                panic!(
                    "{} waited for {what}; its feed: {seen:?}; heard: {:?}; refused: {:?}",
                    self.name, state.heard, state.refusals
                )
            }
        }
    }

    /// Waits for the first offer, or the first of a conversation.
    ///
    /// # Panics
    /// When none comes.
    pub async fn offered(&self, of: Option<ConversationId>) -> (OfferId, ConversationId) {
        self.sees("an offer", |event| match event {
            Event::OfferCreated { offer, conversation, .. } if of.is_none_or(|of| of == *conversation) => {
                Some((*offer, *conversation))
            }
            _ => None,
        })
        .await
    }

    /// Waits for a text of a customer: on the feed, or in the history of what the tool was given.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn hears(&self, text: &str) -> ConversationId {
        self.until(&format!("{text:?}"), |state| {
            state.heard.iter().find(|(_, heard)| *heard == text).map(|((conversation, _), _)| *conversation)
        })
        .await
    }

    /// The same, when the text comes with more around it, as in a mail that quotes.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn hears_part(&self, text: &str) -> ConversationId {
        self.until(&format!("something with {text:?}"), |state| {
            state.heard.iter().find(|(_, heard)| heard.contains(text)).map(|((conversation, _), _)| *conversation)
        })
        .await
    }

    /// Every text of customers, in the order of the messages.
    pub fn heard(&self) -> Vec<String> {
        lock(&self.state).heard.values().cloned().collect()
    }

    /// Everything that came on the feed.
    pub fn facts(&self) -> Vec<EventRecord> {
        lock(&self.state).facts.clone()
    }

    /// The newest snapshot, and how many there were.
    pub fn snapshot(&self) -> (Option<Snapshot>, u32) {
        let state = lock(&self.state);
        (state.snapshot.clone(), state.snapshots)
    }

    /// The answers that were acknowledged.
    pub fn said(&self) -> Vec<Said> {
        lock(&self.state).said.clone()
    }

    /// What was refused of what the tool did by itself.
    pub fn refusals(&self) -> Vec<String> {
        lock(&self.state).refusals.clone()
    }

    /// Vanishes, as a laptop whose lid is shut: no farewell.
    pub async fn vanish(mut self) {
        for task in &mut self.tasks {
            task.abort();
            // Whatever it held goes with it.
            let _ = task.await;
        }
    }
}

impl Drop for AgentTool {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The text of a message.
pub fn text_of(content: &[Part]) -> String {
    let mut text = String::new();
    for part in content {
        if let Part::Text(part) = part {
            text += &part.body;
        }
    }
    text
}

struct Worker {
    commander: Commander,
    habits: Habits,
    agent: AgentId,
    state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<u64>>,
}

impl Worker {
    async fn run(self, mut jobs: mpsc::Receiver<News>) {
        // Only messages of conversations that this agent holds are answered.
        let mut held: BTreeSet<ConversationId> = BTreeSet::new();
        while let Some(news) = jobs.recv().await {
            match news {
                News::Snapshot(snapshot) => {
                    for offer in &snapshot.offers {
                        self.accept(offer.offer).await;
                    }
                    held = snapshot.conversations.iter().map(|view| view.conversation).collect();
                    for conversation in &held {
                        self.catch_up(*conversation).await;
                    }
                }
                News::Fact(record) => match &*record.event {
                    Event::OfferCreated { offer, .. } => self.accept(*offer).await,
                    Event::ConversationAssigned { conversation, agent, .. } if *agent == self.agent => {
                        held.insert(*conversation);
                        self.catch_up(*conversation).await;
                    }
                    Event::ConversationEnqueued { conversation, kept: false, .. }
                    | Event::ConversationClosed { conversation, .. } => {
                        held.remove(conversation);
                    }
                    Event::MessageReceived { conversation, message, envelope, .. } if held.contains(conversation) => {
                        self.answer(*conversation, *message, &text_of(&envelope.content)).await;
                    }
                    _ => {}
                },
            }
        }
    }

    async fn accept(&self, offer: OfferId) {
        if self.habits.accepts {
            self.insist(&format!("accept-{offer}"), &AgentCommand::OfferAccept { offer }).await;
        }
    }

    /// Answers what was written before the conversation was this agent's, or while the feed was lost.
    async fn catch_up(&self, conversation: ConversationId) {
        if !self.habits.accepts && self.habits.answers.is_none() {
            return;
        }
        let history = loop {
            match self.commander.history(conversation, 100).await {
                Ok(history) => break history,
                Err(refusal) if refusal.kind == RefusalKind::Unavailable => {}
                Err(refusal) => return self.refused(&refusal),
            }
        };
        for record in history {
            if let Event::MessageReceived { conversation: of, message, envelope, .. } = &*record.event
                && *of == conversation
            {
                self.answer(conversation, *message, &text_of(&envelope.content)).await;
            }
        }
    }

    async fn answer(&self, conversation: ConversationId, to: MessageId, text: &str) {
        lock(&self.state).heard.insert((conversation, to), text.to_owned());
        self.changes.send_modify(|count| *count += 1);
        let Some(answers) = &self.habits.answers else { return };
        if lock(&self.state).answered.contains(&(conversation, to)) {
            return;
        }
        let Some(text) = answers(text) else { return };
        let content = desk::tool::text(&text);
        let command = AgentCommand::MessageSend { conversation, content, reply_to: None, via: None, purpose: None };
        if let Some(done) = self.insist(&format!("answer-{conversation}-{to}"), &command).await {
            let mut state = lock(&self.state);
            state.answered.insert((conversation, to));
            state.said.push(Said { conversation, to, message: done.message, text });
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Sends a command under one id until it is answered, however long that takes.
    async fn insist(&self, id: &str, command: &AgentCommand) -> Option<Done> {
        loop {
            match self.commander.command_as(id, command).await {
                Ok(done) => return Some(done),
                Err(refusal) if refusal.kind == RefusalKind::Unavailable => {}
                Err(refusal) => {
                    self.refused(&refusal);
                    return None;
                }
            }
        }
    }

    fn refused(&self, refusal: &Refusal) {
        lock(&self.state).refusals.push(refusal.to_string());
        self.changes.send_modify(|count| *count += 1);
    }
}
