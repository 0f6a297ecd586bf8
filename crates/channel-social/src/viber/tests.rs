use adapter::http::Method;
use adapter::verify;

use super::*;
use crate::kit;

/// Published with the platform's own library.
const TOKEN: &str = "44dafb7e0f40021e-61a47a1e6778d187-f2c5a676a07050b3";
const BODY: &[u8] = br#"{"event":"webhook","timestamp":4977069964384421269,"message_token":1478683725125}"#;
const GOOD: &str = "d21b343448c8aee33b8e93768ef6ceb64a6ba6163099973a2b8bd028fea510ef";

fn ear() -> Ear {
    let tokens = vec![SecretString::new(TOKEN)];
    Ear { place: kit::place("viber"), tokens, welcome: Some("{}".into()), shelf: None, people: people() }
}

fn judge(headers: &[(&str, &str)], body: &[u8]) -> Verdict {
    ear().receive(&kit::request(Method::POST, "/hook/social/viber", headers, body), &Siblings::of([]))
}

#[test]
fn the_published_vector_holds_and_nothing_else() {
    assert!(matches!(judge(&[(SIGNATURE.header, GOOD)], BODY), Verdict::Answer(_)));
    assert!(matches!(judge(&[], BODY), Verdict::Refuse { .. }));
    assert!(matches!(judge(&[(SIGNATURE.header, GOOD)], b"{}"), Verdict::Refuse { .. }));
    assert!(matches!(judge(&[(SIGNATURE.header, &GOOD.replace('d', "e"))], BODY), Verdict::Refuse { .. }));
}

#[test]
fn whoever_opens_the_chat_is_welcomed() {
    let body = br#"{"event":"conversation_started","timestamp":1457764197627,"message_token":4912661846655238145,"type":"open","context":"ad7","user":{"id":"01234567890A=","name":"Ann"},"subscribed":false}"#;
    let parts: [&[u8]; 1] = [body];
    let signature = verify::sign(verify::Algorithm::Sha256, &SecretString::new(TOKEN), &parts, verify::Encoding::Hex);
    let Verdict::Take { items, reply } = judge(&[(SIGNATURE.header, &signature)], body) else { panic!("taken") };
    assert_eq!(kit::told(&items), ["conversation_event conversation_started/4912661846655238145"]);
    assert_eq!(reply.body, "{}");
}

#[test]
fn who_does_not_answer_is_not_written_to_for_ever_and_who_does_is_again() {
    let (ear, now) = (ear(), tokio::time::Instant::now());
    let person = "01234567890A=";
    let sent = (0..1000).filter(|_| ear.people.take(person, now).is_ok()).count();
    let later = now + std::time::Duration::from_secs(3600);
    let sent = sent + (0..1000).filter(|_| ear.people.take(person, later).is_ok()).count();
    assert_eq!(sent, 100);
    let tell = |body: &[u8]| {
        let signature =
            verify::sign(verify::Algorithm::Sha256, &SecretString::new(TOKEN), &[body], verify::Encoding::Hex);
        let request = kit::request(Method::POST, "/", &[(SIGNATURE.header, &signature)], body);
        assert!(matches!(ear.receive(&request, &Siblings::of([])), Verdict::Take { .. }));
    };
    // That it arrived is no answer.
    tell(include_bytes!("../../fixtures/viber/delivered.json"));
    assert!(ear.people.take(person, later).is_err());
    tell(include_bytes!("../../fixtures/viber/text.json"));
    assert!(ear.people.take(person, later).is_ok());
}

#[test]
fn the_example_is_in_order() {
    assert_eq!(kit::example("viber"), Vec::<String>::new());
}
