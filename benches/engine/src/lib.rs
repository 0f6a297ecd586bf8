//! What a decision of the engine costs: each call is measured by itself, in a world of 10,000 agents and 200 skills
//! where up to 100,000 conversations wait, and in worlds that are as bad as can be in one way or another.

mod identities;
mod rebuild;
mod table;
mod world;

use contract::command::AgentCommand;
use contract::event::Presence;
use engine::{Answer, Step};

use table::Times;
use world::{Dice, Shape, World, agent_id, done, offers};

/// The usual world first, then the worst.
const SHAPES: [Shape; 9] = {
    const USUAL: Shape = Shape {
        name: "usual",
        own: false,
        hot: false,
        all_queues: false,
        best_skilled: false,
        asked: 0,
        levels: false,
        ring: 0,
        tiers: false,
    };
    [
        USUAL,
        Shape { name: "own", own: true, ..USUAL },
        Shape { name: "hot", hot: true, ..USUAL },
        Shape { name: "all-queues", all_queues: true, ..USUAL },
        Shape { name: "best-skilled", best_skilled: true, ..USUAL },
        Shape { name: "asked", asked: 16, ..USUAL },
        Shape { name: "levels", levels: true, ..USUAL },
        Shape { name: "ring", ring: 3, ..USUAL },
        Shape { name: "tiers", tiers: true, ..USUAL },
    ]
};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// A few calls in one size, to see that it works.
    pub quick: bool,
    /// How many cycles in a round, for a profiler; `None`: as many as the numbers need.
    pub cycles: Option<usize>,
    /// How many wait, in place of three sizes; how many conversations are rebuilt.
    pub waiting: Option<usize>,
}

/// Measures what is named, or everything. `live` says how many bytes are allocated.
pub fn run(named: &[&str], extent: Extent, live: &dyn Fn() -> usize) {
    let wanted = |name: &str| named.is_empty() || named.contains(&name);
    let Extent { quick, .. } = extent;
    if wanted("facts") {
        facts();
    }
    for shape in SHAPES.iter().filter(|shape| wanted(shape.name)) {
        let sizes: &[usize] = if quick { &[10_000] } else { &[1_000, 10_000, 100_000] };
        let sizes = extent.waiting.as_ref().map_or(sizes, std::slice::from_ref);
        for waiting in sizes {
            measure(*shape, *waiting, extent, live);
        }
    }
    if wanted("identities") {
        identities::run(if quick { 100_000 } else { 1_000_000 }, live);
    }
    if wanted("rebuild") {
        rebuild::run(extent.waiting.unwrap_or(if quick { 100_000 } else { 1_000_000 }), live);
    }
}

fn measure(shape: Shape, waiting: usize, extent: Extent, live: &dyn Fn() -> usize) {
    let (rounds, cycles) = if extent.quick { (3, 300) } else { (5, 1_000) };
    let cycles = extent.cycles.unwrap_or(cycles);
    let mut world = World::new(shape);
    let before = live();
    world.crowd(waiting);
    let each = live().saturating_sub(before) / waiting;
    println!("{}: {waiting} wait, {each} bytes each", shape.name);
    table::head();
    let mut times = Times::new();
    for _ in 0..rounds {
        times.round();
        for cycle in 0..cycles {
            once(&mut world, &mut times, cycle);
        }
    }
    times.print();
    println!("    (at the end {} wait)", world.waiting());
}

