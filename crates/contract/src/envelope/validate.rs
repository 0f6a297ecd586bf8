//! What a well-formed envelope must keep beyond its types: bounds, and fields that its kind needs.

use super::*;

/// Why an envelope is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The field, as a path.
    pub field: &'static str,
    /// What is wrong with it; never its content.
    pub problem: String,
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for Invalid {}

fn fail<T>(field: &'static str, problem: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field, problem: problem.into() })
}

fn key(field: &'static str, value: &str) -> Result<(), Invalid> {
    if value.is_empty() {
        return fail(field, "is empty");
    }
    if value.len() > KEY_BYTES_MAX {
        return fail(field, format!("has {} bytes, at most {KEY_BYTES_MAX} are allowed", value.len()));
    }
    Ok(())
}

fn list(field: &'static str, length: usize, max: usize) -> Result<(), Invalid> {
    if length > max {
        return fail(field, format!("has {length} entries, at most {max} are allowed"));
    }
    Ok(())
}

/// Checks an id or address that may be absent, or be one of many.
fn ids<'a>(field: &'static str, values: impl IntoIterator<Item = &'a SmolStr>) -> Result<(), Invalid> {
    let mut count = 0;
    for value in values {
        key(field, value)?;
        count += 1;
    }
    list(field, count, LIST_MAX)
}

/// Checks how deep free values nest; the map itself is the first level.
fn depth(field: &'static str, map: &Map<String, Value>) -> Result<(), Invalid> {
    fn fits(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
            Value::Object(map) => left > 0 && map.values().all(|item| fits(item, left - 1)),
            _ => true,
        }
    }
    if map.values().all(|value| fits(value, VALUE_DEPTH_MAX - 1)) {
        Ok(())
    } else {
        fail(field, format!("nests deeper than {VALUE_DEPTH_MAX} levels"))
    }
}

fn party(field: &'static str, party: &Party) -> Result<(), Invalid> {
    list(field, party.aliases.len(), LIST_MAX)?;
    for identity in std::iter::once(&party.identity).chain(&party.aliases) {
        key(field, &identity.scheme)?;
        key(field, &identity.value)?;
        if identity.scope != Scope::Global && identity.scope_id.is_none() {
            return fail(field, "an identity that is not global needs a scope_id");
        }
    }
    Ok(())
}

/// Checks the parts of a message, inbound or outbound.
///
/// # Errors
/// With the first part that is too large or malformed.
pub fn content(field: &'static str, parts: &[Part]) -> Result<(), Invalid> {
    list(field, parts.len(), PARTS_MAX)?;
    for part in parts {
        match part {
            Part::Text(text) if text.body.len() > TEXT_BYTES_MAX => {
                return fail(
                    field,
                    format!("a text has {} bytes, at most {TEXT_BYTES_MAX} are allowed", text.body.len()),
                );
            }
            Part::Text(text) => list(field, text.entities.len(), LIST_MAX)?,
            Part::Form { fields: free } | Part::Order { details: free } | Part::Template { parameters: free, .. } => {
                depth(field, free)?;
            }
            Part::Unknown(map) => match map.get("type").and_then(Value::as_str) {
                None => return fail(field, "a part has no type"),
                Some(known) if KNOWN_PARTS.contains(&known) => {
                    return fail(field, format!("a part of type {known} lacks a field or has one of the wrong type"));
                }
                Some(_) => depth(field, map)?,
            },
            _ => {}
        }
    }
    Ok(())
}

impl Envelope {
    /// Checks what the types alone cannot say.
    ///
    /// # Errors
    /// With the first field that is out of bounds, or missing for this kind.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.v != VERSION {
            return fail("v", format!("version {} is not known, only {VERSION}", self.v));
        }
        key("dedup_key", &self.dedup_key)?;
        key("thread.key", &self.thread.key)?;
        party("sender", &self.sender)?;
        list("external_ids", self.external_ids.len(), LIST_MAX)?;
        list("recipients", self.recipients.len(), LIST_MAX)?;
        list("tags", self.tags.len(), LIST_MAX)?;
        for recipient in &self.recipients {
            party("recipients", recipient)?;
        }
        content("content", &self.content)?;
        ids("external_id", &self.external_id)?;
        ids("external_ids", &self.external_ids)?;
        ids("thread.reply_target", self.thread.reply_target.as_ref().map(|target| &target.address))?;
        for reference in [&self.reply_to, &self.target].into_iter().flatten() {
            ids("target", &reference.external_id)?;
        }
        if let Some(receipt) = &self.receipt {
            ids("receipt.command_id", &receipt.command_id)?;
            ids("receipt.targets", &receipt.targets)?;
        }
        if let Some(mail) = &self.mail {
            ids("mail.message_id", &mail.message_id)?;
            ids("mail.references", &mail.references)?;
            ids("mail.envelope_to", &mail.envelope_to)?;
            ids("mail.reply_to", &mail.reply_to)?;
        }
        if let Some(signal) = &self.signal {
            key("signal.name", &signal.name)?;
            depth("signal.data", &signal.data)?;
        }
        if let Some(raw) = &self.raw_ref {
            depth("raw_ref.headers", &raw.headers)?;
        }
        match self.kind {
            EnvelopeKind::Message if self.content.is_empty() => fail("content", "a message needs at least one part"),
            EnvelopeKind::Edit | EnvelopeKind::Delete if self.target.is_none() => {
                fail("target", "an edit or deletion needs a target")
            }
            EnvelopeKind::Media if self.target.is_none() => fail("target", "what was fetched needs a target"),
            EnvelopeKind::Media if self.content.is_empty() => fail("content", "is missing"),
            EnvelopeKind::Reaction if self.reaction.is_none() => fail("reaction", "is missing"),
            EnvelopeKind::Reaction if self.target.is_none() => fail("target", "a reaction needs a target"),
            EnvelopeKind::Receipt => match &self.receipt {
                None => fail("receipt", "is missing"),
                Some(receipt) if receipt.names_nothing() => {
                    fail("receipt", "needs a command_id, targets, a watermark or a through_seq")
                }
                Some(_) => Ok(()),
            },
            EnvelopeKind::ContactEvent | EnvelopeKind::ConversationEvent | EnvelopeKind::AccountEvent
                if self.signal.is_none() =>
            {
                fail("signal", "is missing")
            }
            EnvelopeKind::Call if self.call.is_none() => fail("call", "is missing"),
            _ => Ok(()),
        }
    }
}
