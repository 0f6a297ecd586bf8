//! One connection to a mailbox: signed in, reading only. Every wait has an end.

use std::sync::Arc;
use std::time::Duration;

use async_imap::error::Error as ImapError;
use async_imap::extensions::idle::IdleResponse;
use async_imap::types::{Fetch, UnsolicitedResponse};
use async_imap::{Authenticator, Client, Session};
use futures_util::StreamExt;
use rustls::ClientConfig;

use crate::net::{self, Stream};
use crate::oauth::{Bearer, OauthError};
use crate::settings::{Imap, Security};

/// Longest wait for the end of IDLE.
const DONE_WITHIN: Duration = Duration::from_secs(15);
/// Most mails that are listed at once.
const LISTED_MAX: usize = 2_000_000;

/// Why the mailbox cannot be read now. Its text is for the operator: no password, no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImapFailure {
    /// The server refuses who we are.
    pub(crate) auth: bool,
    pub(crate) why: String,
}

impl ImapFailure {
    fn new(why: impl Into<String>) -> Self {
        Self { auth: false, why: why.into() }
    }
}

impl std::fmt::Display for ImapFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<OauthError> for ImapFailure {
    fn from(error: OauthError) -> Self {
        Self { auth: error.refused, why: error.why }
    }
}

/// What is used to sign in.
pub(crate) enum Login<'a> {
    Password(&'a str),
    Token(&'a Bearer),
}

/// A folder as EXAMINE shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) uid_validity: u32,
    /// The next mail will have this UID, or a higher one.
    pub(crate) uid_next: u32,
}

/// A mail before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) uid: u32,
    pub(crate) bytes: usize,
    /// When it arrived, milliseconds since the epoch.
    pub(crate) arrived_at: Option<u64>,
}

/// A connection that has signed in.
pub(crate) struct Mailbox {
    session: Session<Stream>,
    timeout: Duration,
    idles: bool,
}

/// Ends every wait.
async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, ImapError>>,
) -> Result<T, ImapFailure> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ImapFailure::new(format!("{what}: {}", tell(&error)))),
        Err(_) => Err(ImapFailure::new(format!("{what}: no answer within {} s", limit.as_secs()))),
    }
}

