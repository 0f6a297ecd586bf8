//! What the SDK sees: the kind, the prepared account, the running account.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use adapter::contract::SmolStr;
use adapter::contract::outbound::{self, Capabilities, OutCommand};
use adapter::failure::{SendFailure, Sent};
use adapter::live::Signal;
use adapter::{AccountFile, BoxFuture, Channel, Context, Kind, LedgerMode, OpenError, PartLedger, Prepared, Problem};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::frames::{Agent, ServerFrame};
use crate::hub::{Hub, Push};
use crate::limits::{Network, Quota};
use crate::login::{KEY_BYTES_MIN, Logins};
use crate::normalize::Place;
use crate::origin::Origins;
use crate::render;
use crate::server::Listeners;
use crate::session::Sessions;
use crate::settings::Settings;
use crate::telemetry::Metric;

/// Its name.
const KIND: &str = "chat";
/// How fast one address may open sockets, in the long run.
const OPENS_PER_SECOND: f64 = 10.0;
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked at how much waits for sockets.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Live chat, to be registered with the daemon.
#[must_use]
pub fn register() -> Box<dyn Kind> {
    Box::new(Chat::default())
}

#[derive(Default)]
struct Chat {
    listeners: Arc<Listeners>,
}

struct Ready {
    listeners: Arc<Listeners>,
    settings: Settings,
    address: SocketAddr,
    /// The demo page, where there is one.
    page: Option<String>,
}

/// One account, with everything that is connected to it.
pub(crate) struct Account {
    pub(crate) context: Context,
    pub(crate) settings: Settings,
    pub(crate) place: Place,
    pub(crate) sessions: Sessions,
    pub(crate) logins: Option<Logins>,
    pub(crate) origins: Origins,
    pub(crate) proxies: Vec<Network>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) by_ip: Arc<Quota<IpAddr>>,
    pub(crate) by_visitor: Arc<Quota<SmolStr>>,
    /// How often an address asks to go on by another channel.
    pub(crate) switches: Arc<Quota<IpAddr>>,
    /// Shows how much of what pages sent is being stored.
    pub(crate) tickets: metrics::Gauge,
    sockets: watch::Sender<usize>,
}

/// Counts a socket while it is open.
pub(crate) struct Open(Arc<Account>);

/// The account as the SDK holds it.
struct Running(Arc<Account>);

impl Kind for Chat {
    fn name(&self) -> &'static str {
        KIND
    }

    fn prepare(&self, file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        let mut settings: Settings = file.settings()?;
        let problems: Vec<Problem> = settings
            .problems()
            .into_iter()
            .map(|(path, message)| file.problem(&format!("settings.{path}"), message))
            .collect();
        let (Some(address), true) = (settings.address(), problems.is_empty()) else { return Err(problems) };
        if let Some(dir) = file.source.parent() {
            settings.session_key = settings.session_key.map(|secret| secret.relative_to(dir));
            settings.login_secret = settings.login_secret.map(|secret| secret.relative_to(dir));
        }
        let page = settings
            .demo
            .then(|| format!("http://{address}/chat/{}/demo", crate::server::percent(file.account.as_str())));
        Ok(Box::new(Ready { listeners: Arc::clone(&self.listeners), settings, address, page }))
    }
}

impl Prepared for Ready {
    fn page(&self) -> Option<String> {
        self.page.clone()
    }

    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move {
            let Self { listeners, settings, address, page: _ } = *self;
            let account = Arc::new(Account::new(context, settings)?);
            listeners.serve(address, Arc::clone(&account)).await?;
            Ok(Arc::new(Running(account)) as Arc<dyn Channel>)
        })
    }
}

