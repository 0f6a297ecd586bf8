use std::path::Path;

use adapter::contract::{AccountId, ChannelKind};
use adapter::kit;

use super::*;
use crate::frames::ClientFrame;

const NOW: Timestamp = Timestamp(1_760_000_000_000);

fn place() -> Place {
    Place {
        tenant: TenantId::new("main").unwrap(),
        account: Account {
            kind: ChannelKind::new("chat").unwrap(),
            id: AccountId::new("web").unwrap(),
            provider: None,
            address: None,
        },
        login_realm: "shop".into(),
        text_chars_max: 4000,
        language: Some("de".into()),
        tags: vec!["site:shop".into()],
    }
}

/// A fixture is the frames of one socket, one a line. Its name says who is logged in: what stands
/// between `login-` and the next dot.
fn normalise(name: &str, raw: &[u8]) -> Result<Vec<Envelope>, String> {
    let login = name.split_once("login-").and_then(|(_, rest)| rest.split('.').next()).map(|sub| Login {
        name: Some("Ada Lovelace".into()),
        email: Some("Ada@Example.com".into()),
        email_verified: sub.ends_with("verified"),
        ..Login::of(sub)
    });
    let mut visitor: Option<Visitor> = None;
    let mut envelopes = Vec::new();
    for frame in serde_json::Deserializer::from_slice(raw).into_iter::<ClientFrame>() {
        let frame = frame.map_err(|_| "malformed frame".to_owned())?;
        match (frame, &visitor) {
            (ClientFrame::Join(join), None) => {
                visitor = Some(Visitor::new("0123abcd".repeat(8).into(), login.clone(), &join));
            }
            (ClientFrame::Message(said), Some(visitor)) => {
                let envelope = message(&place(), visitor, &said, NOW).map_err(|refusal| refusal.code().to_owned())?;
                envelopes.push(envelope);
            }
            (ClientFrame::Switch(wish), Some(visitor)) => {
                envelopes.push(switch(&place(), visitor, &wish, NOW).map_err(|refusal| refusal.code().to_owned())?);
            }
            (ClientFrame::Received { seq }, Some(visitor)) => {
                envelopes.push(receipt(&place(), visitor, ReceiptStatus::Delivered, seq, NOW));
            }
            (ClientFrame::Seen { seq }, Some(visitor)) => {
                envelopes.push(receipt(&place(), visitor, ReceiptStatus::Read, seq, NOW));
            }
            (ClientFrame::Typing { .. } | ClientFrame::Ping | ClientFrame::Pong, Some(_)) => {}
            _ => return Err("join first".to_owned()),
        }
    }
    for envelope in &mut envelopes {
        // Else every release would change every expectation.
        envelope.adapter = None;
    }
    Ok(envelopes)
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

#[test]
fn fixtures_are_as_expected() {
    kit::golden(&fixtures(), &normalise).unwrap_or_else(|differences| panic!("{differences}"));
}

#[test]
fn keeps_the_conformance_rules() {
    kit::conformance(&fixtures(), &normalise).unwrap_or_else(|breaches| panic!("{breaches}"));
}

#[test]
fn claims_that_make_no_sense_are_left_out() {
    assert_eq!(email_address(" Ada@Example.COM "), Some("ada@example.com".into()));
    for bad in ["ada", "@example.com", "a@b", "a b@example.com", "a@b@example.com", "<a@example.com>", "a@.com", ""] {
        assert_eq!(email_address(bad), None, "{bad}");
    }
    assert_eq!(language_code("de-CH"), Some("de".into()));
    assert_eq!(language_code("klingon"), None);
    assert_eq!(page_path("https://shop.example/a/b?token=secret#x"), Some("/a/b".into()));
    assert_eq!(page_path("https://shop.example"), Some("/".into()));
    assert_eq!(page_path("javascript:alert(1)"), None);
    assert_eq!(clean("a\nb", 10), None);
}

#[test]
fn the_pages_id_comes_back_out_of_the_key() {
    let visitor = Visitor::new("v".into(), None, &Join::default());
    let said = Message { client_msg_id: "a-1".into(), text: "hi".into() };
    let envelope = message(&place(), &visitor, &said, NOW).unwrap();
    assert_eq!(client_msg_id(&envelope.dedup_key), Some("a-1".into()));
}
