use std::path::{Path, PathBuf};

use adapter::AccountFile;
use adapter::http::Method;
use adapter::webhook::{Reply, Siblings};

use super::*;
use crate::kit;

/// Words of an example, and what stands for them.
type Words = &'static [(&'static str, &'static str)];

/// An account of each provider as its example has it; the ids of the fixtures instead of the example's, and a fixture
/// with what becomes of it.
const TRIALS: [(&str, Words, &str, &str); 8] = [
    ("whatsapp", &[], "text", "message wamid.HBgLMTY1MDU1NTEyMzQVAgASGBQzQUJD0001"),
    ("messenger", &[], "text", "message m_"),
    ("instagram", &[], "text", "message "),
    ("telegram", &[], "text", "message "),
    ("line", &[], "text", "message "),
    ("viber", &[], "text", "message message/4912661846656238146"),
    ("slack", &[("T0123ABCD", "T1")], "im", "message "),
    ("x", &[], "message", "message 1000000000000000001"),
];

fn fixture(provider: &str, name: &str) -> Vec<u8> {
    let path = format!("{}/fixtures/{provider}/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The account of an example, with other words in it.
fn prepared(provider: &str, words: &[(&str, &str)], folder: &Path) -> (Box<dyn Prepared>, AccountFile) {
    let path = format!("{}/../../config/channels/social-{provider}.toml.example", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in words {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let table = adapter::toml::from_str(&text).unwrap();
    let file = AccountFile::from_table(&table, &folder.join("account.toml")).unwrap();
    let kind = crate::register();
    let prepared = kind.prepare(&file).unwrap_or_else(|problems| panic!("{provider}: {problems:?}"));
    (prepared, file)
}

/// What becomes of a request when it is tried out.
fn tried(prepared: &dyn Prepared, file: &AccountFile, trusting: bool, request: &Request) -> Result<Verdict, OpenError> {
    let rehearsal = prepared.rehearse(&file.tenant, &file.envelope_account(), trusting).unwrap()?;
    let claims = rehearsal.claims.iter();
    let claims = claims.map(|(trust, native)| (trust.as_str(), native.as_str(), file.envelope_account()));
    Ok(rehearsal.hook.receive(request, &Siblings::of(claims)))
}

fn told(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Take { items, .. } => kit::told(&items),
        other => vec![format!("{other:?}")],
    }
}

#[test]
fn a_request_of_every_provider_is_tried_out_without_its_secrets() {
    for (provider, words, name, becomes) in TRIALS {
        let (prepared, file) = prepared(provider, words, Path::new("/nowhere"));
        let body = fixture(provider, name);
        let request = kit::request(Method::POST, "/hook/social/x", &[], &body);
        let told = told(tried(&*prepared, &file, true, &request).unwrap());
        assert!(told.len() == 1 && told[0].starts_with(becomes), "{provider}: {told:?}");
        // A check is passed, not left out: nothing that is no request of the provider's becomes one.
        let put = kit::request(Method::PUT, "/hook/social/x", &[], &body);
        let verdict = tried(&*prepared, &file, true, &put).unwrap();
        assert!(matches!(verdict, Verdict::Refuse { .. }), "{provider}: {verdict:?}");
        // With its secrets it is not tried out where they are not.
        assert!(tried(&*prepared, &file, false, &request).is_err(), "{provider}");
    }
}

/// A folder with secrets, gone at the end.
struct Secrets(PathBuf);

impl Secrets {
    fn new(secrets: &[(&str, &str)]) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("throughline-trial-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, secret) in secrets {
            let path = folder.join(name);
            std::fs::write(&path, secret).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self(folder)
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn with_its_secrets_a_request_is_tried_out_as_it_would_be_heard() {
    let secrets = Secrets::new(&[
        ("meta-app-secret", "the app's"),
        ("meta-verify-token", "the token"),
        ("slack", "the app's"),
        ("x", "the app's"),
    ]);
    for (provider, words) in [
        ("whatsapp", &[][..]),
        ("slack", &[("T0123ABCD", "T1"), ("env = \"SLACK_SIGNING_SECRET\"", "file = \"slack\"")]),
        ("x", &[("env = \"X_CONSUMER_SECRET\"", "file = \"x\"")]),
    ] {
        let (prepared, file) = prepared(provider, words, &secrets.0);
        let (_, _, name, becomes) = TRIALS.iter().find(|trial| trial.0 == provider).unwrap();
        let body = fixture(provider, name);
        let mut request = kit::request(Method::POST, "/hook/social/x", &[], &body);
        let unsigned = tried(&*prepared, &file, false, &request).unwrap();
        assert!(matches!(unsigned, Verdict::Refuse { status: StatusCode::UNAUTHORIZED, .. }), "{provider}");
        sign(provider, &mut request, "somebody else's");
        let forged = tried(&*prepared, &file, false, &request).unwrap();
        assert!(matches!(forged, Verdict::Refuse { status: StatusCode::UNAUTHORIZED, .. }), "{provider}");
        sign(provider, &mut request, "the app's");
        let told = told(tried(&*prepared, &file, false, &request).unwrap());
        assert!(told.len() == 1 && told[0].starts_with(becomes), "{provider}: {told:?}");
    }
}

fn sign(provider: &str, request: &mut Request, secret: &str) {
    let secret = SecretString::new(secret);
    let hmac = |parts: &[&[u8]], encoding| verify::sign(Algorithm::Sha256, &secret, parts, encoding);
    match provider {
        "whatsapp" => {
            let value = format!("sha256={}", hmac(&[&request.body], Encoding::Hex));
            put(request, "x-hub-signature-256", &value);
        }
        "slack" => {
            let at = (request.at.0 / 1000).to_string();
            let value = format!("v0={}", hmac(&[b"v0:", at.as_bytes(), b":", &request.body], Encoding::Hex));
            put(request, "x-slack-request-timestamp", &at);
            put(request, "x-slack-signature", &value);
        }
        _ => {
            let value = format!("sha256={}", hmac(&[&request.body], Encoding::Base64));
            put(request, "x-twitter-webhooks-signature", &value);
        }
    }
}

#[test]
fn a_handshake_is_tried_out_too() {
    let (meta, file) = prepared("messenger", &[], Path::new("/nowhere"));
    let target = "/hook/social/x?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=of-others";
    let answered = |verdict: Verdict| match verdict {
        Verdict::Answer(Reply { body, .. }) => String::from_utf8(body.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    let shaken = tried(&*meta, &file, true, &kit::request(Method::GET, target, &[], b"")).unwrap();
    assert_eq!(answered(shaken), "1158201444");
    let (slack, file) = prepared("slack", &[], Path::new("/nowhere"));
    let body = br#"{"type":"url_verification","challenge":"3eZbrw1aBm2rZ"}"#;
    let shaken = tried(&*slack, &file, true, &kit::request(Method::POST, "/hook/social/x", &[], body)).unwrap();
    assert_eq!(answered(shaken), "3eZbrw1aBm2rZ");
}