/// An error without what the server or we said in full.
fn tell(error: &ImapError) -> String {
    let text = match error {
        ImapError::No(text) | ImapError::Bad(text) => format!("the server refuses: {text}"),
        ImapError::Io(error) => error.to_string(),
        ImapError::ConnectionLost => "the connection was lost".to_owned(),
        ImapError::Parse(_) => "the server's answer cannot be read".to_owned(),
        _ => "the command was not possible".to_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// XOAUTH2: the token, then an empty line to the challenge that says what is wrong.
struct Xoauth2(Option<String>);

impl Authenticator for Xoauth2 {
    type Response = String;

    fn process(&mut self, _: &[u8]) -> String {
        self.0.take().unwrap_or_default()
    }
}

impl Mailbox {
    /// Connects and signs in.
    pub(crate) async fn open(
        settings: &Imap,
        tls: Option<&Arc<ClientConfig>>,
        login: Login<'_>,
    ) -> Result<Self, ImapFailure> {
        let limit = settings.timeout();
        let client = connect(settings, tls).await?;
        let signed_in = async {
            match login {
                Login::Password(password) => client.login(&settings.user, password).await,
                Login::Token(token) => {
                    let answer = token.xoauth2(&settings.user);
                    client.authenticate("XOAUTH2", Xoauth2(Some(answer))).await
                }
            }
        };
        let session = match tokio::time::timeout(limit, signed_in).await {
            Ok(Ok(session)) => session,
            Ok(Err((error, _))) => {
                let auth = matches!(error, ImapError::No(_));
                return Err(ImapFailure { auth, why: format!("signing in: {}", tell(&error)) });
            }
            Err(_) => return Err(ImapFailure::new("signing in: no answer in time")),
        };
        let mut mailbox = Self { session, timeout: limit, idles: false };
        let capabilities = within(limit, "CAPABILITY", mailbox.session.capabilities()).await?;
        mailbox.idles = capabilities.has_str("IDLE");
        Ok(mailbox)
    }

    /// Whether the server tells of new mail.
    pub(crate) const fn idles(&self) -> bool {
        self.idles
    }

    /// Opens a folder for reading; nothing in it is changed.
    pub(crate) async fn examine(&mut self, folder: &str) -> Result<Folder, ImapFailure> {
        let found = within(self.timeout, "EXAMINE", self.session.examine(folder)).await?;
        let uid_next = match found.uid_next {
            Some(uid_next) => uid_next,
            // Some servers do not tell; then the newest mail does.
            None if found.exists == 0 => 1,
            None => self.list("*").await?.iter().map(|mail| mail.uid).max().unwrap_or(0).saturating_add(1),
        };
        Ok(Folder { uid_validity: found.uid_validity.unwrap_or(0), uid_next })
    }

    /// The UIDs from `first` to `last` that exist, in order; those that arrived on `since` (a date as
    /// IMAP writes it) or later, where it is given.
    pub(crate) async fn search(&mut self, first: u32, last: u32, since: Option<&str>) -> Result<Vec<u32>, ImapFailure> {
        let mut query = format!("UID {first}:{last}");
        if let Some(since) = since {
            query.push_str(" SINCE ");
            query.push_str(since);
        }
        let found = within(self.timeout * 4, "UID SEARCH", self.session.uid_search(&query)).await?;
        let mut uids: Vec<u32> =
            found.into_iter().filter(|uid| (first..=last).contains(uid)).take(LISTED_MAX).collect();
        uids.sort_unstable();
        Ok(uids)
    }

    /// Sizes and times of a closed range.
    pub(crate) async fn list_range(&mut self, first: u32, last: u32) -> Result<Vec<Listed>, ImapFailure> {
        let mut mails = self.list(&format!("{first}:{last}")).await?;
        // Servers may tell of other mails, too.
        mails.retain(|mail| (first..=last).contains(&mail.uid));
        mails.sort_unstable_by_key(|mail| mail.uid);
        mails.dedup_by_key(|mail| mail.uid);
        Ok(mails)
    }

    async fn list(&mut self, set: &str) -> Result<Vec<Listed>, ImapFailure> {
        let limit = self.timeout;
        let fetches = self.fetch(set, "(UID RFC822.SIZE INTERNALDATE)", limit).await?;
        let mails = fetches.iter().filter_map(|fetch| {
            let arrived_at = fetch.internal_date().and_then(|at| u64::try_from(at.timestamp_millis()).ok());
            Some(Listed { uid: fetch.uid?, bytes: fetch.size.unwrap_or(0) as usize, arrived_at })
        });
        Ok(mails.collect())
    }

    /// The bytes of some mails; `bytes_max` cuts each.
    pub(crate) async fn read(
        &mut self,
        uids: &[u32],
        bytes_max: Option<usize>,
    ) -> Result<Vec<(u32, Vec<u8>)>, ImapFailure> {
        let set = uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let query = match bytes_max {
            Some(max) => format!("(UID BODY.PEEK[]<0.{max}>)"),
            None => "(UID BODY.PEEK[])".to_owned(),
        };
        let limit = self.timeout * 4;
        let fetches = self.fetch(&set, &query, limit).await?;
        let mut mails: Vec<_> = fetches
            .iter()
            .filter_map(|fetch| Some((fetch.uid?, fetch.body()?.to_vec())))
            .filter(|(uid, _)| uids.contains(uid))
            .collect();
        mails.sort_unstable_by_key(|(uid, _)| *uid);
        mails.dedup_by_key(|(uid, _)| *uid);
        Ok(mails)
    }

    async fn fetch(&mut self, set: &str, query: &str, limit: Duration) -> Result<Vec<Fetch>, ImapFailure> {
        let session = &mut self.session;
        let work = async {
            let mut answers = session.uid_fetch(set, query).await?;
            let mut fetches = Vec::new();
            while let Some(fetch) = answers.next().await {
                fetches.push(fetch?);
            }
            Ok(fetches)
        };
        within(limit, "UID FETCH", work).await
    }

    /// Waits until something happens in the folder that is open, or the time is over. Gives the connection back.
    pub(crate) async fn wait(self, limit: Duration) -> Result<Self, ImapFailure> {
        // What was told in between is news already.
        let mut news = false;
        while let Ok(told) = self.session.unsolicited_responses.try_recv() {
            news |= matches!(told, UnsolicitedResponse::Exists(_) | UnsolicitedResponse::Recent(_));
        }
        if news {
            return Ok(self);
        }
        let (timeout, idles) = (self.timeout, self.idles);
        let mut idle = self.session.idle();
        within(timeout, "IDLE", idle.init()).await?;
        let (waiting, _stop) = idle.wait_with_timeout(limit);
        // Keepalives of the server restart its clock; not ours.
        let outcome = tokio::time::timeout(limit, waiting).await;
        if let Ok(Ok(IdleResponse::ManualInterrupt)) = outcome {
            return Err(ImapFailure::new("IDLE: the connection was lost"));
        }
        if let Ok(Err(error)) = outcome {
            return Err(ImapFailure::new(format!("IDLE: {}", tell(&error))));
        }
        let session = within(DONE_WITHIN, "DONE", idle.done()).await?;
        Ok(Self { session, timeout, idles })
    }

    /// Asks the server whether it is there.
    pub(crate) async fn noop(&mut self) -> Result<(), ImapFailure> {
        within(self.timeout, "NOOP", self.session.noop()).await
    }

    /// Says goodbye, which may fail.
    pub(crate) async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.session.logout()).await;
    }
}