impl Account {
    fn new(context: Context, settings: Settings) -> Result<Self, OpenError> {
        let session_key = match &settings.session_key {
            Some(secret) => key(secret, "session_key")?,
            None => {
                let made = context.secrets.get_or_create("session.key");
                made.map_err(|error| OpenError::new("session key", error))?
            }
        };
        let logins = match &settings.login_secret {
            Some(secret) => Some(Logins::new(&key(secret, "login_secret")?, settings.login_audience.as_deref())),
            None => None,
        };
        let scope = format!("{}\0{}\0{}", context.tenant, context.account.kind, context.account.id);
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let burst = settings.connections_per_ip_max as f64;
        let visitors = settings.connections_per_visitor_max;
        Ok(Self {
            place: Place {
                tenant: context.tenant.clone(),
                account: context.account.clone(),
                login_realm: settings.login_realm.as_str().into(),
                text_chars_max: settings.text_chars_max,
                language: settings.language.clone(),
                tags: settings.tags.clone(),
            },
            sessions: Sessions::new(&session_key, scope, settings.session_life()),
            logins,
            origins: settings.origins(),
            proxies: settings.proxies(),
            hub: Arc::default(),
            connections: Arc::new(Semaphore::new(settings.connections_max)),
            by_ip: Arc::new(Quota::new(settings.connections_per_ip_max, OPENS_PER_SECOND, burst)),
            by_visitor: Arc::new(Quota::new(visitors, settings.messages_per_second_max, settings.messages_burst_max)),
            switches: Arc::new(Quota::hourly(settings.switches_per_ip_hour_max)),
            tickets: gauge(Metric::TicketsInFlight, &context),
            sockets: watch::Sender::new(0),
            context,
            settings,
        })
    }

    /// A socket is open until what this returns is dropped.
    pub(crate) fn opened(self: &Arc<Self>) -> Open {
        self.sockets.send_modify(|count| *count += 1);
        gauge(Metric::Sockets, &self.context).increment(1.0);
        Open(Arc::clone(self))
    }

    /// Gives a message to the sockets of its thread; how many there are.
    fn deliver(&self, command: &OutCommand) -> usize {
        let thread = &command.thread.key;
        self.hub.learn_name(&command.author);
        self.hub.learn(thread, command.conversation);
        let frame = ServerFrame::Message(render::command(command)).encode().into();
        self.hub.push(thread, &Push::Message { seq: command.thread_seq, frame })
    }

    /// Passes typing and presence on to whom it concerns.
    fn signal(&self, live: &outbound::Live) {
        if live.customer {
            return;
        }
        self.hub.learn_name(&live.author);
        let frame = frame_of(live);
        let ours = live
            .threads
            .iter()
            .filter(|of| of.account.kind == self.place.account.kind && of.account.id == self.place.account.id)
            .map(|of| of.thread.key.clone());
        let mut threads: Vec<SmolStr> = ours.collect();
        if live.threads.is_empty() {
            threads.extend(self.hub.thread(live.conversation));
        }
        for thread in threads {
            self.hub.learn(&thread, live.conversation);
            self.hub.push(&thread, &Push::Frame(frame.encode().into()));
        }
    }

    async fn listen(&self) -> Result<(), OpenError> {
        let mut signals = self.context.live.subscribe().await.map_err(|error| OpenError::new("live signals", error))?;
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let queued = gauge(Metric::PushesQueued, &self.context);
        loop {
            tokio::select! {
                () = self.context.shutdown.draining() => {
                    // Nobody looks any more.
                    queued.set(0.0);
                    return Ok(());
                }
                signal = signals.next() => match signal {
                    Some(Signal::Live(live)) => self.signal(&live),
                    Some(Signal::Command(command)) => {
                        let ours = command.account.kind == self.place.account.kind
                            && command.account.id == self.place.account.id;
                        if ours {
                            self.deliver(&command);
                        }
                    }
                    None => return Err(OpenError("the subscription to live signals ended".into())),
                },
                _ = sweep.tick() => {
                    let now = Instant::now();
                    self.by_ip.sweep(now);
                    self.by_visitor.sweep(now);
                    self.switches.sweep(now);
                }
                _ = look.tick() => {
                    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                    queued.set(self.hub.waiting() as f64);
                }
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.sockets.send_modify(|count| *count -= 1);
        gauge(Metric::Sockets, &self.0.context).decrement(1.0);
    }
}

impl Channel for Running {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            delivered: true,
            read: true,
            typing: true,
            // A page drops what it has, by number.
            idempotent_send: true,
            ..Capabilities::default()
        }
    }

