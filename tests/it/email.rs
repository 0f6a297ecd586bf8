//! Mail in, routed, answered, and mail out, with real servers that fail in every way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::envelope::{AuthLevel, Envelope, MailClass, MediaStatus, Part, ReceiptStatus};
use contract::{ConversationId, Event, MessageId};
use throughline_tests::daemon::{Builder, TENANT};
use throughline_tests::mail::{ANN, BOB, MALLORY, SUPPORT};
use throughline_tests::{AgentTool, Daemon, Mail, MailServer, Manner, until, within};

/// What takes several tries of the channel, with its pauses between.
const LONG: Duration = Duration::from_secs(120);

fn builder(server: &MailServer) -> Builder {
    Daemon::builder().without_chat().account("email-support", &server.account(""))
}

/// A mail as bytes, for what no customer's program would send.
pub(crate) fn eml(from: &str, subject: &str, id: &str, date: &str, text: &str) -> Vec<u8> {
    format!(
        "From: {from}\r\nTo: {SUPPORT}\r\nSubject: {subject}\r\nMessage-ID: {id}\r\nDate: {date}\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
    )
    .into_bytes()
}

/// A mail that came in.
#[derive(Debug, Clone)]
struct Arrived {
    conversation: ConversationId,
    envelope: Envelope,
}

impl Arrived {
    fn id(&self) -> String {
        let id = self.envelope.mail.as_ref().and_then(|mail| mail.message_id.as_deref());
        bare(id.unwrap_or_default())
    }

    /// What was newly written, without what it quotes.
    fn visible(&self) -> String {
        let texts = self.envelope.content.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.visible.clone().unwrap_or_else(|| text.body.clone())),
            _ => None,
        });
        texts.collect::<String>().trim().to_owned()
    }
}

fn bare(id: &str) -> String {
    id.trim_matches(['<', '>']).to_owned()
}

/// Everything that came in, in the order of the conversations.
async fn all_arrived(daemon: &Daemon) -> Vec<Arrived> {
    let events = daemon.events(TENANT).await;
    let arrived = events.iter().filter_map(|record| match &*record.event {
        Event::MessageReceived { conversation, envelope, .. } => {
            Some(Arrived { conversation: *conversation, envelope: (**envelope).clone() })
        }
        _ => None,
    });
    arrived.collect()
}

/// Waits for the mail with an id.
async fn arrived(daemon: &Daemon, id: &str) -> Arrived {
    let id = bare(id);
    until(LONG, &format!("the mail {id}"), async || all_arrived(daemon).await.into_iter().find(|mail| mail.id() == id))
        .await
}

/// What is known of a message that went out, in the order it became known.
async fn states(daemon: &Daemon, message: MessageId) -> Vec<(ReceiptStatus, Option<String>)> {
    let events = daemon.events(TENANT).await;
    let states = events.iter().filter_map(|record| match &*record.event {
        Event::MessageStatusChanged { messages, status, code, .. } if messages.contains(&message) => {
            Some((status.clone(), code.as_deref().map(str::to_owned)))
        }
        _ => None,
    });
    states.collect()
}

/// Waits until a message is as wanted. Returns the provider's code.
async fn becomes(daemon: &Daemon, message: MessageId, wanted: &ReceiptStatus) -> Option<String> {
    until(LONG, &format!("{message} to be {wanted:?}"), async || {
        states(daemon, message).await.into_iter().find(|(status, _)| status == wanted).map(|(_, code)| code)
    })
    .await
}

/// The agent takes what is offered and says nothing by itself.
async fn anna(daemon: &Daemon) -> AgentTool {
    AgentTool::automatic(daemon, "anna", |_| None).await
}

/// Answers once the conversation is this agent's.
async fn answer(agent: &AgentTool, conversation: ConversationId, text: &str) -> MessageId {
    agent
        .sees("the conversation", |event| match event {
            Event::ConversationAssigned { conversation: of, .. } if *of == conversation => Some(()),
            _ => None,
        })
        .await;
    agent.say(conversation, text).await.message.expect("the id of the answer")
}

fn from_us(mail: &Mail) -> bool {
    mail.from.as_deref() == Some(SUPPORT)
}

