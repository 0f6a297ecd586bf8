//! What Telegram marks in a text.

use adapter::contract::SmolStr;
use adapter::contract::envelope::Entity;
use adapter::contract::limits::LIST_MAX;

use crate::read::{At, Utf16};

/// The stretches of a body, in the contract's words and in bytes. One that is not within the text is left out.
pub(super) fn entities<'a>(body: &str, given: impl Iterator<Item = At<'a>>) -> Vec<Entity> {
    let mut given = given.peekable();
    if given.peek().is_none() {
        return Vec::new();
    }
    let utf16 = Utf16::new(body);
    let entities = given.filter_map(|entity| {
        let (offset, length) = utf16.bytes(entity.number("offset")?, entity.number("length")?)?;
        let (kind, value): (&str, Option<SmolStr>) = match entity.text("type")? {
            "text_link" => ("url", entity.text("url").map(SmolStr::from)),
            "text_mention" => ("mention", entity.get("user").id("id")),
            "custom_emoji" => ("custom_emoji", entity.id("custom_emoji_id")),
            "phone_number" => ("phone", None),
            "pre" => ("pre", entity.text("language").map(SmolStr::from)),
            other => (other, None),
        };
        Some(Entity { kind: kind.into(), offset, length, value })
    });
    entities.take(LIST_MAX).collect()
}