    fn ledger(&self) -> LedgerMode {
        LedgerMode::None
    }

    fn send<'a>(&'a self, command: &'a OutCommand, _: &'a mut PartLedger) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        Box::pin(async move {
            let sockets = self.0.deliver(command);
            if self.0.settings.broadcast {
                self.0.context.live.publish_command(command).await;
            }
            // Nobody is there: the transcript has it, and gives it to them when they come.
            Ok(if sockets > 0 { Sent::with_ids(Vec::new()) } else { Sent::accepted() })
        })
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            self.0.listen().await?;
            // The sockets have heard it too, and say goodbye.
            let _ = self.0.sockets.subscribe().wait_for(|count| *count == 0).await;
            Ok(())
        })
    }
}

fn gauge(metric: Metric, context: &Context) -> metrics::Gauge {
    metrics::gauge!(metric.name(), "channel_account" => context.account.id.to_string())
}

fn frame_of(live: &outbound::Live) -> ServerFrame {
    let name = live.author.display.clone();
    match live.what.as_str() {
        "typing" => ServerFrame::Typing { on: true, name },
        "stopped" => ServerFrame::Typing { on: false, name },
        _ => {
            let agent = live.author.agent.is_some().then_some(Agent { name });
            ServerFrame::Presence { state: live.what.clone(), agent }
        }
    }
}

fn key(secret: &adapter::runtime::secret::Secret, setting: &str) -> Result<String, OpenError> {
    let text = secret.resolve().map_err(|error| OpenError::new(setting, error))?;
    if text.expose().len() < KEY_BYTES_MIN {
        let why = format!("{} has fewer than {KEY_BYTES_MIN} bytes and could be guessed", secret.whereabouts());
        return Err(OpenError::new(setting, why));
    }
    Ok(text.expose().to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn prepare(settings: &str) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        let text = format!("kind = \"chat\"\naccount = \"web\"\n[settings]\n{settings}");
        let table = adapter::toml::from_str(&text).unwrap();
        register().prepare(&AccountFile::from_table(&table, Path::new("chat-web.toml")).unwrap())
    }

    #[test]
    fn settings_are_checked_with_their_paths() {
        assert!(prepare("").is_ok());
        assert!(prepare("login_secret = { env = \"X\" }\nlogin_required = true").is_ok());
        for (settings, path) in [
            ("listen = \"here\"", "settings.listen"),
            ("colour = 1", "settings.colour"),
            ("login_required = true", "settings.login_required"),
            ("session_key = \"in the clear\"", "settings.session_key"),
        ] {
            let problems = prepare(settings).err().unwrap();
            assert_eq!(problems[0].path, path, "{problems:?}");
        }
    }

    #[test]
    fn signals_become_frames() {
        let live = |what: &str, agent: bool| -> outbound::Live {
            let author =
                if agent { serde_json::json!({ "agent": "anna", "display": "Anna" }) } else { serde_json::json!({}) };
            serde_json::from_value(serde_json::json!({ "conversation": "c1", "author": author, "what": what, "at": 1 }))
                .unwrap()
        };
        assert_eq!(frame_of(&live("typing", true)).encode(), r#"{"type":"typing","on":true,"name":"Anna"}"#);
        assert_eq!(
            frame_of(&live("joined", true)).encode(),
            r#"{"type":"presence","state":"joined","agent":{"name":"Anna"}}"#
        );
        assert_eq!(frame_of(&live("waiting", false)).encode(), r#"{"type":"presence","state":"waiting","agent":null}"#);
    }
}
