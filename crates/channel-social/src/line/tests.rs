use adapter::http::Method;
use adapter::verify::{Algorithm, sign as sign_with};

use super::*;
use crate::kit;

fn ear(secret: &str) -> Ear {
    Ear {
        place: kit::place("line"),
        secrets: vec![SecretString::new(secret)],
        user_id: Some("Ubot".into()),
        shelf: None,
    }
}

fn judge(secret: &str, signature: &str, body: &[u8]) -> Verdict {
    ear(secret).receive(&kit::request(Method::POST, "/", &[(SIGNATURE.header, signature)], body), &Siblings::of([]))
}

fn status(verdict: &Verdict) -> u16 {
    match verdict {
        Verdict::Refuse { status, .. } => status.as_u16(),
        Verdict::Take { reply, .. } => reply.status.as_u16(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_published_vectors_hold_and_nothing_else() {
    // From the platform's own libraries. Verified, and then no body of events: 400, not 401.
    assert_eq!(status(&judge("SECRET", "3q8QXTAGaey18yL8FWTqdVlbMr6hcuNvM4tefa0o9nA=", b"{}")), 400);
    assert_eq!(
        status(&judge("test_secret", "t7Hn4ZDHqs6e+wdvI5TyQIvzie0DmMUmuXEBqyyE/tM=", br#"{"hello":"world"}"#)),
        400
    );
    assert_eq!(status(&judge("SECRET", "3q8QXTAGaey18yL8FWTqdVlbMr6hcuNvM4tefa0o9nA=", b"{} ")), 401);
    assert_eq!(status(&judge("OTHER", "3q8QXTAGaey18yL8FWTqdVlbMr6hcuNvM4tefa0o9nA=", b"{}")), 401);
    assert_eq!(status(&judge("SECRET", "", b"{}")), 401);
}

fn sign(secret: &str, body: &[u8]) -> String {
    sign_with(Algorithm::Sha256, &SecretString::new(secret), &[body], Encoding::Base64)
}

#[test]
fn the_console_tries_with_no_events_and_another_bots_are_not_ours() {
    let none = br#"{"destination":"Ubot","events":[]}"#;
    let Verdict::Take { items, reply } = judge("s", &sign("s", none), none) else { panic!("taken") };
    assert_eq!((items.len(), reply.status.as_u16()), (0, 200));
    let other = br#"{"destination":"Uother","events":[{"type":"follow","webhookEventId":"1","source":{"type":"user","userId":"U1"}}]}"#;
    let Verdict::Take { items, .. } = judge("s", &sign("s", other), other) else { panic!("taken") };
    assert_eq!(kit::told(&items), ["dead: it is for another account"]);
}

#[test]
fn the_example_is_in_order() {
    assert_eq!(kit::example("line"), Vec::<String>::new());
}
