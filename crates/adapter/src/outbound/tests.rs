use contract::envelope::Part;

use super::*;

fn command() -> OutCommand {
    serde_json::from_value(serde_json::json!({
        "v": 1,
        "command_id": "main/m17",
        "tenant": "main",
        "account": { "kind": "chat", "id": "web" },
        "thread": { "key": "v1" },
        "conversation": "c1",
        "customer": "u1",
        "message": "m17",
        "thread_seq": 4,
        "author": { "agent": "anna", "display": "Anna" },
        "content": [{ "type": "text", "body": "hello" }],
        "at": 1_000,
    }))
    .unwrap()
}

#[test]
fn a_command_is_read_where_it_belongs_only() {
    let payload = Encoding::MsgPack.encode(&command()).unwrap();
    assert_eq!(decode("tl.v1.out.main.chat.web", None, &payload).unwrap(), command());
    assert!(decode("tl.v1.out.main.chat.other", None, &payload).is_err());
    assert!(decode("tl.v1.out.main.chat.web", None, b"{").is_err());
    assert!(decode("tl.v1.out.main.chat.web", Some("text/plain"), &payload).is_err());
    let newer = OutCommand { v: 2, ..command() };
    assert!(decode("tl.v1.out.main.chat.web", None, &Encoding::MsgPack.encode(&newer).unwrap()).is_err());
    let large = OutCommand { content: vec![Part::text("x".repeat(200_000))], ..command() };
    assert!(decode("tl.v1.out.main.chat.web", None, &Encoding::MsgPack.encode(&large).unwrap()).is_err());
}

#[test]
fn a_command_lives_a_day_or_less() {
    assert_eq!(end_of_life(&command(), LIFE), Timestamp(1_000 + 86_400_000));
    let short = OutCommand { not_after: Some(Timestamp(5_000)), ..command() };
    assert_eq!(end_of_life(&short, LIFE), Timestamp(5_000));
    let long = OutCommand { not_after: Some(Timestamp(u64::MAX)), ..command() };
    assert_eq!(end_of_life(&long, LIFE), Timestamp(1_000 + 86_400_000));
}

#[test]
fn a_receipt_is_valid_and_has_a_key_of_its_own() {
    let command = command();
    let outcome = Outcome {
        status: ReceiptStatus::Failed,
        part: Some(1),
        code: Some("131047".into()),
        reason: Some("the window is closed".into()),
        external_ids: vec!["x".into()],
        report: true,
    };
    let envelope = receipt(&command.account, &command, &outcome, Timestamp(7));
    envelope.validate().unwrap();
    assert_eq!(envelope.dedup_key, "receipt/main/m17/1/failed");
    assert_eq!(envelope.receipt.unwrap().command_id, Some("main/m17".into()));
    let sent = Outcome { status: ReceiptStatus::Sent, part: None, ..outcome };
    assert_eq!(receipt(&command.account, &command, &sent, Timestamp(7)).dedup_key, "receipt/main/m17/all/sent");
}

#[test]
fn the_tenant_of_a_broken_command_is_read_from_its_subject() {
    assert_eq!(tenant_of("tl.v1.out.a=2Eb.chat.web").as_deref(), Some("a.b"));
    assert_eq!(tenant_of("elsewhere"), None);
}
