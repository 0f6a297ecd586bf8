//! Handing mails to the mail server. Every wait has an end, and few connections are open at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use adapter::failure::SendFailure;
use adapter::runtime::secret::SecretString;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::net;
use crate::oauth;
use crate::render::Outgoing;
use crate::settings::{Security, Smtp};
use crate::telemetry::Metric;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 4;
/// A connection that nobody used for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Who signs in.
pub(crate) enum Login {
    Nobody,
    Password { user: String, password: SecretString },
    Oauth { user: String },
}

/// The mail server of one account.
pub(crate) struct Server {
    settings: Smtp,
    login: Login,
    tls: Option<TlsParameters>,
    hello: ClientId,
    permits: Semaphore,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

/// What became of a conversation with the server.
enum Trouble {
    /// The server answered with a refusal.
    Answer { stage: &'static str, code: u16, permanent: bool, text: String },
    /// No answer, or none that can be read.
    Broken { stage: &'static str, why: String },
}

impl Server {
    /// Reads certificates; connects to nothing.
    pub(crate) fn new(settings: Smtp, login: Login, domain: &str) -> Result<Self, String> {
        let tls = match settings.security {
            Security::None => None,
            Security::Tls | Security::Starttls => {
                let host = settings.host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let mut builder = TlsParameters::builder(host).certificate_store(CertificateStore::None);
                for root in net::roots(settings.ca_file.as_deref())? {
                    // The system's store may hold some that this library cannot read.
                    if let Ok(certificate) = Certificate::from_der(root.to_vec()) {
                        builder = builder.add_root_certificate(certificate);
                    }
                }
                Some(builder.build_rustls().map_err(|error| error.to_string())?)
            }
        };
        let hello = ClientId::Domain(domain.to_owned());
        let (permits, idle) = (Semaphore::new(CONNECTIONS_MAX), Mutex::default());
        Ok(Self { settings, login, tls, hello, permits, idle })
    }

    /// Hands a mail over; returns what the server said.
    ///
    /// # Errors
    /// As the server answers: 4yz and a connection that breaks can be tried again, 5yz cannot. A mail whose
    /// end was never answered may have been taken; handed over again it has the same Message-ID.
    pub(crate) async fn send(&self, mail: &Outgoing, tokens: Option<&oauth::Tokens>) -> Result<String, SendFailure> {
        // Never closed.
        let _permit = self.permits.acquire().await.map_err(|_| SendFailure::retryable("closed", "shutting down"))?;
        let mut connection = match self.reuse().await {
            Some(connection) => connection,
            None => self.connect(tokens).await?,
        };
        match self.carry(&mut connection, mail).await {
            Ok(text) => {
                Metric::Sends.count("taken");
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < CONNECTIONS_MAX {
                    idle.push((connection, Instant::now()));
                }
                Ok(text)
            }
            Err(trouble) => {
                let _ = tokio::time::timeout(Duration::from_secs(2), connection.abort()).await;
                Err(failure(trouble))
            }
        }
    }

    async fn reuse(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (mut connection, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() > IDLE_MAX {
                continue;
            }
            let alive = tokio::time::timeout(Duration::from_secs(5), connection.test_connected()).await;
            if alive == Ok(true) {
                return Some(connection);
            }
        }
    }

    async fn connect(&self, tokens: Option<&oauth::Tokens>) -> Result<AsyncSmtpConnection, SendFailure> {
        let mut refused = None;
        loop {
            let mut connection = self.open().await.map_err(failure)?;
            let (mechanisms, credentials, token) = match &self.login {
                Login::Nobody => return Ok(connection),
                Login::Password { user, password } => {
                    let credentials = Credentials::new(user.clone(), password.expose().to_owned());
                    ([Mechanism::Plain, Mechanism::Login].as_slice(), credentials, None)
                }
                Login::Oauth { user } => {
                    let Some(tokens) = tokens else {
                        return Err(SendFailure::retryable("oauth", "no token server is set up"));
                    };
                    let token = tokens.get(refused.as_ref()).await;
                    let token = token.map_err(|error| SendFailure::retryable("oauth", error.why))?;
                    let credentials = Credentials::new(user.clone(), token.expose().to_owned());
                    ([Mechanism::Xoauth2].as_slice(), credentials, Some(token))
                }
            };
            let signed_in = self.within("AUTH", connection.auth(mechanisms, &credentials)).await;
            let Err(trouble) = signed_in else { return Ok(connection) };
            let _ = tokio::time::timeout(Duration::from_secs(2), connection.abort()).await;
            if matches!(trouble, Trouble::Answer { .. }) && token.is_some() && refused.is_none() {
                refused = token;
                continue;
            }
            // Not the mail's fault: it waits until somebody mends the account.
            Metric::Sends.count("auth");
            return Err(match trouble {
                Trouble::Answer { code, .. } => {
                    SendFailure::retryable("smtp_auth", format!("the mail server refuses the login with {code}"))
                }
                Trouble::Broken { why, .. } => SendFailure::retryable("smtp_auth", why),
            });
        }
    }

    async fn open(&self) -> Result<AsyncSmtpConnection, Trouble> {
        let host = self.settings.host.trim_start_matches('[').trim_end_matches(']');
        let server = (host, self.settings.port());
        let timeout = Some(self.settings.timeout());
        let at_once = self.tls.clone().filter(|_| self.settings.security == Security::Tls);
        let connecting = AsyncSmtpConnection::connect_tokio1(server, timeout, &self.hello, at_once, None);
        let mut connection = self.within("connect", connecting).await?;
        if let Some(tls) = self.tls.clone().filter(|_| self.settings.security == Security::Starttls) {
            // Refused where the server does not offer it: nothing is said in the clear.
            self.within("STARTTLS", connection.starttls(tls, &self.hello)).await?;
        }
        Ok(connection)
    }

    async fn carry(&self, connection: &mut AsyncSmtpConnection, mail: &Outgoing) -> Result<String, Trouble> {
        let mut parameters = Vec::new();
        if !mail.bytes.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let from = connection.command(Mail::new(Some(mail.from.clone()), parameters.clone()));
        match self.within("MAIL", from).await {
            Ok(_) => {}
            // Some servers let a user send from the bare address only; then bounces are known by their ids.
            Err(Trouble::Answer { permanent: true, .. }) if mail.from != mail.from_plain => {
                let plain = connection.command(Mail::new(Some(mail.from_plain.clone()), parameters));
                self.within("MAIL", plain).await?;
            }
            Err(trouble) => return Err(trouble),
        }
        self.within("RCPT", connection.command(Rcpt::new(mail.to.clone(), Vec::new()))).await?;
        self.within("DATA", connection.command(Data)).await?;
        // The end of the mail may take a server long: it scans what it got.
        let limit = self.settings.timeout().max(Duration::from_secs(120));
        let response = within(limit, "end of data", connection.message(&mail.bytes)).await?;
        Ok(response.message().collect::<Vec<_>>().join(" "))
    }

    async fn within<T>(
        &self,
        stage: &'static str,
        work: impl Future<Output = Result<T, SmtpError>>,
    ) -> Result<T, Trouble> {
        within(self.settings.timeout(), stage, work).await
    }
}

async fn within<T>(
    limit: Duration,
    stage: &'static str,
    work: impl Future<Output = Result<T, SmtpError>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.status() {
            Some(code) => Trouble::Answer {
                stage,
                code: u16::from(code),
                permanent: error.is_permanent(),
                text: error.to_string().chars().filter(|c| !c.is_control()).take(300).collect(),
            },
            None => Trouble::Broken { stage, why: error.to_string().chars().take(200).collect() },
        }),
        Err(_) => Err(Trouble::Broken { stage, why: format!("no answer within {} s", limit.as_secs()) }),
    }
}

fn failure(trouble: Trouble) -> SendFailure {
    match trouble {
        Trouble::Answer { stage: stage @ ("connect" | "STARTTLS"), code, text, .. } => {
            // The server speaks of itself, not of the mail.
            Metric::Sends.count("unavailable");
            SendFailure::retryable(code.to_string(), format!("{stage}: {text}"))
        }
        Trouble::Answer { stage, code, permanent: true, text } => {
            Metric::Sends.count("refused");
            SendFailure::permanent(code.to_string(), format!("{stage}: {text}"))
        }
        Trouble::Answer { stage, code, permanent: false, text } => {
            Metric::Sends.count("deferred");
            SendFailure::retryable(code.to_string(), format!("{stage}: {text}"))
        }
        Trouble::Broken { stage, why } => {
            Metric::Sends.count("unavailable");
            SendFailure::retryable("smtp_connection", format!("{stage}: {why}"))
        }
    }
}

/// The id that a server says it gave the mail, where it is long enough not to be guessed: some services
/// replace ours by it.
pub(crate) fn id_in(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || "<>()[],;=".contains(c));
    let legal = |word: &&str| {
        let bytes = word.bytes();
        word.len() >= 20 && word.len() <= 200 && bytes.clone().all(|b| b.is_ascii_graphic()) && {
            bytes.clone().any(|b| b.is_ascii_digit())
        }
    };
    words.filter(legal).find(|word| !word.contains("://")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_relay_is_found_in_its_answer() {
        for (answer, id) in [
            (
                "Ok 0100018e1c2f3a4b-0123abcd-4567-89ef-0123-456789abcdef-000000",
                Some("0100018e1c2f3a4b-0123abcd-4567-89ef-0123-456789abcdef-000000"),
            ),
            ("2.0.0 OK <abc123@relay.example.com> [Hostname=x]", Some("abc123@relay.example.com")),
            ("2.0.0 Ok: queued as 4F3D2A1B", None),
            ("OK id=1rIuYx-0004Ab-2C", None),
        ] {
            assert_eq!(id_in(answer).as_deref(), id, "{answer}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        use adapter::failure::Class;
        let answer =
            |stage, permanent| failure(Trouble::Answer { stage, code: 550, permanent, text: "x".into() }).class;
        assert_eq!(answer("RCPT", true), Class::Permanent);
        assert_eq!(answer("RCPT", false), Class::Retryable { after: None });
        assert_eq!(answer("connect", true), Class::Retryable { after: None });
        let broken = failure(Trouble::Broken { stage: "end of data", why: String::new() });
        assert_eq!(broken.class, Class::Retryable { after: None });
    }
}
