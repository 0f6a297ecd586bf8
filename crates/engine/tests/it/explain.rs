//! Why is this still waiting?

use contract::command::AgentCommand;
use contract::event::{Exclusion, Presence};
use contract::{ConversationId, CustomerId, Millis, OfferId};

use crate::fixture;
use crate::world::World;

const POLICY: &str = r#"
    [queues.sales]
    skills = { sales = 2 }
    [queues.empty]
    [agents.anna]
    queues = ["sales"]
    skills = { sales = 5 }
    capacity = 25
    [agents.ben]
    queues = ["sales"]
    skills = { sales = 1 }
    [agents.cara]
    queues = ["sales"]
    skills = { sales = 3 }
    [agents.dora]
    queues = ["sales"]
    skills = { sales = 3 }
    [agents.emil]
    queues = ["sales"]
    skills = { sales = 3 }
"#;

const C1: ConversationId = ConversationId(1);
const C2: ConversationId = ConversationId(2);

fn world(policy: &str) -> World {
    let mut world = World::new();
    world.policy(fixture::policy(policy));
    world
}

fn write(world: &mut World, customer: u64) {
    let name = format!("customer-{customer}");
    let envelope = fixture::message(&name, "chat", &name, "hello", world.clock);
    world.envelope(CustomerId(customer), &envelope);
}

fn presence(world: &mut World, agent: &str, presence: Presence) {
    world.command(&fixture::agent(agent), AgentCommand::PresenceSet { presence, reason: None });
}

fn because(world: &World, id: ConversationId) -> Vec<(String, Exclusion)> {
    let explained = world.state.explain(id).unwrap();
    explained.now.excluded.iter().map(|left_out| (left_out.agent.to_string(), left_out.because.clone())).collect()
}

#[test]
fn every_member_is_named_with_the_first_rule_that_keeps_it() {
    let mut world = world(&format!("default_queue = \"sales\"\n{POLICY}"));
    presence(&mut world, "ben", Presence::Available);
    presence(&mut world, "cara", Presence::Available);
    presence(&mut world, "cara", Presence::Away);
    presence(&mut world, "dora", Presence::Available);
    world.silent(&fixture::agent("dora"));
    presence(&mut world, "anna", Presence::Available);
    write(&mut world, 1);
    world.command(&fixture::agent("anna"), AgentCommand::OfferAccept { offer: OfferId(1) });
    presence(&mut world, "emil", Presence::Available);
    write(&mut world, 2);
    world.command(&fixture::agent("emil"), AgentCommand::OfferDecline { offer: OfferId(2), reason: None });

    let sales = "sales".parse().unwrap();
    let expected = [
        ("anna", Exclusion::Full { load: 25, capacity: 25 }),
        ("ben", Exclusion::MissingSkill { skill: sales, needed: 2, has: 1 }),
        ("cara", Exclusion::Presence { presence: Presence::Away }),
        ("dora", Exclusion::Disconnected),
        ("emil", Exclusion::AlreadyAsked),
    ];
    let mut found = because(&world, C2);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected.map(|(agent, because)| (agent.to_owned(), because)));
    let explained = world.state.explain(C2).unwrap();
    assert_eq!(explained.asked, vec![fixture::agent("emil")]);
    assert_eq!(explained.summary, "waits: nobody is left to ask in this round; all are asked again after a pause");
    assert_eq!((explained.now.unlisted, explained.position, explained.round), (0, Some(0), 1));
}

#[test]
fn the_place_in_the_queue_counts_the_more_urgent_and_the_older() {
    let mut world = world(&format!(
        "default_queue = \"sales\"\nroutes = [{{ tag = \"vip\", queue = \"sales\", priority = 3 }}]\n{POLICY}"
    ));
    write(&mut world, 1);
    world.clock = world.clock + Millis(500);
    write(&mut world, 2);
    let mut urgent = fixture::message("vip", "chat", "vip", "hello", world.clock);
    urgent.tags.push("vip".into());
    world.envelope(CustomerId(3), &urgent);
    let places: Vec<_> = (1..=3).map(|id| world.state.explain(ConversationId(id)).unwrap().position).collect();
    assert_eq!(places, [Some(1), Some(2), Some(0)]);
    assert_eq!(world.state.explain(C1).unwrap().waiting_ms, Millis(500));
    let nobody = "waits: nobody who is signed in could ever take it";
    assert_eq!(world.state.explain(C1).unwrap().summary, nobody);
    presence(&mut world, "cara", Presence::Busy);
    assert_eq!(world.state.explain(C1).unwrap().summary, "waits: none of 5 members can take it now");
}

#[test]
fn a_queue_without_members_is_called_that() {
    let mut world = world(&format!("default_queue = \"empty\"\n{POLICY}"));
    write(&mut world, 1);
    assert_eq!(world.state.explain(C1).unwrap().summary, "waits: its queue has no members");
}

#[test]
fn without_a_policy_that_is_the_reason() {
    let mut world = World::new();
    write(&mut world, 1);
    let explained = world.state.explain(C1).unwrap();
    assert_eq!((explained.summary.as_str(), explained.position), ("waits: there is no policy yet", None));
}

#[test]
fn what_does_not_wait_says_where_it_is() {
    let mut world = world(&format!("default_queue = \"sales\"\ntiming = {{ wrap_up_ms = 20000 }}\n{POLICY}"));
    let anna = fixture::agent("anna");
    let summary = |world: &World| world.state.explain(C1).unwrap().summary;
    presence(&mut world, "anna", Presence::Available);
    write(&mut world, 1);
    assert_eq!(summary(&world), "is offered to anna (o1)");
    // The room that the offer takes is not held against it.
    let eligible = world.state.explain(C1).unwrap().now.eligible;
    assert_eq!(eligible.iter().map(|able| able.agent.as_str()).collect::<Vec<_>>(), ["anna"]);
    world.command(&anna, AgentCommand::OfferAccept { offer: OfferId(1) });
    assert_eq!(summary(&world), "is with anna");
    world.command(&anna, AgentCommand::ConversationPark { conversation: C1, until: None, reason: None });
    assert_eq!(summary(&world), "is parked by anna");
    world.command(&anna, AgentCommand::ConversationResume { conversation: C1 });
    world.command(&anna, AgentCommand::ConversationClose { conversation: C1, disposition: None });
    assert_eq!(summary(&world), "is being wrapped up by anna");
    world.command(&anna, AgentCommand::WrapUpComplete { conversation: C1, disposition: None });
    assert!(world.state.explain(C1).is_none());
}

#[test]
fn of_a_large_queue_the_first_members_are_listed_and_the_rest_counted() {
    let mut policy = String::from("[skills]\nsales = \"Sales\"\n[queues.sales]\nskills = { sales = 1 }\n");
    for n in 0..100 {
        policy.push_str(&format!("[agents.agent-{n:02}]\nqueues = [\"sales\"]\n"));
    }
    let mut world = world(&policy);
    write(&mut world, 1);
    let explained = world.state.explain(C1).unwrap();
    assert_eq!((explained.now.excluded.len(), explained.now.unlisted), (64, 36));
    assert_eq!(explained.summary, "waits: nobody who is signed in could ever take it");
}
