use super::*;
use crate::kit;

const UPDATE: &[u8] = include_bytes!("../../fixtures/telegram/text.json");

fn ear() -> Ear {
    let secret_tokens = ["old-secret-0123456789", "new-secret-0123456789"].map(SecretString::new).to_vec();
    Ear { place: kit::place("telegram"), bot: "110201543".into(), secret_tokens }
}

fn status(headers: &[(&str, &str)], body: &[u8]) -> u16 {
    match ear().receive(&kit::request(Method::POST, "/hook/social/telegram", headers, body), &Siblings::of([])) {
        Verdict::Refuse { status, .. } => status.as_u16(),
        Verdict::Take { reply, .. } => reply.status.as_u16(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_is_believed_without_the_secret_token() {
    assert_eq!(status(&[], UPDATE), 401);
    assert_eq!(status(&[(SECRET_HEADER, "")], UPDATE), 401);
    assert_eq!(status(&[(SECRET_HEADER, "new-secret-012345678")], UPDATE), 401);
    assert_eq!(status(&[(SECRET_HEADER, "new-secret-0123456789"), (SECRET_HEADER, "x")], UPDATE), 401);
    // Both are good while it is changed.
    assert_eq!(status(&[(SECRET_HEADER, "old-secret-0123456789")], UPDATE), 200);
    assert_eq!(status(&[(SECRET_HEADER, "new-secret-0123456789")], UPDATE), 200);
    assert_eq!(status(&[(SECRET_HEADER, "new-secret-0123456789")], b"{"), 400);
    let none = Ear { secret_tokens: Vec::new(), ..ear() };
    let request = kit::request(Method::POST, "/", &[(SECRET_HEADER, "")], UPDATE);
    assert!(matches!(none.receive(&request, &Siblings::of([])), Verdict::Refuse { .. }));
}

#[test]
fn a_pressed_button_is_told_that_it_was_heard() {
    let body = include_bytes!("../../fixtures/telegram/callback.json");
    let request = kit::request(Method::POST, "/", &[(SECRET_HEADER, "new-secret-0123456789")], body);
    let Verdict::Take { items, reply } = ear().receive(&request, &Siblings::of([])) else { panic!("taken") };
    assert_eq!(items.len(), 1);
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer, json!({ "method": "answerCallbackQuery", "callback_query_id": "4382bfdwdsb323b2d9" }));
}

#[test]
fn what_is_not_understood_is_kept_and_acknowledged() {
    let body = include_bytes!("../../fixtures/telegram/unknown-update.json");
    let request = kit::request(Method::POST, "/", &[(SECRET_HEADER, "new-secret-0123456789")], body);
    let Verdict::Take { items, reply } = ear().receive(&request, &Siblings::of([])) else { panic!("taken") };
    assert_eq!(
        (kit::told(&items), reply.status.as_u16()),
        (vec!["dead: a kind of update that is not known".into()], 200)
    );
}

#[test]
fn a_files_path_leads_nowhere_else() {
    assert!(is_path("photos/file_1.jpg"));
    for bad in ["", "/etc/passwd", "a//b", "../x", "a/../b", "a?b", "a#b", "a b", "a%2fb"] {
        assert!(!is_path(bad), "{bad}");
    }
}

#[test]
fn a_token_is_what_the_platform_gives_out() {
    assert_eq!(bot_id("110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"), Some("110201543"));
    for bad in ["", "110201543", "x:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", "1:short", "1:AAHdqTcvCH1vGWJxfSeofSAs/0K5"] {
        assert_eq!(bot_id(bad), None, "{bad}");
    }
    assert!(
        legal_secret_token("abc_DEF-0123456789")
            && !legal_secret_token("short")
            && !legal_secret_token(&"x".repeat(257))
    );
}

#[test]
fn the_example_is_in_order() {
    assert_eq!(kit::example("telegram"), Vec::<String>::new());
}
