//! The mail servers of the tests do what the tests of the email channel rely on.

use std::time::Duration;

use serde_json::json;
use throughline_tests::mail::{ANN, BOB, MALLORY, SUPPORT};
use throughline_tests::{MailServer, Manner, PATIENCE, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HONEST: &str = "mx.shop.example; dmarc=pass header.from=customer.example";
const FORGED: &str = "mx.shop.example; dmarc=fail header.from=customer.example";

#[tokio::test(flavor = "multi_thread")]
async fn mailkit_carries_a_mail_from_a_customers_program_into_a_mailbox() {
    let server = MailServer::start().await;
    let folder = throughline_tests::daemon::Folder::new();
    let picture = folder.path().join("lamp.png");
    std::fs::write(&picture, [0x89, b'P', b'N', b'G', 0, 255]).unwrap();
    let to = "support+key@shop.example";
    let sent = server
        .customer(
            ANN,
            &[
                "send",
                "--to",
                to,
                "--subject",
                "Die Lampe ist defekt – schon wieder",
                "--text",
                "Grüße",
                "--html",
                "<p>Gr&uuml;&szlig;e</p>",
                "--attach",
                picture.to_str().unwrap(),
                "--attach-type",
                "image/png",
                "--reply-to",
                "ann@elsewhere.example",
                "--references",
                "<a@x> <b@x>",
                "--in-reply-to",
                "<b@x>",
            ],
        )
        .await;
    assert_eq!(sent["refused"], json!({}));
    let mail = server.arrives(SUPPORT, "the mail", |_| true).await;
    assert_eq!(mail.message_id.as_deref(), sent["message_id"].as_str());
    assert_eq!((mail.envelope_from.as_str(), mail.envelope_to.as_str()), (ANN, to));
    assert_eq!(mail.subject.as_deref(), Some("Die Lampe ist defekt – schon wieder"));
    assert_eq!(mail.from.as_deref(), Some(ANN));
    assert_eq!(mail.reply_to.as_deref(), Some("ann@elsewhere.example"));
    assert_eq!(mail.references, ["<a@x>", "<b@x>"]);
    assert_eq!(mail.in_reply_to.as_deref(), Some("<b@x>"));
    assert_eq!(mail.text.trim(), "Grüße");
    assert_eq!(mail.attachments, [("lamp.png".to_owned(), vec![0x89, b'P', b'N', b'G', 0, 255])]);

    // The owner's program finds it by IMAP over TLS.
    let read = server.customer(SUPPORT, &["read"]).await;
    assert_eq!(read.as_array().unwrap().len(), 1);
    assert_eq!(read[0]["message_id"], sent["message_id"]);
    assert_eq!(read[0]["attachments"][0]["name"], "lamp.png");
    assert_eq!(read[0]["text"].as_str().map(str::trim), Some("Grüße"));
    assert_eq!(read[0]["authentication_results"], json!([HONEST]));
}

#[tokio::test(flavor = "multi_thread")]
async fn mailkit_says_who_is_honest() {
    let server = MailServer::start().await;
    let claim = format!("Authentication-Results: {HONEST}");
    server.writes(ANN, "honest", "me").await;
    let forge = ["send", "--to", SUPPORT, "--from", ANN, "--subject"];
    server.customer(MALLORY, &[&forge[..], &["forged", "--header", &claim]].concat()).await;
    // As another server hands it in, which proves nothing either.
    server.customer(MALLORY, &[&forge[..], &["handed in", "--mx", "--envelope-from", ANN]].concat()).await;
    for (subject, said) in [("honest", vec![HONEST]), ("forged", vec![FORGED, HONEST]), ("handed in", vec![FORGED])] {
        let mail = server.arrives(SUPPORT, subject, |mail| mail.subject.as_deref() == Some(subject)).await;
        assert_eq!(mail.headers("Authentication-Results"), said, "{subject}");
        assert!(mail.raw.starts_with(b"Return-path:"), "what delivery adds is on top");
    }
    // Nobody's log-in is taken on faith, and nothing is passed on to others.
    let relay = server.customer(ANN, &["send", "--to", "x@elsewhere.example", "--mx"]).await;
    assert_eq!(relay["refused"]["x@elsewhere.example"]["code"], 550);
}

#[tokio::test(flavor = "multi_thread")]
async fn mailkit_returns_puts_off_and_refuses() {
    let server = MailServer::start().await;
    let send = async |to: &str| {
        let said = server.customer(SUPPORT, &["send", "--to", to, "--subject", "order", "--text", "ready"]).await;
        said["refused"][to]["code"].as_u64()
    };
    assert_eq!(send("unknown@customer.example").await, None);
    let report = server.arrives(SUPPORT, "a report", |mail| mail.envelope_from.is_empty()).await;
    let raw = String::from_utf8_lossy(&report.raw).into_owned();
    for wanted in ["report-type=delivery-status", "Action: failed", "Status: 5", "unknown@customer.example"] {
        assert!(raw.contains(wanted), "no {wanted:?} in {raw}");
    }

    server.defers(ANN, true);
    server.refuses(BOB, true);
    assert_eq!(send(ANN).await, Some(451));
    assert_eq!(send(BOB).await, Some(550));
    server.defers(ANN, false);
    server.refuses(BOB, false);
    assert_eq!(send(ANN).await, None);
    assert_eq!(send(BOB).await, None);
    server.arrives(ANN, "the order", |mail| mail.subject.as_deref() == Some("order")).await;
    server.arrives(BOB, "the order", |mail| mail.subject.as_deref() == Some("order")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mailkit_survives_kills_and_moves() {
    let mut server = MailServer::start().await;
    let ids = async |server: &MailServer| {
        let mails = server.customer(SUPPORT, &["read"]).await;
        let mails = mails.as_array().unwrap().clone();
        mails.iter().map(|mail| (mail["uid"].as_u64().unwrap(), mail["subject"].as_str().map(str::to_owned))).collect()
    };
    server.writes(ANN, "one", "").await;
    server.arrives(SUPPORT, "one", |mail| mail.subject.as_deref() == Some("one")).await;
    server.put(SUPPORT, b"Subject: two\r\n\r\nput\r\n");
    let before: Vec<(u64, Option<String>)> = ids(&server).await;
    assert_eq!(before.len(), 2);

    server.kill9_imap();
    server.kill9_smtp();
    server.put(SUPPORT, b"\x00\xff\xfe no mail at all");
    server.start_imap().await;
    server.start_smtp().await;
    let after: Vec<(u64, Option<String>)> = ids(&server).await;
    assert_eq!(after[..2], before[..], "UIDs outlive a crash");
    assert_eq!(after.len(), 3);

    // What is gone leaves a hole; a move numbers anew.
    let gone = before[0].1.as_deref();
    server.remove(&server.arrives(SUPPORT, "the first", |mail| mail.subject.as_deref() == gone).await);
    let validity = server.uid_validity(SUPPORT);
    let hole: Vec<(u64, Option<String>)> = ids(&server).await;
    assert_eq!(hole, after[1..]);
    server.change_uid_validity(SUPPORT).await;
    let moved: Vec<(u64, Option<String>)> = ids(&server).await;
    assert_eq!(moved.iter().map(|(uid, _)| *uid).collect::<Vec<_>>(), [1, 2]);
    assert_ne!(server.uid_validity(SUPPORT), validity);
    server.change_uid_validity(SUPPORT).await;
    assert_ne!(server.uid_validity(SUPPORT), validity);
}

#[tokio::test(flavor = "multi_thread")]
async fn mailkit_customers_reply_and_see_threads() {
    let server = MailServer::start().await;
    let first = server.writes(ANN, "Lamp", "It does not light.").await;
    server.writes(ANN, "Chair", "It wobbles.").await;
    server.arrives(SUPPORT, "the mail", |mail| mail.subject.as_deref() == Some("Lamp")).await;
    let answer = ["reply", "--to-id", &first, "--text", "Try the switch.", "--reply-to", "support+t1@shop.example"];
    let answer = server.customer(SUPPORT, &answer).await["message_id"].as_str().unwrap().to_owned();
    server.arrives(ANN, "the answer", |mail| mail.message_id.as_deref() == Some(answer.as_str())).await;
    let thanks = server.replies(ANN, &answer, "That was it.").await;
    let mail = server.arrives(SUPPORT, "thanks", |mail| mail.message_id.as_deref() == Some(thanks.as_str())).await;
    assert_eq!(mail.envelope_to, "support+t1@shop.example");
    assert_eq!(mail.references, [first.as_str(), &answer]);
    assert!(mail.text.starts_with("That was it.") && mail.text.contains("> Try the switch."), "{}", mail.text);
    server.arrives(ANN, "her copy", |mail| mail.message_id.as_deref() == Some(thanks.as_str())).await;
    let threads = server.customer(ANN, &["threads"]).await;
    let of_lamp = threads.as_array().unwrap().iter().find(|thread| thread[0] == first.as_str()).unwrap();
    assert_eq!(*of_lamp, json!([first, answer, thanks]));
    assert_eq!(threads.as_array().unwrap().len(), 2);

    // A mail program that answers by itself goes on until somebody stops.
    let both = async |user: &'static str| {
        let auto = [
            "autorespond",
            "--count",
            "6",
            "--seconds",
            "8",
            "--text",
            "Away",
            "--header",
            "Auto-Submitted: auto-replied",
        ];
        server.customer(user, &auto).await
    };
    let (ann, bob) = tokio::join!(both(BOB), async {
        server.customer(ANN, &["send", "--to", BOB, "--subject", "Hello"]).await;
        both(ANN).await
    });
    assert!(ann["answered"].as_u64() >= Some(3) && bob["answered"].as_u64() >= Some(3), "{ann} {bob}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mailkit_lines_slow_stall_cut_and_lose_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = throughline_tests::Line::to(listener.local_addr().unwrap().port()).await;
    // A server that says every byte back.
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let connect = async || TcpStream::connect(("127.0.0.1", line.port())).await.unwrap();
    let mut socket = connect().await;
    let mut hears = vec![0; 4];
    socket.write_all(b"ping").await.unwrap();
    within(PATIENCE, "an echo", socket.read_exact(&mut hears)).await.unwrap();

    line.set(Manner::Stalled);
    socket.write_all(b"ping").await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(200), socket.read_exact(&mut hears)).await;
    assert!(silence.is_err(), "nothing goes by a stalled line");
    let begun = std::time::Instant::now();
    line.set(Manner::Slow { bytes: 1, pause: Duration::from_millis(20) });
    within(PATIENCE, "an echo", socket.read_exact(&mut hears)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100));

    line.set(Manner::Refusing);
    assert!(matches!(within(PATIENCE, "the end", connect().await.read(&mut hears)).await, Ok(0) | Err(_)));
    line.set(Manner::Clear);
    line.cut();
    assert!(matches!(within(PATIENCE, "the end", socket.read(&mut hears)).await, Ok(0) | Err(_)));

    line.lose_answer_after(6);
    let mut socket = connect().await;
    socket.write_all(b"ping").await.unwrap();
    within(PATIENCE, "an echo", socket.read_exact(&mut hears)).await.unwrap();
    socket.write_all(b"and no more").await.unwrap();
    assert!(matches!(within(PATIENCE, "the end", socket.read(&mut hears)).await, Ok(0) | Err(_)));
    assert_eq!(line.answers_lost(), 1);
    let mut socket = connect().await;
    socket.write_all(b"again, and all of it").await.unwrap();
    within(PATIENCE, "an echo", socket.read_exact(&mut hears)).await.unwrap();
}
