//! What cannot be taken goes where an operator finds it, with the reason and without holding up what
//! follows; and comes back when it is mended.

use bus::{Bus, Publish};
use contract::outbound::DeadLetter;
use contract::{Encoding, Event};
use serde_json::{Value, json};
use throughline_tests::daemon::TENANT;
use throughline_tests::{AgentTool, Daemon, PATIENCE, until};

/// In every input that goes wrong, and in no log.
const SECRET: &str = "sentinel-9f3b1c";
const SUBJECT: &str = "tl.v1.in.main.demo.shop";
const ACCOUNT: &str = "kind = \"demo\"\naccount = \"shop\"\nexternal = true\n";

/// A message as an adapter in any language writes it.
pub(crate) fn envelope(key: &str, text: &str) -> Value {
    json!({
        "v": 1, "kind": "message", "tenant": TENANT, "account": { "kind": "demo", "id": "shop" },
        "dedup_key": key, "thread": { "key": "ann" }, "received_at": 1_700_000_000_000_u64,
        "sender": {
            "identity": { "scheme": "login", "value": "ann", "scope": "global" }, "display": "Ann",
        },
        "sender_auth": { "level": "unverified" },
        "content": [{ "type": "text", "body": text }],
    })
}

/// Puts a record in as it is; the id keeps it from being taken for another.
pub(crate) async fn put(bus: &Bus, subject: &str, payload: Vec<u8>, encoding: Option<Encoding>, id: &str) {
    let publish = Publish {
        subject: subject.to_owned(),
        payload: payload.into(),
        content_type: encoding.map(Encoding::content_type),
        msg_id: Some(id.to_owned()),
        ..Publish::default()
    };
    bus.publish(publish).await.unwrap_or_else(|error| panic!("{id} is not stored: {error}"));
}

async fn put_json(bus: &Bus, value: &Value, id: &str) {
    put(bus, SUBJECT, value.to_string().into_bytes(), Some(Encoding::Json), id).await;
}

fn with(key: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut value = envelope(key, SECRET);
    change(&mut value);
    value
}

fn deep(levels: usize, open: &str, close: &str) -> String {
    format!("{}{}", open.repeat(levels), close.repeat(levels))
}

