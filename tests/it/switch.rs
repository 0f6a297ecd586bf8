//! One customer over several channels: the same conversation, the same agent, the whole history on both sides.

use contract::command::{AgentCommand, AgentQuery, SwitchTo};
use contract::event::Event;
use contract::{ConversationId, EventRecord};
use serde_json::{Value, json};
use throughline_tests::chat::Visit;
use throughline_tests::daemon::{Builder, TENANT};
use throughline_tests::mail::{ANN, BOB, SUPPORT};
use throughline_tests::{AgentTool, ChatClient, Daemon, Mail, MailServer, PATIENCE, until};

use crate::browser::{Browser, ENTER, WIDGET, open_widget, shows};

/// What a site signs its visitors' logins with.
const LOGIN_SECRET: &str = "a secret of the shop's that is long enough to sign with";

/// A site's word for who its visitor is.
fn login(sub: &str, email: &str) -> String {
    let exp = runtime::clock::now() / 1000 + 3600;
    let claims = json!({ "sub": sub, "name": "Ann", "email": email, "email_verified": true, "exp": exp });
    let key = jsonwebtoken::EncodingKey::from_secret(LOGIN_SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

/// A shop with a page to chat on and a mailbox, where answers that nobody fetches go by mail at once.
fn shop(server: &MailServer) -> Builder {
    let contact = "[contact]\nunread_by = { kind = \"email\", account = \"support\" }\nunread_after_ms = 300\nunread_every_ms = 500\n";
    Daemon::builder()
        .amend("[queues.support]", &format!("{contact}[queues.support]"))
        .account("email-support", &server.account(""))
        .chat("login_secret = { env = \"SHOP_LOGIN\" }")
        .env("SHOP_LOGIN", LOGIN_SECRET)
}

fn from_us(mail: &Mail) -> bool {
    mail.from.as_deref() == Some(SUPPORT)
}

fn bare(id: &str) -> &str {
    id.trim_matches(['<', '>'])
}

fn holds(mail: &Mail, text: &str) -> bool {
    from_us(mail) && mail.text.contains(text)
}

/// What was said to a customer and by it, over all channels, as its agent is told.
async fn history(agent: &AgentTool, conversation: ConversationId) -> Vec<String> {
    let records = agent.commander().history(conversation, 100).await.expect("the history");
    records.iter().filter_map(said).collect()
}

fn said(record: &EventRecord) -> Option<String> {
    let said = match &*record.event {
        Event::MessageReceived { envelope, .. } => {
            let text = envelope.content.iter().find_map(|part| match part {
                contract::envelope::Part::Text(text) => Some(text.visible.clone().unwrap_or_else(|| text.body.clone())),
                _ => None,
            });
            format!("{} customer: {}", envelope.account.kind, text.unwrap_or_default().trim())
        }
        Event::MessageSent { thread, content, .. } => {
            format!("{} agent: {}", thread.account.kind, throughline_tests::agent::text_of(content))
        }
        Event::MessageNotified { thread, notice, .. } => format!("{} {notice}", thread.account.kind),
        _ => return None,
    };
    Some(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_from_chat_to_mail_and_back_is_one_conversation() {
    let server = MailServer::start().await;
    let daemon = shop(&server).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let browser = Browser::open(1280, 900).await;
    let page = format!("http://{}/chat/web/demo", daemon.chat());
    let sign_in = format!("window.Throughline.login({}); return true;", json!(login("ann-1", ANN)));

    // She signs in, asks, and closes the page.
    browser.goto(&page).await;
    browser.until("the widget", "return !!window.Throughline").await;
    browser.run(&sign_in).await;
    open_widget(&browser, &page).await;
    browser.run(&sign_in).await;
    browser.types("Does the lamp come in red?").await;
    browser.types(ENTER).await;
    let conversation = anna.hears("Does the lamp come in red?").await;
    shows(&browser, &["customer: Does the lamp come in red?"]).await;
    browser.goto("about:blank").await;

    // The answer finds her by mail; she answers there, and gets another.
    anna.say(conversation, "In red and in blue.").await;
    let mail = server.arrives(ANN, "the answer that she did not see", |mail| holds(mail, "In red and in blue.")).await;
    let thanks = server.replies(ANN, mail.message_id.as_deref().expect("an id"), "Then the red one, please.").await;
    assert_eq!(anna.hears_part("Then the red one, please.").await, conversation, "the same conversation");
    anna.say(conversation, "It is on its way.").await;
    let second = server.arrives(ANN, "the answer by mail", |mail| holds(mail, "It is on its way.")).await;
    assert_eq!(second.in_reply_to.as_deref().map(bare), Some(bare(&thanks)), "{second:?}");

    // She comes back to the page, and all of it is there.
    open_widget(&browser, &page).await;
    browser.run(&sign_in).await;
    let talk = [
        "customer: Does the lamp come in red?",
        "agent: In red and in blue.",
        "customer: Then the red one, please.",
        "agent: It is on its way.",
    ];
    shows(&browser, &talk).await;
    browser.screenshot("10-back-from-mail").await;
    let focus = format!("{WIDGET} root.querySelector('textarea').focus(); return root.activeElement?.id === 'field';");
    browser.until("the field to have the focus", &focus).await;
    browser.types("Thank you!").await;
    browser.types(ENTER).await;
    assert_eq!(anna.hears("Thank you!").await, conversation);
    anna.say(conversation, "You are welcome.").await;
    let mut all = talk.to_vec();
    all.extend(["customer: Thank you!", "agent: You are welcome."]);
    shows(&browser, &all).await;

    // Her agent sees the same, and who she is.
    let told = history(&anna, conversation).await;
    let wanted = [
        "chat customer: Does the lamp come in red?",
        "chat agent: In red and in blue.",
        "email unread",
        "email customer: Then the red one, please.",
        "email agent: It is on its way.",
        "chat customer: Thank you!",
        "chat agent: You are welcome.",
    ];
    assert_eq!(told, wanted);
    let found = daemon.cli(&["--json", "customer", "find", "email", ANN]).await.json();
    assert_eq!(found["value"].as_array().expect("customers").len(), 1, "{found}");
    let schemes: Vec<&str> = found["value"][0]["identities"]
        .as_array()
        .expect("identities")
        .iter()
        .map(|held| held["identity"]["scheme"].as_str().expect("a scheme"))
        .collect();
    assert!(["login", "visitor", "email"].iter().all(|scheme| schemes.contains(scheme)), "{schemes:?}");
    let opened = daemon.events(TENANT).await;
    let opened = opened.iter().filter(|record| matches!(*record.event, Event::ConversationOpened { .. })).count();
    assert_eq!(opened, 1, "one conversation from beginning to end");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_a_forged_sender_is_somebody_else() {
    let server = MailServer::start().await;
    let daemon = shop(&server).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let ann = Visit { login: Some(login("ann-1", ANN)), ..Visit::default() };
    let mut client = ChatClient::open(&daemon, "ann", ann).await;
    client.send("My secret order number is 4711.").await;
    let hers = anna.hears("My secret order number is 4711.").await;

    // Mallory's program says that it is she. The mail server says that it is not.
    let forged = ["send", "--from", ANN, "--to", SUPPORT, "--subject", "My order", "--text", "What was my number?"];
    server.customer(throughline_tests::mail::MALLORY, &forged).await;
    let strangers = anna.hears_part("What was my number?").await;
    assert_ne!(strangers, hers, "a conversation of its own");
    assert_eq!(history(&anna, strangers).await, ["email customer: What was my number?"], "which shows nothing of hers");

    // A person is asked whether they are one.
    let suggested = until(PATIENCE, "the suggestion", async || {
        let all = daemon.cli(&["--json", "customer", "suggestions"]).await.json();
        all["value"].as_array().filter(|all| !all.is_empty()).cloned()
    })
    .await;
    assert_eq!(suggested.len(), 1);
    assert_eq!((&suggested[0]["reason"], &suggested[0]["identity"]["value"]), (&json!("claimed"), &json!(ANN)));
    let (one, other) = (&suggested[0]["customer"]["customer"], &suggested[0]["with"]["customer"]);
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    daemon.cli(&["customer", "dismiss", &text(one), &text(other)]).await.ok();
    let left = daemon.cli(&["--json", "customer", "suggestions"]).await.json();
    assert_eq!(left["value"], json!([]), "what was said once is not asked again");

    // Two by mistake: a merge shows the agent both, a split takes it back.
    daemon.cli(&["customer", "merge", &text(one), &text(other)]).await.ok();
    assert_eq!(history(&anna, strangers).await.len(), 2, "one person's history");
    let shown = daemon.cli(&["--json", "customer", "show", &text(one)]).await.json();
    let merged = shown["value"]["customer"]["merged"].as_array().cloned().unwrap_or_default();
    let away = merged.first().cloned().unwrap_or_else(|| other.clone());
    daemon.cli(&["customer", "split", &text(&away)]).await.ok();
    assert_eq!(history(&anna, strangers).await.len(), 1, "each has its own back");
    assert_eq!(history(&anna, hers).await, ["chat customer: My secret order number is 4711."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_by_an_agents_link_proves_the_address() {
    let server = MailServer::start().await;
    let daemon = shop(&server).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let mut client = ChatClient::open(&daemon, "bob", Visit::default()).await;
    client.send("I must go, can we write mails?").await;
    let conversation = anna.hears("I must go, can we write mails?").await;
    let to = SwitchTo {
        kind: "email".parse().expect("a kind"),
        account: "support".parse().expect("an account"),
        address: BOB.into(),
    };
    anna.does(AgentCommand::ConversationSwitch { conversation, to }).await;
    let asked = server.arrives(BOB, "the way to go on", |mail| holds(mail, "Let us go on here")).await;
    assert_eq!(asked.header("Auto-Submitted"), None, "a person asked");
    server.replies(BOB, asked.message_id.as_deref().expect("an id"), "Here I am.").await;
    assert_eq!(anna.hears_part("Here I am.").await, conversation);
    let found = daemon.cli(&["--json", "customer", "find", "email", BOB]).await.json();
    let held = found["value"][0]["identities"].as_array().expect("identities").clone();
    let mail = held.iter().find(|held| held["identity"]["scheme"] == "email").expect("the address");
    assert_eq!((&mail["assurance"], &mail["source"]), (&json!("verified"), &json!("switch")), "{found}");
    // It shows in the chat, and the answer goes by mail.
    client.hears("customer", "Here I am.").await;
    anna.say(conversation, "Good.").await;
    server.arrives(BOB, "the answer", |mail| holds(mail, "Good.")).await;
    client.hears("agent", "Good.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_by_the_customers_own_wish_proves_the_address() {
    let server = MailServer::start().await;
    let ways = "[contact]\n[[contact.switch_to]]\nkind = \"email\"\naccount = \"support\"\n";
    let daemon = Daemon::builder()
        .amend("[queues.support]", &format!("{ways}[queues.support]"))
        .account("email-support", &server.account(""))
        .start()
        .await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    // A phone's size.
    let browser = Browser::open(420, 800).await;
    let page = format!("http://{}/chat/web/demo", daemon.chat());
    open_widget(&browser, &page).await;
    browser.types("I must catch my train, can we write mails?").await;
    browser.types(ENTER).await;
    let conversation = anna.hears("I must catch my train, can we write mails?").await;

    // By the keyboard alone: the button, the address, Enter.
    let button = "root.querySelector('[aria-controls=go]')";
    let there = format!("{WIDGET} const b = {button}; if (!b || b.hidden) return false; b.focus(); return true;");
    browser.until("the way elsewhere to be offered", &there).await;
    browser.types(ENTER).await;
    let asked = format!("{WIDGET} return root.activeElement?.id === 'address';");
    browser.until("the address to be asked for", &asked).await;
    browser.types("bob@nowhere").await;
    browser.types(ENTER).await;
    let warned = format!(
        "{WIDGET} const field = root.getElementById('address'); return root.activeElement === field && \
         field.getAttribute('aria-invalid') === 'true' && root.getElementById('trouble').textContent.length > 0;"
    );
    browser.until("the mistake to be told", &warned).await;
    browser.run(&format!("{WIDGET} root.getElementById('address').value = ''; return true;")).await;
    browser.types(BOB).await;
    browser.screenshot("11-go-on-elsewhere").await;
    browser.types(ENTER).await;
    let told = "A message is on its way to bob@customer.example, if we may write there. Answer it, and we go on there. \
                You can stay here as well.";
    let mut talk = vec!["customer: I must catch my train, can we write mails?".to_owned(), format!("agent: {told}")];
    shows(&browser, &talk.iter().map(String::as_str).collect::<Vec<_>>()).await;
    browser.screenshot("12-told-how-it-goes-on").await;

    // What arrives says nothing of the conversation, and is marked as nobody's own words.
    let asked = server.arrives(BOB, "the way to go on", |mail| holds(mail, "Somebody asked us to go on")).await;
    assert!(!asked.text.contains("train"), "{}", asked.text);
    assert_eq!(asked.header("Auto-Submitted"), Some("auto-replied"));
    anna.say(conversation, "Of course.").await;
    talk.push("agent: Of course.".to_owned());
    shows(&browser, &talk.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.replies(BOB, asked.message_id.as_deref().expect("an id"), "Here I am.").await;
    assert_eq!(anna.hears_part("Here I am.").await, conversation);
    let found = daemon.cli(&["--json", "customer", "find", "email", BOB]).await.json();
    let held = found["value"][0]["identities"].as_array().expect("identities").clone();
    let mail = held.iter().find(|held| held["identity"]["scheme"] == "email").expect("the address");
    assert_eq!((&mail["assurance"], &mail["source"]), (&json!("verified"), &json!("switch")), "{found}");
    talk.push("customer: Here I am.".to_owned());
    shows(&browser, &talk.iter().map(String::as_str).collect::<Vec<_>>()).await;
    anna.say(conversation, "Good.").await;
    server.arrives(BOB, "the answer", |mail| holds(mail, "Good.")).await;
    browser.close().await;
}

/// Every file below a folder that holds some bytes, by name.
fn files_with(folder: &std::path::Path, wanted: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(wanted.len()).any(|at| at == wanted.as_bytes()))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_who_is_erased_is_nowhere_in_the_streams() {
    let server = MailServer::start().await;
    let daemon = shop(&server).set("router.checkpoint_every_records", 5).start().await;
    // A command that nobody carries out: the file that it lies in stays, with all that was let go of beside it.
    let bus = daemon.connect(bus::permissions::ROUTER).await;
    let waits = bus::Publish {
        subject: "tl.v1.out.main.sms.nobody".to_owned(),
        payload: b"{}".to_vec().into(),
        ..bus::Publish::default()
    };
    bus.publish(waits).await.expect("a command");
    // Pictures that nobody fetches: hers, and another's.
    let ids = [(ANN, "Zanzibar in the evening"), ("eve@customer.example", "the sea")];
    let pictures = ids.map(|(address, caption)| {
        let envelope = json!({
            "v": 1, "kind": "media", "tenant": TENANT, "account": { "kind": "sms", "id": "nobody" },
            "dedup_key": format!("{caption}/media"), "thread": { "key": address }, "target": { "external_id": "1" },
            "sender": { "identity": { "scheme": "email", "value": address, "scope": "global" } },
            "sender_auth": { "level": "unverified" }, "received_at": 1,
            "content": [{ "type": "media", "kind": "image", "status": "pending", "caption": caption }],
        });
        let missing = json!([{ "part": 0, "source": { "url": "https://pictures.example/1" } }]);
        let job = json!({ "v": 1, "tenant": TENANT, "envelope": envelope, "missing": missing, "at": 1 });
        bus::Publish {
            subject: bus::topology::fetch_subject(TENANT, "sms", "nobody"),
            payload: job.to_string().into(),
            content_type: Some(contract::Encoding::Json.content_type()),
            ..bus::Publish::default()
        }
    });
    let mut jobs = Vec::new();
    for picture in pictures {
        jobs.push(bus.publish(picture).await.expect("a job").seq);
    }
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let ann = Visit { login: Some(login("ann-1", ANN)), ..Visit::default() };
    let mut client = ChatClient::open(&daemon, "ann", ann).await;
    client.send("Zanzibar is my favourite word.").await;
    let conversation = anna.hears("Zanzibar is my favourite word.").await;
    anna.say(conversation, "Zanzibar noted.").await;
    client.hears("agent", "Zanzibar noted.").await;
    // The store is busy, so that much of it was let go of without being overwritten.
    for n in 0..20 {
        client.say(&format!("Zanzibar {n}")).await;
        anna.hears(&format!("Zanzibar {n}")).await;
        anna.say(conversation, &format!("Zanzibar {n}, indeed")).await;
        client.hears("agent", &format!("Zanzibar {n}, indeed")).await;
    }
    daemon.logged("took a checkpoint").await;
    let mut other = ChatClient::open(&daemon, "bob", Visit::default()).await;
    other.send("I stay.").await;
    anna.hears("I stay.").await;
    let found = daemon.cli(&["--json", "customer", "find", "email", ANN]).await.json();
    let customer = found["value"][0]["customer"].as_str().expect("an id").to_owned();

    // She is given what is stored of her, and forgotten.
    let archive = daemon.folder().join("ann.tar");
    let archive = archive.to_str().expect("a path");
    let said = daemon.cli(&["customer", "export", &customer, "--to", archive]).await.ok();
    assert!(said.contains("facts"), "{said}");
    let exported = std::fs::read(archive).expect("the archive");
    assert!(exported.windows(15).any(|at| at == b"Zanzibar noted."), "what was said to her is in it");
    // What she said, her address, her login, and both as subjects have them.
    let traces = ["Zanzibar", ANN, "ann=40customer", "ann-1"];
    for hers in traces {
        until(PATIENCE, &format!("{hers} to be in the store's files"), async || {
            (!files_with(&daemon.data_dir(), hers).is_empty()).then_some(())
        })
        .await;
    }
    let refused = daemon.cli(&["customer", "erase", &customer]).await;
    assert!(refused.stderr.contains("--yes"), "{refused:?}");
    daemon.cli(&["customer", "erase", &customer, "--yes"]).await.ok();
    daemon.logged("erased a customer").await;
    daemon.logged("overwrote what was before the checkpoint").await;
    // From here on it is silent.
    let gone = daemon.cli(&["customer", "show", &customer]).await;
    assert!(gone.stderr.contains("erased"), "{gone:?}");
    let [hers, others] = jobs[..] else { panic!("{jobs:?}") };
    assert!(bus.get(bus::topology::FETCH, hers).await.expect("an answer").is_none(), "her picture is fetched no more");
    assert!(bus.get(bus::topology::FETCH, others).await.expect("an answer").is_some(), "others' are");
    let left = daemon.events(TENANT).await;
    let hers = left.iter().filter(|record| record.customer.is_some_and(|id| id.to_string() == customer)).count();
    assert_eq!(hers, 0, "no fact of hers is left");
    let text = format!("{left:?}");
    assert!(!text.contains("Zanzibar") && !text.contains(ANN), "nor of what she said");
    assert!(text.contains("I stay."), "others keep theirs");
    // The server writes files anew in its own time.
    for hers in traces {
        until(std::time::Duration::from_secs(180), &format!("{hers} to be nowhere in the store's files"), async || {
            files_with(&daemon.data_dir(), hers).is_empty().then_some(())
        })
        .await;
    }
    // What she says from now on is of somebody new.
    client.send("Hello again.").await;
    anna.hears("Hello again.").await;
    let found = daemon.cli(&["--json", "customer", "find", "email", ANN]).await.json();
    assert_ne!(found["value"][0]["customer"].as_str().expect("an id"), customer);
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_card_numbers_are_never_stored() {
    let server = MailServer::start().await;
    let daemon = shop(&server).set("privacy.redact", "[\"(?i)passport [a-z0-9]+\"]").start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let mut client = ChatClient::open(&daemon, "ann", Visit::default()).await;
    client.send("4111 1111 1111 1111, passport X4711").await;
    let conversation = anna.hears("[card number ending in 1111], [redacted]").await;
    anna.say(conversation, "You wrote 4111111111111111").await;
    client.hears("agent", "You wrote [card number ending in 1111]").await;
    server.writes(BOB, "My card", "It is 5555 5555 5555 4444.").await;
    anna.hears_part("It is [card number ending in 4444].").await;
    for number in ["4111 1111 1111 1111", "4111111111111111", "5555 5555 5555 4444", "X4711"] {
        let files = files_with(&daemon.data_dir(), number);
        assert_eq!(files, Vec::<String>::new(), "{number} is nowhere in the store's files");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_an_offer_carries_what_the_agent_should_know() {
    let routed = "[[routes]]\nwhen = \"segment == 'vip'\"\nqueue = \"support\"\npriority = 7\n";
    let daemon = Daemon::builder()
        .amend("[queues.support]", "[lookup]\nbudget_ms = 5000\n[queues.support]")
        .amend("[[routes]]\ntag", &format!("{routed}[[routes]]\ntag"))
        .start()
        .await;
    let crm = daemon.connect(&bus::permissions::lookup_user("main")).await;
    let mut questions = crm.subscribe("tl.v1.lookup.main").await.expect("a lookup may listen");
    let feed = daemon.connect(&bus::permissions::agent_user("main", "anna")).await;
    let mut offers = feed.subscribe("tl.v1.agent.main.anna.offer.created").await.expect("her own feed");
    let anna = AgentTool::open(&daemon, "anna").await;
    anna.available().await;

    // The CRM is asked beside the conversation, which does not wait for it.
    let mut client = ChatClient::open(&daemon, "ann", Visit::default()).await;
    client.say("hello").await;
    let (offer, conversation) = anna.offered(None).await;
    anna.accept(offer).await;
    let question = questions.next().await.expect("a question");
    let asked: Value = serde_json::from_slice(&question.payload).expect("JSON");
    assert_eq!(asked["customer"]["customer"], "u1", "{asked}");
    let answer = bus::Publish {
        subject: question.reply.clone().expect("somewhere to answer"),
        payload: br#"{"attributes":{"contract":"4711"},"segments_added":["vip"]}"#.to_vec().into(),
        ..bus::Publish::default()
    };
    crm.send(answer).await.expect("a lookup may answer");
    let known = |event: &Event| matches!(event, Event::CustomerUpdated { by, .. } if by == "lookup").then_some(());
    anna.sees("what the CRM knows", known).await;
    let note = AgentCommand::NoteAdd { conversation, text: "likes lamps".to_owned() };
    anna.does(note).await;
    daemon.cli(&["customer", "set", "u1", "--promised", "a call on Friday"]).await.ok();
    anna.close(conversation, "solved").await;

    // The next offer says all of it, and the rules decide by it.
    client.say("me again").await;
    let (offer, again) = anna.offered(Some(ConversationId(2))).await;
    offers.next().await.expect("the first offer");
    let pushed = offers.next().await.expect("the second");
    let encoding = contract::Encoding::detect(None, &pushed.payload).expect("an encoding");
    let item: contract::feed::FeedItem = encoding.decode(&pushed.payload, pushed.payload.len()).expect("an item");
    let context = item.context.expect("a context");
    assert_eq!(context.customer.attributes["contract"], "4711");
    assert_eq!(context.customer.promised.as_deref(), Some("a call on Friday"));
    assert!(context.customer.segments.contains("vip"));
    assert_eq!(context.open.iter().map(|view| view.conversation).collect::<Vec<_>>(), [again]);
    assert_eq!(context.recent.iter().map(|past| past.conversation).collect::<Vec<_>>(), [conversation]);
    let told: Vec<String> = context.messages.iter().filter_map(said).collect();
    assert_eq!(told, ["chat customer: hello", "chat customer: me again"]);
    assert_eq!(context.notes.len(), 1, "{:?}", context.notes);
    anna.accept(offer).await;
    let query = AgentQuery::ConversationContext { conversation: again, messages: Some(1) };
    let asked: contract::answer::Context = anna.commander().query(&query).await.expect("the context");
    assert_eq!((asked.messages.len(), asked.more, asked.notes.len()), (1, true, 1));
    let shown = daemon.cli(&["--json", "conversation", "show", &again.to_string()]).await.json();
    assert_eq!(shown["value"]["conversation"]["priority"], 7, "the rule for the segment decided: {shown}");
    // She was asked for a moment ago.
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(200), questions.next()).await;
    assert!(nobody.is_err(), "the answer is believed for a while");
}
