//! What is done with the bytes of one mail: read, store its files, hand in its envelopes.

use adapter::contract::envelope::{Envelope, Part, RawRef};
use adapter::contract::{SmolStr, Timestamp};
use adapter::media::MediaError;
use adapter::{AcceptError, Context, bus};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::normalize::{self, Draft, Place, Reading};
use crate::telemetry::Metric;
use crate::token::key_of;

/// How many mails with one Message-ID are remembered.
const SAME_ID_MAX: usize = 16;

/// The bus does not take it now: the same mail is to come again.
#[derive(Debug)]
pub(crate) struct Halt(pub(crate) String);

/// What is remembered of the mails with one id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// Their `dedup_key`s.
    keys: Vec<SmolStr>,
}

/// What an id that is not ours stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alias {
    pub(crate) thread: SmolStr,
}

/// Takes mails of one account in.
pub(crate) struct Intake {
    pub(crate) context: Context,
    pub(crate) place: Place,
}

/// The name under which an id is remembered as an alias: an id whole, or what stands before its @.
pub(crate) fn alias_name(id: &str) -> String {
    format!("alias-{}", key_of(&["alias", id]))
}

impl Intake {
    /// Takes one mail. When it returns, the mail is stored, or what can be said of it is.
    ///
    /// # Errors
    /// When the bus does not take it now.
    pub(crate) async fn take(&self, raw: Bytes, full_bytes: usize, only_ids: bool) -> Result<(), Halt> {
        let now = adapter::now();
        let place = self.place.clone();
        let cut = raw.len() < full_bytes;
        // Aside, since a large mail takes a while, and a mistake of ours in it must end nothing else.
        let bytes = raw.clone();
        let reading = match tokio::task::spawn_blocking(move || normalize::read(&place, &bytes, now)).await {
            Ok(reading) => reading,
            Err(error) if error.is_panic() => return self.park(&raw, "reading it failed", now).await,
            Err(_) => return Err(Halt("reading a mail was broken off".to_owned())),
        };
        match reading {
            Reading::Own { thread, alias } => {
                Metric::Mails.count("own");
                match alias {
                    Some(id) => self.remember_alias(&id, thread).await,
                    None => Ok(()),
                }
            }
            _ if only_ids => Ok(()),
            Reading::Reports(envelopes) => {
                Metric::Mails.count("report");
                for mut envelope in envelopes {
                    self.store_raw(&mut envelope, &raw).await?;
                    self.hand_in(&envelope, &raw, now).await?;
                }
                Ok(())
            }
            Reading::Message(draft) => self.message(*draft, raw, full_bytes, cut, now).await,
        }
    }

    async fn message(
        &self,
        mut draft: Draft,
        raw: Bytes,
        full_bytes: usize,
        cut: bool,
        now: Timestamp,
    ) -> Result<(), Halt> {
        let id = draft.envelope.external_id.clone().unwrap_or_default();
        let name = format!("mail-{}", key_of(&["id", &id]));
        let seen = self.context.memory.get::<Seen>(&name).await.map_err(unavailable)?;
        let known = seen.value.unwrap_or_default();
        if known.keys.contains(&draft.envelope.dedup_key) {
            Metric::Mails.count("repeated");
            return Ok(());
        }
        if !known.keys.is_empty() {
            warn(&mut draft.envelope, "another mail has the same Message-ID and says something else".to_owned());
        }
        if cut {
            warn(&mut draft.envelope, format!("the mail has {full_bytes} bytes; only its beginning was read"));
            if let Some(mail) = &mut draft.envelope.mail {
                mail.bytes = Some(full_bytes as u64);
            }
        }
        if let Some(thread) = self.alias_of(&draft.ids).await? {
            draft.prove(thread);
        }
        self.store_files(&mut draft, &raw).await?;
        let class = draft.envelope.mail.as_ref().map(|mail| mail.class.clone());
        self.hand_in(&draft.envelope, &raw, now).await?;
        Metric::Mails.count(match class {
            Some(adapter::contract::envelope::MailClass::AutoReply) => "auto_reply",
            Some(adapter::contract::envelope::MailClass::List) => "list",
            _ => "message",
        });
        let mut keys = known.keys;
        keys.push(draft.envelope.dedup_key.clone());
        let skip = keys.len().saturating_sub(SAME_ID_MAX);
        let keys = keys.split_off(skip);
        // Lost, or written over by another process at the same moment, it costs a repeat that the router drops.
        if let Err(error) = self.context.memory.put(&name, &Seen { keys }).await {
            tracing::debug!(kind = ?error.kind, "a mail that was taken is not remembered");
        }
        Ok(())
    }

    /// The thread of ours that one of the ids stands for.
    async fn alias_of(&self, ids: &[String]) -> Result<Option<SmolStr>, Halt> {
        for id in ids.iter().take(20) {
            let local = id.split('@').next().unwrap_or_default();
            for name in [alias_name(id), alias_name(local)] {
                let found = self.context.memory.get::<Alias>(&name).await.map_err(unavailable)?;
                if let Some(alias) = found.value {
                    return Ok(Some(alias.thread));
                }
            }
        }
        Ok(None)
    }

