//! Who leads which shard. Pings only decide who tries; the epoch in the journal decides who leads.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bus::{Bus, ErrorKind as BusKind, Publish, Service};
use contract::command::{AdminCommand, AgentCommand, AgentQuery, ChannelQuery, Refusal, RefusalKind};
use contract::{Timestamp, shard, subject};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use crate::Options;
use crate::commands::Request;
use crate::control::{Answer, Ask, Control};
use crate::error::Error;
use crate::leader::{Leader, Left, is_deposed};
use crate::membership::{self, Common, Membership};
use crate::metric::Metric;
use crate::recover::take_over;

/// Requests that wait for a shard; more are told to come again.
const REQUESTS_MAX: usize = 4096;
/// What may be asked of an owner at once; more waits.
const CONTROLS_MAX: usize = 4;
/// Questions to an owner that wait for that or for their answer; more are refused.
const QUESTIONS_MAX: usize = 16;
/// How long a shard that was left to another router is left to it.
const LEFT_TO_ANOTHER: Duration = Duration::from_secs(1);

/// Which shards this process leads, and which have an owner at all as far as it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// By shard: led here.
    pub led: Vec<bool>,
    /// By shard: led here or answered for elsewhere.
    pub owned: Vec<bool>,
}

impl Leadership {
    /// Every shard has an owner.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.owned.iter().all(|owned| *owned)
    }
}

type Routes = Arc<RwLock<HashMap<u16, mpsc::Sender<Request>>>>;
type Levers = Arc<RwLock<HashMap<u16, mpsc::Sender<Control>>>>;

/// Said when a shard becomes free; empty where nobody is meant.
fn vacated(shard: u16) -> String {
    format!("{}.free", subject::owner(shard))
}

/// A running router.
pub struct Router {
    stop: watch::Sender<bool>,
    leadership: watch::Receiver<Leadership>,
    shards: Vec<JoinHandle<()>>,
    dispatcher: JoinHandle<()>,
    balancer: JoinHandle<()>,
}

impl Router {
    /// Starts it: every shard is led here or watched.
    ///
    /// # Errors
    /// When the requests cannot be subscribed to.
    pub async fn start(bus: Bus, options: Options) -> Result<Self, Error> {
        let (stop, stopped) = watch::channel(false);
        let count = usize::from(options.shards);
        let (report, leadership) = watch::channel(Leadership { led: vec![false; count], owned: vec![false; count] });
        let report = Arc::new(report);
        let routes = Routes::default();
        let requests = bus.service(service()).await?;
        let dispatcher = tokio::spawn(dispatch(bus.clone(), requests, Arc::clone(&routes), options.shards));
        let levers = Levers::default();
        let heirs = Arc::new(RwLock::new(HashMap::new()));
        let mut membership = Membership::new(bus.clone(), options.instance.clone());
        let common = membership.common();
        // Before anything is led, so that it is known who else is there.
        if let Err(error) = membership.beat(Vec::new()).await {
            debug!(%error, "the other routers are not known");
        }
        let balance = Balance {
            membership,
            shards: options.shards,
            leadership: leadership.clone(),
            routes: Arc::clone(&routes),
            levers: Arc::clone(&levers),
            heirs: Arc::clone(&heirs),
            stop: stopped.clone(),
        };
        let balancer = tokio::spawn(balance.run());
        let shards = (0..options.shards)
            .map(|shard| {
                let seat = Seat {
                    bus: bus.clone(),
                    shard,
                    options: options.clone(),
                    routes: Arc::clone(&routes),
                    levers: Arc::clone(&levers),
                    heirs: Arc::clone(&heirs),
                    common: common.clone(),
                    report: Arc::clone(&report),
                    stop: stopped.clone(),
                };
                tokio::spawn(seat.run())
            })
            .collect();
        Ok(Self { stop, leadership, shards, dispatcher, balancer })
    }

    /// Which shards are led.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Finishes what was begun and hands every shard over.
    pub async fn drain(self) {
        self.stop.send_replace(true);
        for shard in self.shards {
            if let Err(error) = shard.await {
                error!(%error, "a shard ended badly");
            }
        }
        self.dispatcher.abort();
        if let Err(error) = self.balancer.await {
            error!(%error, "the balance ended badly");
        }
    }
}

