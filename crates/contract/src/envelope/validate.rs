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
            Part::Unknown(map) => match map.get("type").and_then(Value::as_str) {
                None => return fail(field, "a part has no type"),
                Some(known) if KNOWN_PARTS.contains(&known) => {
                    return fail(field, format!("a part of type {known} lacks a field or has one of the wrong type"));
                }
                Some(_) => {}
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
        match self.kind {
            EnvelopeKind::Message if self.content.is_empty() => fail("content", "a message needs at least one part"),
            EnvelopeKind::Edit | EnvelopeKind::Delete if self.target.is_none() => {
                fail("target", "an edit or deletion needs a target")
            }
            EnvelopeKind::Reaction if self.reaction.is_none() => fail("reaction", "is missing"),
            EnvelopeKind::Receipt if self.receipt.is_none() => fail("receipt", "is missing"),
            EnvelopeKind::Call if self.call.is_none() => fail("call", "is missing"),
            _ => Ok(()),
        }
    }
}