/// One of everything.
fn once(world: &mut World, times: &mut Times, cycle: usize) {
    world.pass(1);
    // It comes and waits, unless somebody has found nothing before.
    let came = |step: &Step| if offers(step).next().is_some() { "arrives and is offered" } else { "arrives and waits" };
    let queue = world.busy_queue();
    let (arrived, step) = world.arrive(queue, |work| times.of_either(came, work));
    let taken = take(world, times, &step, "is accepted");
    world.held.extend(taken);
    // It comes and is assigned; then somebody takes and ends it.
    let queue = world.free_queue();
    let (_, step) = world.arrive(queue, |work| times.of_either(came, work));
    if let Some((agent, conversation)) = take(world, times, &step, "is accepted") {
        let close = AgentCommand::ConversationClose { conversation, disposition: None };
        let input = world.input(&agent, close);
        done(times.of("ends, nothing else fits", || world.state.command(world.now, input)));
    }
    // Who is full ends one, and gets the next; declines every other, and gets another.
    let place = world.dice.below(world.held.len());
    let (agent, conversation) = world.held[place].clone();
    let close = AgentCommand::ConversationClose { conversation, disposition: None };
    let input = world.input(&agent, close);
    let ended = |answer: &Answer| match answer {
        Answer::Done(_, step) if offers(step).next().is_some() => "ends, the next is offered",
        _ => "ends, nothing else fits",
    };
    let mut step = done(times.of_either(ended, || world.state.command(world.now, input)));
    let offered = offers(&step).next();
    if cycle.is_multiple_of(2)
        && let Some((agent, offer, _)) = offered
    {
        let decline = AgentCommand::OfferDecline { offer, reason: None };
        let input = world.input(&agent, decline);
        step = done(times.of("is declined", || world.state.command(world.now, input)));
    }
    match take(world, times, &step, "is accepted") {
        Some(taken) => world.held[place] = taken,
        None => {
            world.held.swap_remove(place);
        }
    }
    // The same two once more, as far as they are decisions.
    let queue = world.free_queue();
    let step = world.arrive_to_be_decided(queue, |work| times.of("  of it: who is offered it", work));
    if let Some((agent, conversation)) = take(world, times, &step, "is accepted") {
        world.free_to_be_decided(&agent, conversation, |work| work());
    }
    let place = world.dice.below(world.held.len());
    let (agent, conversation) = world.held[place].clone();
    let step = world.free_to_be_decided(&agent, conversation, |work| times.of("  of it: what is offered next", work));
    match take(world, times, &step, "is accepted") {
        Some(taken) => world.held[place] = taken,
        None => drop(world.held.swap_remove(place)),
    }
    // A customer writes again: who waits, who is talked to.
    for (what, conversation) in [("writes, and waits", arrived), ("writes to an agent", world.held[0].1)] {
        let mut envelope = world.template.clone();
        envelope.dedup_key = format!("again-{conversation}-{cycle}-{}", world.now.0).into();
        envelope.thread.key = format!("thread-{}", conversation.0).into();
        let customer = world.state.conversation(conversation).map(|item| item.customer);
        if customer.is_none() {
            continue;
        }
        let now = world.now;
        let cause = contract::journal::Cause::Envelope(contract::journal::Fingerprint(envelope.fingerprint()));
        drop(times.of(what, || {
            let mut step = world.state.open_step(now, cause);
            world.state.receive(&mut step, customer, envelope);
            step
        }));
    }
    // Of 25 agents one goes and comes now and then.
    if cycle.is_multiple_of(10) {
        let agent = agent_id(cycle / 10 % 25 + 9_500);
        for (what, presence) in [("signs out", Presence::Offline), ("signs in", Presence::Available)] {
            let input = world.input(&agent, AgentCommand::PresenceSet { presence, reason: None });
            drop(times.of(what, || world.state.command(world.now, input)));
        }
    }
}

/// The first offer of a step is accepted.
fn take(
    world: &mut World,
    times: &mut Times,
    step: &Step,
    what: &'static str,
) -> Option<(contract::AgentId, contract::ConversationId)> {
    let (agent, offer, conversation) = offers(step).next()?;
    let input = world.input(&agent, AgentCommand::OfferAccept { offer });
    done(times.of(what, || world.state.command(world.now, input)));
    Some((agent, conversation))
}

/// What it costs to see what a message is about, and which rule fits; part of each arrival above, save for finding
/// out the language.
fn facts() {
    let shape = Shape { name: "usual", ..Shape::default() };
    let policy = std::sync::Arc::new(world::policy(shape));
    let compiled = policy::Compiled::new(policy);
    // The same rules, written as conditions.
    let mut written = (**compiled.policy()).clone();
    written.routes.truncate(50);
    for route in &mut written.routes {
        let tag = route.tag.take().unwrap_or_default();
        route.when = Some(format!("'{tag}' in tags && channel == 'chat'").into());
    }
    let written = policy::Compiled::new(std::sync::Arc::new(written));
    let mut template = world::template();
    let mut times = Times::new();
    let mut dice = Dice::new(3);
    println!("facts and rules: {} rules by tag", compiled.policy().routes.len());
    table::head();
    for _ in 0..5 {
        times.round();
        for _ in 0..1_000 {
            template.tags = vec![format!("kind-{}-{}", dice.below(20), dice.below(10)).into()];
            template.language = None;
            drop(times.of("facts, language to be found out", || policy::Facts::of(&template, None)));
            template.language = Some("en".into());
            let facts = times.of("facts", || policy::Facts::of(&template, None));
            let now = contract::Timestamp(1_700_000_000_000);
            drop(times.of("the rule that fits", || compiled.route(&facts, now)));
            drop(times.of("the same, 50 conditions", || written.route(&facts, now)));
        }
    }
    times.print();
}