/// What `nats micro ls` shows.
fn service() -> Service {
    let mut endpoints = Vec::new();
    let senders = [
        ("agent", "agent.*", [AgentCommand::VERBS, AgentQuery::VERBS].concat()),
        ("admin", "admin", AdminCommand::VERBS.to_vec()),
        ("channel", "channel.*.*", ChannelQuery::VERBS.to_vec()),
    ];
    for (name, middle, verbs) in senders {
        debug!(sender = name, verbs = verbs.len(), "serving");
        endpoints.push((name.to_owned(), format!("{}.cmd.*.{middle}.*.*", subject::PREFIX)));
    }
    Service {
        name: "throughline-router".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "routes conversations to agents; commands of agents, operators and channels".to_owned(),
        endpoints,
    }
}

/// Hands requests to the shards that are led here. Those of other shards are somebody else's.
async fn dispatch(bus: Bus, mut requests: bus::Requests, routes: Routes, shards: u16) {
    while let Some(message) = requests.next().await {
        let Some(command) = subject::parse_command(&message.subject) else {
            debug!(subject = %message.subject, "a request on a subject that is none");
            continue;
        };
        let shard = shard::of(&command.tenant, shards);
        let route = routes.read().ok().and_then(|routes| routes.get(&shard).cloned());
        let Some(route) = route else { continue };
        if let Err(mpsc::error::TrySendError::Full(request)) = route.try_send(Request { command, message }) {
            let (to, _) = request.read();
            let busy = Refusal::new(RefusalKind::Unavailable, "too many requests wait; try again");
            if let Some(publish) = to.refused(busy)
                && let Err(error) = bus.send(publish).await
            {
                debug!(%error, "a refusal was dropped");
            }
        }
    }
}

/// One shard as this process sees it.
struct Seat {
    bus: Bus,
    shard: u16,
    options: Options,
    routes: Routes,
    levers: Levers,
    /// Who a shard is left to, when it is.
    heirs: Heirs,
    common: Common,
    report: Arc<watch::Sender<Leadership>>,
    stop: watch::Receiver<bool>,
}

type Heirs = Arc<RwLock<HashMap<u16, String>>>;

/// Keeps each router leading about as many shards as the others.
struct Balance {
    membership: Membership,
    shards: u16,
    leadership: watch::Receiver<Leadership>,
    routes: Routes,
    levers: Levers,
    heirs: Heirs,
    stop: watch::Receiver<bool>,
}

/// How much waits in a queue.
fn waiting<T>(queue: &mpsc::Sender<T>) -> usize {
    queue.max_capacity() - queue.capacity()
}

impl Balance {
    async fn run(mut self) {
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stopping(&mut stop) => return self.membership.leave().await,
                () = tokio::time::sleep(membership::BEAT) => {}
            }
            self.show_queues();
            let led = &self.leadership.borrow().led.clone();
            let led = (0..self.shards).filter(|shard| led.get(usize::from(*shard)) == Some(&true)).collect();
            if let Err(error) = self.membership.beat(led).await {
                debug!(%error, "the other routers are not known");
                continue;
            }
            let moved = self.membership.next_move();
            if let Ok(mut heirs) = self.heirs.write() {
                // For when we stop. A shard that is to move now goes to whom it is to move to.
                let all = (0..self.shards).filter_map(|shard| Some((shard, self.membership.heir(shard)?)));
                *heirs = all.chain(moved.clone()).collect();
            }
            let Some((shard, to)) = moved else { continue };
            let lever = self.levers.read().ok().and_then(|levers| levers.get(&shard).cloned());
            if let Some(lever) = lever
                && lever.try_send(Control::Yield).is_ok()
            {
                info!(shard, to, "leaving a shard to another router");
            }
        }
    }

    /// Shows how much waits for the owners here, also while one takes over or is at something else.
    fn show_queues(&self) {
        for shard in 0..self.shards {
            let requests = self.routes.read().ok().and_then(|routes| routes.get(&shard).map(waiting));
            Metric::RequestsQueued.show(shard, requests.unwrap_or(0));
            let controls = self.levers.read().ok().and_then(|levers| levers.get(&shard).map(waiting));
            Metric::ControlsQueued.show(shard, controls.unwrap_or(0));
        }
    }
}

