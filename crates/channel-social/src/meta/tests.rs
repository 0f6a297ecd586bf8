//! Every fixture of the three products, read as the listener would have it read.

use std::path::Path;

use adapter::contract::envelope::Account;
use adapter::contract::{AccountId, Envelope};
use adapter::http::{Method, StatusCode};
use adapter::kit as sdk;
use adapter::runtime::secret::SecretString;
use adapter::verify::{self, Algorithm, Encoding};
use adapter::webhook::{Hook, Item, Reply, Siblings, Verdict};

use super::ear::Ear;
use super::{Facts, Register, claim};
use crate::kit::{place, request, told};

const SECRET: &str = "7f4e0c2b9d6a4e5f8c1b3a2d5e6f7a8b";
const NUMBERS: [&str; 2] = ["106540352242922", "106540352242923"];
const PAGES: [&str; 2] = ["106195825075770", "206195825075770"];
const INSTAGRAM: &str = "17841405822304914";

fn account(provider: &str, id: &str) -> Account {
    Account { id: AccountId::new(id).unwrap(), ..place(provider).account }
}

/// An app with two numbers, two pages and an Instagram account; the endpoint is `provider`'s first one.
fn world(provider: &str) -> (Ear, Siblings) {
    let secrets = vec![SecretString::new("the-old-secret-of-the-app"), SecretString::new(SECRET)];
    let register = Register::default();
    let mut claims = Vec::new();
    let ours = [
        ("whatsapp", "whatsapp", NUMBERS[0]),
        ("whatsapp", "whatsapp-2", NUMBERS[1]),
        ("messenger", "messenger", PAGES[0]),
        ("messenger", "messenger-2", PAGES[1]),
        ("instagram", "instagram", INSTAGRAM),
    ];
    for (product, id, native) in ours {
        let mut whose = place(product);
        whose.account = account(product, id);
        let facts = Facts {
            app: "1517776481860111".into(),
            portfolio: Some("88".into()),
            business_account: (product == "whatsapp").then(|| "102290129340398".into()),
            human_agent: id == "messenger-2",
        };
        register.put(&whose, facts);
        for secret in &secrets {
            claims.push((verify::fingerprint(secret), claim(product, native), whose.account.clone()));
        }
    }
    let ear = Ear::new(place(provider), secrets, vec![SecretString::new("hello-token")], register);
    let claims = claims.iter().map(|(trust, native, account)| (trust.as_str(), native.as_str(), account.clone()));
    (ear, Siblings::of(claims))
}

fn signed(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", verify::sign(Algorithm::Sha256, &SecretString::new(secret), &[body], Encoding::Hex))
}

fn post(provider: &str, signature: &str, body: &[u8]) -> Verdict {
    let (ear, siblings) = world(provider);
    let request = request(Method::POST, "/hook/social/x", &[("X-Hub-Signature-256", signature)], body);
    ear.receive(&request, &siblings)
}

fn items(provider: &str, body: &[u8]) -> Result<Vec<Item>, String> {
    match post(provider, &signed(SECRET, body), body) {
        Verdict::Take { items, reply } if reply == Reply::ok() => Ok(items),
        Verdict::Refuse { why, .. } => Err(why.to_owned()),
        other => panic!("{other:?}"),
    }
}

fn check(provider: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(provider);
    let normalise = |_: &str, raw: &[u8]| {
        let (mut envelopes, mut dead) = (Vec::new(), Vec::new());
        for item in items(provider, raw)? {
            match item {
                Item::Envelope { mut envelope, fetch, .. } => {
                    // Else every release would change every expectation.
                    let warnings = envelope.adapter.take().map(|info| info.warnings).unwrap_or_default();
                    assert!(warnings.len() < 80, "{warnings:?}");
                    assert!(fetch.iter().all(|fetch| envelope.content.get(fetch.part).is_some()));
                    envelopes.push(*envelope);
                }
                Item::Dead { reason, .. } => dead.push(reason),
            }
        }
        match dead.pop() {
            Some(why) if envelopes.is_empty() => Err(why),
            _ => Ok::<Vec<Envelope>, String>(envelopes),
        }
    };
    sdk::golden(&dir, &normalise).unwrap_or_else(|differences| panic!("{differences}"));
    sdk::conformance(&dir, &normalise).unwrap_or_else(|breaches| panic!("{breaches}"));
}

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)).unwrap()
}

