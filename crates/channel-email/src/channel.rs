//! What the SDK sees: the kind, the prepared account, the running account.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adapter::contract::SmolStr;
use adapter::contract::envelope::{MediaStatus, Part};
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::failure::{SendFailure, Sent};
use adapter::ledger::Begin;
use adapter::media::MediaError;
use adapter::runtime::secret::{Secret, SecretString};
use adapter::{AccountFile, BoxFuture, Channel, Context, Kind, OpenError, PartLedger, Prepared, Problem, Retry};

use crate::address::{Mailbox, Ours};
use crate::brake::{self, Automatic};
use crate::fetch::Fetcher;
use crate::intake::Intake;
use crate::normalize::Place;
use crate::render::{self, Enclosure, Writer};
use crate::settings::{Security, Settings};
use crate::telemetry::Metric;
use crate::token::{Tokens, is_key};
use crate::{net, oauth, smtp};

/// Its name.
const KIND: &str = "email";
/// A shorter key could be guessed.
const KEY_BYTES_MIN: usize = 32;
/// The longest wait between two tries of a mail.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Mail, to be registered with the daemon.
#[must_use]
pub fn register() -> Box<dyn Kind> {
    Box::new(Email)
}

struct Email;

struct Ready {
    settings: Settings,
    address: Mailbox,
}

/// One mailbox.
struct Account {
    settings: Settings,
    writer: Writer,
    intake: Arc<Intake>,
    fetcher: Fetcher,
    server: smtp::Server,
    tokens: Option<Arc<oauth::Tokens>>,
}

impl Kind for Email {
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
        let (Some(address), true) = (Mailbox::parse(&settings.address), problems.is_empty()) else {
            return Err(problems);
        };
        if let Some(dir) = file.source.parent() {
            settings.relative_to(dir);
        }
        Ok(Box::new(Ready { settings, address }))
    }
}

impl Prepared for Ready {
    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move {
            // Nothing is connected to yet: a mailbox that cannot be reached now is no reason not to start.
            let account = Account::new(context, self.settings, self.address)?;
            Ok(Arc::new(account) as Arc<dyn Channel>)
        })
    }
}

fn resolve(secret: &Secret, setting: &str) -> Result<SecretString, OpenError> {
    secret.resolve().map_err(|error| OpenError::new(setting, error))
}

impl Account {
    fn new(mut context: Context, settings: Settings, address: Mailbox) -> Result<Self, OpenError> {
        if context.account.address.is_none() {
            context.account.address = Some(address.as_str().into());
        }
        let key = match &settings.reply_token_key {
            Some(secret) => resolve(secret, "reply_token_key")?,
            None => {
                let made = context.secrets.get_or_create("reply-token.key");
                SecretString::new(made.map_err(|error| OpenError::new("reply token key", error))?)
            }
        };
        if key.expose().len() < KEY_BYTES_MIN {
            let why = format!("has fewer than {KEY_BYTES_MIN} bytes and could be guessed");
            return Err(OpenError::new("reply_token_key", why));
        }
        let tokens = Tokens::new(key.expose().as_bytes(), context.tenant.as_str(), context.account.id.as_str());
        let tokens = tokens.ok_or_else(|| OpenError("reply_token_key: cannot be used".into()))?;
        let place = Place {
            tenant: context.tenant.clone(),
            account: context.account.clone(),
            ours: Ours::new(address.clone(), settings.aliases.iter().filter_map(|alias| Mailbox::parse(alias))),
            tokens: tokens.clone(),
            authserv_id: settings.authserv_id.clone(),
            parts_max: settings.parts_max,
            attachments_max: settings.attachments_max,
            attachments_bytes_max: settings.attachments_bytes_max,
        };
        let writer = Writer {
            address,
            name: settings.name.clone(),
            plus_addressing: settings.plus_addressing,
            verp: settings.verp,
            tokens,
        };
        let tls = |path: Option<&Path>, what: &str| net::tls(path).map_err(|error| OpenError::new(what, error));
        let oauth = oauth_of(&settings, &context, tls)?.map(Arc::new);
        let login = match (&settings.smtp.user, &settings.smtp.password, &oauth) {
            (Some(user), Some(password), _) => {
                smtp::Login::Password { user: user.clone(), password: resolve(password, "smtp.password")? }
            }
            (user, None, Some(_)) => {
                smtp::Login::Oauth { user: user.clone().unwrap_or_else(|| settings.imap.user.clone()) }
            }
            _ => smtp::Login::Nobody,
        };
        let server = smtp::Server::new(settings.smtp.clone(), login, writer.address.domain());
        let server = server.map_err(|error| OpenError::new("smtp", error))?;
        let intake = Arc::new(Intake { context, place });
        let password = settings.imap.password.as_ref().map(|secret| resolve(secret, "imap.password")).transpose()?;
        let imap_tls = match settings.imap.security {
            Security::None => None,
            Security::Tls | Security::Starttls => Some(tls(settings.imap.ca_file.as_deref(), "imap")?),
        };
        let fetcher = Fetcher {
            intake: Arc::clone(&intake),
            settings: settings.imap.clone(),
            tls: imap_tls,
            password,
            tokens: oauth.clone(),
            mail_bytes_max: settings.mail_bytes_max,
        };
        Ok(Self { settings, writer, intake, fetcher, server, tokens: oauth })
    }