#[tokio::test(flavor = "multi_thread")]
async fn email_is_routed_answered_and_stays_one_conversation() {
    let server = MailServer::start().await;
    let daemon = builder(&server).start().await;
    let anna = anna(&daemon).await;
    let first = server.writes(ANN, "Die Lampe", "It does not light.").await;
    let question = arrived(&daemon, &first).await;
    let identity = question.envelope.sender.identity.clone();
    assert_eq!((identity.scheme.as_str(), identity.value.as_str()), ("email", ANN));
    assert_eq!(question.envelope.sender_auth.level, AuthLevel::DmarcPass, "{:?}", question.envelope.sender_auth);
    assert_eq!(question.envelope.thread.subject.as_deref(), Some("Die Lampe"));
    assert_eq!(question.visible(), "It does not light.");

    let said = answer(&anna, question.conversation, "Did you try the switch? Grüße").await;
    let mail = server.arrives(ANN, "the answer", from_us).await;
    assert_eq!(mail.in_reply_to.as_deref(), Some(first.as_str()));
    assert!(mail.references.contains(&first), "{:?}", mail.references);
    assert_eq!(mail.subject.as_deref(), Some("Re: Die Lampe"));
    assert_eq!(mail.text.trim(), "Did you try the switch? Grüße");
    assert_eq!(mail.envelope_to, ANN);
    // A person wrote it.
    assert_eq!(mail.header("Auto-Submitted"), None);
    becomes(&daemon, said, &ReceiptStatus::Sent).await;

    // The customer's program answers, and so does one that knows nothing but where to.
    let ours = mail.message_id.clone().unwrap();
    let thanks = server.replies(ANN, &ours, "That was it.").await;
    let thanked = arrived(&daemon, &thanks).await;
    assert_eq!(thanked.conversation, question.conversation);
    assert_eq!(thanked.envelope.thread.key, question.envelope.thread.key);
    assert_eq!(thanked.visible(), "That was it.");
    assert!(thanked.envelope.mail.as_ref().unwrap().thread_proven);
    let plain = ["reply", "--bare", "--copy", "--to-id", &ours, "--text", "And the chair?"];
    let plain = server.customer(ANN, &plain).await["message_id"].as_str().unwrap().to_owned();
    let plain = arrived(&daemon, &plain).await;
    assert_eq!(plain.conversation, question.conversation);

    // In the customer's program all of it is one thread.
    answer(&anna, question.conversation, "It comes tomorrow.").await;
    let last =
        server.mails(ANN, "the second answer", |mails| mails.iter().filter(|mail| from_us(mail)).nth(1).cloned());
    let last = last.await.message_id.unwrap();
    let threads = server.customer(ANN, &["threads"]).await;
    let thread = threads.as_array().unwrap().iter().find(|thread| thread[0] == first.as_str()).cloned().unwrap();
    for id in [&first, &ours, &thanks, &last] {
        assert!(thread.as_array().unwrap().iter().any(|found| found == id.as_str()), "{id} is not in {thread}");
    }
    assert!(daemon.dead_letters(TENANT).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn email_pictures_and_html_come_in() {
    let server = MailServer::start().await;
    let daemon = builder(&server).start().await;
    let picture = daemon.folder().join("lamp.png");
    std::fs::write(&picture, [0x89, b'P', b'N', b'G', 0, 255]).unwrap();
    let picture = picture.display().to_string();
    let send = ["send", "--to", SUPPORT, "--text", "See below", "--html", "<p>See <b>below</b></p>", "--attach"];
    let sent = server.customer(ANN, &[&send[..], &[&picture, "--attach-type", "image/png"]].concat()).await;
    let mail = arrived(&daemon, sent["message_id"].as_str().unwrap()).await;
    assert!(mail.visible().contains("See below"));
    let media = mail.envelope.content.iter().find_map(|part| match part {
        Part::Media(media) if media.name.as_deref() == Some("lamp.png") => Some(media.clone()),
        _ => None,
    });
    let media = media.expect("the picture");
    assert_eq!((media.mime.as_deref(), media.bytes), (Some("image/png"), Some(6)));
    assert_eq!(media.status, Some(MediaStatus::Stored));
    assert!(media.store_key.is_some() && media.sha256.is_some(), "{media:?}");
}

/// Numbers mails, puts them in and in the end wants each once.
struct Ledger {
    ids: BTreeSet<String>,
}

impl Ledger {
    fn put(&mut self, server: &MailServer, count: usize, bytes: usize) {
        for _ in 0..count {
            let n = self.ids.len();
            let id = format!("load-{n}@customer.example");
            // Nothing may depend on what the sender's clock said.
            let date = format!("{:02} Jan 2020 10:00:00 +0000", n % 28 + 1);
            let text = "It squeaks. ".repeat(bytes / 12 + 1);
            let from = format!("Customer {n} <c{n}@customer.example>");
            server.put(SUPPORT, &eml(&from, &format!("Matter {n}"), &format!("<{id}>"), &date, &text));
            self.ids.insert(id);
        }
    }

    async fn complete(&self, daemon: &Daemon, when: &str) {
        let missing = async || {
            let mut times: BTreeMap<String, usize> = self.ids.iter().map(|id| (id.clone(), 0)).collect();
            for mail in all_arrived(daemon).await {
                *times.entry(mail.id()).or_default() += 1;
            }
            times.retain(|_, times| *times != 1);
            times
        };
        let look = until(LONG, "all mails", async || missing().await.values().all(|times| *times > 0).then_some(()));
        if tokio::time::timeout(LONG - Duration::from_secs(5), look).await.is_err() {
            panic!("{when}: lost {:?}", missing().await);
        }
        let twice = missing().await;
        assert!(twice.is_empty(), "{when}: {twice:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn email_nothing_is_lost_or_doubled_whatever_happens_to_the_mailbox() {
    let mut server = MailServer::start().await;
    let mut daemon = builder(&server).start().await;
    let mut ledger = Ledger { ids: BTreeSet::new() };
    ledger.put(&server, 5, 100);
    ledger.complete(&daemon, "at first").await;

    server.kill9_imap();
    ledger.put(&server, 5, 100);
    server.start_imap().await;
    ledger.complete(&daemon, "after the server was killed").await;

    // A firewall that forgot the connection: nobody says that it is gone.
    server.imap_line().set(Manner::Stalled);
    ledger.put(&server, 5, 100);
    within(LONG, "the daemon to connect anew", async {
        let before = server.imap_line().taken();
        while server.imap_line().taken() == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    server.imap_line().set(Manner::Clear);
    ledger.complete(&daemon, "after the line had stalled").await;

    // Slow, and cut in the middle of what is being fetched.
    server.imap_line().set(Manner::Slow { bytes: 2048, pause: Duration::from_millis(10) });
    ledger.put(&server, 20, 20_000);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.imap_line().cut();
    }
    server.imap_line().set(Manner::Clear);
    ledger.complete(&daemon, "after the line was slow and cut").await;

    // Moved while the daemon looks on.
    server.change_uid_validity(SUPPORT).await;
    ledger.put(&server, 5, 100);
    ledger.complete(&daemon, "after a move").await;

    // Filled beyond any window while the daemon is away; somebody reads all of it, and takes out some of
    // what the daemon knows already.
    daemon.terminate().await;
    for mail in server.mailbox(SUPPORT).iter().take(7) {
        server.remove(mail);
    }
    ledger.put(&server, 620, 300);
    server.customer(SUPPORT, &["read", "--seen"]).await;
    daemon.start().await;
    ledger.complete(&daemon, "after a long time away").await;

    // Moved and filled while away, and killed in the middle of catching up.
    daemon.terminate().await;
    ledger.put(&server, 200, 2_000);
    server.change_uid_validity(SUPPORT).await;
    for _ in 0..2 {
        daemon.spawn();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        daemon.kill9();
    }
    daemon.start().await;
    ledger.complete(&daemon, "after a move while away and kills").await;
    assert!(daemon.dead_letters(TENANT).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn email_that_cannot_arrive_is_told() {
    let server = MailServer::start().await;
    let daemon = builder(&server).start().await;
    let anna = anna(&daemon).await;
    let write = async |from: &str, id: &str| {
        server.put(SUPPORT, &eml(from, "Gone soon", id, "Thu, 01 Jan 2026 10:00:00 +0000", "Bye"));
        arrived(&daemon, id).await
    };
    // Taken, and returned by a later server.
    let gone = write("gone@customer.example", "<gone@customer.example>").await;
    let message = answer(&anna, gone.conversation, "Wait!").await;
    let code = becomes(&daemon, message, &ReceiptStatus::Failed).await;
    assert!(code.as_deref().is_some_and(|code| code.starts_with('5')), "{code:?}");
    // The report is no word of a customer.
    assert_eq!(all_arrived(&daemon).await.len(), 1);

    // Refused at once.
    server.refuses(BOB, true);
    let refused = write(BOB, "<refused@customer.example>").await;
    let message = answer(&anna, refused.conversation, "Are you there?").await;
    let code = becomes(&daemon, message, &ReceiptStatus::Failed).await;
    assert!(code.as_deref().is_some_and(|code| code.starts_with('5')), "{code:?}");
    assert!(server.mailbox(BOB).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn email_waits_for_a_server_that_puts_it_off() {
    let mut server = MailServer::start().await;
    let mut daemon = builder(&server).start().await;
    let anna = anna(&daemon).await;
    let question = server.writes(ANN, "Order", "Where is it?").await;
    let ann = arrived(&daemon, &question).await;
    let other = server.writes(BOB, "Other", "And mine?").await;
    let bob = arrived(&daemon, &other).await;

    server.defers(ANN, true);
    let late = answer(&anna, ann.conversation, "Tomorrow.").await;
    server.logged("temporarily rejected RCPT <ann@customer.example>").await;
    // Who waits holds up nobody else.
    answer(&anna, bob.conversation, "Today.").await;
    server.arrives(BOB, "the other answer", from_us).await;
    daemon.restart().await;
    server.defers(ANN, false);
    server.arrives(ANN, "the answer", from_us).await;
    becomes(&daemon, late, &ReceiptStatus::Sent).await;

    // A server that is away, and one whose answer is lost after it took the mail.
    server.kill9_smtp();
    let next = answer(&anna, bob.conversation, "Or tomorrow.").await;
    server.start_smtp().await;
    becomes(&daemon, next, &ReceiptStatus::Sent).await;
    server.smtp_line().lose_answer_after(20_000);
    let long = "A long answer. ".repeat(3_000);
    answer(&anna, bob.conversation, &long).await;
    let copies = async || {
        let mails = server.mailbox(BOB);
        let copies: Vec<_> = mails.iter().filter(|mail| mail.text.starts_with("A long answer.")).collect();
        copies.iter().map(|mail| mail.message_id.clone()).collect::<Vec<_>>()
    };
    until(LONG, "the long answer", async || {
        (server.smtp_line().answers_lost() == 1 && !copies().await.is_empty()).then_some(())
    })
    .await;
    answer(&anna, bob.conversation, "The last.").await;
    until(LONG, "the last answer", async || {
        server.mailbox(BOB).iter().any(|mail| mail.text.starts_with("The last.")).then_some(())
    })
    .await;
    // Twice at most, and then under one id, by which every mail program knows it for the same.
    let copies = copies().await;
    assert!(copies.len() <= 2 && copies.iter().collect::<BTreeSet<_>>().len() == 1, "{copies:?}");
    let answers = |user: &str| server.mailbox(user).iter().filter(|mail| from_us(mail)).count();
    assert_eq!(answers(ANN), 1, "nothing else went twice");
    assert_eq!(answers(BOB), 3 + copies.len(), "nothing else went twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn email_forgers_get_nowhere() {
    let server = MailServer::start().await;
    let daemon = builder(&server).start().await;
    let anna = anna(&daemon).await;
    let question = server.writes(ANN, "Contract", "Please send it.").await;
    let honest = arrived(&daemon, &question).await;
    answer(&anna, honest.conversation, "Where to?").await;
    let ours = server.arrives(ANN, "the answer", from_us).await.message_id.unwrap();

    // Who knows ids of the thread writes from an address of his own, and as Ann.
    let claim = "Authentication-Results: mx.shop.example; dmarc=pass header.from=customer.example";
    let send = async |more: &[&str]| {
        let thread =
            ["send", "--to", SUPPORT, "--subject", "Re: Contract", "--text", "To me", "--in-reply-to", &question];
        let said = server.customer(MALLORY, &[&thread[..], more].concat()).await;
        arrived(&daemon, said["message_id"].as_str().unwrap()).await
    };
    let own = send(&[]).await;
    assert_ne!(own.conversation, honest.conversation);
    assert_ne!(own.envelope.thread.key, honest.envelope.thread.key);
    for more in [&["--from", ANN][..], &["--from", ANN, "--header", claim], &["--from", ANN, "--mx"]] {
        let forged = send(more).await;
        assert_eq!(forged.envelope.sender_auth.level, AuthLevel::Failed, "{more:?}");
        assert!(!forged.envelope.mail.as_ref().unwrap().thread_proven, "{more:?}");
        assert_ne!(forged.conversation, honest.conversation, "{more:?}");
    }
    // An id of ours proves the thread, never who wrote.
    let shared = ["--references", &ours, "--from", ANN];
    let shared = send(&shared).await;
    assert_eq!(shared.envelope.sender_auth.level, AuthLevel::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn email_garbage_holds_up_nothing() {
    let server = MailServer::start().await;
    let daemon = builder(&server).start().await;
    let deep = |levels: usize| {
        let mut mail = String::from("From: a@b.example\r\nMIME-Version: 1.0\r\n");
        for level in 0..levels {
            mail += &format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
        }
        mail.into_bytes()
    };
    let noise: Vec<u8> = (0..40_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let garbage: [&[u8]; 9] = [
        b"",
        b"\r\n\r\n",
        b"\x00\xff\xfe\x00 no mail at all",
        b"From: \r\nMessage-ID: \r\n\r\nnobody",
        b"From: a@b.example, c@d.example\r\nFrom: e@f.example\r\nMessage-ID: <\xff\xff>\r\n\r\ntwo of everything",
        b"From: \"a@b.example\" <\"\\\"@\"@[::1]>\r\nContent-Type: text/html; charset=\"\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%%",
        b"From: a@b.example\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\nAction:\r\n--x--",
        &deep(500),
        &noise,
    ];
    for (n, bytes) in garbage.iter().enumerate() {
        server.put(SUPPORT, bytes);
        let id = server.writes(ANN, &format!("After {n}"), "good").await;
        arrived(&daemon, &id).await;
    }
    // Without an id, the same mail is one mail; another mail under a known id is another mail.
    let date = "Thu, 01 Jan 2026 10:00:00 +0000";
    for text in ["parcel one", "parcel two", "parcel two"] {
        server.put(SUPPORT, &eml("parcels@carrier.example", "Parcel", "<always@carrier.example>", date, text));
    }
    let good = server.writes(ANN, "The end", "good").await;
    arrived(&daemon, &good).await;
    let parcels: Vec<String> = all_arrived(&daemon)
        .await
        .iter()
        .filter(|mail| mail.id() == "always@carrier.example")
        .map(Arrived::visible)
        .collect();
    assert_eq!(parcels.iter().collect::<BTreeSet<_>>().len(), 2, "{parcels:?}");
    assert_eq!(parcels.len(), 2, "{parcels:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn email_two_machines_do_not_write_to_each_other_for_ever() {
    let server = MailServer::start().await;
    let closed = "[hours.never]\ntime_zone = \"UTC\"\n[hours.never.week]\n\n\
                  [queues.support]\nhours = \"never\"\nclosed = { action = \"refuse\", text = \"We are closed.\" }\n";
    let daemon = builder(&server).amend("[queues.support]\n", closed).start().await;
    let first = server.writes(ANN, "Hello", "Anybody there?").await;
    let auto = ["autorespond", "--count", "40", "--seconds", "12", "--text", "I am away."];
    let said = server.customer(ANN, &[&auto[..], &["--header", "Auto-Submitted: auto-replied"]].concat()).await;
    arrived(&daemon, &first).await;
    let ours: Vec<Mail> = server.mailbox(ANN).into_iter().filter(from_us).collect();
    assert!((1..=4).contains(&ours.len()), "{} automatic mails to an automatic answer; {said}", ours.len());
    for mail in &ours {
        assert!(mail.header("Auto-Submitted").is_some_and(|value| value.starts_with("auto-replied")));
        assert!(mail.header("X-Auto-Response-Suppress").is_some());
    }
    // What the other machine wrote came in, as what it is.
    let classes: Vec<MailClass> = all_arrived(&daemon)
        .await
        .iter()
        .filter_map(|mail| mail.envelope.mail.as_ref().map(|mail| mail.class.clone()))
        .collect();
    assert!(classes.contains(&MailClass::AutoReply), "{classes:?}");
    // And a person who writes afterwards is heard.
    let person = server.writes(BOB, "Hello", "And I?").await;
    arrived(&daemon, &person).await;
}