#[test]
fn whatsapp_fixtures_become_what_is_expected() {
    check("whatsapp");
}

#[test]
fn messenger_fixtures_become_what_is_expected() {
    check("messenger");
}

#[test]
fn instagram_fixtures_become_what_is_expected() {
    check("instagram");
}

#[test]
fn the_published_vector_of_the_scheme_holds() {
    // "Validating webhook deliveries" of the other platform that signs like this one.
    let secret = [SecretString::new("It's a Secret to Everybody")];
    let given = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert!(verify::hmac(Algorithm::Sha256, &secret, &[b"Hello, World!"], Encoding::Hex, given));
}

#[test]
fn only_what_the_app_signed_is_read() {
    let body = fixture("whatsapp/text.json");
    let refused = |signature: &str, body: &[u8]| match post("whatsapp", signature, body) {
        Verdict::Refuse { status, .. } => Some(status),
        _ => None,
    };
    assert_eq!(refused(&signed(SECRET, &body), &body), None);
    assert_eq!(refused(&signed("the-old-secret-of-the-app", &body), &body), None, "both secrets count");
    let unauthorized = Some(StatusCode::UNAUTHORIZED);
    assert_eq!(refused(&signed("another-secret", &body), &body), unauthorized);
    assert_eq!(refused(&signed(SECRET, &fixture("whatsapp/image.json")), &body), unauthorized, "of another body");
    let hex = signed(SECRET, &body);
    let sha1 = verify::sign(Algorithm::Sha1, &SecretString::new(SECRET), &[&body], Encoding::Hex);
    for bad in ["", "sha256=", "sha256=00", &hex["sha256=".len()..], &hex[..hex.len() - 1], &format!("sha1={sha1}")] {
        assert_eq!(refused(bad, &body), unauthorized, "{bad}");
    }
    assert_eq!(refused(&signed(SECRET, b"{"), b"{"), Some(StatusCode::BAD_REQUEST));
    let deep = "[".repeat(100_000);
    assert_eq!(refused(&signed(SECRET, deep.as_bytes()), deep.as_bytes()), Some(StatusCode::BAD_REQUEST));
    // A header that is there twice says nothing.
    let (ear, siblings) = world("whatsapp");
    let twice = [("X-Hub-Signature-256", hex.as_str()), ("X-Hub-Signature-256", hex.as_str())];
    let verdict = ear.receive(&request(Method::POST, "/hook/social/x", &twice, &body), &siblings);
    assert!(matches!(verdict, Verdict::Refuse { status: StatusCode::UNAUTHORIZED, .. }));
    let none = Ear::new(place("whatsapp"), Vec::new(), Vec::new(), Register::default());
    let one = [("X-Hub-Signature-256", hex.as_str())];
    let verdict = none.receive(&request(Method::POST, "/hook/social/x", &one, &body), &siblings);
    assert!(matches!(verdict, Verdict::Refuse { status: StatusCode::UNAUTHORIZED, .. }), "no secret is no permission");
}

#[test]
fn the_handshake_gives_the_challenge_back_to_whoever_knows_the_token() {
    let (ear, siblings) = world("messenger");
    let ask = |method: Method, query: &str| {
        let target = format!("/hook/social/messenger?{query}");
        ear.receive(&request(method, &target, &[], b""), &siblings)
    };
    let good = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=hello-token";
    let Verdict::Answer(reply) = ask(Method::GET, good) else { panic!("refused") };
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, &b"1158201444"[..]));
    for bad in [
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=other",
        "hub.mode=subscribe&hub.challenge=1",
        "hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=hello-token",
        "hub.mode=subscribe&hub.verify_token=hello-token",
        "hub.mode=subscribe&hub.challenge=a%0D%0Ab&hub.verify_token=hello-token",
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=hello-token&hub.verify_token=hello-token",
        "",
    ] {
        assert!(matches!(ask(Method::GET, bad), Verdict::Refuse { .. }), "{bad}");
    }
    assert!(matches!(ask(Method::PUT, good), Verdict::Refuse { status: StatusCode::METHOD_NOT_ALLOWED, .. }));
}

