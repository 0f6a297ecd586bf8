//! Who gets what, and what happens when they do not answer.

use std::time::Duration;

use contract::command::{AgentCommand, RefusalKind};
use contract::event::{EnqueueReason, Exclusion, Presence};
use contract::{AgentId, ConversationId, Event, EventRecord};
use serde_json::Value;
use throughline_tests::agent::Habits;
use throughline_tests::chat::Visit;
use throughline_tests::daemon::TENANT;
use throughline_tests::{AgentTool, ChatClient, Daemon, PATIENCE, until, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn names(events: &[EventRecord]) -> Vec<&'static str> {
    events.iter().map(|record| record.event.name()).collect()
}

/// `throughline agent` as a person has it.
struct Terminal {
    _child: Child,
    keys: ChildStdin,
    screen: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Terminal {
    async fn open(daemon: &Daemon, name: &str) -> Self {
        let mut child = daemon.interactive(&["agent", name]);
        let keys = child.stdin.take().unwrap();
        let screen = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut terminal = Self { _child: child, keys, screen, seen: Vec::new() };
        terminal.shows(&format!("{name} is available")).await;
        terminal
    }

    async fn types(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.keys.flush().await.unwrap();
    }

    /// Reads on until a line holds the text.
    async fn shows(&mut self, text: &str) -> String {
        let seen = &mut self.seen;
        let screen = &mut self.screen;
        let read = async {
            loop {
                let line = screen.next_line().await.unwrap().expect("the terminal goes on");
                seen.push(line.clone());
                if line.contains(text) {
                    return line;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(line) => line,
            Err(_) => panic!("waited for {text:?} in {seen:#?}"),
        }
    }

    fn saw(&self, text: &str) -> bool {
        self.seen.iter().any(|line| line.contains(text))
    }
}

/// A page, two agents in terminals, the whole way from hello to the outcome.
#[tokio::test(flavor = "multi_thread")]
async fn routing_the_right_agent_is_offered_and_both_talk() {
    let daemon = Daemon::builder().start().await;
    let mut ben = Terminal::open(&daemon, "ben").await;
    let mut anna = Terminal::open(&daemon, "anna").await;
    let mut page =
        ChatClient::open(&daemon, "gus", Visit { name: Some("Gus".into()), ..Visit::in_language("de") }).await;

    page.say("Guten Tag, mein Rad quietscht").await;
    anna.shows("OFFER").await;
    anna.types("accept").await;
    let assigned = anna.shows("conversation.assigned").await;
    assert!(assigned.contains("c1 "), "{assigned}");
    page.sees("joined").await;
    anna.types("history").await;
    anna.shows("mein Rad quietscht").await;
    anna.types("say Seit wann?").await;
    page.hears("agent", "Seit wann?").await;

    // A tunnel: the agent goes on writing, the customer has it all once when the train is out.
    page.go_away().await;
    anna.types("Vorne oder hinten?").await;
    anna.shows("Vorne oder hinten?").await;
    anna.types("Bringen Sie es vorbei.").await;
    anna.shows("Bringen Sie es vorbei.").await;
    page.come_back().await;
    page.hears("agent", "Bringen Sie es vorbei.").await;
    page.say("Hinten").await;
    anna.shows("Hinten").await;
    anna.types("Bis morgen").await;
    page.hears("agent", "Bis morgen").await;
    page.check();
    let said = [
        "Guten Tag, mein Rad quietscht",
        "Seit wann?",
        "Vorne oder hinten?",
        "Bringen Sie es vorbei.",
        "Hinten",
        "Bis morgen",
    ];
    assert_eq!(page.texts(), said);

    // The page is loaded anew: it has nothing but the session, and gets everything once.
    let reloaded = ChatClient::begin(&daemon.chat(), "gus-again", Visit::in_language("de"), page.session());
    reloaded.hears("agent", "Bis morgen").await;
    reloaded.check();
    assert_eq!(reloaded.texts(), said);

    anna.types("close nonsense").await;
    anna.shows("is none of solved, spam").await;
    anna.types("close solved").await;
    anna.shows("conversation.closed").await;
    page.sees("closed").await;
    ben.types("list").await;
    ben.types("nonsense").await;
    ben.shows("no conversation is in use").await;
    assert!(!ben.saw("OFFER"), "ben lacks the language: {:#?}", ben.seen);

    // What an operator sees of it afterwards.
    let shown = daemon.cli(&["conversation", "show", "c1"]).await.ok();
    for part in ["Guten Tag, mein Rad quietscht", "closed by anna, solved", "offer.created o1 to anna"] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    let customer = daemon.cli(&["customer", "show", "u1"]).await.ok();
    assert!(customer.contains("Gus") && customer.contains("Bringen Sie es vorbei."), "{customer}");
    assert_eq!(daemon.cli(&["conversation", "list"]).await.ok().trim(), "no open conversations");
    let gone = daemon.cli(&["conversation", "show", "c99"]).await;
    assert_eq!(gone.code, 1, "{gone:?}");

    // The same customer writes again: a new conversation, the same person.
    page.say("Noch etwas").await;
    anna.shows("OFFER").await;
    let list = daemon.cli(&["--json", "conversation", "list"]).await.json();
    assert_eq!(list["value"][0]["conversation"], "c2", "{list}");
    assert_eq!(list["value"][0]["customer"], "u1", "{list}");
    anna.types("quit").await;
    anna.shows("signed out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_an_offer_that_expires_goes_to_the_next_best() {
    let builder = Daemon::builder().amend("offer_lease_ms = 30000", "offer_lease_ms = 1000");
    let daemon = builder.amend("round_pause_ms = 2000", "round_pause_ms = 1500").start().await;
    let (anna, ben) = (AgentTool::open(&daemon, "anna").await, AgentTool::open(&daemon, "ben").await);
    anna.available().await;
    ben.available().await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("hello").await;

    let (offer, conversation) = anna.offered(None).await;
    let asked_anna = anna.sees_record("the offer", first_offer).await;
    let asked_ben = ben.sees_record("the offer", first_offer).await;
    assert!(asked_ben >= asked_anna + Duration::from_secs(1).as_millis() as u64, "not before anna's second is over");
    let late = anna.command(AgentCommand::OfferAccept { offer }).await.unwrap_err();
    assert_eq!(late.kind, RefusalKind::Gone, "{late}");

    // Nobody answers: all are asked again in a second round, each once per round.
    let second = until(PATIENCE, "a second round", async || {
        let events = daemon.events(TENANT).await;
        let offers = events.iter().filter(|record| matches!(*record.event, Event::OfferCreated { .. })).count();
        (offers >= 4).then_some(events)
    })
    .await;
    let mut rounds: Vec<Vec<AgentId>> = vec![Vec::new()];
    for record in &second {
        match &*record.event {
            Event::OfferCreated { agent, decision, .. } => {
                let round = rounds.last_mut().unwrap();
                for asked in round.iter() {
                    let because = decision.excluded.iter().find(|left| left.agent == *asked).map(|left| &left.because);
                    // Who let two in a row lapse is not asked at all for a while.
                    let known = matches!(because, Some(Exclusion::AlreadyAsked | Exclusion::NotResponding { .. }));
                    assert!(known, "{decision:?}");
                }
                round.push(agent.clone());
            }
            Event::ConversationRoundStarted { round, .. } => {
                assert_eq!(*round as usize, rounds.len() + 1);
                rounds.push(Vec::new());
            }
            _ => {}
        }
    }
    assert_eq!(rounds[0], [agent("anna"), agent("ben")], "{:?}", names(&second));
    for round in &rounds {
        let mut once = round.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), round.len(), "an agent was asked twice in a round: {rounds:?}");
    }
    let explained = daemon.cli(&["explain", &conversation.to_string()]).await.ok();
    assert!(explained.contains("was asked in this round"), "{explained}");
    page.check();
}

fn first_offer(record: &EventRecord) -> Option<u64> {
    matches!(*record.event, Event::OfferCreated { .. }).then_some(record.at.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_what_a_vanished_agent_held_is_offered_to_others() {
    let builder = Daemon::builder().amend("agent_silence_ms = 15000", "agent_silence_ms = 1500");
    let daemon = builder.amend("agent_grace_ms = 60000", "agent_grace_ms = 1000").start().await;
    let lively = || Habits { sign_of_life: Some(Duration::from_millis(200)), ..Habits::default() };
    let anna = AgentTool::with(&daemon, "anna", lively()).await;
    anna.available().await;
    let mut held = ChatClient::open(&daemon, "held", Visit::default()).await;
    held.say("I am talking to anna").await;
    let (offer, first) = anna.offered(None).await;
    anna.accept(offer).await;
    anna.say(first, "anna here").await;
    let mut offered = ChatClient::open(&daemon, "offered", Visit::default()).await;
    offered.say("I am only offered").await;
    let second = anna.sees("the second offer", |event| other_offer(event, first)).await;
    let ben = AgentTool::with(&daemon, "ben", lively()).await;
    ben.available().await;

    anna.vanish().await;
    // The offer is taken back after the silence, the conversation after the grace as well.
    let (_, rescued) = ben.offered(Some(second)).await;
    let (offer, _) = ben.offered(Some(first)).await;
    ben.accept(offer).await;
    // Whoever takes over reads what was said before.
    let history = ben.commander().history(rescued, 100).await.unwrap();
    assert!(!history.is_empty());
    let history = ben.commander().history(first, 100).await.unwrap();
    assert_eq!(names(&history).iter().filter(|name| name.starts_with("message.")).count(), history.len());
    ben.say(first, "ben here").await;
    held.hears("agent", "ben here").await;
    held.check();

    let events = until(PATIENCE, "the facts", async || {
        let events = daemon.events(TENANT).await;
        names(&events).contains(&"agent.lost").then_some(events)
    })
    .await;
    let at = |name: &str| events.iter().position(|record| record.event.name() == name);
    assert!(at("agent.disconnected") < at("agent.lost"), "{:?}", names(&events));
    let rescinded = events.iter().find_map(|record| match &*record.event {
        Event::OfferRescinded { conversation, reason, .. } => Some((*conversation, reason.to_string())),
        _ => None,
    });
    assert_eq!(rescinded, Some((second, "agent_disconnected".to_owned())));
    let queued: Vec<_> = events
        .iter()
        .filter_map(|record| match &*record.event {
            Event::ConversationEnqueued { conversation, ready_at, reason, .. } if *conversation == first => {
                Some((*ready_at, reason.clone()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(queued.len(), 2, "{queued:?}");
    assert_eq!(queued[1], (queued[0].0, EnqueueReason::AgentLost), "the waiting time is the original one");

    // A tool that comes back is told that it holds nothing any more.
    let anna = AgentTool::with(&daemon, "anna", lively()).await;
    let snapshot = until(PATIENCE, "a snapshot", async || anna.snapshot().0).await;
    assert!(snapshot.conversations.is_empty(), "{snapshot:?}");
    let refusal = anna
        .command(AgentCommand::MessageSend {
            conversation: first,
            content: desk::tool::text("hm"),
            reply_to: None,
            via: None,
            purpose: None,
        })
        .await;
    assert_eq!(refusal.unwrap_err().kind, RefusalKind::Gone);
}

fn other_offer(event: &Event, than: ConversationId) -> Option<ConversationId> {
    match event {
        Event::OfferCreated { conversation, .. } if *conversation != than => Some(*conversation),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_transfer_and_explain() {
    // Whoever it is handed to must know what the customer needs, in sales too.
    let builder = Daemon::builder().amend("skills = { sales = 9 }", "skills = { sales = 9, \"lang:de\" = 5 }");
    let daemon = builder.start().await;
    let (anna, ben) = (AgentTool::open(&daemon, "anna").await, AgentTool::open(&daemon, "ben").await);
    let deniz = AgentTool::open(&daemon, "deniz").await;
    ben.available().await;
    anna.presence(Presence::Away).await;

    // German is needed and anna is away: it waits, and an operator is told why.
    let mut page = ChatClient::open(&daemon, "gus", Visit::in_language("de")).await;
    page.say("Guten Tag").await;
    let explained = until(PATIENCE, "the conversation to wait", async || {
        let output = daemon.cli(&["explain", "c1"]).await;
        (output.code == 0 && output.stdout.contains("waits")).then_some(output.stdout)
    })
    .await;
    for line in ["anna: left out, is away", "ben: left out, lacks lang:de (level 5 is needed)", "0 before it"] {
        assert!(explained.contains(line), "{line:?} in {explained}");
    }
    let json = daemon.cli(&["--json", "explain", "c1"]).await.json();
    let excluded = json["value"]["explanation"]["now"]["excluded"].as_array().cloned().unwrap_or_default();
    assert_eq!(excluded.len(), 2, "deniz works another queue and is no candidate: {json}");

    let status = daemon.cli(&["--json", "status", "--digest"]).await.json();
    assert_eq!(status["type"], "status", "{status}");
    assert_eq!(status["value"]["counts"]["conversations"]["waiting"], 1, "{status}");
    assert_eq!(status["value"]["customers"], 1, "{status}");
    assert_eq!(status["value"]["digest"].as_str().map(str::len), Some(64), "{status}");
    let status = daemon.cli(&["status"]).await.ok();
    for part in ["1 waiting", "support: 1 wait", "anna", "away"] {
        assert!(status.contains(part), "{part:?} in {status}");
    }

    anna.available().await;
    let (offer, conversation) = anna.offered(None).await;
    anna.accept(offer).await;

    // To an agent that is not there, to nobody, to a queue.
    let transfer = |to_queue: Option<&str>, to_agent: Option<&str>| AgentCommand::ConversationTransfer {
        conversation,
        to_queue: to_queue.map(|name| contract::QueueId::new(name).unwrap()),
        to_agent: to_agent.map(agent),
        note: Some("wants to buy".into()),
    };
    assert_eq!(anna.command(transfer(None, Some("deniz"))).await.unwrap_err().kind, RefusalKind::Conflict);
    assert_eq!(anna.command(transfer(None, Some("nobody"))).await.unwrap_err().kind, RefusalKind::NotFound);
    assert_eq!(anna.command(transfer(Some("nowhere"), None)).await.unwrap_err().kind, RefusalKind::NotFound);
    deniz.available().await;
    anna.does(transfer(Some("sales"), None)).await;
    let (offer, _) = deniz.offered(Some(conversation)).await;
    deniz.accept(offer).await;
    deniz.say(conversation, "deniz from sales").await;
    page.hears("agent", "deniz from sales").await;
    let gone = anna.command(AgentCommand::ConversationClose { conversation, disposition: None }).await.unwrap_err();
    assert!(matches!(gone.kind, RefusalKind::Gone | RefusalKind::Forbidden), "{gone}");

    let shown = daemon.cli(&["--json", "conversation", "show", "c1"]).await.json();
    assert_eq!(shown["value"]["conversation"]["agent"], "deniz", "{shown}");
    assert_eq!(shown["value"]["conversation"]["queue"], "sales", "{shown}");
    let facts: Vec<&str> = shown["value"]["facts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|fact: &Value| fact["event"]["type"].as_str())
        .collect();
    let order = ["conversation.opened", "message.received", "conversation.assigned", "conversation.transferred"];
    let mut at = facts.iter();
    assert!(order.iter().all(|wanted| at.any(|fact| fact == wanted)), "{facts:?}");
    page.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_an_agent_in_a_pipe_accepts_by_itself() {
    let daemon = Daemon::builder().start().await;
    let mut child = daemon.interactive(&["agent", "ben", "--auto-accept"]);
    let _keys = child.stdin.take();
    let mut screen = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("hello").await;
    let assigned = async {
        while let Some(line) = screen.next_line().await.unwrap() {
            if line.contains("conversation.assigned to ben") {
                return true;
            }
        }
        false
    };
    assert!(within(PATIENCE, "ben to have it", assigned).await);
    let unknown = daemon.interactive(&["agent", "nobody"]);
    let said = within(PATIENCE, "the end", unknown.wait_with_output()).await.unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("no user"), "{said:?}");
}
