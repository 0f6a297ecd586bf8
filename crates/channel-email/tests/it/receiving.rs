//! From the mailbox to `IN`.

use adapter::bus::{Message, Publish, Service, topology};
use adapter::contract::command::Reply;
use adapter::contract::envelope::{EnvelopeKind, MediaStatus, Part};
use adapter::contract::outbound::ShardLag;
use adapter::contract::{AccountId, ChannelKind, Encoding, Millis, TenantId, subject};

use crate::world::{World, soon};

fn mail(id: &str, text: &str) -> String {
    format!(
        "From: Ann <ann@example.com>\r\nTo: support@shop.example\r\nSubject: Order\r\n\
         Date: Mon, 3 Mar 2025 10:00:00 +0000\r\nMessage-ID: <{id}@example.com>\r\n\r\n{text}\r\n"
    )
}

fn text(envelope: &adapter::contract::Envelope) -> &str {
    match &envelope.content[0] {
        Part::Text(text) => &text.body,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_comes_in_once_and_the_mailbox_is_left_as_it_is() {
    let world = World::start().await;
    world.mailbox.deliver(mail("old", "before the first run"));
    let running = world.run("").await;
    let mut inbox = world.inbox().await;
    world.until_health("up").await;
    world.mailbox.deliver(mail("one", "one"));
    world.mailbox.deliver(
        "From: Bob <bob@example.com>\r\nSubject: File\r\nMessage-ID: <f@example.com>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee\r\n--b\r\n\
         Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nPDF\r\n--b--\r\n",
    );
    let one = inbox.next().await;
    assert_eq!((text(&one), one.sender.identity.value.as_str()), ("one", "ann@example.com"));
    let file = inbox.next().await;
    let Part::Media(media) = &file.content[1] else { panic!() };
    assert_eq!((media.status.clone(), media.name.as_deref()), (Some(MediaStatus::Stored), Some("a.pdf")));
    let key = media.store_key.as_deref().unwrap();
    assert!(key.starts_with(&format!("main/email/{}/", file.thread.key)));
    let objects = world.router.objects(topology::MEDIA).await.unwrap();
    assert_eq!(objects.get(key, 100).await.unwrap().unwrap().as_ref(), b"PDF");
    let raw = objects.get(&file.raw_ref.unwrap().store_key, 1000).await.unwrap().unwrap();
    assert!(raw.starts_with(b"From: Bob"));
    running.drain().await;

    // A restart goes on where it was.
    world.mailbox.deliver(mail("while-away", "while away"));
    let running = world.run("").await;
    assert_eq!(text(&inbox.next().await), "while away");
    assert!(inbox.is_quiet().await);
    let commands = world.mailbox.with(|state| state.commands.clone());
    assert!(commands.iter().any(|line| line.contains("IDLE")));
    for line in commands {
        let words = ["SELECT", "STORE", "EXPUNGE", "UNSEEN", ":*", "BODY[]"];
        assert!(!words.iter().any(|word| line.contains(word)), "{line}");
    }
    running.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_whose_numbers_begin_anew_is_not_imported_again() {
    let world = World::start().await;
    world.mailbox.deliver(mail("one", "one"));
    let running = world.run("first_run = \"all\"\nidle = false").await;
    let mut inbox = world.inbox().await;
    assert_eq!(text(&inbox.next().await), "one");
    world.until_health("up").await;
    // As after a restore; the server's dates are old, so what is new has to be found by its content.
    world.mailbox.with(|state| {
        state.uid_validity = 8;
        state.uid_next = 1;
        state.mails.clear();
    });
    world.mailbox.deliver(mail("one", "one"));
    assert!(inbox.is_quiet().await);
    world.mailbox.deliver(mail("two", "two"));
    assert_eq!(text(&inbox.next().await), "two");
    // Numbers that go back without a new validity.
    world.mailbox.with(|state| state.uid_next = 2);
    assert!(inbox.is_quiet().await);
    running.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_little_is_read_all_the_same() {
    let world = World::start().await;
    world.mailbox.with(|state| {
        state.hides_uid_next = true;
        state.no_idle = true;
    });
    let running = world.run("first_run = \"all\"").await;
    let mut inbox = world.inbox().await;
    world.until_health("up").await;
    world.mailbox.deliver(mail("one", "one"));
    assert_eq!(text(&inbox.next().await), "one");
    running.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_trouble_and_not_the_end() {
    let world = World::start().await;
    world.mailbox.with(|state| state.refuse_logins = 2);
    let running = world.run("first_run = \"all\"").await;
    // Before the first attempt it is down as well, and there is nothing to tell.
    let health = world.until_fares(|health| health.state == "down" && health.last_error.is_some()).await;
    let told = health.last_error.unwrap();
    assert!(told.contains("signing in") && !told.contains("hunter2"), "{told}");
    world.mailbox.deliver(mail("one", "one"));
    let mut inbox = world.inbox().await;
    let event = inbox.next().await;
    let signal = event.signal.unwrap();
    assert_eq!((event.kind, signal.name.as_str()), (EnvelopeKind::AccountEvent, "auth_failed"), "told once");
    assert_eq!(text(&inbox.next().await), "one");
    world.until_health("up").await;
    running.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_mail_stops_nothing_behind_it() {
    let world = World::start().await;
    world.mailbox.deliver([0xff_u8; 300]);
    world.mailbox.deliver("");
    world.mailbox.deliver(mail("good", "good"));
    let running = world.run("first_run = \"all\"").await;
    let mut inbox = world.inbox().await;
    loop {
        let envelope = inbox.next().await;
        assert_eq!(envelope.kind, EnvelopeKind::Message);
        if text(&envelope) == "good" {
            break;
        }
    }
    running.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_mailbox_do_no_harm() {
    let world = World::start().await;
    let (one, two) = (world.run("first_run = \"all\"").await, world.run("first_run = \"all\"").await);
    let mut inbox = world.inbox().await;
    for n in 0..20 {
        world.mailbox.deliver(mail(&format!("n{n}"), &format!("text {n}")));
    }
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 20 {
        // One may come twice, with the same key: the router takes one.
        seen.insert(inbox.next().await.dedup_key);
    }
    one.drain().await;
    two.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_used_again_is_another_mail_and_is_told() {
    let world = World::start().await;
    world.mailbox.deliver(mail("same", "one"));
    world.mailbox.deliver(mail("same", "one"));
    world.mailbox.deliver(mail("same", "two"));
    let running = world.run("first_run = \"all\"").await;
    let mut inbox = world.inbox().await;
    assert_eq!(text(&inbox.next().await), "one");
    let two = inbox.next().await;
    assert_eq!(text(&two), "two");
    assert!(two.adapter.unwrap().warnings[0].contains("same Message-ID"));
    running.drain().await;
    world.end().await;
}

/// Mail goes after those who wait for an answer: while the router is behind it stays where it is.
#[tokio::test(flavor = "multi_thread")]
async fn mail_stays_in_its_mailbox_while_the_router_is_behind() {
    let world = World::start().await;
    let (tenant, kind) = (TenantId::new("main").unwrap(), ChannelKind::new("email").unwrap());
    let question = subject::channel_query(&tenant, &kind, &AccountId::new("support").unwrap(), "shard.lag");
    let service = Service {
        name: "router".into(),
        version: "0.1.0".into(),
        description: String::new(),
        endpoints: vec![("lag".into(), question)],
    };
    let mut questions = world.router.service(service).await.unwrap();
    let answer = async |question: Message, behind_ms| {
        let reply = Reply::done("".into(), ShardLag { behind_ms: Millis(behind_ms) });
        let payload = Encoding::Json.encode(&reply).unwrap().into();
        let content_type = Some(Encoding::Json.content_type());
        let publish = Publish { subject: question.reply.unwrap(), payload, content_type, ..Publish::default() };
        world.router.send(publish).await.unwrap();
    };
    let running = world.run("").await;
    let mut inbox = world.inbox().await;
    world.until_health("up").await;
    world.mailbox.deliver(mail("late", "late"));
    answer(soon(questions.next()).await.unwrap(), 60_000).await;
    let health = world.until_health("degraded").await;
    assert!(health.last_error.unwrap().contains("60 s behind"));
    let question = soon(questions.next()).await.unwrap();
    let fetched = world.mailbox.with(|state| state.commands.iter().any(|line| line.contains("BODY.PEEK")));
    assert!(!fetched, "it was fetched all the same");
    answer(question, 100).await;
    assert_eq!(text(&inbox.next().await), "late");
    world.until_health("up").await;
    running.drain().await;
    world.end().await;
}
