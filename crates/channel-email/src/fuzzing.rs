//! The pure half from outside, for the fuzzer.

use adapter::contract::envelope::Account;
use adapter::contract::{AccountId, ChannelKind, Envelope, TenantId, Timestamp};

use crate::address::{Mailbox, Ours};
use crate::normalize::{Place, Reading, read};
use crate::token::Tokens;

/// What a mail becomes in an account of no one's; `None` when there is no such account.
#[must_use]
pub fn envelopes(raw: &[u8]) -> Option<Vec<Envelope>> {
    let place = Place {
        tenant: TenantId::new("main").ok()?,
        account: Account {
            kind: ChannelKind::new("email").ok()?,
            id: AccountId::new("support").ok()?,
            provider: None,
            address: None,
        },
        ours: Ours::new(Mailbox::parse("support@shop.example")?, []),
        tokens: Tokens::new(b"0123456789abcdef0123456789abcdef", "main", "support")?,
        authserv_id: Some("mx.shop.example".to_owned()),
        parts_max: 200,
        attachments_max: 50,
        attachments_bytes_max: 1 << 20,
    };
    Some(match read(&place, raw, Timestamp(1)) {
        Reading::Message(draft) => vec![draft.envelope],
        Reading::Reports(envelopes) => envelopes,
        Reading::Own { .. } => Vec::new(),
    })
}
