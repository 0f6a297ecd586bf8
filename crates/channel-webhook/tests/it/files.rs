//! What is wrong with a file is said when it is read, with its path.

use crate::support::prepare;

const GOOD: &str = r#"
[settings]
format = "json"
[[settings.verify]]
scheme = "bearer"
secrets = { env = "X" }
[[settings.event]]
dedup_key = "/id"
thread = "/from"
text = "/text"
sender = { identity = { scheme = "x", value = "/from" } }
[settings.send]
url = "https://api.example/{to}"
json = { text = "= text" }
"#;

fn problems(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let problems = prepare(&GOOD.replacen(from, to, 1)).err().unwrap_or_default();
    problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_file_itself_is_in_order() {
    assert!(prepare(GOOD).is_ok());
}

#[test]
fn every_problem_has_its_path() {
    for (from, to, said) in [
        ("format = \"json\"", "fromat = \"json\"", "settings.fromat: there is no such setting"),
        ("format = \"json\"", "format = \"xml\"", "settings.format: must be one of: json, form, query, text"),
        ("scheme = \"bearer\"", "scheme = \"none\"", "settings.verify[0].scheme: must be one of"),
        ("secrets = { env = \"X\" }", "", "settings.verify[0].secrets: is missing"),
        ("secrets = { env = \"X\" }", "secrets = \"hunter2\"", "settings.verify[0].secrets: a secret does not stand"),
        ("thread = \"/from\"", "", "settings.event[0].thread: is missing"),
        (
            "thread = \"/from\"",
            "thread = { key = \"/a\", kind = \"room\" }",
            "settings.event[0].thread.kind: must be one of",
        ),
        ("text = \"/text\"", "txt = \"/text\"", "settings.event[0].txt: there is no such setting"),
        ("text = \"/text\"", "", "settings.event[0].text: is missing: a message needs text or content"),
        ("text = \"/text\"", "text = \"= itm.text\"", "settings.event[0].text: there is no variable \"itm\""),
        ("text = \"/text\"", "text = \"= item.text +\"", "settings.event[0].text: column"),
        ("text = \"/text\"", "text = \"= [1, 2]\"", "settings.event[0].text: is a list, and must be"),
        ("text = \"/text\"", "text = \"= shout(item.text)\"", "settings.event[0].text: there is no function \"shout\""),
        (
            "text = \"/text\"",
            "text = \"= method.size(1)\"",
            "settings.event[0].text: size takes a value, and is given a text, a number",
        ),
        ("text = \"/text\"", "text = \"= method == 1 ? 'a' : 'b'\"", "a text is never equal to a number"),
        ("text = \"/text\"", "text = \"= item.t.matches('(')\"", "is not a pattern"),
        ("text = \"/text\"", "text = \"/a~b\"", "settings.event[0].text: is no JSON pointer"),
        (
            "text = \"/text\"",
            "text = \"/t\"\nwhen = \"1\"",
            "settings.event[0].when: is a number, and must be true or false",
        ),
        ("text = \"/text\"", "text = \"/t\"\nkind = \"sms\"", "settings.event[0].kind: must be one of"),
        (
            "text = \"/text\"",
            "kind = \"reaction\"",
            "settings.event[0].target: is missing: an event of kind reaction needs it",
        ),
        ("text = \"/text\"", "content = [{ type = \"picture\" }]", "settings.event[0].content[0].type: must be one of"),
        ("text = \"/text\"", "content = [{ type = \"media\" }]", "settings.event[0].content[0].url: is missing"),
        (
            "url = \"https://api.example/{to}\"",
            "url = \"http://api.example/\"",
            "settings.send.url: must begin with https://",
        ),
        (
            "url = \"https://api.example/{to}\"",
            "url = \"https://{to}/x\"",
            "settings.send.url: must name its host before",
        ),
        (
            "url = \"https://api.example/{to}\"",
            "url = \"https://api.example{to}\"",
            "settings.send.url: must name its host before",
        ),
        (
            "url = \"https://api.example/{to}\"",
            "url = \"https://api.example/{secret:k}\"",
            "settings.send.url: there is no secret \"k\"",
        ),
        (
            "json = { text = \"= text\" }",
            "json = { text = \"{secret:k}\" }",
            "settings.send.secrets: there is no secret \"k\"",
        ),
        (
            "json = { text = \"= text\" }",
            "json = { text = \"/text\" }",
            "settings.send.json.text: a pointer points into nothing here",
        ),
        (
            "json = { text = \"= text\" }",
            "result = { id = \"= anser.id\" }",
            "settings.send.result.id: there is no variable \"anser\"",
        ),
        (
            "json = { text = \"= text\" }",
            "json = {}\ntext = \"x\"",
            "settings.send.json: the body is one of json, form and text",
        ),
        (
            "json = { text = \"= text\" }",
            "headers = { Host = \"x\" }",
            "settings.send.headers.Host: is set by the connection itself",
        ),
    ] {
        let found = problems(from, to);
        assert!(found.contains(said), "{to}: {found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn nobody_is_verified_where_everybody_may_write() {
    let open = GOOD.replace("scheme = \"bearer\"\nsecrets = { env = \"X\" }", "scheme = \"open\"");
    assert!(prepare(&open).is_ok());
    let proof = open.replace("value = \"/from\" }", "value = \"/from\", assurance = \"verified\" }");
    assert!(prepare(&proof).is_err());
    assert!(
        prepare(&open.replace("scheme = \"open\"", "scheme = \"open\"\n[[settings.verify]]\nscheme = \"open\""))
            .is_err()
    );
    let none = GOOD.replace("[[settings.verify]]\nscheme = \"bearer\"\nsecrets = { env = \"X\" }\n", "");
    assert!(prepare(&none).err().unwrap()[0].message.contains("say how a request is verified"));
}

#[test]
fn a_signature_that_would_fit_everything_is_refused() {
    for (said, why) in [
        ("signed = \"{timestamp}\"\ntimestamp_header = \"X-T\"", "one signature would fit every request"),
        ("signed = \"{body}\"\ntimestamp_header = \"X-T\"", "go together"),
        ("signed = \"{timestamp}{body}\"", "go together"),
        ("signed = \"{bdoy}\"", "does not know {bdoy}"),
        ("header = \"no header\"", "is no name of a header"),
    ] {
        let hmac = format!("scheme = \"hmac\"\nheader = \"X-Sig\"\nsecrets = {{ env = \"X\" }}\n{said}");
        let hmac = if said.starts_with("header") { hmac.replace("header = \"X-Sig\"\n", "") } else { hmac };
        let found = problems("scheme = \"bearer\"\nsecrets = { env = \"X\" }", &hmac);
        assert!(found.contains(why), "{said}: {found}");
    }
}

#[test]
fn expressions_that_nest_or_chain_too_far_are_refused() {
    let deep = format!("text = \"= {}1{}\"", "(".repeat(100), ")".repeat(100));
    let long = format!("text = \"= 1{}\"", " + 1".repeat(400));
    let not = format!("text = \"= {}true\"", "!".repeat(500));
    for bad in [deep, long, not] {
        assert!(problems("text = \"/text\"", &bad).contains("brackets"), "{bad}");
    }
}
