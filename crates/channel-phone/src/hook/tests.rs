use std::sync::Arc;

use adapter::contract::Timestamp;

use super::*;
use crate::kit::{self, NOW, OURS};
use crate::voice::{self, Desk, Provider};

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SECRET: &str = "a signature secret that is long enough";
const TEXT: &str = include_str!("../../fixtures/sms/twilio/text.form");
const DELIVERED: &str = include_str!("../../fixtures/sms/twilio/status-delivered.form");

fn ear(keys: Keys, provider: Provider) -> Ear {
    let name = if provider == Provider::Twilio { "twilio" } else { "vonage" };
    let place = kit::place(name);
    let signer = Signer::passing("key");
    let desk = Desk {
        settings: voice::Settings::default(),
        tenant: place.tenant.clone(),
        account: place.account.clone(),
        number: OURS.into(),
        sip_whisper: true,
        address: {
            let signer = signer.clone();
            Arc::new(move |target| signer.sign(target))
        },
    };
    let sms = sms::Ear::rehearsed(place, &sms::Settings::default());
    Ear { keys, signer, voice: Voice::rehearsed(desk, provider), sms, shelf: None }
}

fn twilio_ear(tokens: &[&str]) -> Ear {
    let tokens = tokens.iter().map(|token| SecretString::new(*token)).collect();
    ear(Keys::Twilio { tokens, account_sid: ACCOUNT.into() }, Provider::Twilio)
}

fn vonage_ear() -> Ear {
    let secrets = vec![SecretString::new(SECRET)];
    let keys = vonage::verify::Keys { secrets, api_key: "abcd1234".into(), application_id: None };
    ear(Keys::Vonage(keys), Provider::Vonage)
}

/// What becomes of a request: what it tells, or why it is refused.
fn judged(ear: &Ear, request: &Request) -> Vec<String> {
    match ear.receive(request, &Siblings::of([])) {
        Verdict::Take { items, .. } | Verdict::Later { items, .. } => kit::told(&items),
        Verdict::Refuse { status, why } => vec![format!("{} {why}", status.as_u16())],
        Verdict::Answer(_) => vec!["answered".into()],
    }
}

/// A form that Twilio sends to `suffix`, signed with a token.
fn posted(suffix: &str, body: &str, token: &str) -> Request {
    let mut request = kit::request(Method::POST, suffix, &[], body.as_bytes());
    let fields = crate::query::pairs(body, 99).unwrap();
    let signature = twilio::verify::signature(&request.url, &fields, &SecretString::new(token));
    request.headers.insert(twilio::verify::SIGNATURE, signature.parse().unwrap());
    request
}

#[test]
fn a_text_is_taken_when_twilio_signed_it() {
    let ear = twilio_ear(&["new", TOKEN]);
    let message = "message SM11111111111111111111111111111111";
    assert_eq!(judged(&ear, &posted("sms", TEXT, TOKEN)), [message]);
    assert_eq!(judged(&ear, &posted("sms", TEXT, "new")), [message], "while the token is changed");
    // The same event again is the same event.
    assert_eq!(judged(&ear, &posted("sms", TEXT, TOKEN)), [message]);
    assert_eq!(judged(&ear, &posted("sms", TEXT, "wrong")), ["401 signature"]);
    assert_eq!(judged(&twilio_ear(&[]), &posted("sms", TEXT, "")), ["401 signature"]);
    let mut unsigned = posted("sms", TEXT, TOKEN);
    unsigned.headers.clear();
    assert_eq!(judged(&ear, &unsigned), ["401 no signature"]);
    let mut changed = posted("sms", TEXT, TOKEN);
    changed.body = TEXT.replace("Hello", "Hullo").into();
    assert_eq!(judged(&ear, &changed), ["401 signature"]);
    // A header says another address, as anybody can: only ours counts.
    let mut elsewhere = posted("sms", TEXT, TOKEN);
    elsewhere.headers.insert("x-forwarded-host", "evil.example".parse().unwrap());
    assert_eq!(judged(&ear, &elsewhere), [message]);
    elsewhere.url = "https://evil.example/hook/phone/berlin/sms".into();
    assert_eq!(judged(&ear, &elsewhere), ["401 signature"]);
    let other = TEXT.replace(ACCOUNT, "AC00000000000000000000000000000002");
    assert_eq!(judged(&ear, &posted("sms", &other, TOKEN)), ["403 another account"]);
    assert_eq!(judged(&ear, &posted("elsewhere", TEXT, TOKEN)), ["404 no such address"]);
    assert_eq!(judged(&ear, &posted("", TEXT, TOKEN)), ["404 no such address"]);
    let got = Request { method: Method::GET, ..posted("sms", TEXT, TOKEN) };
    assert_eq!(judged(&ear, &got), ["405 method"]);
}

