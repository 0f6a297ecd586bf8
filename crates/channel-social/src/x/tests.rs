use super::*;
use crate::kit;

const SECRET: &str = "z3ZX4v7mAAUGykl2EcmkqbVmuW8VdIlcg";

fn ear(typing: mpsc::Sender<SmolStr>) -> Ear {
    Ear {
        place: kit::place("x"),
        secrets: vec![SecretString::new(SECRET)],
        app: None,
        own: "3001969357".into(),
        typing,
    }
}

fn judge(request: &Request) -> Verdict {
    let trust = verify::fingerprint(&SecretString::new(SECRET));
    let siblings = Siblings::of([(trust.as_str(), "3001969357", kit::place("x").account)]);
    ear(mpsc::channel(1).0).receive(request, &siblings)
}

fn signature(body: &[u8]) -> String {
    let signature =
        verify::sign(verify::Algorithm::Sha256, &SecretString::new(SECRET), &[body], verify::Encoding::Base64);
    format!("sha256={signature}")
}

#[test]
fn a_challenge_is_answered_with_the_secret() {
    let request = kit::request(Method::GET, "/hook/social/x?crc_token=9b4507b3&nonce=x", &[], b"");
    let Verdict::Answer(reply) = judge(&request) else { panic!("answered") };
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer, json!({ "response_token": signature(b"9b4507b3") }));
    for bad in ["/hook/social/x", "/hook/social/x?crc_token=", "/hook/social/x?crc_token=a&crc_token=b"] {
        assert!(matches!(judge(&kit::request(Method::GET, bad, &[], b"")), Verdict::Refuse { .. }), "{bad}");
    }
}

#[test]
fn what_is_not_signed_is_not_heard() {
    let body = include_bytes!("../../fixtures/x/message.json");
    let good = signature(body);
    let post = |headers: &[(&str, &str)], body: &[u8]| judge(&kit::request(Method::POST, "/", headers, body));
    let Verdict::Take { items, .. } = post(&[(SIGNATURE.header, &good)], body) else { panic!("taken") };
    assert_eq!(kit::told(&items), ["message 1000000000000000001"]);
    assert!(matches!(post(&[], body), Verdict::Refuse { .. }));
    assert!(matches!(post(&[(SIGNATURE.header, &good)], b"{}"), Verdict::Refuse { .. }));
    assert!(matches!(post(&[(SIGNATURE.header, good.trim_start_matches("sha256="))], body), Verdict::Refuse { .. }));
    // Signed by the app, for an account of somebody else.
    let other = br#"{"for_user_id":"5","direct_message_events":[]}"#;
    let Verdict::Take { items, .. } = post(&[(SIGNATURE.header, &signature(other))], other) else { panic!("taken") };
    assert_eq!(kit::told(&items), ["dead: an account that nobody configured"]);
}

#[test]
fn tokens_are_shown_to_the_platform_alone() {
    let base = "https://api.x.com";
    assert!(is_own_host("https://ton.twitter.com/1.1/ton/data/dm/1/2/a.jpg", base));
    for other in [
        "https://pbs.twimg.com/a",
        "https://twitter.com.example/a",
        "http://ton.twitter.com/a",
        "https://x.com@evil.example/a",
        "x",
    ] {
        assert!(!is_own_host(other, base), "{other}");
    }
}

#[test]
fn long_text_goes_in_pieces_and_films_do_not_go() {
    let of = |part: Value| calls(&kit::command("x", json!({ "key": "17" }), json!([part])));
    assert_eq!(of(json!({ "type": "text", "body": "x".repeat(10_001) })).unwrap().len(), 2);
    let film = json!({ "type": "media", "kind": "video", "mime": "video/mp4", "store_key": "k" });
    assert_eq!(of(film).unwrap_err().code, "unsupported");
}

#[test]
fn the_example_is_in_order() {
    assert_eq!(kit::example("x"), Vec::<String>::new());
}
