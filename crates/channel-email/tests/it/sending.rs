//! From `OUT` to the mail server, and back.

use std::time::Duration;

use adapter::contract::envelope::{ReceiptStatus, Thread};

use crate::smtp::{Act, Taken};
use crate::world::{World, soon};

fn thread() -> Thread {
    serde_json::from_value(serde_json::json!({
        "key": "ordersthread2222222222222a", "kind": "thread", "external_id": "root@example.com",
        "sub_id": "newest@example.com", "subject": "Order", "reply_target": { "address": "ann@example.com" },
    }))
    .unwrap()
}

fn field(mail: &Taken, name: &str) -> String {
    let unfolded = mail.text.replace("\n ", " ");
    let line = unfolded.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {mail:?}"));
    line[name.len()..].trim().to_owned()
}

async fn until_taken(world: &World, count: usize) -> Vec<Taken> {
    soon(async {
        loop {
            let taken = world.mail_server.taken();
            if taken.len() >= count {
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_out_and_the_answer_to_it_comes_back_to_its_thread() {
    let world = World::start().await;
    let running = world.run("first_run = \"all\"").await;
    let mut inbox = world.inbox().await;
    world.command("m17", &thread(), "It left.", true).await;
    let mail = until_taken(&world, 1).await.remove(0);
    assert_eq!((mail.to.as_str(), field(&mail, "Subject:").as_str()), ("ann@example.com", "Re: Order"));
    assert!(mail.from.starts_with("support+ordersthread2222222222222a-m17-"), "{}", mail.from);
    let receipt = inbox.receipt().await;
    let id = field(&mail, "Message-ID:");
    assert_eq!(receipt.status, ReceiptStatus::Sent);
    assert_eq!(format!("<{}>", receipt.targets[0]), id);

    // Somebody else answers, by whatever way: the thread is known.
    let answer = |id: &str, header: &str| {
        format!(
            "From: Bob <bob@example.com>\r\nSubject: Re: Order\r\n{header}\r\nMessage-ID: <{id}@example.com>\r\n\r\nok\r\n"
        )
    };
    world.mailbox.deliver(answer("by-address", &format!("To: {}", field(&mail, "Reply-To:"))));
    world.mailbox.deliver(answer("by-id", &format!("In-Reply-To: {id}")));
    for _ in 0..2 {
        let envelope = inbox.next().await;
        assert_eq!(envelope.thread.key, "ordersthread2222222222222a");
        assert!(envelope.mail.unwrap().thread_proven);
    }
    // It could not be delivered after all.
    world.mailbox.deliver(format!(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example\r\nTo: {}\r\nSubject: failure\r\n\r\nno\r\n",
        mail.from
    ));
    let receipt = inbox.receipt().await;
    assert_eq!((receipt.status, receipt.command_id.as_deref()), (ReceiptStatus::Failed, Some("main/m17")));
    running.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_tried_again_is_the_same_mail() {
    let world = World::start().await;
    let running = world.run("").await;
    let mut inbox = world.inbox().await;
    world.mail_server.act(Act::Rcpt("451 4.7.1 later"));
    world.mail_server.act(Act::Drop);
    world.command("m17", &thread(), "It left.", true).await;
    let taken = until_taken(&world, 2).await;
    assert_eq!(taken[0].text, taken[1].text);
    assert_eq!(inbox.receipt().await.status, ReceiptStatus::Sent);
    running.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_reported_with_its_code() {
    let world = World::start().await;
    let running = world.run("").await;
    let mut inbox = world.inbox().await;
    world.mail_server.act(Act::Rcpt("550 5.1.1 no such user"));
    world.command("m17", &thread(), "It left.", true).await;
    let receipt = inbox.receipt().await;
    assert_eq!((receipt.status, receipt.code.as_deref()), (ReceiptStatus::Failed, Some("550")));
    running.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_that_a_relay_gives_is_known() {
    let world = World::start().await;
    let running = world.run("first_run = \"all\"").await;
    let mut inbox = world.inbox().await;
    world.mail_server.act(Act::Say("250 Ok 0100018e1c2f3a4b-0123abcd-000000"));
    world.command("m17", &thread(), "It left.", true).await;
    inbox.receipt().await;
    // The ledger is written before the alias; a moment, then.
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.mailbox.deliver(
        "From: Bob <bob@example.com>\r\nSubject: Re: Order\r\nMessage-ID: <x@example.com>\r\n\
         In-Reply-To: <0100018e1c2f3a4b-0123abcd-000000@relay.example>\r\n\r\nok\r\n",
    );
    assert_eq!(inbox.next().await.thread.key, "ordersthread2222222222222a");
    running.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_mail_is_marked_and_braked() {
    let world = World::start().await;
    let running = world.run("").await;
    let mut inbox = world.inbox().await;
    world.command("m1", &thread(), "We got it.", false).await;
    let mail = until_taken(&world, 1).await.remove(0);
    assert_eq!(field(&mail, "Auto-Submitted:"), "auto-replied");
    assert_eq!(inbox.receipt().await.status, ReceiptStatus::Sent);
    world.command("m2", &thread(), "We got it, too.", false).await;
    let receipt = inbox.receipt().await;
    assert_eq!((receipt.status, receipt.code.as_deref()), (ReceiptStatus::Failed, Some("auto_limit_thread")));
    assert_eq!(world.mail_server.taken().len(), 1);
    running.drain().await;
    world.end().await;
}