#[test]
fn each_item_is_for_its_own_account_and_what_is_for_nobody_is_dead() {
    let accounts = |path: &str| -> Vec<String> {
        let account = |item: Item| match item {
            Item::Envelope { envelope, .. } => envelope.account.id.to_string(),
            Item::Dead { account, reason, .. } => format!("dead {account:?}: {reason}"),
        };
        items(path.split('/').next().unwrap(), &fixture(path)).unwrap().into_iter().map(account).collect()
    };
    assert_eq!(accounts("whatsapp/batch-of-two-accounts.json"), ["whatsapp", "whatsapp-2"]);
    assert_eq!(accounts("messenger/batch-of-two-pages.json"), ["messenger", "messenger-2"]);
    let unknown = accounts("whatsapp/batch-with-an-unknown-account.json");
    assert_eq!(unknown, ["whatsapp", "dead None: it is for a number that is no account here"]);
    assert!(accounts("messenger/batch-with-an-unknown-page.json")[1].starts_with("dead None"));
    // Events of one product that come to the address of another of the same app are read all the same.
    let crossed = items("instagram", &fixture("whatsapp/text.json")).unwrap();
    assert_eq!(told(&crossed).len(), 1);
    assert!(matches!(&crossed[0], Item::Envelope { envelope, .. } if envelope.account.id.as_str() == "whatsapp"));
    // An app speaks only for accounts that trust its secret.
    let (ear, _) = world("whatsapp");
    let body = fixture("whatsapp/text.json");
    let of_others = Siblings::of([("another app", "whatsapp:106540352242922", account("whatsapp", "whatsapp"))]);
    let headers = [("X-Hub-Signature-256", &*signed(SECRET, &body))];
    let Verdict::Take { items, .. } = ear.receive(&request(Method::POST, "/x", &headers, &body), &of_others) else {
        panic!("refused")
    };
    assert!(matches!(&items[..], [Item::Dead { account: None, .. }]));
}

#[test]
fn tokens_and_codes_are_not_kept() {
    for path in ["messenger/optin-marketing.json", "messenger/optin-stopped.json", "messenger/account-linking.json"] {
        let items = items("messenger", &fixture(path)).unwrap();
        let Item::Envelope { envelope, raw, .. } = &items[0] else { panic!("{path}") };
        assert!(raw.is_none() && !serde_json::to_string(envelope).unwrap().contains("SECRET"), "{path}");
    }
}

#[test]
fn media_are_fetched_by_what_the_platform_names_and_never_by_a_token() {
    let source = |path: &str| {
        let items = items(path.split('/').next().unwrap(), &fixture(path)).unwrap();
        let Item::Envelope { fetch, .. } = &items[0] else { panic!("{path}") };
        fetch.iter().map(|fetch| (fetch.part, fetch.source.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(source("whatsapp/image.json"), [(0, r#"{"id":"1003383421387256"}"#.to_owned())]);
    let album = source("messenger/album.json");
    assert_eq!(album.iter().map(|(part, _)| *part).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(source("instagram/story-mention.json")[0].0, 1);
}

#[test]
fn the_examples_are_in_order_and_unknown_keys_are_refused() {
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/channels");
    for provider in ["whatsapp", "messenger", "instagram"] {
        let path = configuration.join(format!("social-{provider}.toml.example"));
        let text = std::fs::read_to_string(&path).unwrap();
        let prepare = |text: &str| {
            let file = adapter::AccountFile::from_table(&adapter::toml::from_str(text).unwrap(), &path).unwrap();
            crate::register().prepare(&file).map(|ready| ready.has_hook())
        };
        assert_eq!(prepare(&text).map_err(|problems| problems.len()), Ok(true), "{provider}");
        let odd = text.replace("api_version = \"v25.0\"", "api_version = \"latest\"");
        let problems = prepare(&odd).unwrap_err();
        assert_eq!(problems[0].path, "settings.graph.api_version");
        assert!(prepare(&text.replace("[settings.http]", "[settings.htp]")).is_err(), "{provider}");
        let none = text.replace("secret = [{ file = \"meta-app-secret\" }]", "secret = []");
        assert_eq!(prepare(&none).unwrap_err()[0].path, "settings.app.secret", "fails closed");
    }
}
