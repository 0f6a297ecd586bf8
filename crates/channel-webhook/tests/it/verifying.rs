//! Who is let in.

use adapter::contract::Timestamp;
use adapter::runtime::secret::SecretString;
use adapter::verify::{Algorithm, Encoding, encode, sign};
use adapter::webhook::Request;

use crate::support::{NEXT_SECRET, NOW, SECRET, get, hook, items, post, receive, refusal};

const BODY: &[u8] = br#"{"id": "1", "from": "ann", "text": "hi \u00fc"}"#;
const EVENT: &str = r#"
[[settings.event]]
dedup_key = "/id"
thread = "/from"
text = "/text"
sender = { identity = { scheme = "x", value = "/from" } }
"#;

fn account(verify: &str) -> String {
    format!("[[settings.verify]]\n{verify}\n{EVENT}")
}

fn mac(secret: &str, parts: &[&[u8]], encoding: Encoding) -> String {
    sign(Algorithm::Sha256, &SecretString::new(secret), parts, encoding)
}

#[test]
fn a_signature_is_over_the_raw_bytes() {
    let hook = hook(&account(
        "scheme = \"hmac\"\nheader = \"X-Sig\"\nprefix = \"sha256=\"\nsecrets = [{ file = \"secret\" }, { file = \"next\" }]",
    ));
    for secret in [SECRET, NEXT_SECRET] {
        let signature = format!("sha256={}", mac(secret, &[BODY], Encoding::Hex));
        assert_eq!(refusal(&hook, &post(BODY, &[("x-sig", &signature)])), None);
        let mut other = BODY.to_vec();
        other.push(b' ');
        assert_eq!(refusal(&hook, &post(&other, &[("x-sig", &signature)])), Some((401, "wrong signature")));
        let bare = signature.trim_start_matches("sha256=");
        assert_eq!(refusal(&hook, &post(BODY, &[("x-sig", bare)])), Some((401, "wrong signature")));
        let twice = post(BODY, &[("x-sig", &signature), ("x-sig", &signature)]);
        assert_eq!(refusal(&hook, &twice), Some((401, "no signature")));
    }
    let another = format!("sha256={}", mac("another secret", &[BODY], Encoding::Hex));
    for given in [another.as_str(), "sha256=", "sha256=zz", ""] {
        assert!(refusal(&hook, &post(BODY, &[("x-sig", given)])).is_some(), "{given}");
    }
    assert_eq!(refusal(&hook, &post(BODY, &[])), Some((401, "no signature")));
}

#[test]
fn a_signed_time_ends_replays() {
    let stripe = hook(&account(
        "scheme = \"hmac\"\nheader = \"X-Sig\"\nfield = \"v1\"\ntimestamp_field = \"t\"\nsigned = \"{timestamp}.{body}\"\nsecrets = { file = \"secret\" }",
    ));
    let now = (NOW / 1000).to_string();
    let signature = mac(SECRET, &[now.as_bytes(), b".", BODY], Encoding::Hex);
    let header = format!("t={now},v0=00,v1=00,v1={signature}");
    let good = post(BODY, &[("x-sig", &header)]);
    assert_eq!(refusal(&stripe, &good), None);
    let late = Request { at: Timestamp(NOW + 301_000), ..good.clone() };
    assert_eq!(refusal(&stripe, &late), Some((401, "signed too long ago")));
    let early = Request { at: Timestamp(NOW - 301_000), ..good };
    assert_eq!(refusal(&stripe, &early), Some((401, "signed too long ago")));
    let other_time = format!("t={},v1={signature}", NOW / 1000 + 1);
    assert_eq!(refusal(&stripe, &post(BODY, &[("x-sig", &other_time)])), Some((401, "wrong signature")));
    assert_eq!(refusal(&stripe, &post(BODY, &[("x-sig", &format!("v1={signature}"))])), Some((401, "no signed time")));
}

#[test]
fn standard_webhooks_can_be_said() {
    let hook = hook(&account(
        "scheme = \"hmac\"\nheader = \"webhook-signature\"\nseparator = \" \"\nprefix = \"v1,\"\nencoding = \"base64\"\n\
         timestamp_header = \"webhook-timestamp\"\nsigned = \"{header:webhook-id}.{timestamp}.{body}\"\n\
         secret_prefix = \"whsec_\"\nsecret_encoding = \"base64\"\nsecrets = { file = \"encoded\" }",
    ));
    let now = (NOW / 1000).to_string();
    let signature = mac("secret bytes", &[b"msg_1.", now.as_bytes(), b".", BODY], Encoding::Base64);
    let header = format!("v1a,xx v1,AAAA v1,{signature}");
    let headers =
        [("webhook-id", "msg_1"), ("webhook-timestamp", now.as_str()), ("webhook-signature", header.as_str())];
    assert_eq!(refusal(&hook, &post(BODY, &headers)), None);
    let headers =
        [("webhook-id", "msg_2"), ("webhook-timestamp", now.as_str()), ("webhook-signature", header.as_str())];
    assert_eq!(refusal(&hook, &post(BODY, &headers)), Some((401, "wrong signature")));
}