    /// Remembers an id that mail of ours has elsewhere.
    pub(crate) async fn remember_alias(&self, id: &str, thread: SmolStr) -> Result<(), Halt> {
        let alias = Alias { thread };
        self.context.memory.put(&alias_name(id), &alias).await.map(|_| ()).map_err(unavailable)
    }

    async fn store_files(&self, draft: &mut Draft, raw: &Bytes) -> Result<(), Halt> {
        let thread = draft.envelope.thread.key.clone();
        let redactor = std::sync::Arc::clone(&self.context.redactor);
        let mut barred = false;
        draft.envelope.texts_mut(&mut |text| barred |= redactor.redact_in(text));
        for file in std::mem::take(&mut draft.files) {
            let Some(Part::Media(media)) = draft.envelope.content.get_mut(file.part) else { continue };
            let size = file.bytes.len() as u64;
            let (mime, name) = (media.mime.clone(), media.name.clone());
            let text = mime.as_deref().is_some_and(|mime| mime.starts_with("text/"));
            if text && redactor.redact(&String::from_utf8_lossy(&file.bytes)).is_some() {
                barred = true;
                *media = adapter::media::unavailable(mime.as_deref(), name.as_deref(), size, "redacted");
                continue;
            }
            let stored = self.context.media.put(&thread, file.bytes.into(), mime.as_deref(), name.as_deref()).await;
            let inline_cid = media.inline_cid.take();
            *media = match stored {
                Ok(stored) => stored,
                Err(MediaError::Unavailable(error)) => return Err(unavailable(error)),
                Err(error) => {
                    tracing::warn!(%error, "an attachment was not stored");
                    adapter::media::unavailable(mime.as_deref(), name.as_deref(), size, "store_refused")
                }
            };
            media.inline_cid = inline_cid;
        }
        if barred {
            warn(&mut draft.envelope, "the raw mail was not stored: it holds what must not be".to_owned());
            return Ok(());
        }
        self.store_raw(&mut draft.envelope, raw).await
    }

    /// Keeps the mail as it came, beside its envelope.
    async fn store_raw(&self, envelope: &mut Envelope, raw: &Bytes) -> Result<(), Halt> {
        match self.context.media.put(&envelope.thread.key, raw.clone(), Some("message/rfc822"), None).await {
            Ok(stored) => {
                if let (Some(store_key), Some(sha256)) = (stored.store_key, stored.sha256) {
                    let content_type = Some("message/rfc822".into());
                    envelope.raw_ref = Some(RawRef { store_key, sha256, content_type, headers: Default::default() });
                }
                Ok(())
            }
            Err(MediaError::Unavailable(error)) => Err(unavailable(error)),
            Err(error) => {
                tracing::warn!(%error, "a raw mail was not stored");
                warn(envelope, "the raw mail was not stored".to_owned());
                Ok(())
            }
        }
    }

    /// Stores an envelope. One that breaks the contract is told to the operator, with its raw mail kept.
    async fn hand_in(&self, envelope: &Envelope, raw: &Bytes, now: Timestamp) -> Result<(), Halt> {
        match self.context.inbound.accept(envelope).await {
            Ok(_) => Ok(()),
            Err(error @ (AcceptError::Invalid(_) | AcceptError::TooLarge { .. } | AcceptError::Misaddressed)) => {
                tracing::error!(%error, "a mail cannot be an envelope");
                self.park(raw, &error.to_string(), now).await
            }
            Err(error) => Err(Halt(error.to_string())),
        }
    }

    /// Tells that the account cannot sign in any more; where the bus does not take it, health says so all the same.
    pub(crate) async fn auth_failed(&self, why: &str) {
        let event = normalize::of_account(&self.place, "auth_failed", why, adapter::now());
        if let Err(error) = self.context.inbound.accept(&event).await {
            tracing::warn!(%error, "an event of the account was not stored");
        }
    }

    /// Keeps a mail that cannot be taken in, and says so.
    pub(crate) async fn park(&self, raw: &Bytes, why: &str, now: Timestamp) -> Result<(), Halt> {
        Metric::Mails.count("unprocessable");
        let mut event = normalize::unprocessable(&self.place, raw, "mail_unprocessable", why, now);
        let thread = event.thread.key.clone();
        match self.context.media.put(&thread, raw.clone(), Some("message/rfc822"), None).await {
            Ok(stored) => {
                if let (Some(signal), Some(key)) = (&mut event.signal, stored.store_key) {
                    signal.data.insert("raw".into(), key.as_str().into());
                }
            }
            Err(MediaError::Unavailable(error)) => return Err(unavailable(error)),
            Err(error) => tracing::error!(%error, "a mail that cannot be taken in was not kept either"),
        }
        match self.context.inbound.accept(&event).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_retryable() => Err(Halt(error.to_string())),
            Err(error) => {
                tracing::error!(%error, "an event of the account was not taken");
                Ok(())
            }
        }
    }
}

fn unavailable(error: bus::Error) -> Halt {
    Halt(format!("the bus: {}", error.kind))
}

fn warn(envelope: &mut Envelope, warning: String) {
    if let Some(adapter) = &mut envelope.adapter {
        adapter.warnings.push(warning);
    }
}