impl Seat {
    async fn run(self) {
        let mut backoff = Duration::from_millis(100);
        let mut vacancies = loop {
            match self.bus.subscribe(&vacated(self.shard)).await {
                Ok(vacancies) => break vacancies,
                Err(error) => warn!(shard = self.shard, %error, "vacancies cannot be heard of; trying again"),
            }
            let mut stop = self.stop.clone();
            tokio::select! {
                () = stopping(&mut stop) => return,
                () = tokio::time::sleep(backoff) => {}
            }
        };
        let mut left_to_another = false;
        loop {
            let mut stop = self.stop.clone();
            tokio::select! {
                () = stopping(&mut stop) => return,
                () = self.wait_for_vacancy(&mut vacancies, left_to_another) => {}
            }
            left_to_another = false;
            match self.reign().await {
                Ok(Left::Stopped) => return,
                Ok(Left::Yielded) => {
                    left_to_another = true;
                    backoff = Duration::from_millis(100);
                }
                Err(error) if is_deposed(&error) => {
                    info!(shard = self.shard, %error, "another process leads the shard");
                    metrics::counter!(Metric::Deposed.name()).increment(1);
                    self.say(false, true);
                    backoff = Duration::from_millis(100);
                }
                Err(error) => {
                    error!(shard = self.shard, %error, "the shard cannot be led; trying again");
                    self.say(false, false);
                    tokio::select! {
                        () = stopping(&mut stop) => return,
                        () = tokio::time::sleep(backoff) => {}
                    }
                    backoff = (backoff * 2).min(Duration::from_secs(5));
                }
            }
        }
    }

    /// Tells the other routers that nobody leads the shard, and who should.
    async fn vacate(&self) {
        let heir = self.heirs.read().ok().and_then(|heirs| heirs.get(&self.shard).cloned()).unwrap_or_default();
        let publish = Publish { subject: vacated(self.shard), payload: heir.into(), ..Publish::default() };
        if let Err(error) = self.bus.send(publish).await {
            debug!(shard = self.shard, %error, "the others find the vacancy by themselves");
        }
    }