#[test]
fn tokens_passwords_and_certificates() {
    let bearer = hook(&account("scheme = \"bearer\"\nsecrets = { file = \"secret\" }"));
    assert_eq!(refusal(&bearer, &post(BODY, &[("authorization", &format!("bearer {SECRET}"))])), None);
    assert_eq!(refusal(&bearer, &post(BODY, &[("authorization", "Bearer x")])), Some((401, "wrong token")));
    assert_eq!(refusal(&bearer, &post(BODY, &[])), Some((401, "no token")));
    let basic = hook(&account("scheme = \"basic\"\nuser = \"ann\"\nsecrets = { file = \"secret\" }"));
    let given = |text: &str| format!("Basic {}", encode(Encoding::Base64, text.as_bytes()));
    assert_eq!(refusal(&basic, &post(BODY, &[("authorization", &given(&format!("ann:{SECRET}")))])), None);
    for text in [format!("bob:{SECRET}"), "ann:x".to_owned(), "ann".to_owned()] {
        assert!(refusal(&basic, &post(BODY, &[("authorization", &given(&text))])).is_some(), "{text}");
    }
    let header = hook(&account("scheme = \"header\"\nheader = \"X-Token\"\nsecrets = { file = \"secret\" }"));
    assert_eq!(refusal(&header, &post(BODY, &[("x-token", SECRET)])), None);
    assert_eq!(refusal(&header, &post(BODY, &[("x-token", "")])), Some((401, "wrong token")));
    let mtls = hook(&account("scheme = \"mtls\"\nsubjects = [\"CN=pos-1\"]"));
    let with = |subject: Option<&str>| Request { client_subject: subject.map(Into::into), ..post(BODY, &[]) };
    assert_eq!(refusal(&mtls, &with(Some("CN=pos-1"))), None);
    assert_eq!(refusal(&mtls, &with(Some("CN=pos-2"))), Some((403, "another certificate")));
    assert_eq!(refusal(&mtls, &with(None)), Some((401, "no certificate")));
}

#[test]
fn all_checks_of_a_file_must_hold() {
    let verify = "scheme = \"mtls\"\nsubjects = [\"CN=pos-1\"]\n[[settings.verify]]\nscheme = \"bearer\"\nsecrets = { file = \"secret\" }";
    let hook = hook(&account(verify));
    let authorization = format!("Bearer {SECRET}");
    let both = Request { client_subject: Some("CN=pos-1".into()), ..post(BODY, &[("authorization", &authorization)]) };
    assert_eq!(refusal(&hook, &both), None);
    assert!(refusal(&hook, &Request { client_subject: None, ..both.clone() }).is_some());
    assert!(refusal(&hook, &Request { client_subject: Some("CN=pos-1".into()), ..post(BODY, &[]) }).is_some());
}

#[test]
fn without_its_secret_an_account_is_not_opened() {
    let text = account("scheme = \"bearer\"\nsecrets = { file = \"there-is-no-such-file\" }");
    let file = crate::support::file(&text);
    let prepared = throughline_channel_webhook::register().prepare(&file).unwrap();
    assert!(prepared.rehearse(&file.tenant, &file.envelope_account(), false).unwrap().is_err());
    // For trying a file out there need be none.
    assert!(prepared.rehearse(&file.tenant, &file.envelope_account(), true).unwrap().is_ok());
}

#[test]
fn a_handshake_needs_its_token_and_is_echoed_as_text() {
    let text = format!(
        "{}\n[[settings.handshake]]\nwhen = \"query['hub.mode'] == 'subscribe'\"\ntoken_query = \"hub.verify_token\"\n\
         secrets = {{ file = \"secret\" }}\ntext = \"= query['hub.challenge']\"\n",
        account("scheme = \"bearer\"\nsecrets = { file = \"secret\" }")
    );
    let hook = hook(&text);
    let token = SECRET.replace(' ', "+");
    let asked = get(&format!("hub.mode=subscribe&hub.verify_token={token}&hub.challenge=%3Cb%3E1"));
    let adapter::webhook::Verdict::Answer(reply) = receive(&hook, &asked) else { panic!("not answered") };
    assert_eq!((reply.status.as_u16(), &*reply.body), (200, &b"<b>1"[..]));
    assert_eq!(reply.content_type, Some("text/plain; charset=utf-8"));
    let wrong = get("hub.mode=subscribe&hub.verify_token=x&hub.challenge=1");
    assert_eq!(refusal(&hook, &wrong), Some((403, "wrong verify token")));
    let twice = get(&format!("hub.mode=subscribe&hub.verify_token={token}&hub.verify_token={token}&hub.challenge=1"));
    assert_eq!(refusal(&hook, &twice), Some((403, "wrong verify token")));
    assert!(refusal(&hook, &get("hub.mode=other")).is_some());
}

#[test]
fn pages_of_other_sites_are_refused() {
    let text = format!("[settings]\norigins = [\"https://shop.example\"]\n{}", account("scheme = \"open\""));
    let hook = hook(&text);
    let (found, reply) = crate::support::taken(&hook, &post(BODY, &[("origin", "https://shop.example")]));
    assert_eq!(found.len(), 1);
    assert!(
        reply
            .headers
            .iter()
            .any(|(name, value)| name == "access-control-allow-origin" && value == "https://shop.example")
    );
    assert_eq!(refusal(&hook, &post(BODY, &[("origin", "https://evil.example")])), Some((403, "another origin")));
    let preflight =
        Request { method: adapter::http::Method::OPTIONS, ..post(b"", &[("origin", "https://evil.example")]) };
    assert_eq!(refusal(&hook, &preflight), Some((403, "another origin")));
}

#[test]
fn what_is_authentic_and_no_json_is_set_aside() {
    let hook = hook(&account("scheme = \"open\""));
    assert_eq!(items(&hook, b"{\"id\": secret}"), [Err("the body is not JSON (line 1, column 8)".to_owned())]);
    assert_eq!(items(&hook, b""), [Err("the body is not JSON (line 1, column 0)".to_owned())]);
}