/// Every kind of bad record: a name, the bytes, the encoding it says it has, words of the reason.
fn bad_records() -> Vec<(&'static str, Vec<u8>, Option<Encoding>, &'static str)> {
    let json = Some(Encoding::Json);
    let msgpack = Some(Encoding::MsgPack);
    let text = |value: Value| value.to_string().into_bytes();
    let packed = |value: &Value| Encoding::MsgPack.encode(value).unwrap();
    let mut trailing = packed(&envelope("trailing", SECRET));
    trailing.extend_from_slice(SECRET.as_bytes());
    let cut = {
        let mut whole = packed(&envelope("cut", SECRET));
        whole.truncate(whole.len() - 3);
        whole
    };
    // Deep where it would be kept; what is unknown is passed over, however deep it is.
    let nested = with("deep", |value| value["content"] = json!([{ "type": "odd", "x": "here" }])).to_string();
    let nested = nested.replace("\"here\"", &deep(4000, "[", "]")).into_bytes();
    let deep_msgpack: Vec<u8> = [0x81_u8, 0xa1, b'v'].into_iter().chain([0x91; 5000]).chain([0xc0]).collect();
    vec![
        ("nothing", Vec::new(), None, ""),
        ("a word", SECRET.as_bytes().to_vec(), None, ""),
        ("no UTF-8", [&[0xff, 0xfe, 0xc1][..], SECRET.as_bytes()].concat(), json, ""),
        ("half an object", format!("{{\"v\":1,\"kind\":\"{SECRET}").into_bytes(), json, ""),
        ("a cut MessagePack", cut, msgpack, ""),
        ("bytes behind it", trailing, msgpack, "follow the message"),
        ("JSON that says it is MessagePack", text(envelope("lie", SECRET)), msgpack, ""),
        ("another version", text(with("v2", |value| value["v"] = 2.into())), json, "version 2 is not known"),
        ("a version that is a text", text(with("vt", |value| value["v"] = SECRET.into())), json, "invalid type"),
        ("no sender", text(with("ns", |value| drop(value.as_object_mut().unwrap().remove("sender")))), json, "sender"),
        ("no content", text(with("nc", |value| value["content"] = json!([]))), json, "at least one part"),
        ("a long key", text(with(&SECRET.repeat(200), |_| {})), json, "dedup_key"),
        ("another tenant", text(with("t", |value| value["tenant"] = "other".into())), json, "not the subject's"),
        ("another kind", text(with("k", |value| value["account"]["kind"] = "chat".into())), json, "not the subject's"),
        ("another account", text(with("a", |value| value["account"]["id"] = SECRET.into())), json, "not the subject's"),
        ("too large", text(envelope("large", &SECRET.repeat(25_000))), json, "bytes, but at most"),
        ("too large and no text", vec![0xc1; 520 * 1024], msgpack, "bytes, but at most"),
        ("just not too large and no text", vec![0xc1; 512 * 1024], msgpack, ""),
        ("full of control characters", vec![0x01; 500 * 1024], json, ""),
        ("deep JSON", nested, json, ""),
        ("deep MessagePack", deep_msgpack, msgpack, ""),
        ("a count of four billion", vec![0xdd, 0xff, 0xff, 0xff, 0xff], msgpack, "allowed"),
        ("a map of four billion", vec![0xdf, 0xff, 0xff, 0xff, 0xff, 0xa1, b'v'], msgpack, ""),
        ("a text of four billion", vec![0xdb, 0xff, 0xff, 0xff, 0xff, b'v'], msgpack, ""),
        (
            "too many",
            text(Value::Array((0..40).map(|n| envelope(&format!("m{n}"), SECRET)).collect())),
            json,
            "envelopes",
        ),
        ("an empty array", b"[]".to_vec(), json, ""),
        ("an array that does not end", format!("[{}", envelope("e", SECRET)).into_bytes(), json, "does not end"),
    ]
}