    /// Returns when nobody answers for the shard, twice in a row, or its owner left it to us. What was left to another
    /// is left to it for a while.
    async fn wait_for_vacancy(&self, vacancies: &mut bus::Subscription, left_to_another: bool) {
        let mut misses = 0;
        let mut not_before = left_to_another.then(|| Instant::now() + LEFT_TO_ANOTHER);
        loop {
            let ping = Publish { subject: subject::owner(self.shard), ..Publish::default() };
            match self.bus.request(ping, self.options.ping_timeout).await {
                Ok(_) => {
                    misses = 0;
                    self.say(false, true);
                }
                Err(error) if matches!(error.kind, BusKind::NoResponders | BusKind::Timeout) => misses += 1,
                // Our own connection is the trouble: that says nothing of the owner.
                Err(error) => debug!(shard = self.shard, %error, "the owner could not be asked"),
            }
            if misses >= 2 && not_before.is_none_or(|time| Instant::now() >= time) {
                return;
            }
            let pause = if misses > 0 { self.options.ping_every / 4 } else { self.options.ping_every };
            tokio::select! {
                Some(vacancy) = vacancies.next() => {
                    if vacancy.payload.is_empty() || vacancy.payload == self.options.instance.as_bytes() {
                        return;
                    }
                    not_before = Some(Instant::now() + LEFT_TO_ANOTHER);
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes the shard over and leads it.
    async fn reign(&self) -> Result<Left, Error> {
        // Requests that come while it is taken over wait for it.
        let (sender, mut requests) = mpsc::channel(REQUESTS_MAX);
        if let Ok(mut routes) = self.routes.write() {
            routes.insert(self.shard, sender);
        }
        let led = self.reign_over(&mut requests).await;
        if let Ok(mut routes) = self.routes.write() {
            routes.remove(&self.shard);
        }
        self.send_away(requests).await;
        led
    }

    /// What nobody took up here is asked again: by then somebody leads.
    async fn send_away(&self, mut requests: mpsc::Receiver<Request>) {
        requests.close();
        while let Some(request) = requests.recv().await {
            let (to, _) = request.read();
            let moving = Refusal::new(RefusalKind::Unavailable, "the shard changes hands; try again");
            if let Some(publish) = to.refused(moving)
                && let Err(error) = self.bus.send(publish).await
            {
                debug!(%error, "a refusal was dropped");
            }
        }
    }

    async fn reign_over(&self, requests: &mut mpsc::Receiver<Request>) -> Result<Left, Error> {
        let began = Instant::now();
        let now = Timestamp(runtime::clock::now());
        let recovered = take_over(&self.bus, self.shard, &self.options.instance, now).await?;
        let leader = Leader::new(self.bus.clone(), self.shard, self.options.clone(), self.common.clone(), recovered);
        let (lever, mut controls) = mpsc::channel(CONTROLS_MAX);
        let answering = self.answer_pings(lever.clone()).await?;
        if let Ok(mut levers) = self.levers.write() {
            levers.insert(self.shard, lever);
        }
        self.say(true, true);
        metrics::histogram!(Metric::TakeoverSeconds.name()).record(began.elapsed().as_secs_f64());
        debug!(shard = self.shard, ms = began.elapsed().as_millis(), "leading");
        let has_heir = || self.heirs.read().is_ok_and(|heirs| heirs.contains_key(&self.shard));
        let led = leader.lead(requests, &mut controls, self.stop.clone(), has_heir).await;
        answering.abort();
        if led.is_ok() {
            self.vacate().await;
        }
        if let Ok(mut levers) = self.levers.write() {
            levers.remove(&self.shard);
        }
        self.say(false, false);
        led
    }

    /// Answers for the shard, from a task of its own: an append that waits for the bus is no reason to
    /// be deposed.
    async fn answer_pings(&self, lever: mpsc::Sender<Control>) -> Result<JoinHandle<()>, Error> {
        let mut pings = self.bus.subscribe(&subject::owner(self.shard)).await?;
        self.bus.flush().await?;
        let (bus, instance) = (self.bus.clone(), self.options.instance.clone());
        let places = Arc::new(Semaphore::new(QUESTIONS_MAX));
        Ok(tokio::spawn(async move {
            while let Some(ping) = pings.next().await {
                let Some(subject) = ping.reply else { continue };
                if !ping.payload.is_empty() {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        give(&bus, subject, &Answer::Refused("too many questions at once".to_owned())).await;
                        continue;
                    };
                    let answering = answer_question(bus.clone(), subject, ping.payload, lever.clone());
                    tokio::spawn(async move {
                        answering.await;
                        drop(place);
                    });
                    continue;
                }
                let answer = Publish { subject, payload: instance.clone().into(), ..Publish::default() };
                if let Err(error) = bus.send(answer).await {
                    warn!(%error, "a ping could not be answered");
                }
            }
        }))
    }

    fn say(&self, led: bool, owned: bool) {
        let shard = usize::from(self.shard);
        self.report.send_if_modified(|leadership| {
            let before = leadership.clone();
            if let Some(entry) = leadership.led.get_mut(shard) {
                *entry = led;
            }
            if let Some(entry) = leadership.owned.get_mut(shard) {
                *entry = owned;
            }
            *leadership != before
        });
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        let count = self.report.borrow().led.iter().filter(|led| **led).count() as f64;
        metrics::gauge!(Metric::ShardsLed.name()).set(count);
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!(Metric::Shards.name()).set(self.report.borrow().led.len() as f64);
    }
}

/// Has the leader answer between two batches.
async fn answer_question(bus: Bus, subject: String, question: bytes::Bytes, lever: mpsc::Sender<Control>) {
    let answer = match serde_json::from_slice::<Ask>(&question) {
        Ok(question) => {
            let (sender, receiver) = oneshot::channel();
            // A leader that ends meanwhile answers nothing: whoever asks finds the next one.
            if lever.send(Control::Ask(question, sender)).await.is_err() {
                return;
            }
            let Ok(answer) = receiver.await else { return };
            answer
        }
        Err(_) => Answer::Refused("this version does not know that question".to_owned()),
    };
    give(&bus, subject, &answer).await;
}

async fn give(bus: &Bus, subject: String, answer: &Answer) {
    let payload = serde_json::to_vec(answer).unwrap_or_default();
    if let Err(error) = bus.send(Publish { subject, payload: payload.into(), ..Publish::default() }).await {
        warn!(%error, "an answer could not be given");
    }
}

async fn stopping(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone stops as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
