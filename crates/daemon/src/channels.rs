//! `throughline channels`: the accounts that say that they live, how they fare and what they can do.

use contract::outbound::{Capabilities, ChannelHealth};
use contract::{Encoding, Timestamp};

use crate::Failure;
use crate::ask::Operator;
use crate::output::{say, span, table};

/// An account beats every ten seconds; one that has been silent for so long is gone.
const SILENT_MS: u64 = 35_000;
/// Largest sign of life that is read.
const BEAT_BYTES_MAX: usize = 256 * 1024;

/// Every account, in order.
pub(crate) async fn list(operator: &Operator) -> Result<(), Failure> {
    let bucket = operator.bus.bucket(bus::topology::CHANNELS).await?;
    let below = contract::token::encode(operator.tenant.as_str());
    let mut accounts: Vec<ChannelHealth> = Vec::new();
    for entry in bucket.entries_below(&below).await? {
        // What another version wrote that this one cannot read is no reason to hide the others.
        accounts.extend(Encoding::Json.decode::<ChannelHealth>(&entry.value, BEAT_BYTES_MAX).ok());
    }
    accounts.sort_by(|a, b| (&a.kind, &a.account.id).cmp(&(&b.kind, &b.account.id)));
    let now = Timestamp(runtime::clock::now());
    if operator.json {
        let list: Vec<_> = accounts
            .iter()
            .map(|account| serde_json::json!({ "channel": account, "silent": silent(account, now) }))
            .collect();
        say(&serde_json::to_string_pretty(&list)?);
    } else if accounts.is_empty() {
        say("no channel account has said yet that it lives");
    } else {
        let rows = accounts.iter().map(|account| {
            let state = if silent(account, now) { "silent" } else { account.state.as_str() };
            vec![
                format!("{}/{}", account.kind, account.account.id),
                account.account.provider.as_deref().unwrap_or("-").to_owned(),
                state.to_owned(),
                format!("{} ago", span(now, account.at)),
                abilities(&account.capabilities),
                plain(account.last_error.as_deref().unwrap_or("-")),
            ]
        });
        say(&table(&["account", "provider", "state", "heard", "can", "last error"], rows));
    }
    Ok(())
}

fn silent(account: &ChannelHealth, now: Timestamp) -> bool {
    now.since(account.at).0 > SILENT_MS
}

/// What an account can do, in a few words.
fn abilities(can: &Capabilities) -> String {
    let mut words = Vec::new();
    if let Some(max) = can.text_max {
        words.push(format!("text {max} {}", can.text_unit.as_deref().unwrap_or("chars")));
    }
    words.extend(can.media_bytes_max.keys().map(ToString::to_string));
    for (has, word) in [
        (can.delivered, "delivered"),
        (can.read, "read"),
        (can.typing, "typing"),
        (can.reactions, "reactions"),
        (can.edits, "edits"),
        (can.idempotent_send, "idempotent"),
    ] {
        if has {
            words.push(word.to_owned());
        }
    }
    if let Some(window) = can.reply_window_ms {
        words.push(format!("window {} h", window.0 / 3_600_000));
    }
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

/// A terminal is told nothing but text.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Millis;

    #[test]
    fn abilities_are_told_in_a_few_words() {
        assert_eq!(abilities(&Capabilities::default()), "-");
        let can = Capabilities {
            text_max: Some(7000),
            text_unit: Some("chars".into()),
            delivered: true,
            reply_window_ms: Some(Millis(86_400_000)),
            ..Capabilities::default()
        };
        assert_eq!(abilities(&can), "text 7000 chars, delivered, window 24 h");
    }
}