#[test]
fn a_receipt_names_the_command_when_we_signed_its_address() {
    let ear = twilio_ear(&[TOKEN]);
    let receipt = |suffix: &str| match ear.receive(&posted(suffix, DELIVERED, TOKEN), &Siblings::of([])) {
        Verdict::Take { items, .. } => match items.into_iter().next() {
            Some(adapter::webhook::Item::Envelope { envelope, .. }) => {
                envelope.receipt.map(|receipt| receipt.command_id)
            }
            _ => None,
        },
        _ => None,
    };
    let signed = Signer::passing("key").sign("sms/status?c=main%2Fm17&p=0");
    assert_eq!(receipt(&signed), Some(Some("main/m17".into())));
    assert_eq!(receipt("sms/status"), Some(None), "by the id of the text alone");
    // Somebody who can make Twilio call us (an account of their own, an old address) names no other message.
    let forged = posted(&signed.replace("m17", "m18"), DELIVERED, TOKEN);
    assert_eq!(judged(&ear, &forged), ["403 address"]);
}

#[test]
fn calls_go_to_the_voice_and_nowhere_else() {
    let ear = twilio_ear(&[TOKEN]);
    let call = include_str!("../../fixtures/voice/twilio/incoming.form");
    assert!(judged(&ear, &posted("voice/incoming", call, TOKEN))[0].starts_with("call call/CA1"));
    assert_eq!(judged(&ear, &posted("voice/nowhere?a=b", call, TOKEN)), ["404 no such step"]);
    let unknown = Signer::passing("key").sign("voice/nowhere?t=CA1&l=de");
    assert_eq!(judged(&ear, &posted(&unknown, call, TOKEN)), ["404 no such step"]);
    assert_eq!(judged(&ear, &posted("voice/wait?t=CA1&l=de&s=00", call, TOKEN)), ["403 address"]);
}

#[test]
fn what_vonage_tells_is_taken_with_its_token_only() {
    let body = include_str!("../../fixtures/voice/vonage/incoming.json");
    let claims = |body: &str, at: Timestamp| {
        let hash = proof::encode(Encoding::Hex, &Sha256::digest(body.as_bytes()));
        json!({ "iat": at.0 / 1000, "payload_hash": hash, "api_key": "abcd1234" })
    };
    let sent = |body: &str, claims: &Value, secret: &str| {
        let bearer = format!("Bearer {}", token(claims, &SecretString::new(secret)));
        judged(
            &vonage_ear(),
            &kit::request(Method::POST, "voice/incoming", &[("authorization", &bearer)], body.as_bytes()),
        )
    };
    assert!(sent(body, &claims(body, NOW), SECRET)[0].starts_with("call call/"));
    assert_eq!(sent(body, &claims(body, NOW), "wrong"), ["401 token"]);
    assert_eq!(sent(body, &claims(body, Timestamp(NOW.0 - 301_000)), SECRET), ["401 time"]);
    assert_eq!(sent("{}", &claims(body, NOW), SECRET), ["401 hash of the body"]);
    let bare = kit::request(Method::POST, "sms", &[], body.as_bytes());
    assert_eq!(judged(&vonage_ear(), &bare), ["401 no signature"]);
    let put = kit::request(Method::PUT, "sms", &[], body.as_bytes());
    assert_eq!(judged(&vonage_ear(), &put), ["405 method"]);
}

#[test]
fn a_request_is_tried_out_without_its_secret() {
    let prove = |mut request: Request, keys: Keys, provider: Provider, prove: fn(&mut Request)| {
        prove(&mut request);
        judged(&ear(keys, provider), &request)
    };
    let made_up = || vec![SecretString::new(MADE_UP)];
    let keys = || Keys::Twilio { tokens: made_up(), account_sid: ACCOUNT.into() };
    let request = kit::request(Method::POST, "sms", &[], TEXT.as_bytes());
    let told = prove(request, keys(), Provider::Twilio, prove_twilio);
    assert_eq!(told, ["message SM11111111111111111111111111111111"]);
    let keys = || Keys::Vonage(vonage::verify::Keys { secrets: made_up(), api_key: "k".into(), application_id: None });
    let body = include_bytes!("../../fixtures/voice/vonage/incoming.json");
    let request = kit::request(Method::POST, "voice/incoming", &[], body);
    assert!(prove(request, keys(), Provider::Vonage, prove_vonage)[0].starts_with("call "));
    let request = kit::request(Method::GET, "sms?messageId=A1&msisdn=4930111222&text=a+b", &[], b"");
    assert_eq!(prove(request, keys(), Provider::Vonage, prove_vonage), ["message A1"]);
}
