use super::*;
use crate::kit;

/// Published in the platform's documentation.
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const SIGNED: &str = "1531420618";
const GOOD: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
const FORM: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";

fn ear() -> Ear {
    Ear { place: kit::place("slack"), secrets: vec![SecretString::new(SECRET)], app: "A0WN".into(), bot_user: None }
}

fn siblings() -> Siblings {
    let trust = verify::fingerprint(&SecretString::new(SECRET));
    let other = Place {
        account: adapter::contract::envelope::Account {
            id: adapter::contract::AccountId::new("other").unwrap(),
            ..kit::place("slack").account
        },
        ..kit::place("slack")
    };
    Siblings::of([(trust.as_str(), "T1DC2JH3J", kit::place("slack").account), (trust.as_str(), "T2", other.account)])
}

fn signed(body: &str, at: u64) -> Request {
    let when = (kit::NOW.0 / 1000 - at).to_string();
    let parts: [&[u8]; 4] = [b"v0:", when.as_bytes(), b":", body.as_bytes()];
    let signature = verify::sign(verify::Algorithm::Sha256, &SecretString::new(SECRET), &parts, verify::Encoding::Hex);
    kit::request(Method::POST, "/", &[(SIGNATURE, &format!("v0={signature}")), (SIGNED_AT, &when)], body.as_bytes())
}

#[test]
fn the_published_vector_holds_in_its_time_and_nothing_else() {
    let headers = [(SIGNATURE, GOOD), (SIGNED_AT, SIGNED), ("content-type", "application/x-www-form-urlencoded")];
    let mut request = kit::request(Method::POST, "/", &headers, FORM.as_bytes());
    request.at = adapter::contract::Timestamp(1_531_420_618_000);
    let Verdict::Take { items, .. } = ear().receive(&request, &siblings()) else { panic!("taken") };
    assert_eq!(kit::told(&items), ["message command/398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"]);
    // Replayed.
    for at in [1_531_420_618_000 + 301_000, 1_531_420_618_000 - 301_000] {
        request.at = adapter::contract::Timestamp(at);
        assert!(matches!(ear().receive(&request, &siblings()), Verdict::Refuse { .. }));
    }
    request.at = adapter::contract::Timestamp(1_531_420_618_000);
    request.body = Bytes::from(FORM.replace("roadrunner", "coyote"));
    assert!(matches!(ear().receive(&request, &siblings()), Verdict::Refuse { .. }));
}

#[test]
fn a_challenge_is_answered_only_when_it_is_signed() {
    let body =
        r#"{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let Verdict::Answer(reply) = ear().receive(&signed(body, 0), &siblings()) else { panic!("answered") };
    assert_eq!(reply.body, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    let unsigned = kit::request(Method::POST, "/", &[], body.as_bytes());
    assert!(matches!(ear().receive(&unsigned, &siblings()), Verdict::Refuse { .. }));
    assert!(matches!(ear().receive(&signed(body, 299), &siblings()), Verdict::Answer(_)));
    assert!(matches!(ear().receive(&signed(body, 301), &siblings()), Verdict::Refuse { .. }));
}

#[test]
fn each_workspace_is_its_own_account() {
    let event = |team: &str| {
        format!(
            r#"{{"type":"event_callback","team_id":"{team}","event_id":"Ev1","event":{{"type":"message","channel":"D1","channel_type":"im","user":"U1","ts":"1.000200","text":"hi"}}}}"#
        )
    };
    let account = |team: &str| match ear().receive(&signed(&event(team), 0), &siblings()) {
        Verdict::Take { items, .. } => match items.into_iter().next() {
            Some(Item::Envelope { envelope, .. }) => Some(envelope.account.id.as_str().to_owned()),
            _ => None,
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(account("T1DC2JH3J").as_deref(), Some("slack"));
    assert_eq!(account("T2").as_deref(), Some("other"));
    // Authentic, and nobody's: kept, not dropped.
    assert_eq!(account("T3"), None);
}

#[test]
fn text_goes_escaped_and_in_pieces() {
    let of = |body: String| {
        calls(&kit::command("slack", json!({ "key": "D1" }), json!([{ "type": "text", "body": body }]))).unwrap()
    };
    assert_eq!(of("<!channel> *a*".into()), [Call::Text("&lt;!channel&gt; *a*".into())]);
    assert_eq!(of("x".repeat(40_001)).len(), 2);
    for call in of("&".repeat(40_000)) {
        let Call::Text(text) = call else { panic!("text") };
        assert!(text.chars().count() <= TEXT_MAX);
    }
}

#[test]
fn the_example_is_in_order() {
    assert_eq!(kit::example("slack"), Vec::<String>::new());
}