    /// The files of a command, read from the store.
    async fn enclosures(&self, command: &OutCommand) -> Result<Vec<Enclosure>, SendFailure> {
        let mut enclosures = Vec::new();
        let mut bytes = 0;
        for part in &command.content {
            let Part::Media(media) = part else { continue };
            let gone = || SendFailure::permanent("media_gone", "an attachment is not in the store");
            let key = media.store_key.as_deref().filter(|_| media.status != Some(MediaStatus::Unavailable));
            let max = self.settings.attachments_bytes_max;
            let read =
                self.intake.context.media.get(key.ok_or_else(gone)?, max).await.map_err(|error| match error {
                    MediaError::Unavailable(_) => SendFailure::retryable("media", "the object store does not answer"),
                    MediaError::Foreign => SendFailure::permanent("media_foreign", "an attachment is another tenant's"),
                    MediaError::Refused(_) => SendFailure::permanent("media_too_large", "an attachment is too large"),
                })?;
            let read = read.ok_or_else(gone)?;
            bytes += read.len();
            if bytes > max {
                return Err(SendFailure::permanent("media_too_large", "the attachments together are too large"));
            }
            enclosures.push(Enclosure {
                name: media.name.as_deref().unwrap_or("attachment").to_owned(),
                mime: media.mime.as_deref().unwrap_or("application/octet-stream").to_owned(),
                bytes: read.to_vec(),
            });
        }
        Ok(enclosures)
    }

    async fn deliver(&self, command: &OutCommand, ledger: &mut PartLedger) -> Result<Sent, SendFailure> {
        let to = render::target(command)?;
        let enclosures = self.enclosures(command).await?;
        let mail = render::mail(&self.writer, command, enclosures)?;
        let message_id = SmolStr::from(mail.message_id.as_str());
        match ledger.begin(0).await? {
            Begin::Sent { external_ids } => return Ok(Sent::with_ids(external_ids)),
            Begin::Fresh if command.automatic() => {
                let limits = brake::Limits {
                    per_hour: self.settings.auto_replies_per_hour_max,
                    per_thread_day: self.settings.auto_replies_per_thread_day_max,
                };
                let automatic = Automatic {
                    command: command.command_id.as_str(),
                    to: to.as_ref(),
                    thread: command.thread.key.as_str(),
                    text: &render::text(&command.content),
                };
                if let Err(failure) = brake::take(&self.intake.context.memory, limits, &automatic).await {
                    Metric::Braked.count("automatic");
                    return Err(failure);
                }
            }
            // An interrupted mail may have been taken. Its Message-ID is the same again, by which many receivers know
            // the repeat; a mail that is lost would be worse than one that comes twice.
            Begin::Fresh | Begin::Interrupted => {}
        }
        let answer = self.server.send(&mail, self.tokens.as_deref()).await?;
        ledger.sent(0, vec![message_id.clone()]).await;
        self.remember_ids(command, &message_id, &answer).await;
        Ok(Sent::with_ids(vec![message_id]))
    }

    /// Remembers by which other ids an answer may name this mail.
    async fn remember_ids(&self, command: &OutCommand, message_id: &str, answer: &str) {
        let thread = &command.thread.key;
        let odd = (!is_key(thread)).then(|| message_id.to_owned());
        for id in odd.into_iter().chain(smtp::id_in(answer)) {
            if let Err(halt) = self.intake.remember_alias(&id, thread.clone()).await {
                tracing::warn!(why = halt.0, "an id of a sent mail is not remembered");
            }
        }
    }
}

fn oauth_of(
    settings: &Settings,
    context: &Context,
    tls: impl Fn(Option<&Path>, &str) -> Result<Arc<rustls::ClientConfig>, OpenError>,
) -> Result<Option<oauth::Tokens>, OpenError> {
    let Some(oauth) = &settings.oauth else { return Ok(None) };
    let endpoint = oauth::Endpoint::parse(&oauth.token_url);
    let endpoint = endpoint.ok_or_else(|| OpenError("oauth.token_url: is no address".into()))?;
    let secret = |secret: &Option<Secret>, name: &str| secret.as_ref().map(|one| resolve(one, name)).transpose();
    let grant = oauth::Grant {
        client_id: oauth.client_id.clone(),
        client_secret: secret(&oauth.client_secret, "oauth.client_secret")?,
        refresh_token: secret(&oauth.refresh_token, "oauth.refresh_token")?,
        scope: oauth.scope.clone(),
    };
    let tls = if endpoint.tls { Some(tls(oauth.ca_file.as_deref(), "oauth")?) } else { None };
    Ok(Some(oauth::Tokens::new(endpoint, tls, grant, context.secrets.clone())))
}

impl Channel for Account {
    fn capabilities(&self) -> Capabilities {
        let max = self.settings.attachments_bytes_max as u64;
        let kinds = ["image", "audio", "video", "file"];
        Capabilities {
            media_bytes_max: kinds.into_iter().map(|kind| (kind.into(), max)).collect::<BTreeMap<_, _>>(),
            ..Capabilities::default()
        }
    }

    fn retry(&self) -> Retry {
        Retry { life: Duration::from_secs(self.settings.smtp.retry_hours_max * 3600), wait_max: WAIT_MAX }
    }

    fn send<'a>(
        &'a self,
        command: &'a OutCommand,
        ledger: &'a mut PartLedger,
    ) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        Box::pin(self.deliver(command, ledger))
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            self.fetcher.run().await;
            Ok(())
        })
    }
}
