use serde_json::json;

use super::*;
use crate::hook::token;
use crate::kit::{self, NOW};

const SECRET: &str = "a signature secret that is long enough";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn keys(secrets: &[&str]) -> Keys {
    Keys {
        secrets: secrets.iter().map(|secret| SecretString::new(*secret)).collect(),
        api_key: "abcd1234".into(),
        application_id: Some("78d335fa-323d-0114-9c3d-d6f0d48968cf".into()),
    }
}

fn hash(text: &str) -> String {
    encode(Encoding::Hex, &Sha256::digest(text.as_bytes()))
}

/// What a token for this body claims, changed a little.
fn claims(body: &str, change: &[(&str, Value)]) -> Value {
    let mut claims = json!({
        "iat": NOW.0 / 1000, "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5", "iss": "Vonage", "payload_hash": hash(body),
        "api_key": "abcd1234", "application_id": "78d335fa-323d-0114-9c3d-d6f0d48968cf",
    });
    for (name, value) in change {
        claims[name] = value.clone();
    }
    claims
}

fn judge(body: &str, claims: &Value, secret: &str) -> Result<Value, &'static str> {
    let bearer = format!("Bearer {}", token(claims, &SecretString::new(secret)));
    let request = kit::request(Method::POST, "voice/event", &[("authorization", &bearer)], body.as_bytes());
    said(&request, &keys(&["old", SECRET]), false)
}

#[test]
fn a_token_is_for_one_body_and_a_time() {
    let body = r#"{"uuid":"a","n":18446744073709551615}"#;
    let told = judge(body, &claims(body, &[]), SECRET).unwrap();
    assert_eq!(At::new(&told).id("n").unwrap(), "18446744073709551615");
    assert!(judge(body, &claims(body, &[]), "old").is_ok(), "two secrets while one is changed");
    let now = NOW.0 / 1000;
    for (change, why) in [
        ([("payload_hash", json!(hash("{}")))], "hash of the body"),
        ([("payload_hash", json!(null))], "no hash of the body"),
        ([("iat", json!(now - 301))], "time"),
        ([("iat", json!(now + 301))], "time"),
        ([("exp", json!(now - 301))], "time"),
        ([("iat", json!("now"))], "token"),
        ([("api_key", json!("other"))], "another account"),
        ([("application_id", json!("other"))], "another application"),
    ] {
        assert_eq!(judge(body, &claims(body, &change), SECRET), Err(why), "{change:?}");
    }
    assert!(judge(body, &claims(body, &[("iat", json!(now - 299))]), SECRET).is_ok());
    assert_eq!(judge(body, &claims(body, &[]), "wrong"), Err("token"));
    assert_eq!(judge("not JSON", &claims("not JSON", &[]), SECRET), Err("not JSON"));
}

