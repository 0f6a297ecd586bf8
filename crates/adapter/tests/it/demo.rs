//! A channel that does as it is told, and the provider behind it.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex};

use throughline_adapter::contract::outbound::{Capabilities, OutCommand};
use throughline_adapter::ledger::Begin;
use throughline_adapter::{
    AccountFile, BoxFuture, Channel, Context, Kind, LedgerMode, OpenError, PartLedger, Prepared, Problem, SendFailure,
    Sent,
};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::support::soon;

/// What the next request for a command comes to; without a word, it is sent.
#[derive(Clone)]
pub(crate) enum Step {
    /// Not sent.
    Fail(SendFailure),
    /// Sent, and the answer never comes.
    Hang,
    /// Sent and in the ledger, and the channel never returns.
    HangSent,
    /// Sent when there is a permit.
    Hold(Arc<Semaphore>),
    /// The channel panics while it waits for the answer.
    Panic,
    /// The channel panics before it has begun anything.
    PanicAtOnce,
}

/// A request that came to the provider.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// `<command>#<part>`.
    pub(crate) what: String,
    pub(crate) at: Instant,
}

impl Call {
    fn is_for(&self, command: &str) -> bool {
        self.what.split('#').next() == Some(command)
    }
}

/// Outlives the processes that send by it.
#[derive(Default)]
pub(crate) struct Provider {
    script: Mutex<HashMap<String, VecDeque<Step>>>,
    calls: watch::Sender<Vec<Call>>,
    /// Recognises a repeat.
    idempotent: bool,
    /// Its channel keeps no ledger.
    forgetful: bool,
    /// What becomes of every request of the account `dead`.
    dead: Mutex<Option<Step>>,
    /// How often the receiving half ends with an error before it stays.
    breaks: Mutex<u32>,
    opened: watch::Sender<Vec<Context>>,
}

impl Provider {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn that_recognises_repeats() -> Arc<Self> {
        Arc::new(Self { idempotent: true, ..Self::default() })
    }

    pub(crate) fn of_a_channel_without_a_ledger() -> Arc<Self> {
        Arc::new(Self { forgetful: true, ..Self::default() })
    }

    pub(crate) fn that_breaks_once() -> Arc<Self> {
        Arc::new(Self { breaks: Mutex::new(1), ..Self::default() })
    }

    /// What every request of the account `dead` comes to.
    pub(crate) fn dead(&self, step: Step) {
        *self.dead.lock().unwrap() = Some(step);
    }

    pub(crate) fn script(&self, command: &str, steps: impl IntoIterator<Item = Step>) {
        self.script.lock().unwrap().insert(command.to_owned(), steps.into_iter().collect());
    }

    /// What was requested so far, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.calls.borrow().iter().map(|call| call.what.clone()).collect()
    }

    /// The requests for one command.
    pub(crate) fn of(&self, command: &str) -> Vec<Call> {
        self.calls.borrow().iter().filter(|call| call.is_for(command)).cloned().collect()
    }

    /// Waits until so many requests came for a command.
    pub(crate) async fn called(&self, command: &str, times: usize) {
        let mut calls = self.calls.subscribe();
        let enough = |calls: &Vec<Call>| calls.iter().filter(|call| call.is_for(command)).count() >= times;
        soon(calls.wait_for(enough)).await.unwrap();
    }

    /// What the newest channel was given.
    pub(crate) fn context(&self) -> Context {
        self.opened.borrow().last().cloned().expect("nothing is open")
    }

    fn next_step(&self, command: &OutCommand) -> Option<Step> {
        if command.account.id.as_str() == "dead" {
            return self.dead.lock().unwrap().clone();
        }
        self.script.lock().unwrap().get_mut(command.command_id.as_str())?.pop_front()
    }

    async fn request(
        &self,
        what: String,
        step: Option<Step>,
        ledger: &mut PartLedger,
        part: u32,
    ) -> Result<(), SendFailure> {
        self.calls.send_modify(|calls| calls.push(Call { what: what.clone(), at: Instant::now() }));
        match &step {
            Some(Step::Fail(failure)) => return Err(failure.clone()),
            Some(Step::Hang) => pending().await,
            Some(Step::Panic) => panic!("told to"),
            Some(Step::Hold(semaphore)) => drop(semaphore.acquire().await),
            _ => {}
        }
        ledger.sent(part, vec![format!("x-{what}").into()]).await;
        if matches!(step, Some(Step::HangSent)) { pending().await } else { Ok(()) }
    }
}

pub(crate) struct Demo {
    provider: Arc<Provider>,
    context: Context,
}

impl Channel for Demo {
    fn capabilities(&self) -> Capabilities {
        Capabilities { idempotent_send: self.provider.idempotent, typing: true, ..Capabilities::default() }
    }

    fn ledger(&self) -> LedgerMode {
        if self.provider.forgetful { LedgerMode::None } else { LedgerMode::Durable }
    }

    /// Each piece of content is a request of its own.
    fn send<'a>(
        &'a self,
        command: &'a OutCommand,
        ledger: &'a mut PartLedger,
    ) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        let first = self.provider.next_step(command);
        assert!(!matches!(first, Some(Step::PanicAtOnce)), "told to");
        Box::pin(async move {
            let mut first = first;
            let mut ids = Vec::new();
            for part in (0..).take(command.content.len()) {
                match ledger.begin(part).await? {
                    Begin::Sent { external_ids } => {
                        ids.extend(external_ids);
                        continue;
                    }
                    Begin::Interrupted if !self.provider.idempotent => {
                        return Err(SendFailure::unknown("interrupted", "nobody knows whether it was sent"));
                    }
                    Begin::Interrupted | Begin::Fresh => {}
                }
                let step = first.take().or_else(|| self.provider.next_step(command));
                let what = format!("{}#{part}", command.command_id);
                ids.push(format!("x-{what}").into());
                self.provider.request(what, step, ledger, part).await?;
            }
            Ok(Sent::with_ids(ids))
        })
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            {
                let mut breaks = self.provider.breaks.lock().unwrap();
                if *breaks > 0 {
                    *breaks -= 1;
                    return Err(OpenError::new("signing in", "the provider is away"));
                }
            }
            self.context.shutdown.draining().await;
            Ok(())
        })
    }
}

pub(crate) struct DemoKind(pub(crate) Arc<Provider>);

struct DemoReady(Arc<Provider>);

impl Kind for DemoKind {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn prepare(&self, _: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        Ok(Box::new(DemoReady(Arc::clone(&self.0))))
    }
}

impl Prepared for DemoReady {
    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move {
            self.0.opened.send_modify(|opened| opened.push(context.clone()));
            Ok(Arc::new(Demo { provider: self.0, context }) as Arc<dyn Channel>)
        })
    }
}
