//! Attachments for agents' tools: they have no way to the object store of their own, and get from it what came in a
//! conversation that they may read, piece by piece.

use bus::{Bus, ErrorKind, topology};
use contract::answer::MediaPiece;
use contract::base64::{self, Alphabet};
use contract::command::{Refusal, RefusalKind};
use contract::{CustomerId, SmolStr, TenantId, token};

use crate::history::Past;

/// Most bytes of one answer: as Base64, and with what is around it, they stay below the contract's limit.
const BYTES_MAX: usize = 640 * 1024;

/// What is asked for.
pub(crate) struct Wanted {
    pub(crate) tenant: TenantId,
    /// Everybody who is the person of the conversation.
    pub(crate) members: Vec<CustomerId>,
    pub(crate) store_key: SmolStr,
    pub(crate) after: Option<SmolStr>,
}

/// A piece of a medium that came from a person.
pub(crate) async fn piece(bus: &Bus, past: Past, wanted: Wanted) -> Result<MediaPiece, Refusal> {
    let none = || Refusal::new(RefusalKind::NotFound, "no message of this customer holds such a medium");
    let Wanted { tenant, members, store_key, after } = wanted;
    // Whatever an adapter wrote, another tenant's things are not given out.
    let own = store_key.strip_prefix(token::encode(tenant.as_str()).as_str());
    if !own.is_some_and(|rest| rest.starts_with('/')) || !past.holds_medium(&tenant, &members, &store_key).await? {
        return Err(none());
    }
    let unavailable = |error: bus::Error| match error.kind {
        ErrorKind::TooLarge => Refusal::new(RefusalKind::TooLarge, error.to_string()),
        _ => Refusal::new(RefusalKind::Unavailable, format!("the object store cannot be read now: {error}")),
    };
    let objects = bus.objects(topology::MEDIA).await.map_err(unavailable)?;
    let piece = objects.piece(&store_key, after.as_deref(), BYTES_MAX).await.map_err(unavailable)?;
    // It was erased, or stored anew while it was read.
    let gone = || Refusal::new(RefusalKind::Gone, "it is not there any more, or not as it was: begin anew");
    let piece = piece.ok_or_else(gone)?;
    Ok(MediaPiece {
        size: piece.size as u64,
        data: base64::encode(Alphabet::Standard, &piece.bytes),
        next: piece.next.map(SmolStr::from),
    })
}