async fn dead(daemon: &Daemon, count: usize) -> Vec<(u64, DeadLetter)> {
    until(PATIENCE, &format!("{count} dead letters"), async || {
        let letters = daemon.dead_letters(TENANT).await;
        (letters.len() >= count).then_some(letters)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deadletters_hold_what_is_bad_and_the_flow_goes_on() {
    let daemon = Daemon::builder().account("demo-shop", ACCOUNT).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let bus = daemon.connect("adapter-demo").await;
    let records = bad_records();
    for (name, payload, encoding, _) in &records {
        put(&bus, SUBJECT, payload.clone(), *encoding, &format!("bad/{name}")).await;
        put_json(&bus, &envelope(&format!("good/{name}"), &format!("after {name}")), &format!("good/{name}")).await;
    }
    // What stands behind each of them is routed.
    for (name, ..) in &records {
        anna.hears(&format!("after {name}")).await;
    }
    let letters = dead(&daemon, records.len()).await;
    assert_eq!(letters.len(), records.len());
    for ((name, payload, _, reason), (_, letter)) in records.iter().zip(&letters) {
        assert!(letter.reason.contains(reason) && !letter.reason.is_empty(), "{name}: {:?}", letter.reason);
        assert!(!letter.reason.contains(SECRET), "{name}: content in the reason {:?}", letter.reason);
        assert_eq!(letter.subject, SUBJECT, "{name}");
        assert_eq!(letter.stage, "in", "{name}");
        // A tenant or account that lies is written anew, in MessagePack; of those whose hexadecimal would not
        // fit into a message only the beginning is kept.
        if payload.len() <= 500 * 1024 && *reason != "not the subject's" {
            assert_eq!(letter.payload.bytes().as_ref(), Some(payload), "{name}");
        }
    }
    let logs = daemon.logs();
    assert!(logs.contains("an input goes to the dead letters"));
    assert!(!logs.contains(SECRET), "content in the log");
    let events = daemon.events(TENANT).await;
    let rejected = events.iter().filter(|record| matches!(*record.event, Event::InputRejected { .. })).count();
    assert_eq!(rejected, records.len());
    assert!(!serde_json::to_string(&events).unwrap().contains(SECRET), "content in the facts");
}

#[tokio::test(flavor = "multi_thread")]
async fn deadletters_are_not_made_of_what_the_stream_refuses() {
    let daemon = Daemon::builder().account("demo-shop", ACCOUNT).start().await;
    let bus = daemon.connect("adapter-demo").await;
    // Far over the contract's limit: whoever publishes it learns so at once.
    let publish = Publish { subject: SUBJECT.to_owned(), payload: vec![0xc1; 600 * 1024].into(), ..Publish::default() };
    let refused = bus.publish(publish).await.unwrap_err();
    assert_eq!(refused.kind, bus::ErrorKind::TooLarge, "{refused}");
    assert!(refused.to_string().contains("exceeds"), "{refused}");
    put_json(&bus, &envelope("good", "after it"), "good").await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    anna.hears("after it").await;
    assert!(daemon.dead_letters(TENANT).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn deadletters_one_bad_among_good_ones() {
    let daemon = Daemon::builder().account("demo-shop", ACCOUNT).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let bus = daemon.connect("adapter-demo").await;
    for (encoding, name) in [(Encoding::Json, "json"), (Encoding::MsgPack, "msgpack")] {
        let first = envelope(&format!("{name}/1"), &format!("{name} first"));
        let bad = with(&format!("{name}/2"), |value| value["v"] = 9.into());
        let last = envelope(&format!("{name}/3"), &format!("{name} last"));
        let record = encoding.encode(&vec![first, bad, last]).unwrap();
        put(&bus, SUBJECT, record, Some(encoding), name).await;
        anna.hears(&format!("{name} first")).await;
        anna.hears(&format!("{name} last")).await;
    }
    let letters = dead(&daemon, 2).await;
    for (_, letter) in &letters {
        assert!(letter.reason.contains("version 9"), "{letter:?}");
        // The bad one alone, as a record of its own.
        let bytes = letter.payload.bytes().unwrap();
        let encoding = Encoding::detect(letter.content_type.as_deref(), &bytes).unwrap();
        let alone: Value = encoding.decode(&bytes, 1 << 20).unwrap();
        assert_eq!(alone["v"], 9, "{alone}");
    }
}

/// A tenant nobody knows stays unknown, however often it is named, on whichever shard.
#[tokio::test(flavor = "multi_thread")]
async fn deadletters_of_tenants_that_do_not_exist() {
    let daemon = Daemon::builder().account("demo-shop", ACCOUNT).start().await;
    let bus = daemon.connect("adapter-demo").await;
    for n in 0..3 {
        let key = format!("nobody/{n}");
        let value = with(&key, |value| value["tenant"] = "nobody".into());
        put(&bus, "tl.v1.in.nobody.demo.shop", value.to_string().into_bytes(), Some(Encoding::Json), &key).await;
    }
    let letters = until(PATIENCE, "the dead letters of nobody", async || {
        let letters = daemon.dead_letters("nobody").await;
        (letters.len() == 3).then_some(letters)
    })
    .await;
    for (_, letter) in &letters {
        assert!(letter.reason.contains("there is no tenant"), "{:?}", letter.reason);
    }
    // The right tenant on the wrong shard is not a second one.
    let own = contract::shard::of(&throughline_tests::streams::tenant(TENANT), contract::shard::SHARDS_DEFAULT);
    let wrong = (own + 1) % contract::shard::SHARDS_DEFAULT;
    for n in 0..2 {
        let key = format!("astray/{n}");
        let subject = format!("tl.v1.in.{wrong}.main.demo.shop");
        put(&bus, &subject, envelope(&key, "astray").to_string().into_bytes(), Some(Encoding::Json), &key).await;
    }
    dead(&daemon, 2).await;
    let events = daemon.events(TENANT).await;
    assert!(!events.iter().any(|record| record.position.shard == wrong && record.customer.is_some()), "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deadletters_are_shown_mended_replayed_and_deleted() {
    let daemon = Daemon::builder().account("demo-shop", ACCOUNT).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let bus = daemon.connect("adapter-demo").await;
    assert_eq!(daemon.cli(&["dead", "list"]).await.ok().trim(), "no dead letters");
    let bad = with("order-1", |value| value["content"] = json!([]));
    put_json(&bus, &bad, "order-1").await;
    put_json(&bus, &with("order-2", |value| value["v"] = 7.into()), "order-2").await;
    put(
        &bus,
        SUBJECT,
        Encoding::MsgPack.encode(&with("order-3", |value| value["v"] = 8.into())).unwrap(),
        Some(Encoding::MsgPack),
        "order-3",
    )
    .await;
    let letters = dead(&daemon, 3).await;
    let seq = |n: usize| letters[n].0.to_string();
    let last = letters[2].0;

    let list = daemon.cli(&["dead", "list"]).await.ok();
    assert!(list.contains("needs at least one part") && list.contains(SUBJECT), "{list}");
    assert!(!list.contains(SECRET), "the list is without content: {list}");
    let list = daemon.cli(&["--json", "dead", "list", "--limit", "1"]).await.json();
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list[0]["seq"].to_string(), seq(2), "the newest: {list}");

    // Shown, a MessagePack one as JSON: that is what is mended.
    let shown = daemon.cli(&["dead", "show", &seq(2)]).await.ok();
    assert!(shown.contains("version 8"), "{shown}");
    let mut mended: Value = serde_json::from_str(&shown[shown.find("\n{").unwrap()..]).unwrap();
    mended["v"] = 1.into();
    mended["content"] = json!([{ "type": "text", "body": "mended" }]);
    let file = daemon.folder().join("mended.json");
    let replay = async |file: &std::path::Path, n: usize| {
        daemon.cli(&["dead", "replay", &seq(n), "--with", &file.display().to_string()]).await
    };

    // Not mended yet: refused, and still there.
    std::fs::write(&file, bad.to_string()).unwrap();
    let refused = replay(&file, 0).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("not mended yet"), "{refused:?}");
    assert_eq!(replay(&daemon.folder().join("nowhere.json"), 0).await.code, 1);
    assert_eq!(daemon.dead_letters(TENANT).await.len(), 3);

    std::fs::write(&file, mended.to_string()).unwrap();
    replay(&file, 2).await.ok();
    anna.hears("mended").await;
    assert_eq!(daemon.dead_letters(TENANT).await.len(), 2);
    // As it is, it fails again and is a new letter.
    daemon.cli(&["dead", "replay", &seq(1)]).await.ok();
    let again = until(PATIENCE, "the letter to be back", async || {
        let letters = daemon.dead_letters(TENANT).await;
        letters.iter().any(|(number, _)| *number > last).then_some(letters)
    })
    .await;
    assert_eq!(again.len(), 2, "{again:?}");
    for (number, _) in &again {
        daemon.cli(&["dead", "delete", &number.to_string()]).await.ok();
    }
    assert_eq!(daemon.cli(&["dead", "list"]).await.ok().trim(), "no dead letters");
    assert_eq!(daemon.cli(&["dead", "show", &seq(0)]).await.code, 1);
    // Put back twice, it is one message.
    put_json(&bus, &mended, "order-3-again").await;
    put_json(&bus, &envelope("order-4", "the last"), "order-4").await;
    anna.hears("the last").await;
    assert_eq!(anna.heard(), ["mended", "the last"]);
}
