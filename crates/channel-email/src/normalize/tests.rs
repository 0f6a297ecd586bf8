use std::path::Path;

use adapter::contract::envelope::{EnvelopeKind, MailClass, Part};
use adapter::contract::{AccountId, ChannelKind};
use proptest::prelude::*;

use super::*;

/// The thread that tokens of the fixtures name.
const THREAD: &str = "ordersthread2222222222222a";
const NOW: Timestamp = Timestamp(1_741_000_000_000);

fn place() -> Place {
    let parse = |text| Mailbox::parse(text).unwrap();
    Place {
        tenant: TenantId::new("main").unwrap(),
        account: Account {
            kind: ChannelKind::new("email").unwrap(),
            id: AccountId::new("support").unwrap(),
            provider: None,
            address: Some("support@shop.example".into()),
        },
        ours: Ours::new(parse("support@shop.example"), [parse("help@shop.example")]),
        tokens: Tokens::new(b"0123456789abcdef0123456789abcdef", "main", "support").unwrap(),
        authserv_id: Some("mx.shop.example".into()),
        parts_max: 200,
        attachments_max: 50,
        attachments_bytes_max: 1 << 20,
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

fn normalise(_: &str, raw: &[u8]) -> Result<Vec<Envelope>, String> {
    match super::read(&place(), raw, NOW) {
        Reading::Message(draft) => Ok(vec![draft.envelope]),
        Reading::Reports(envelopes) => Ok(envelopes),
        Reading::Own { thread, alias } => Err(format!("our own mail of thread {thread}, also known as {alias:?}")),
    }
}

fn reading(name: &str) -> Reading {
    super::read(&place(), &std::fs::read(folder().join(format!("{name}.eml"))).unwrap(), NOW)
}

fn draft(name: &str) -> Draft {
    match reading(name) {
        Reading::Message(draft) => *draft,
        other => panic!("{name}: {other:?}"),
    }
}

fn envelope(name: &str) -> Envelope {
    draft(name).envelope
}

fn mail(name: &str) -> Mail {
    envelope(name).mail.unwrap()
}

fn body(name: &str) -> String {
    match &envelope(name).content[0] {
        Part::Text(text) => text.body.clone(),
        other => panic!("{other:?}"),
    }
}

fn media(name: &str) -> Vec<adapter::contract::envelope::Media> {
    let content = envelope(name).content;
    content.into_iter().filter_map(|part| if let Part::Media(media) = part { Some(media) } else { None }).collect()
}

fn receipts(name: &str) -> Vec<Envelope> {
    match reading(name) {
        Reading::Reports(envelopes) => envelopes,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn fixtures_become_what_is_expected() {
    adapter::kit::golden(folder(), &normalise).unwrap_or_else(|differences| panic!("{differences}"));
}

#[test]
fn conformance() {
    adapter::kit::conformance(folder(), &normalise).unwrap_or_else(|breaches| panic!("{breaches}"));
}

#[test]
fn a_mail_without_an_id_is_taken_and_the_same_every_time() {
    for name in ["message-id-empty", "message-id-missing", "message-id-and-date-missing"] {
        let (first, again) = (envelope(name), envelope(name));
        assert_eq!(first.dedup_key, again.dedup_key);
        assert!(first.external_id.is_some() && first.thread.sub_id.is_none(), "{name}");
    }
    assert_ne!(envelope("message-id-empty").dedup_key, envelope("message-id-missing").dedup_key);
}

#[test]
fn an_id_that_is_used_twice_is_two_mails() {
    let (one, two) = (envelope("message-id-reused-1"), envelope("message-id-reused-2"));
    assert_eq!(one.external_id, two.external_id);
    assert_ne!(one.dedup_key, two.dedup_key);
}

#[test]
fn a_copy_by_another_way_is_the_same_mail() {
    let raw = std::fs::read(folder().join("plain.eml")).unwrap();
    let mut other = b"Delivered-To: help@shop.example\r\nReceived: from x\r\n".to_vec();
    other.extend_from_slice(&raw);
    other.extend_from_slice(b"\r\n\r\n");
    let read = |raw: &[u8]| normalise("", raw).unwrap().remove(0).dedup_key;
    assert_eq!(read(&raw), read(&other));
}

#[test]
fn recipients_are_named_and_we_are_not_among_them() {
    let found = envelope("two-inboxes-cc-only").recipients;
    let named: Vec<_> = found.iter().map(|party| (party.identity.value.as_str(), party.named_as.as_deref())).collect();
    assert_eq!(named, [("info@other.example", Some("to")), ("bob@example.com", Some("cc"))]);
}

#[test]
fn a_form_that_writes_in_our_name_is_a_message() {
    let envelope = envelope("contact-form-from-ourselves");
    assert_eq!(envelope.thread.reply_target.unwrap().address, "carl@example.net");
}

#[test]
fn charsets_are_read_as_their_users_mean_them() {
    for (name, text) in [
        ("charset-latin1-declared-ascii", "Grüße aus Köln"),
        ("charset-iso-2022-jp", "注文はどこですか。"),
        ("charset-gb2312-is-gb18030", "订单在哪里？镕"),
        ("charset-ks-c-5601-is-cp949", "주문이 어디 있나요? 똠"),
        ("nul-bytes", "Hello"),
        ("content-type-malformed", "The content type is malformed: ä"),
    ] {
        assert_eq!(body(name), text, "{name}");
    }
    assert_eq!(mail("charset-iso-2022-jp").subject.as_deref(), Some("注文について"));
    assert!(body("charset-unknown").contains("Gr"));
    let cc: Vec<_> =
        envelope("charset-binary-in-cc").recipients.into_iter().map(|party| party.identity.value).collect();
    assert_eq!(cc, ["joerg@example.com", "x@example.com"]);
    assert_eq!(mail("charset-binary-in-cc").subject.as_deref(), Some("Süß"));
    assert_eq!(body("no-header"), "just some text without any header");
    let joerg = envelope("header-encoded-words").sender;
    assert_eq!((joerg.identity.value.as_str(), joerg.display.as_deref()), ("joerg@example.com", Some("Jörg Müller")));
}

#[test]
fn names_of_files_are_read_and_lead_nowhere() {
    assert_eq!(media("filename-percent-f6")[0].name.as_deref(), Some("Größe.pdf"));
    assert_eq!(media("filename-with-folders")[0].name.as_deref(), Some("bashrc"));
}

#[test]
fn inline_images_are_kept() {
    let media = media("inline-image-kept");
    let picture = media.iter().find(|media| media.kind == "image").unwrap();
    assert_eq!((picture.inline_cid.as_deref(), picture.name.as_deref()), (Some("pic1@x"), Some("broken.png")));
    assert!(media.iter().any(|media| media.mime.as_deref() == Some("text/html")));
}

#[test]
fn a_long_body_is_kept_whole() {
    let draft = draft("body-long-is-whole");
    let whole = draft.files.iter().map(|file| file.bytes.len()).max().unwrap();
    assert!(whole > 90_000, "{whole}");
    assert!(draft.envelope.adapter.unwrap().warnings[0].contains("all of it is in a file"));
    assert_eq!(body("inline-data-in-html"), "Text before.\n\nText behind.");
}

#[test]
fn what_is_new_is_told_apart_from_what_is_quoted() {
    for name in ["html-only-gmail-quote", "outlook-quote"] {
        let Part::Text(text) = &envelope(name).content[0] else { panic!() };
        assert_eq!(text.visible.as_deref(), Some("It is order 4711."), "{name}");
        assert!(text.quoted.as_deref().unwrap().contains("Which order?"), "{name}");
    }
}

#[test]
fn a_token_of_ours_proves_the_thread_and_not_the_sender() {
    for name in [
        "thread-token-in-address",
        "thread-token-in-upper-case",
        "thread-token-in-delivered-to",
        "thread-token-in-message-id",
        "thread-references-rewritten-by-apple-mail",
        "forwarded-copy-of-ours",
        "auto-reply-vacation",
    ] {
        let envelope = envelope(name);
        assert_eq!(envelope.thread.key, THREAD, "{name}");
        assert!(envelope.mail.unwrap().thread_proven, "{name}");
        assert_ne!(envelope.sender_auth.level, AuthLevel::DmarcPass, "{name}");
    }
    assert_eq!(envelope("thread-token-in-address").sender.identity.value, "bob@example.com");
}

#[test]
fn nothing_else_leads_into_somebodys_thread() {
    let ann = envelope("plain").thread.key;
    for name in ["thread-token-forged", "thread-subject-token-is-text", "thread-stranger-knows-the-root"] {
        let envelope = envelope(name);
        assert!(envelope.thread.key != THREAD && envelope.thread.key != ann, "{name}");
        assert!(!envelope.mail.unwrap().thread_proven, "{name}");
    }
    for name in ["thread-same-sender-same-root", "thread-sibling-without-known-parent"] {
        assert_eq!(envelope(name).thread.key, ann, "{name}");
    }
}

#[test]
fn a_thread_says_what_an_answer_needs() {
    let thread = envelope("thread-sibling-without-known-parent").thread;
    assert_eq!(thread.external_id.as_deref(), Some("a1@mail.example.com"));
    assert_eq!(thread.sub_id.as_deref(), Some("a3@mail.example.com"));
    assert_eq!(thread.subject.as_deref(), Some("Order 4711"));
    assert!(crate::token::is_key(&thread.key));
    for (subject, plain) in [
        ("Re: AW: Fwd: x", "x"),
        ("RE[2]: x", "x"),
        ("回复：x", "x"),
        ("Return: x", "Return: x"),
        ("Re:", ""),
        ("re : x", "x"),
    ] {
        assert_eq!(plain_subject(subject), plain, "{subject}");
    }
}

#[test]
fn an_id_of_a_relay_is_an_alias() {
    let mut draft = draft("outlook-quote");
    assert_eq!(draft.ids, ["unknown@elsewhere.example"]);
    draft.prove(THREAD.into());
    assert!(draft.envelope.mail.unwrap().thread_proven && draft.envelope.thread.key == THREAD);
    let own = reading("own-copy-in-sent");
    let alias = Some("0100018e-rewritten@email.relay.example".to_owned());
    assert_eq!(own, Reading::Own { thread: THREAD.into(), alias });
    assert_eq!(reading("own-mail-looped"), Reading::Own { thread: THREAD.into(), alias: None });
}

#[test]
fn the_sender_is_the_from_and_never_the_reply_to() {
    let envelope = envelope("identity-is-from-not-reply-to");
    assert_eq!(envelope.sender.identity.value, "mallory@evil.example");
    assert_eq!(envelope.thread.reply_target.unwrap().address, "boss@bank.example");
    assert_eq!(super::tests::envelope("forwarded-copy-of-ours").sender.identity.value, "bob@partner.example");
    let nobody = super::tests::envelope("identity-no-from");
    assert_eq!((nobody.sender.identity.scheme.as_str(), nobody.thread.reply_target), ("email_unknown", None));
}

#[test]
fn only_the_receivers_word_vouches_for_the_sender() {
    assert_eq!(envelope("auth-dmarc-pass").sender_auth.level, AuthLevel::DmarcPass);
    assert_eq!(envelope("auth-forged-by-sender").sender_auth.level, AuthLevel::Failed);
    assert_eq!(envelope("identity-two-froms").sender_auth.level, AuthLevel::Unverified);
}

#[test]
fn programs_are_marked_and_come_in() {
    assert_eq!(mail("auto-reply-vacation").class, MailClass::AutoReply);
    assert_eq!(envelope("auto-reply-vacation").tags, ["auto_reply"]);
    assert_eq!((mail("list-mail").class, envelope("list-mail").tags), (MailClass::List, vec!["list".into()]));
}

#[test]
fn reports_become_receipts_for_each_recipient() {
    let failed = receipts("bounce-failed");
    let told: Vec<_> = failed
        .iter()
        .map(|envelope| {
            let receipt = envelope.receipt.as_ref().unwrap();
            (receipt.recipient.as_deref(), receipt.code.as_deref(), receipt.command_id.as_deref())
        })
        .collect();
    let command = Some("main/m17");
    assert_eq!(
        told,
        [(Some("ann@example.com"), Some("5.1.1"), command), (Some("bob@example.com"), Some("5.2.2"), command)]
    );
    assert!(failed.iter().all(|envelope| envelope.thread.key == THREAD));
    for (name, status) in [
        ("bounce-delayed-headers-only", "delayed"),
        ("bounce-by-return-path", "failed"),
        ("bounce-without-report", "failed"),
        ("complaint-arf", "complained"),
    ] {
        let envelopes = receipts(name);
        let receipt = envelopes[0].receipt.as_ref().unwrap();
        assert_eq!((receipt.status.as_str(), receipt.command_id.as_deref()), (status, command), "{name}");
    }
    assert_eq!(receipts("bounce-of-unknown-mail")[0].kind, EnvelopeKind::AccountEvent);
}

#[test]
fn bounds_are_kept_and_told() {
    let envelope = envelope("parts-many");
    assert!(envelope.content.len() <= 64);
    assert_eq!(envelope.adapter.unwrap().warnings.len(), 2);
}

proptest! {
    #[test]
    fn any_bytes_become_something(raw in proptest::collection::vec(any::<u8>(), 0..2000)) {
        for envelope in normalise("", &raw).into_iter().flatten() {
            prop_assert!(envelope.validate().is_ok());
        }
    }

    #[test]
    fn any_header_becomes_something(
        raw in "((From|To|Cc|Subject|Date|Message-ID|References|In-Reply-To|Content-Type|Reply-To): [ -~]{0,60}\r\n){0,8}\r\n[ -~\r\n]{0,200}"
    ) {
        for envelope in normalise("", raw.as_bytes()).into_iter().flatten() {
            prop_assert!(envelope.validate().is_ok(), "{:?}", envelope.validate());
        }
    }
}
