//! The way out: what becomes of commands.

use std::sync::Arc;
use std::time::Duration;

use throughline_adapter::bus::{permissions, topology};
use throughline_adapter::contract::envelope::ReceiptStatus;
use throughline_adapter::contract::outbound::{DeadLetter, OutCommand};
use throughline_adapter::contract::{Encoding, Millis, codec};
use throughline_adapter::{SendFailure, now};
use tokio::sync::Semaphore;

use crate::demo::{Provider, Step};
use crate::support::{ACCOUNT, PATIENT, QUICK, World, command, connect, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_ends_in_one_receipt() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    provider.script("refused", [Step::Fail(SendFailure::permanent("131047", "the window is closed"))]);
    provider.script("lost", [Step::Fail(SendFailure::unknown("timeout", "no answer"))]);
    provider.script("torn", [Step::Panic]);
    provider.script("torn-at-once", [Step::PanicAtOnce]);
    let process = world.run(&provider).await;
    let mut inbox = world.inbox().await;
    for name in ["fine", "refused", "lost", "torn", "torn-at-once"] {
        // Each with one behind it on its thread, which must not be held up.
        world.command(&command(name, name, 2)).await;
        world.command(&command(&format!("behind-{name}"), name, 1)).await;
    }
    let late = OutCommand { not_after: Some(now() - Millis(1)), ..command("late", "late", 1) };
    world.command(&late).await;

    let receipts = inbox.receipts(11).await;
    let told = |name: &str| {
        let receipt = &receipts[name];
        (receipt.status.clone(), receipt.code.as_deref(), receipt.part)
    };
    assert_eq!(told("fine"), (ReceiptStatus::Sent, None, None));
    assert_eq!(receipts["fine"].targets, ["x-fine#0", "x-fine#1"]);
    assert_eq!(told("refused"), (ReceiptStatus::Failed, Some("131047"), Some(0)));
    assert_eq!(receipts["refused"].reason.as_deref(), Some("the window is closed"));
    assert_eq!(told("lost"), (ReceiptStatus::Unknown, Some("timeout"), Some(0)));
    assert_eq!(told("torn"), (ReceiptStatus::Unknown, Some("panic"), Some(0)));
    assert_eq!(told("torn-at-once"), (ReceiptStatus::Unknown, Some("panic"), None));
    assert_eq!(told("late"), (ReceiptStatus::Failed, Some("expired"), None));
    for name in ["fine", "refused", "lost", "torn", "torn-at-once"] {
        assert_eq!(told(&format!("behind-{name}")).0, ReceiptStatus::Sent);
    }
    world.until_done().await;

    // The router says it again, long after its own memory of the id: nothing is sent, nothing is new.
    let before = provider.requests();
    for name in ["fine", "refused", "lost", "torn"] {
        let again = OutCommand { thread_seq: 2, ..command(name, name, 2) };
        let subject = "tl.v1.out.main.demo.web".to_owned();
        let payload = Encoding::MsgPack.encode(&again).unwrap().into();
        let publish = throughline_adapter::bus::Publish { subject, payload, ..Default::default() };
        world.router.publish(publish).await.unwrap();
    }
    world.until_done().await;
    assert_eq!(provider.requests(), before);
    for (_, _, envelope) in inbox.rest(&world).await {
        let repeated = envelope.receipt.unwrap();
        assert_eq!(repeated, receipts[repeated.command_id.as_deref().unwrap()]);
    }
    assert!(provider.of("late").is_empty());
    process.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_waits_and_resumes_at_the_part_that_failed() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    let busy = || Step::Fail(SendFailure::retryable("503", "busy"));
    let later = Step::Fail(SendFailure::retryable_after(Duration::from_millis(2500), "429", "slow down"));
    provider.script("backs-off", [busy(), busy()]);
    provider.script("is-told", [later]);
    // The first part goes, the second fails once, the third goes.
    provider.script("in-parts", [Step::Hold(Arc::new(Semaphore::new(1))), busy()]);
    let process = world.run(&provider).await;
    let mut inbox = world.inbox().await;
    for (name, parts) in [("backs-off", 1), ("is-told", 1), ("in-parts", 3)] {
        world.command(&command(name, name, parts)).await;
    }
    let short = OutCommand { not_after: Some(now() + Millis(300)), ..command("no-time", "no-time", 1) };
    provider.script("no-time", [busy()]);
    world.command(&short).await;

    let receipts = inbox.receipts(4).await;
    for name in ["backs-off", "is-told", "in-parts"] {
        assert_eq!(receipts[name].status, ReceiptStatus::Sent, "{name}");
    }
    assert_eq!(receipts["in-parts"].targets, ["x-in-parts#0", "x-in-parts#1", "x-in-parts#2"]);
    let requests: Vec<_> = provider.of("in-parts").into_iter().map(|call| call.what).collect();
    assert_eq!(requests, ["in-parts#0", "in-parts#1", "in-parts#1", "in-parts#2"]);
    let waits = |name: &str| -> Vec<Duration> {
        provider.of(name).windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).collect()
    };
    let backed_off = waits("backs-off");
    assert_eq!(backed_off.len(), 2);
    assert!(backed_off[0] >= Duration::from_millis(500), "{backed_off:?}");
    assert!(backed_off[1] >= Duration::from_millis(1000), "{backed_off:?}");
    assert!(waits("is-told")[0] >= Duration::from_millis(2500), "{:?}", waits("is-told"));
    // There is no time for another try: told so at once, in the provider's words.
    assert_eq!(
        (&receipts["no-time"].status, receipts["no-time"].code.as_deref()),
        (&ReceiptStatus::Failed, Some("503"))
    );
    assert_eq!(provider.of("no-time").len(), 1);
    world.until_done().await;
    process.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_waits_for_the_one_it_follows_and_for_no_other() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    let gate = Arc::new(Semaphore::new(0));
    provider.script("first", [Step::Hold(Arc::clone(&gate))]);
    let process = world.run(&provider).await;
    let mut inbox = world.inbox().await;

    // The second comes first, as after a crash; another follows it by way of another process, which
    // for the ledger is the same as by another thread.
    world.command(&OutCommand { after: Some("first".into()), ..command("second", "v1", 1) }).await;
    world.command(&OutCommand { after: Some("second".into()), ..command("third", "v1-elsewhere", 1) }).await;
    world.command(&command("first", "v1", 1)).await;
    provider.called("first", 1).await;
    // Meanwhile other threads are served.
    for number in 0..20 {
        world.command(&command(&format!("other-{number}"), &format!("o{number}"), 1)).await;
    }
    let receipts = inbox.receipts(20).await;
    assert!(receipts.keys().all(|name| name.starts_with("other-")), "{receipts:?}");
    gate.add_permits(1);
    assert_eq!(inbox.receipt().await.command_id.unwrap(), "first");
    assert_eq!(inbox.receipt().await.command_id.unwrap(), "second");
    assert_eq!(inbox.receipt().await.command_id.unwrap(), "third");
    let mine: Vec<_> = provider.requests().into_iter().filter(|what| !what.starts_with("other-")).collect();
    assert_eq!(mine, ["first#0", "second#0", "third#0"]);
    world.until_done().await;
    process.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_go_side_by_side_and_a_drain_does_not_wait_for_ever() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    let gate = Arc::new(Semaphore::new(0));
    provider.script("a1", [Step::Hold(Arc::clone(&gate))]);
    provider.script("b1", [Step::Hold(Arc::clone(&gate))]);
    provider.script("stuck", [Step::Hang]);
    let process = world.run(&provider).await;
    let mut inbox = world.inbox().await;
    for (name, thread) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("stuck", "c")] {
        world.command(&command(name, thread, 1)).await;
    }
    // Both at once, and neither is overtaken on its own thread.
    for name in ["a1", "b1", "stuck"] {
        provider.called(name, 1).await;
    }
    assert_eq!(provider.requests().len(), 3);
    gate.add_permits(2);
    assert_eq!(inbox.receipts(4).await.len(), 4);
    let place = |name: &str| provider.requests().iter().position(|what| what.starts_with(name)).unwrap();
    assert!(place("a1") < place("a2") && place("b1") < place("b2"));
    // The provider never answers: at the deadline the process ends all the same.
    let deadline = Duration::from_secs(5);
    let begin = tokio::time::Instant::now();
    process.drain().await;
    assert!(begin.elapsed() < deadline + Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(world.router.stream_state(topology::OUT).await.unwrap().messages, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_sends_no_faster_than_it_may() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    let limited = format!("{ACCOUNT}[outbound]\nper_second_max = 20.0\nburst_max = 2.0\n");
    let process = world.run_by(world.server.url(), &provider, &limited).await;
    let mut inbox = world.inbox().await;
    for number in 0..22 {
        world.command(&command(&format!("n{number}"), &format!("t{number}"), 1)).await;
    }
    assert_eq!(inbox.receipts(22).await.len(), 22);
    let mut times: Vec<_> = (0..22).map(|number| provider.of(&format!("n{number}"))[0].at).collect();
    times.sort();
    let second = Duration::from_secs(1);
    for (at, begin) in times.iter().enumerate() {
        // A request is noted a moment after its token was taken.
        let within = times[at..].iter().filter(|time| time.duration_since(*begin) < second / 2).count();
        assert!(within <= 2 + 10 + 2, "{within} in half a second");
    }
    assert!(times[21].duration_since(times[0]) >= second * 9 / 10, "{:?}", times[21].duration_since(times[0]));
    process.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_goes_to_the_dead_letters_and_holds_nothing_up() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    let process = world.run(&provider).await;
    let mut dead = world.router.read(topology::DEAD, 1, None).await.unwrap();
    let mut inbox = world.inbox().await;
    let subject = "tl.v1.out.main.demo.web";
    let astray = Encoding::MsgPack.encode(&OutCommand { tenant: "acme".parse().unwrap(), ..command("astray", "t", 1) });
    let newer = Encoding::Json.encode(&OutCommand { v: 9, ..command("newer", "t", 1) }).unwrap();
    for (payload, reason) in
        [(vec![0xc1, 0xff], "marker"), (astray.unwrap(), "another account than its subject"), (newer, "version 9")]
    {
        let publish = throughline_adapter::bus::Publish {
            subject: subject.into(),
            payload: payload.clone().into(),
            ..Default::default()
        };
        world.router.publish(publish).await.unwrap();
        let stored = soon(dead.next()).await.unwrap();
        assert_eq!(stored.subject, "tl.v1.dead.main.out-demo");
        let encoding = Encoding::detect(stored.headers.get(codec::CONTENT_TYPE), &stored.payload).unwrap();
        let letter: DeadLetter = encoding.decode(&stored.payload, 1 << 20).unwrap();
        assert_eq!((letter.stage.as_str(), letter.subject.as_str()), ("out-demo", subject));
        assert!(letter.reason.contains(reason), "{}", letter.reason);
        assert_eq!(letter.payload.bytes().unwrap(), payload);
    }
    world.command(&command("next", "t", 1)).await;
    assert_eq!(inbox.receipt().await.status, ReceiptStatus::Sent);
    world.until_done().await;
    assert_eq!(provider.requests(), ["next#0"]);
    process.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_its_process_down_each_time_goes_to_the_dead_letters_at_last() {
    const DELIVERIES_MAX: u64 = 1000;
    let world = World::start(QUICK).await;
    world.command(&command("deadly", "t", 1)).await;
    // Without a ledger nobody remembers that it was begun: the stream's count is all there is. Whoever has
    // it here gives it back at once, since a thousand processes would take longer to die.
    let doomed = connect(world.server.url(), &world.server, &permissions::adapter_user("demo")).await;
    let mut jobs = doomed.work(topology::OUT, &topology::out_consumer("demo")).await.unwrap();
    for delivery in 1..=DELIVERIES_MAX {
        let job = soon(jobs.next()).await.unwrap();
        assert_eq!(job.deliveries, delivery);
        job.nak(Duration::ZERO).await.unwrap();
    }
    jobs.stop().await;

    let mut dead = world.router.read(topology::DEAD, 1, None).await.unwrap();
    let provider = Provider::of_a_channel_without_a_ledger();
    let process = world.run(&provider).await;
    let stored = soon(dead.next()).await.unwrap();
    let encoding = Encoding::detect(stored.headers.get(codec::CONTENT_TYPE), &stored.payload).unwrap();
    let letter: DeadLetter = encoding.decode(&stored.payload, 1 << 20).unwrap();
    assert_eq!(letter.subject, "tl.v1.out.main.demo.web");
    assert!(letter.reason.contains(&format!("{DELIVERIES_MAX} times")), "{}", letter.reason);
    // It is not sent once more, and holds nothing up.
    world.command(&command("next", "t", 1)).await;
    assert_eq!(world.inbox().await.receipt().await.status, ReceiptStatus::Sent);
    world.until_done().await;
    assert_eq!(provider.requests(), ["next#0"]);
    process.drain().await;
    world.end().await;
}

const DEAD: &str = "kind = \"demo\"\naccount = \"dead\"\n";

/// So many commands for an account whose provider is away, each on a thread of its own.
async fn for_the_dead(world: &World, count: usize) {
    for number in 0..count {
        let mut command = command(&format!("dead-{number}"), &format!("d{number}"), 1);
        command.account.id = "dead".parse().unwrap();
        world.command(&command).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_whose_provider_is_away_does_not_hold_up_the_others_of_its_kind() {
    const WAITING: usize = 1_500;
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    let hour = Duration::from_secs(3600);
    provider.dead(Step::Fail(SendFailure::retryable_after(hour, "421", "away")));
    for_the_dead(&world, WAITING).await;
    let process = world.run_all(world.server.url(), &provider, &[ACCOUNT, DEAD]).await;
    let mut inbox = world.inbox().await;
    // All of them have been tried and wait for their next turn: more than were once let out at a time.
    let tried = || provider.requests().iter().filter(|what| what.starts_with("dead-")).count();
    soon(async {
        while tried() < WAITING {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    world.command(&command("alive", "v1", 1)).await;
    assert_eq!(inbox.receipt().await.command_id.unwrap(), "alive");
    process.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_answer_does_not_wait_behind_what_the_program_says_by_itself() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    provider.dead(Step::Hang);
    // More than an account may hold, so that whatever is over its share has gone back once.
    for number in 0..600 {
        let mut command = command(&format!("dead-notice-{number}"), &format!("d{number}"), 1);
        command.account.id = "dead".parse().unwrap();
        command.author.agent = None;
        world.command(&command).await;
    }
    let process = world.run_all(world.server.url(), &provider, &[ACCOUNT, DEAD]).await;
    provider.called("dead-notice-0", 1).await;
    let mut answer = command("dead-answer", "answer", 1);
    answer.account.id = "dead".parse().unwrap();
    world.command(&answer).await;
    soon(provider.called("dead-answer", 1)).await;
    let notices = provider.requests().iter().filter(|what| what.starts_with("dead-notice-")).count();
    assert!(notices <= 64, "{notices} of 128 places are with what nobody wrote");
    process.kill();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_whose_provider_hangs_does_not_hold_up_the_others_of_its_kind() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    provider.dead(Step::Hang);
    // More than are held at once, over all accounts.
    for_the_dead(&world, 1_200).await;
    let process = world.run_all(world.server.url(), &provider, &[ACCOUNT, DEAD]).await;
    provider.called("dead-0", 1).await;
    let mut inbox = world.inbox().await;
    for number in 0..20 {
        world.command(&command(&format!("alive-{number}"), &format!("v{number}"), 1)).await;
    }
    let receipts = inbox.receipts(20).await;
    assert!(receipts.keys().all(|name| name.starts_with("alive-")), "{receipts:?}");
    // Its share, and no more.
    assert!(provider.requests().iter().filter(|what| what.starts_with("dead-")).count() <= 128);
    process.kill();
    world.end().await;
}
