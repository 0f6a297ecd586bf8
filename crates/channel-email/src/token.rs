//! What we sign: reply addresses, return paths, Message-IDs. Pure.
//!
//! A token names a thread and proves that we named it, so that whoever answers lands in that thread and
//! nobody else does. It says nothing of who answers.

use adapter::contract::SmolStr;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// A key: base32 of 128 bits.
pub(crate) const KEY_CHARS: usize = 26;
/// A token in an address: key, dash, 80 bits.
pub(crate) const REPLY_CHARS: usize = KEY_CHARS + 1 + SHORT_CHARS;
/// Longest part before the @ (RFC 5321, 4.5.3.1.1).
const LOCAL_CHARS_MAX: usize = 64;
const SHORT_BYTES: usize = 10;
const SHORT_CHARS: usize = 16;
const LONG_BYTES: usize = 16;

/// Signs and checks for one account.
#[derive(Clone)]
pub(crate) struct Tokens {
    mac: Hmac<Sha256>,
    tenant: SmolStr,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The thread.
    pub(crate) thread: SmolStr,
    /// The message of ours, where it names one: `m17`.
    pub(crate) message: Option<SmolStr>,
}

impl Tokens {
    /// `scope` names tenant and account, so that tokens of another one prove nothing here.
    pub(crate) fn new(key: &[u8], tenant: &str, account: &str) -> Option<Self> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        absorb(&mut mac, &["throughline mail", tenant, account]);
        Some(Self { mac, tenant: tenant.into() })
    }

    fn signature(&self, fields: &[&str]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        absorb(&mut mac, fields);
        mac
    }

    fn short(&self, fields: &[&str]) -> String {
        let bytes = self.signature(fields).finalize().into_bytes();
        base32(bytes.get(..SHORT_BYTES).unwrap_or_default())
    }

    fn holds(&self, fields: &[&str], length: usize, text: &str) -> bool {
        // In constant time.
        decode_base32(text)
            .is_some_and(|bytes| bytes.len() == length && self.signature(fields).verify_truncated_left(&bytes).is_ok())
    }

    /// The detail of the address that an answer goes to: `<key>-<mac>`. `None` for a key that an
    /// address cannot carry.
    pub(crate) fn reply(&self, thread: &str) -> Option<String> {
        is_key(thread).then(|| format!("{thread}-{}", self.short(&["reply", thread])))
    }

    /// The detail of a return path: `<key>-<message>-<mac>`, if it fits behind `local`.
    pub(crate) fn bounce(&self, local: &str, thread: &str, message: &str) -> Option<String> {
        let detail = format!("{thread}-{message}-{}", self.short(&["bounce", thread, message]));
        (is_key(thread) && is_message(message) && local.len() + 1 + detail.len() <= LOCAL_CHARS_MAX).then_some(detail)
    }

    /// Reads the detail of an address of ours; `None` when it is not one that we signed.
    pub(crate) fn read_detail(&self, detail: &str) -> Option<Token> {
        let parts: Vec<&str> = detail.split('-').collect();
        match *parts.as_slice() {
            [thread, mac] if is_key(thread) && self.holds(&["reply", thread], SHORT_BYTES, mac) => {
                Some(Token { thread: thread.into(), message: None })
            }
            [thread, message, mac]
                if is_key(thread)
                    && is_message(message)
                    && self.holds(&["bounce", thread, message], SHORT_BYTES, mac) =>
            {
                Some(Token { thread: thread.into(), message: Some(message.into()) })
            }
            _ => None,
        }
    }

    /// The Message-ID of a command, without brackets: `<key>.<message>.<mac>@<domain>`, the same at
    /// every try. Its three words with dots between do not look like the random ids of spammers.
    pub(crate) fn message_id(&self, thread: &str, command_id: &str, domain: &str) -> String {
        // An id cannot carry any other key: it names a hash then, and does not read as a token.
        let (kind, thread) = if is_key(thread) { ("id", SmolStr::from(thread)) } else { ("odd", key_of(&[thread])) };
        let message = match self.message_of(command_id) {
            Some(message) => SmolStr::from(message),
            // Not of the router's shape: by its hash, which still is one to one.
            None => format!("h{}", short_hash(command_id)).into(),
        };
        let bytes = self.signature(&[kind, &thread, &message]).finalize().into_bytes();
        format!("{thread}.{message}.{}@{domain}", base32(bytes.get(..LONG_BYTES).unwrap_or_default()))
    }

    /// Reads a Message-ID; `None` when it is not one that we signed.
    pub(crate) fn read_message_id(&self, id: &str) -> Option<Token> {
        let (local, _) = id.trim().trim_start_matches('<').trim_end_matches('>').split_once('@')?;
        let local = local.to_ascii_lowercase();
        let parts: Vec<&str> = local.split('.').collect();
        let [thread, message, mac] = *parts.as_slice() else { return None };
        let sound = is_key(thread) && is_word(message) && self.holds(&["id", thread, message], LONG_BYTES, mac);
        sound.then(|| Token { thread: thread.into(), message: Some(message.into()) })
    }

    /// The message that a command of the router sends: `m17` of `main/m17`.
    pub(crate) fn message_of<'a>(&self, command_id: &'a str) -> Option<&'a str> {
        let message = command_id.strip_prefix(self.tenant.as_str())?.strip_prefix('/')?;
        is_message(message).then_some(message)
    }

    /// The command behind the message that a token names.
    pub(crate) fn command_of(&self, message: &str) -> Option<SmolStr> {
        is_message(message).then(|| format!("{}/{message}", self.tenant).into())
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(***)")
    }
}

