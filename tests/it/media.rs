//! Attachments for agents' tools: whoever may read a conversation gets what came in it, and nobody else does.

use std::time::Duration;

use bus::{Bus, ErrorKind, Publish, permissions, topology};
use contract::answer::MediaPiece;
use contract::command::{AgentCommand, AgentQuery, Refusal, RefusalKind, Reply};
use contract::envelope::{Media, MediaStatus, Part};
use contract::{AgentId, ConversationId, Encoding, SmolStr, subject};
use serde_json::json;
use throughline_tests::daemon::TENANT;
use throughline_tests::streams::tenant;
use throughline_tests::{AgentTool, Daemon};

const ACCOUNT: &str = "kind = \"demo\"\naccount = \"shop\"\nexternal = true\n";
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Stores a file as an adapter does, and publishes a message that holds it; returns its key.
async fn sent_with(bus: &Bus, who: &str, text: &str, bytes: &[u8]) -> SmolStr {
    let store_key = format!("{TENANT}/demo/{who}/{text}");
    let objects = bus.objects(topology::MEDIA).await.expect("the store");
    objects.put(&store_key, bytes.to_vec().into()).await.expect("stored");
    let envelope = json!({
        "v": 1, "kind": "message", "tenant": TENANT, "account": { "kind": "demo", "id": "shop" },
        "dedup_key": format!("{who}/{text}"), "thread": { "key": who },
        "sender": { "identity": { "scheme": "demo", "value": who, "scope": "account", "scope_id": "shop" } },
        "sender_auth": { "level": "signed_webhook" }, "received_at": 1_764_000_000_000_u64, "language": "de",
        "content": [
            { "type": "text", "body": text },
            { "type": "media", "kind": "image", "mime": "image/png", "status": "stored", "store_key": store_key,
                "bytes": bytes.len() },
        ],
    });
    let publish = Publish {
        subject: format!("tl.v1.in.{TENANT}.demo.shop"),
        payload: envelope.to_string().into(),
        content_type: Some(Encoding::Json.content_type()),
        ..Publish::default()
    };
    bus.publish(publish).await.expect("published");
    store_key.into()
}

/// Asks as nobody's library does: one question, by JSON.
async fn asks(bus: &Bus, agent: &str, query: &AgentQuery) -> Result<Reply<MediaPiece>, bus::Error> {
    let request = Publish {
        subject: subject::agent_command(&tenant(TENANT), &AgentId::new(agent).unwrap(), query.verb()),
        payload: query.encode("q1", Encoding::Json).expect("JSON").into(),
        content_type: Some(Encoding::Json.content_type()),
        ..Publish::default()
    };
    let answer = bus.request(request, Duration::from_secs(5)).await?;
    Ok(Encoding::Json.decode(&answer.payload, 1024 * 1024).expect("a reply"))
}

fn get(conversation: ConversationId, store_key: &str) -> AgentQuery {
    AgentQuery::MediaGet { conversation, store_key: store_key.into(), after: None }
}

fn kind<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> RefusalKind {
    answer.expect_err("a refusal").kind
}

#[tokio::test(flavor = "multi_thread")]
async fn media_of_a_conversation_are_for_whoever_may_read_it() {
    let daemon = Daemon::builder().account("demo-shop", ACCOUNT).start().await;
    let adapter = daemon.connect("adapter-demo").await;
    let anna = AgentTool::open(&daemon, "anna").await;
    anna.available().await;

    // More than one answer can hold, and not a whole number of pieces.
    let picture: Vec<u8> = (0..1_500_001_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let key = sent_with(&adapter, "gus", "look", &picture).await;
    let (offer, conversation) = anna.offered(None).await;
    // Whoever is offered it may look before it is theirs.
    let seen = anna.commander().media(conversation, &key, BYTES_MAX).await.expect("what is offered can be read");
    assert!(seen == picture, "{} bytes of {}", seen.len(), picture.len());
    anna.accept(offer).await;
    let seen = anna.commander().media(conversation, &key, BYTES_MAX).await.expect("what is held can be read");
    assert!(seen == picture);
    assert_eq!(kind(anna.commander().media(conversation, &key, 1_000_000).await), RefusalKind::TooLarge);

    // Another customer's, whom anna knows nothing of: nothing of hers names it, whatever she says herself.
    anna.presence(contract::event::Presence::Busy).await;
    let ben = AgentTool::open(&daemon, "ben").await;
    let other = sent_with(&adapter, "ida", "mine", b"another picture").await;
    ben.available().await;
    assert_eq!(kind(anna.commander().media(conversation, &other, BYTES_MAX).await), RefusalKind::NotFound);
    let named = Media {
        kind: "image".into(),
        store_key: Some(other.clone()),
        status: Some(MediaStatus::Stored),
        ..Media::default()
    };
    let said = AgentCommand::MessageSend {
        conversation,
        content: vec![Part::Media(named)],
        reply_to: None,
        via: None,
        purpose: None,
    };
    anna.does(said).await;
    assert_eq!(kind(anna.commander().media(conversation, &other, BYTES_MAX).await), RefusalKind::NotFound);

    // Another agent is refused by the router, and by the bus when it speaks for anna.
    assert_eq!(kind(ben.commander().media(conversation, &key, BYTES_MAX).await), RefusalKind::Gone);
    let bus = daemon.connect(&permissions::agent_user(TENANT, "ben")).await;
    let forged = asks(&bus, "anna", &get(conversation, &key)).await.expect_err("not ben's subject");
    assert_eq!(forged.kind, ErrorKind::Forbidden);
    assert!(bus.objects(topology::MEDIA).await.is_err(), "an agent has no way to the store itself");
    // So is a stranger: the adapter of another kind.
    let stranger = daemon.connect("adapter-chat").await;
    let strange = asks(&stranger, "anna", &get(conversation, &key)).await.expect_err("not the adapter's subject");
    assert_eq!(strange.kind, ErrorKind::Forbidden);

    // Piece by piece, as any language does it.
    let bus = daemon.connect(&permissions::agent_user(TENANT, "anna")).await;
    let first = asks(&bus, "anna", &get(conversation, &key)).await.expect("an answer").result.expect("a piece");
    assert_eq!(first.size, picture.len() as u64);
    let crooked = AgentQuery::MediaGet { conversation, store_key: key.clone(), after: Some("no.such.place".into()) };
    let crooked = asks(&bus, "anna", &crooked).await.expect("an answer");
    assert_eq!(crooked.refusal.expect("a refusal").kind, RefusalKind::Gone);

    // What is over is no longer with her.
    anna.close(conversation, "solved").await;
    assert_eq!(kind(anna.commander().media(conversation, &key, BYTES_MAX).await), RefusalKind::Gone);
}
