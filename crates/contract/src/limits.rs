//! Size limits of the contract, in bytes or counts. A value over its limit is refused, never cut.

/// Largest single envelope or command, encoded.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Largest policy, as JSON: it has to fit into one record of the journal, and into its entry in a bucket.
pub const POLICY_BYTES_MAX: usize = 768 * 1024;
/// Largest `IN` record (one or several envelopes), encoded.
pub const RECORD_BYTES_MAX: usize = 512 * 1024;
/// Largest message that an `IN` stream takes: a record, and room for its headers.
pub const RECORD_MESSAGE_BYTES_MAX: u32 = 528 * 1024;
/// Most envelopes in one `IN` record.
pub const RECORD_ENVELOPES_MAX: usize = 32;
/// Largest journal record that a router writes, encoded (the server's limit is 1 MiB).
pub const JOURNAL_BYTES_MAX: usize = 900 * 1024;
/// Most facts in one message of `EVENTS`.
pub const EVENTS_RECORDS_MAX: usize = 64;
/// Largest message of `EVENTS` with several facts, encoded. A single larger one goes alone.
pub const EVENTS_BYTES_MAX: usize = 256 * 1024;
/// Longest name of a tenant, agent, queue, skill, account or channel kind.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest key, id or address taken from a provider.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest text of one part.
pub const TEXT_BYTES_MAX: usize = 128 * 1024;
/// Most parts in one message.
pub const PARTS_MAX: usize = 64;
/// Most recipients, aliases, references or external ids in one envelope.
pub const LIST_MAX: usize = 256;
/// Deepest nesting that the decoder follows.
pub const DEPTH_MAX: usize = 64;
/// Deepest nesting of a free value within an envelope (a form's fields, an unknown part): far enough
/// below [`DEPTH_MAX`] that whatever was accepted can be read back from whatever it is wrapped in.
pub const VALUE_DEPTH_MAX: usize = 16;
/// Largest answer to a request, encoded (the server's limit is 1 MiB). What does not fit is left out
/// from the old end.
pub const REPLY_BYTES_MAX: usize = 900 * 1024;