fn absorb(mac: &mut Hmac<Sha256>, fields: &[&str]) {
    for field in fields {
        // With the length before it, so that no two lists of fields read alike.
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field.as_bytes());
    }
}

/// Whether a thread key can stand in an address and an id.
pub(crate) fn is_key(text: &str) -> bool {
    (1..=KEY_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    (1..=24).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_message(text: &str) -> bool {
    text.strip_prefix('m').is_some_and(|digits| {
        (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
    }) || text == "m0"
}

/// The first 128 bits of a hash over texts, as a thread key.
pub(crate) fn key_of(fields: &[&str]) -> SmolStr {
    let mut hasher = Sha256::new();
    for field in fields {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field.as_bytes());
    }
    base32(hasher.finalize().get(..LONG_BYTES).unwrap_or_default()).into()
}

fn short_hash(text: &str) -> String {
    base32(Sha256::digest(text.as_bytes()).get(..SHORT_BYTES).unwrap_or_default())
}

const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Base32 as in RFC 4648, lower case, without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push_digit(&mut text, held >> bits);
        }
    }
    if bits > 0 {
        push_digit(&mut text, held << (5 - bits));
    }
    text
}

fn push_digit(text: &mut String, value: u32) {
    text.extend(DIGITS.get((value & 31) as usize).map(|digit| char::from(*digit)));
}

/// The bytes; `None` when it is not what [`base32`] writes.
fn decode_base32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        held = held << 5 | u32::try_from(digit).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    // One spelling per value.
    (base32(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "abcdefghijklmnopqrstuvwxy2";

    fn tokens() -> Tokens {
        Tokens::new(b"0123456789abcdef0123456789abcdef", "main", "support").unwrap()
    }

    #[test]
    fn base32_as_in_the_rfc() {
        for (plain, coded) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"), ("foobar", "mzxw6ytboi")]
        {
            assert_eq!(base32(plain.as_bytes()), coded);
            assert_eq!(decode_base32(coded).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(decode_base32("mz"), None, "bits that say nothing");
    }

    #[test]
    fn a_reply_address_fits_and_comes_back() {
        let detail = tokens().reply(KEY).unwrap();
        assert_eq!(detail.len(), REPLY_CHARS);
        assert!("support+".len() + detail.len() <= LOCAL_CHARS_MAX);
        assert_eq!(tokens().read_detail(&detail), Some(Token { thread: KEY.into(), message: None }));
    }

    #[test]
    fn what_was_not_signed_here_is_nothing() {
        let detail = tokens().reply(KEY).unwrap();
        let other_key = Tokens::new(b"another key of some length......", "main", "support").unwrap();
        let other_account = Tokens::new(b"0123456789abcdef0123456789abcdef", "main", "sales").unwrap();
        assert_eq!(other_key.read_detail(&detail), None);
        assert_eq!(other_account.read_detail(&detail), None);
        let swapped = detail.replace(KEY, "abcdefghijklmnopqrstuvwxy3");
        for forged in [swapped.as_str(), KEY, "", "-", "--", "a-b-c-d", &detail[..detail.len() - 1], &format!("{KEY}-")]
        {
            assert_eq!(tokens().read_detail(forged), None, "{forged}");
        }
    }

    #[test]
    fn a_message_id_is_the_same_at_every_try() {
        let id = tokens().message_id(KEY, "main/m17", "shop.example");
        assert_eq!(id, tokens().message_id(KEY, "main/m17", "shop.example"));
        assert_ne!(id, tokens().message_id(KEY, "main/m18", "shop.example"));
        let token = Token { thread: KEY.into(), message: Some("m17".into()) };
        assert_eq!(tokens().read_message_id(&format!("<{id}>")), Some(token.clone()));
        assert_eq!(tokens().read_message_id(&id.to_uppercase()), Some(token), "some clients change the case");
        assert_eq!(tokens().command_of("m17").as_deref(), Some("main/m17"));
        assert_eq!(tokens().read_message_id(&id.replace("m17", "m18")), None);
        // Strange threads and commands have ids too, that prove nothing of the thread.
        let odd = tokens().message_id("Some Thread", "other", "shop.example");
        assert!(odd.is_ascii() && !odd.contains(' '));
        assert_eq!(tokens().read_message_id(&odd), None);
    }

    #[test]
    fn a_return_path_names_the_mail() {
        let detail = tokens().bounce("support", KEY, "m17").unwrap();
        let token = tokens().read_detail(&detail).unwrap();
        assert_eq!((token.thread.as_str(), token.message.as_deref()), (KEY, Some("m17")));
        assert_eq!(tokens().bounce(&"s".repeat(20), KEY, "m17"), None, "no room");
    }

    proptest! {
        #[test]
        fn no_text_is_a_token(text in "\\PC{0,60}|[a-z2-7]{26}[-.][a-z2-7]{16,26}") {
            prop_assert_eq!(tokens().read_detail(&text), None);
            prop_assert_eq!(tokens().read_message_id(&format!("{text}@x")), None);
        }

        #[test]
        fn any_bytes_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode_base32(&base32(&bytes)), Some(bytes));
        }
    }
}