async fn connect(settings: &Imap, tls: Option<&Arc<ClientConfig>>) -> Result<Client<Stream>, ImapFailure> {
    let limit = settings.timeout();
    let io = async |what: &str, work: std::pin::Pin<Box<dyn Future<Output = std::io::Result<Stream>> + Send>>| {
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(ImapFailure::new(format!("{what}: {error}"))),
            Err(_) => Err(ImapFailure::new(format!("{what}: no answer within {} s", limit.as_secs()))),
        }
    };
    let (host, port) = (settings.host.clone(), settings.port());
    let secured = |stream: tokio::net::TcpStream| {
        let (host, config) = (settings.host.clone(), tls.cloned());
        Box::pin(async move {
            let config = config.ok_or_else(|| std::io::Error::other("TLS is not set up"))?;
            net::secure(stream, &host, config).await
        })
    };
    let plain = io("connecting", Box::pin(async move { Ok(Stream::Plain(net::connect(&host, port).await?)) })).await?;
    let Stream::Plain(tcp) = plain else { return Err(ImapFailure::new("connecting: not a connection")) };
    let stream = match settings.security {
        Security::Tls => io("TLS", secured(tcp)).await?,
        Security::Starttls | Security::None => Stream::Plain(tcp),
    };
    let mut client = Client::new(stream);
    greet(&mut client, limit).await?;
    if settings.security != Security::Starttls {
        return Ok(client);
    }
    within(limit, "STARTTLS", client.run_command_and_check_ok("STARTTLS", None)).await?;
    // Whatever was said in the clear behind it is dropped with the old client.
    let Stream::Plain(tcp) = client.into_inner() else { return Err(ImapFailure::new("STARTTLS: not possible")) };
    Ok(Client::new(io("TLS", secured(tcp)).await?))
}

async fn greet(client: &mut Client<Stream>, limit: Duration) -> Result<(), ImapFailure> {
    match tokio::time::timeout(limit, client.read_response()).await {
        Ok(Ok(Some(_))) => Ok(()),
        Ok(Ok(None)) => Err(ImapFailure::new("the server hung up")),
        Ok(Err(error)) => Err(ImapFailure::new(format!("the server's greeting: {error}"))),
        Err(_) => Err(ImapFailure::new("the server does not greet")),
    }
}