#[test]
fn only_the_secrets_of_the_settings_count() {
    let body = "{}";
    let with = |token: &str, keys: &Keys| {
        let bearer = format!("bearer {token}");
        said(&kit::request(Method::POST, "x", &[("authorization", &bearer)], body.as_bytes()), keys, false)
    };
    let good = token(&claims(body, &[]), &SecretString::new(SECRET));
    assert!(with(&good, &keys(&[SECRET])).is_ok());
    assert_eq!(with(&good, &keys(&[])), Err("token"));
    assert_eq!(with(&token(&claims(body, &[]), &SecretString::new("")), &keys(&[""])), Err("token"));
    // Nothing says by itself how it is to be checked.
    let (_, rest) = good.split_once('.').unwrap();
    let (payload, _) = rest.split_once('.').unwrap();
    let none = encode(Encoding::Base64Url, br#"{"alg":"none","typ":"JWT"}"#);
    assert_eq!(with(&format!("{none}.{payload}."), &keys(&[SECRET])), Err("token"));
    assert_eq!(with(&"a".repeat(TOKEN_BYTES_MAX + 1), &keys(&[SECRET])), Err("token"));
    let bare = kit::request(Method::POST, "x", &[], body.as_bytes());
    assert_eq!(said(&bare, &keys(&[SECRET]), true), Err("no signature"));
    assert_eq!(said(&bare, &keys(&[SECRET]), false), Err("no token"));
}

#[test]
fn the_parameters_of_an_address_are_hashed_as_an_object() {
    let pairs = query::pairs("to=4930900100&from=4930111222&uuid=a%20b", 9).unwrap();
    assert_eq!(object_text(&pairs), r#"{"to":"4930900100","from":"4930111222","uuid":"a b"}"#);
    let bearer = format!("Bearer {}", token(&claims(&object_text(&pairs), &[]), &SecretString::new(SECRET)));
    let with = |target: &str| {
        said(&kit::request(Method::GET, target, &[("authorization", &bearer)], b""), &keys(&[SECRET]), false)
    };
    let told = with("voice/incoming?to=4930900100&from=4930111222&uuid=a%20b").unwrap();
    assert_eq!(told, json!({ "to": "4930900100", "from": "4930111222", "uuid": "a b" }));
    assert_eq!(with("voice/incoming?to=4930900100&from=4930111223&uuid=a%20b"), Err("hash of the body"));
}

/// A request with `sig`, as the SMS API makes it.
fn signed(pairs: &[(&str, &str)], secret: &str) -> String {
    let pairs: Vec<(String, String)> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let text = signed_text(&pairs);
    let sig = adapter::verify::sign(Algorithm::Sha256, &SecretString::new(secret), &[text.as_bytes()], Encoding::Hex);
    let fields: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", query::encode(value))).collect();
    format!("{}&sig={}", fields.join("&"), sig.to_uppercase())
}

#[test]
fn what_is_signed_begins_no_other_parameter() {
    let pairs = query::pairs("b=2%26c=3&a=x%3Dy&sig=00", 9).unwrap();
    assert_eq!(signed_text(&pairs), "&a=x_y&b=2_c_3");
}

#[test]
fn the_older_signature_is_over_every_parameter_and_for_a_time() {
    let now = (NOW.0 / 1000).to_string();
    let late = (NOW.0 / 1000 - 26 * 3600 - 1).to_string();
    let all =
        |at: &'static str| vec![("msisdn", "4930111222"), ("text", "a&b=c ü"), ("api-key", "abcd1234"), ("nonce", at)];
    let with = |pairs: &[(&str, &str)], secret: &str, keys: &Keys| {
        let form = signed(pairs, secret);
        let posted = said(&kit::request(Method::POST, "sms", &[FORM], form.as_bytes()), keys, true);
        let got = said(&kit::request(Method::GET, &format!("sms?{form}"), &[], b""), keys, true);
        assert_eq!(posted, got);
        let fields: Map<String, Value> =
            query::pairs(&form, 99).unwrap().into_iter().map(|(name, value)| (name, value.into())).collect();
        let json = Value::Object(fields).to_string();
        let json = said(
            &kit::request(Method::POST, "sms", &[("content-type", "application/json")], json.as_bytes()),
            keys,
            true,
        );
        assert_eq!(posted, json);
        posted
    };
    let mut pairs: Vec<(&str, &str)> = all("1");
    assert_eq!(with(&pairs, SECRET, &keys(&[SECRET])), Err("no time"));
    pairs.push(("timestamp", &late));
    assert_eq!(with(&pairs, SECRET, &keys(&[SECRET])), Err("time"));
    pairs.pop();
    pairs.push(("timestamp", &now));
    assert_eq!(with(&pairs, SECRET, &keys(&["old", SECRET])).unwrap()["text"], "a&b=c ü");
    assert_eq!(with(&pairs, "wrong", &keys(&[SECRET])), Err("signature"));
    assert_eq!(with(&pairs, SECRET, &keys(&[])), Err("signature"));
    assert_eq!(with(&pairs, "", &keys(&[""])), Err("signature"));
    pairs[2] = ("api-key", "other");
    assert_eq!(with(&pairs, SECRET, &keys(&[SECRET])), Err("another account"));
    pairs[2] = ("api-key", "abcd1234");
    let form = signed(&pairs, SECRET).replace("4930111222", "4930111223");
    let told = said(&kit::request(Method::POST, "sms", &[FORM], form.as_bytes()), &keys(&[SECRET]), true);
    assert_eq!(told, Err("signature"));
}
