//! Random inputs in random order; what must hold is checked by [`World`] after each.

use contract::command::{AdminCommand, AgentCommand};
use contract::envelope::{Envelope, EnvelopeKind, Receipt, ReceiptStatus, Signal};
use contract::event::{Classification, Presence};
use contract::policy::{Agent, CapacityPool, Membership, Offers, Policy, Queue, Reopen};
use contract::{AgentId, ConversationId, CustomerId, MessageId, Millis, OfferId, SmolStr, Timestamp};
use proptest::prelude::*;

use crate::fixture;
use crate::world::{Outcome, World};

const CUSTOMERS: [&str; 6] = ["ann", "bob", "cem", "dee", "eva", "fay"];
const CHANNELS: [&str; 3] = ["chat", "email", "sms"];
const AGENTS: [&str; 6] = ["anna", "ben", "cara", "dora", "emil", "stranger"];
const QUEUES: [&str; 4] = ["sales", "support", "extra", "nowhere"];

/// An input with small numbers that are made sense of when its turn comes.
#[derive(Debug, Clone)]
enum Input {
    Message { customer: usize, channel: usize, german: bool, vip: bool, refund: bool },
    Leaves { customer: usize, closed: bool },
    Repeat { which: usize },
    Other { kind: EnvelopeKind, customer: usize, channel: usize },
    Receipt { which: usize, status: ReceiptStatus, by: u8 },
    Presence { agent: usize, presence: Presence },
    Accept(Hand),
    AcceptAny { agent: usize, offer: u64 },
    Decline { hand: Hand, reason: u8 },
    Send(Hand),
    Note(Hand),
    Transfer { hand: Hand, queue: Option<usize>, to: Option<usize> },
    Park { hand: Hand, secs: Option<u64> },
    Resume(Hand),
    Close(Hand),
    WrapUp(Hand),
    SameId(Hand),
    TakeBack(Hand),
    Found { which: usize, refund: bool },
    Consult { hand: Hand, whom: usize, end: bool },
    Monitor { hand: Hand, end: bool },
    Force { hand: Hand, to: usize, anyway: bool, operator: bool },
    Escalate { hand: Hand, priority: i32, queue: Option<usize> },
    Enqueue { which: usize, queue: Option<usize>, priority: Option<i32> },
    Silent { agent: usize },
    Heard { agent: usize },
    Policy { plan: Box<Plan>, waiting: bool },
    Merge { customer: usize, with: usize },
    Split { customer: usize },
    Erase { customer: usize },
    Consent { customer: usize, channel: usize, granted: bool },
    Rest { customer: usize },
    Restart,
    Time { ms: i64, tick: bool },
    Tick,
    Snapshot,
    TakeOver,
}

/// Who does something, and with what: mostly what the one has, sometimes what another has.
#[derive(Debug, Clone, Copy)]
struct Hand {
    agent: usize,
    which: usize,
    own: bool,
}

/// How a policy differs from the usual one. Small numbers choose between variants; 0 is as without.
#[derive(Debug, Clone, Default)]
struct Plan {
    capacities: Vec<u32>,
    absent: Vec<bool>,
    no_sales: bool,
    skills_swapped: bool,
    wrap_up_secs: u64,
    weightless_sms: bool,
    /// Of the queue `sales`, then of `support`, then of `extra`.
    queues: Vec<QueuePlan>,
    members: Vec<MemberPlan>,
    channels: ChannelPlan,
    offers: OffersPlan,
}

#[derive(Debug, Clone, Default)]
struct QueuePlan {
    steps: u8,
    wants: u8,
    strategy: u8,
    best_skilled: bool,
    order: u8,
    service_level: bool,
    ring: u8,
    affinity: u8,
    fallback: u8,
    overflow: u8,
    limits: u8,
    hours: bool,
    closed: u8,
    stale: bool,
    transfer: u8,
}

#[derive(Debug, Clone, Default)]
struct MemberPlan {
    tier: u8,
    rank: u8,
    delay: u8,
    also: bool,
    reserve: bool,
    caps: u8,
    auto: bool,
}

#[derive(Debug, Clone, Default)]
struct ChannelPlan {
    email_interruptible: bool,
    email_room: u8,
    cap: u8,
    blocks: bool,
    idle: u8,
    parked_percent: u8,
    wrap_percent: u8,
    silence: u8,
    reopen: u8,
    auto: bool,
    classifier: bool,
}

#[derive(Debug, Clone, Default)]
struct OffersPlan {
    rests: bool,
    no_answer_max: u8,
    conversation_max: u8,
    rate: u8,
    ramp: bool,
}

const BASE: &str = r#"
    default_queue = "support"
    routes = [
        { tag = "vip", queue = "sales", priority = 5, labels = ["vip"] },
        { name = "german", language = "de", queue = "support", skills = { "lang:de" = 3 } },
        { when = "intent == 'refund'", queue = "extra", class = "quick", adjust_s = 30 },
        { channel = "chat", queue = "sales", owner = "ben" },
    ]
    [skills]
    sales = "Sales"
    "lang:de" = "German"
    [queues.sales]
    skills = { sales = 2 }
    [queues.support]
    [queues.extra]
    [hours.short]
    time_zone = "Europe/Berlin"
    week = { tue = ["09:00-23:15", "23:20-23:30"], wed = ["00:00-01:00", "09:00-17:00"], thu = ["09:00-17:00"] }
    [presences.written]
    takes = { channels = ["email", "sms"] }
    [presences.lunch]
    [presences.gone]
    gives_up = true
    [agents.anna]
    queues = ["sales"]
    skills = { sales = 5, "lang:de" = 5 }
    supervisor = true
    [agents.ben]
    queues = ["sales", "support"]
    skills = { sales = 2 }
    capacity = 50
    [agents.cara]
    queues = ["support"]
    skills = { "lang:de" = 3 }
    attributes = { site = "Porto" }
    [agents.dora]
    queues = ["sales", "support"]
    skills = { sales = 9, "lang:de" = 9 }
    capacity = 25
    [agents.emil]
    queues = ["support"]
    capacity = 75
    [channels.email]
    capacity_weight = 50
    offer_lease_ms = 120000
    class_weights = { quick = 5 }
    [channels.sms]
    capacity_weight = 10
"#;

fn policy(plan: &Plan) -> Policy {
    let mut policy = fixture::policy(BASE);
    policy.timing.wrap_up_ms = Millis::from_secs(plan.wrap_up_secs);
    for (n, name) in AGENTS.iter().take(5).enumerate() {
        let id = fixture::agent(name);
        if let Some(spec) = policy.agents.get_mut(&id) {
            spec.capacity = plan.capacities.get(n).copied().unwrap_or(spec.capacity);
            if let Some(member) = plan.members.get(n) {
                change_member(spec, member, n);
            }
        }
        if plan.absent.get(n) == Some(&true) {
            policy.agents.remove(&id);
        }
    }
    if plan.skills_swapped
        && let (Some(mut anna), Some(mut cara)) = (policy.agents.remove("anna"), policy.agents.remove("cara"))
    {
        std::mem::swap(&mut anna.skills, &mut cara.skills);
        policy.agents.insert(fixture::agent("anna"), anna);
        policy.agents.insert(fixture::agent("cara"), cara);
    }
    for (name, queue) in ["sales", "support", "extra"].iter().zip(&plan.queues) {
        if let Some(spec) = policy.queues.get_mut(*name) {
            change_queue(spec, queue, name);
        }
    }
    change_channels(&mut policy, &plan.channels);
    if plan.weightless_sms
        && let Some(sms) = policy.channels.get_mut("sms")
    {
        sms.capacity_weight = Some(0);
    }
    change_offers(&mut policy.offers, &plan.offers);
    if plan.no_sales {
        forget_sales(&mut policy);
    }
    mend(&mut policy);
    let problems = policy::check(&policy).problems;
    assert!(problems.is_empty(), "{problems:?}");
    policy
}

/// What chance put together and no operator could apply is made applicable. One mended fault can
/// bring another to light, so until none is left; each pass takes something away, so it ends.
fn mend(policy: &mut Policy) {
    for _ in 0..8 {
        let problems = policy::check(policy).problems;
        if problems.is_empty() {
            return;
        }
        for problem in problems {
            mend_one(policy, &problem.path);
        }
    }
}

fn mend_one(policy: &mut Policy, path: &str) {
    if let Some((route, "owner")) = path.strip_prefix("routes[").and_then(|path| path.split_once("]."))
        && let Some(route) = route.parse().ok().and_then(|route: usize| policy.routes.get_mut(route))
    {
        route.owner = None;
    }
    let Some((queue, field)) = path.strip_prefix("queues.").and_then(|path| path.split_once('.')) else { return };
    let Some(spec) = policy.queues.get_mut(&fixture::queue(queue)) else { return };
    if field == "due_first" || field == "due_ms" {
        (spec.due_first, spec.due_ms) = (false, None);
    } else if field.ends_with("when_full") {
        spec.limits.waiting_max = Some(2);
    } else if let Some(number) = field.strip_prefix("overflow[").and_then(|rest| rest.split(']').next()) {
        let number: usize = number.parse().unwrap();
        if number < spec.overflow.len() {
            spec.overflow.remove(number);
        }
    } else if field.starts_with("closed") {
        spec.closed = contract::policy::Closed::default();
    } else if field.starts_with("fallback") {
        spec.fallback = contract::policy::Fallback::default();
    } else if let Some(number) = field.strip_prefix("steps[").and_then(|rest| rest.split(']').next())
        && let Some(step) = number.parse().ok().and_then(|number: usize| spec.steps.get_mut(number))
    {
        if field.contains(".pool") {
            step.pool = contract::policy::Pool::default();
        } else {
            step.narrows = true;
        }
    }
}

fn change_member(spec: &mut Agent, plan: &MemberPlan, n: usize) {
    if plan.also {
        spec.queues.0.insert(fixture::queue("extra"), Membership::default());
    }
    for (at, membership) in spec.queues.0.values_mut().enumerate() {
        // Of several queues not all alike.
        let nth = u8::try_from(at).unwrap();
        membership.tier = 1 + (plan.tier + nth) % 3;
        membership.rank = 1 + plan.rank * nth;
        membership.delay_s = if plan.delay > nth { 7 * u16::from(plan.delay) } else { 0 };
    }
    if plan.reserve {
        spec.groups.insert(SmolStr::new_static("reserve"));
    }
    if plan.caps & 1 == 1 {
        spec.caps.channels.insert(contract::ChannelKind::new("chat").unwrap(), 1);
    }
    if plan.caps & 2 == 2 {
        spec.caps.labels.insert(SmolStr::new_static("vip"), 1);
    }
    if plan.caps & 4 == 4 {
        spec.interruptible_capacity = Some(60);
    }
    spec.auto_accept = plan.auto;
    spec.position = u32::try_from(n * 7 % 5).unwrap();
}

fn change_queue(spec: &mut Queue, plan: &QueuePlan, name: &str) {
    // The same TOML that an operator writes, since it is shorter than the structures.
    let steps = [
        "",
        "steps = [ { until_ms = 15000, must = { skill = \"sales\", min = 5 } }, { until_ms = 40000 }, { must = { not = { skill = \"lang:de\", min = 9 } } } ]",
        "steps = [ { until_ms = 20000, pool = { tier_max = 1 } }, { pool = { groups = [\"reserve\"] }, boost = 3 } ]",
        "steps = [ { until_ms = 10000, must = { any = [ { skill = \"sales\", min = 9 }, { attribute = \"site\", is = [\"Porto\"] } ] }, no_skip = true }, { pool = { queues = [\"support\", \"extra\"] }, prefer = [ { when = { skill = \"sales\" }, weight = 2 } ] } ]",
        "steps = [ { until_ms = 30000, pool = { agents = [\"dora\", \"cara\"], only = true }, narrows = true }, { until_ms = 60000 } ]",
        "steps = [ { must = { skill = \"lang:de\", min = 1, max = 4 }, no_skip = true } ]",
    ];
    let wants = [
        "",
        "wants = { sales = { level = 4, relax_after_ms = 12000, prefer = 3 } }",
        "wants = { \"lang:de\" = { level = 2, prefer = 5 } }",
        "language = { level = 3, relax_after_ms = 25000 }",
    ];
    let strategies = [
        "least_loaded",
        "least_active",
        "longest_idle",
        "round_robin",
        "fewest_handled",
        "least_talk",
        "full_load",
        "top_down",
    ];
    let orders = ["", "order = \"strict\"", "due_first = true", "priority_ms = 1000\ndue_ms = 30000"];
    let affinities = [
        "",
        "affinity = { mode = \"none\" }",
        "affinity = { mode = \"wait\", wait_ms = 20000 }",
        "affinity = { mode = \"only\" }",
        "affinity = { mode = \"wait\", wait_ms = 20000, while_offline = true, any_agent = true }",
        "affinity = { mode = \"only\", while_offline = true }",
    ];
    let other = if name == "support" { "extra" } else { "support" };
    let fallbacks = [
        String::new(),
        "fallback = { action = \"any_in_queue\" }".to_owned(),
        format!("fallback = {{ action = \"overflow\", queue = \"{other}\" }}"),
        "fallback = { action = \"callback\", text = \"May we call?\" }".to_owned(),
        "fallback = { action = \"message\", text = \"A moment, please.\" }".to_owned(),
    ];
    let overflows = [
        String::new(),
        format!("overflow = [ {{ queue = \"{other}\", when_full = true }} ]"),
        format!("overflow = [ {{ queue = \"{other}\", after_ms = 9000 }} ]"),
        format!("overflow = [ {{ queue = \"{other}\", after_ms = 5000, idle_agents_min = 1 }} ]"),
        format!(
            "overflow = [ {{ queue = \"{other}\", expected_wait_over_ms = 1000 }}, {{ queue = \"extra\", service_level_below = 90 }} ]"
        ),
    ];
    let limits = [
        "",
        "limits = { waiting_max = 2 }",
        "limits = { wait_max_ms = 35000 }",
        "limits = { wait_without_agents_max_ms = 15000 }",
        "limits = { direct_max = 1, direct_wait_ms = 12000, waiting_max = 3 }",
        "limits = { direct_wait_ms = 20000, wait_max_ms = 50000 }",
    ];
    let closed = [
        String::new(),
        format!("closed = {{ action = \"overflow\", queue = \"{other}\", text = \"Not now.\" }}"),
        "closed = { action = \"refuse\", text = \"Come again at {opens}.\" }".to_owned(),
    ];
    let transfers = [
        "",
        "transfer = { refuse = true }",
        "transfer = { from = [\"support\"] }",
        "transfer = { resets_wait = true }",
    ];
    let skills = if name == "sales" { "skills = { sales = 2 }" } else { "" };
    let plain = |lines: &[&str], n: u8| lines[usize::from(n) % lines.len()].to_owned();
    let made = |lines: &[String], n: u8| lines[usize::from(n) % lines.len()].clone();
    let text = [
        skills.to_owned(),
        plain(&steps, plan.steps),
        plain(&wants, plan.wants),
        format!("strategy = \"{}\"", plain(&strategies, plan.strategy)),
        format!("best_skilled = {}", plan.best_skilled),
        plain(&orders, plan.order),
        if plan.service_level {
            "service_level = { answer_within_ms = 30000, window_ms = 20000, short_abandon_ms = 1000 }".to_owned()
        } else {
            String::new()
        },
        format!("ring = {}", plan.ring),
        plain(&affinities, plan.affinity),
        made(&fallbacks, plan.fallback),
        made(&overflows, plan.overflow),
        plain(&limits, plan.limits),
        if plan.hours { "hours = \"short\"".to_owned() } else { String::new() },
        made(&closed, plan.closed),
        if plan.stale && name != "extra" {
            "stale_after_ms = 60000\nstale_queue = \"extra\"".to_owned()
        } else {
            String::new()
        },
        plain(&transfers, plan.transfer),
    ];
    *spec = toml::from_str(&text.join("\n")).unwrap_or_else(|e| panic!("{e}"));
}

fn change_channels(policy: &mut Policy, plan: &ChannelPlan) {
    policy.classifier = plan
        .classifier
        .then(|| contract::policy::Classifier { budget_ms: Millis(300), ..contract::policy::Classifier::default() });
    let chat = policy.channels.entry(contract::ChannelKind::new("chat").unwrap()).or_default();
    if plan.idle > 0 {
        chat.idle_after_ms = Some(Millis::from_secs(8));
        chat.idle_percent = [100, 0, 20][usize::from(plan.idle) % 3];
    }
    chat.parked_percent = plan.parked_percent;
    chat.wrap_up_percent = plan.wrap_percent;
    if plan.silence & 1 == 1 {
        chat.park_after_ms = Some(Millis::from_secs(15));
    }
    if plan.silence & 2 == 2 {
        chat.close_after_ms = Some(Millis::from_secs(40));
    }
    chat.reopen = match plan.reopen {
        0 => Reopen::Never,
        1 => Reopen::Always,
        _ => Reopen::WithinMs(Millis::from_secs(30)),
    };
    chat.auto_accept = plan.auto;
    if plan.cap > 0 {
        chat.cap = Some(u32::from(plan.cap));
    }
    if plan.blocks {
        chat.blocks.insert(contract::ChannelKind::new("sms").unwrap());
    }
    if plan.email_interruptible
        && let Some(email) = policy.channels.get_mut("email")
    {
        email.pool = CapacityPool::Interruptible;
    }
    if plan.email_room > 0
        && let Some(email) = policy.channels.get_mut("email")
    {
        email.capacity_weight = Some(u32::from(plan.email_room) * 10);
    }
}

fn change_offers(offers: &mut Offers, plan: &OffersPlan) {
    if plan.rests {
        offers.rest_after_decline_ms = Millis::from_secs(4);
        offers.rest_after_no_answer_ms = Millis::from_secs(6);
    }
    offers.no_answer_max = u32::from(plan.no_answer_max);
    offers.not_responding_ms = Millis::from_secs(45);
    offers.conversation_max = u32::from(plan.conversation_max);
    offers.agent_max = u32::from(plan.rate);
    offers.agent_window_ms = Millis::from_secs(20);
    if plan.ramp {
        offers.ramp_ms = Millis::from_secs(60);
        offers.ramp_max = 1;
        offers.ramp_every_ms = Millis::from_secs(10);
    }
}

fn forget_sales(policy: &mut Policy) {
    let sales = fixture::queue("sales");
    policy.queues.remove(&sales);
    policy.routes.retain(|route| route.queue != sales);
    for spec in policy.agents.values_mut() {
        spec.queues.0.remove(&sales);
    }
    for queue in policy.queues.values_mut() {
        queue.overflow.retain(|overflow| overflow.queue != sales);
        queue.steps.iter_mut().for_each(|step| {
            step.pool.queues.remove(&sales);
        });
    }
}

/// Mostly as without, else one of the variants.
fn variant(most: u8) -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0_u8), 2 => 0..=most]
}

fn queue_plan() -> impl Strategy<Value = QueuePlan> {
    let first = (variant(5), variant(3), 0..8_u8, prop::bool::weighted(0.2), variant(3), prop::bool::weighted(0.4));
    let second = (0..4_u8, variant(5), variant(4), variant(4), variant(5));
    let third = (prop::bool::weighted(0.25), variant(2), prop::bool::weighted(0.2), variant(3));
    (first, second, third).prop_map(
        |(
            (steps, wants, strategy, best_skilled, order, service_level),
            (ring, affinity, fallback, overflow, limits),
            (hours, closed, stale, transfer),
        )| QueuePlan {
            steps,
            wants,
            strategy,
            best_skilled,
            order,
            service_level,
            ring,
            affinity,
            fallback,
            overflow,
            limits,
            hours,
            closed,
            stale,
            transfer,
        },
    )
}

fn member_plan() -> impl Strategy<Value = MemberPlan> {
    (variant(2), variant(2), variant(2), any::<bool>(), any::<bool>(), variant(7), prop::bool::weighted(0.2)).prop_map(
        |(tier, rank, delay, also, reserve, caps, auto)| MemberPlan { tier, rank, delay, also, reserve, caps, auto },
    )
}

fn channel_plan() -> impl Strategy<Value = ChannelPlan> {
    let percent = || prop_oneof![2 => Just(0_u8), 1 => Just(50), 2 => Just(100)];
    let first = (prop::bool::weighted(0.3), variant(6), variant(2), prop::bool::weighted(0.2), variant(2));
    let second = (percent(), percent(), variant(3), variant(2), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (first, second).prop_map(
        |(
            (email_interruptible, email_room, cap, blocks, idle),
            (parked_percent, wrap_percent, silence, reopen, auto, classifier),
        )| ChannelPlan {
            email_interruptible,
            email_room,
            cap,
            blocks,
            idle,
            parked_percent,
            wrap_percent,
            silence,
            reopen,
            auto,
            classifier,
        },
    )
}

fn offers_plan() -> impl Strategy<Value = OffersPlan> {
    (any::<bool>(), variant(2), variant(3), variant(2), prop::bool::weighted(0.2)).prop_map(
        |(rests, no_answer_max, conversation_max, rate, ramp)| OffersPlan {
            rests,
            no_answer_max,
            conversation_max,
            rate,
            ramp,
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    let capacity = prop_oneof![3 => Just(100_u32), 2 => Just(50), 1 => Just(25), 1 => Just(60), 1 => Just(0)];
    let first = (
        prop::collection::vec(capacity, 5),
        prop::collection::vec(prop::bool::weighted(0.08), 5),
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop_oneof![Just(0_u64), Just(20)],
        prop::bool::weighted(0.2),
    );
    let second = (
        prop::collection::vec(queue_plan(), 3),
        prop::collection::vec(member_plan(), 5),
        channel_plan(),
        offers_plan(),
    );
    (first, second).prop_map(
        |(
            (capacities, absent, no_sales, skills_swapped, wrap_up_secs, weightless_sms),
            (queues, members, channels, offers),
        )| Plan {
            capacities,
            absent,
            no_sales,
            skills_swapped,
            wrap_up_secs,
            weightless_sms,
            queues,
            members,
            channels,
            offers,
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    // The last is a stranger.
    let agent = || prop_oneof![20 => 0..AGENTS.len() - 1, 1 => Just(AGENTS.len() - 1)];
    let hand =
        || (agent(), 0..16_usize, prop::bool::weighted(0.9)).prop_map(|(agent, which, own)| Hand { agent, which, own });
    let presence = prop_oneof![
        6 => Just(Presence::Available),
        1 => Just(Presence::Busy),
        1 => Just(Presence::Away),
        2 => Just(Presence::Offline),
        1 => Just(Presence::Other(SmolStr::new_static("asleep"))),
        1 => Just(Presence::Other(SmolStr::new_static("written"))),
        1 => Just(Presence::Other(SmolStr::new_static("lunch"))),
        1 => Just(Presence::Other(SmolStr::new_static("gone"))),
    ];
    let kind = prop_oneof![
        Just(EnvelopeKind::Edit),
        Just(EnvelopeKind::Media),
        Just(EnvelopeKind::Reaction),
        Just(EnvelopeKind::Delete),
        Just(EnvelopeKind::Echo),
        Just(EnvelopeKind::ContactEvent),
        Just(EnvelopeKind::AccountEvent),
    ];
    let status = prop_oneof![
        Just(ReceiptStatus::Accepted),
        Just(ReceiptStatus::Delivered),
        Just(ReceiptStatus::Read),
        Just(ReceiptStatus::Failed),
    ];
    let span = prop_oneof![
        6 => 0..5_000_i64,
        3 => 5_000..40_000_i64,
        1 => 40_000..200_000_i64,
        1 => 200_000..4_000_000_i64,
        1 => Just(9 * 24 * 3_600_000_i64),
        1 => -60_000..0_i64,
    ];
    prop_oneof![
        14 => (0..CUSTOMERS.len(), 0..CHANNELS.len(), any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.1))
            .prop_map(|(customer, channel, german, vip, refund)| Input::Message {
                customer, channel, german, vip, refund,
            }),
        2 => (0..CUSTOMERS.len(), any::<bool>()).prop_map(|(customer, closed)| Input::Leaves { customer, closed }),
        3 => (0..8_usize).prop_map(|which| Input::Repeat { which }),
        2 => (kind, 0..CUSTOMERS.len(), 0..CHANNELS.len())
            .prop_map(|(kind, customer, channel)| Input::Other { kind, customer, channel }),
        3 => (0..4_usize, status, 0..5_u8).prop_map(|(which, status, by)| Input::Receipt { which, status, by }),
        6 => (agent(), presence).prop_map(|(agent, presence)| Input::Presence { agent, presence }),
        14 => hand().prop_map(Input::Accept),
        1 => (agent(), 0..30_u64).prop_map(|(agent, offer)| Input::AcceptAny { agent, offer }),
        4 => (hand(), 0..3_u8).prop_map(|(hand, reason)| Input::Decline { hand, reason }),
        6 => hand().prop_map(Input::Send),
        1 => hand().prop_map(Input::Note),
        4 => (hand(), prop::option::of(0..QUEUES.len()), prop::option::of(agent()))
            .prop_map(|(hand, queue, to)| Input::Transfer { hand, queue, to }),
        4 => (hand(), prop::option::of(0..60_u64)).prop_map(|(hand, secs)| Input::Park { hand, secs }),
        2 => hand().prop_map(Input::Resume),
        5 => hand().prop_map(Input::Close),
        3 => hand().prop_map(Input::WrapUp),
        1 => hand().prop_map(Input::SameId),
        2 => hand().prop_map(Input::TakeBack),
        3 => (0..16_usize, any::<bool>()).prop_map(|(which, refund)| Input::Found { which, refund }),
        2 => (hand(), agent(), any::<bool>()).prop_map(|(hand, whom, end)| Input::Consult { hand, whom, end }),
        1 => (hand(), any::<bool>()).prop_map(|(hand, end)| Input::Monitor { hand, end }),
        2 => (hand(), agent(), any::<bool>(), any::<bool>())
            .prop_map(|(hand, to, anyway, operator)| Input::Force { hand, to, anyway, operator }),
        2 => (hand(), -2..8_i32, prop::option::of(0..QUEUES.len()))
            .prop_map(|(hand, priority, queue)| Input::Escalate { hand, priority, queue }),
        2 => (0..16_usize, prop::option::of(0..QUEUES.len()), prop::option::of(-2..8_i32))
            .prop_map(|(which, queue, priority)| Input::Enqueue { which, queue, priority }),
        2 => agent().prop_map(|agent| Input::Silent { agent }),
        2 => agent().prop_map(|agent| Input::Heard { agent }),
        1 => (plan(), any::<bool>()).prop_map(|(plan, waiting)| Input::Policy { plan: Box::new(plan), waiting }),
        1 => (0..CUSTOMERS.len(), 0..CUSTOMERS.len()).prop_map(|(customer, with)| Input::Merge { customer, with }),
        1 => (0..CUSTOMERS.len()).prop_map(|customer| Input::Split { customer }),
        1 => (0..CUSTOMERS.len()).prop_map(|customer| Input::Erase { customer }),
        1 => (0..CUSTOMERS.len(), 0..CHANNELS.len(), any::<bool>())
            .prop_map(|(customer, channel, granted)| Input::Consent { customer, channel, granted }),
        3 => (0..CUSTOMERS.len()).prop_map(|customer| Input::Rest { customer }),
        1 => Just(Input::Restart),
        8 => (span, any::<bool>()).prop_map(|(ms, tick)| Input::Time { ms, tick }),
        3 => Just(Input::Tick),
        2 => Just(Input::Snapshot),
        1 => Just(Input::TakeOver),
    ]
}

/// A world, and what an input's small numbers refer to.
struct Run {
    world: World,
    envelopes: Vec<(CustomerId, Envelope)>,
    sent: Vec<(MessageId, usize, usize)>,
}

impl Run {
    fn new(plan: &Plan, all_here: bool) -> Self {
        let mut world = World::new();
        world.policy(policy(plan));
        if all_here {
            for name in AGENTS.iter().take(5) {
                let presence = Presence::Available;
                world.command(&fixture::agent(name), AgentCommand::PresenceSet { presence, reason: None });
            }
        }
        Self { world, envelopes: Vec::new(), sent: Vec::new() }
    }

    fn envelope(&mut self, customer: usize, envelope: Envelope) {
        self.classified(customer, envelope, None);
    }

    fn classified(&mut self, customer: usize, envelope: Envelope, found: Option<&Classification>) {
        let customer = CustomerId(customer as u64 + 1);
        self.world.classified(customer, &envelope, found);
        self.envelopes.push((customer, envelope));
    }

    fn key(&self) -> String {
        format!("e{}", self.envelopes.len())
    }

    /// A standing offer, with its agent or with another.
    fn offer(&self, hand: Hand) -> (AgentId, OfferId) {
        let standing: Vec<(AgentId, OfferId)> =
            self.world.state.offers().map(|(id, offer)| (offer.agent.clone(), id)).collect();
        choose(hand, &standing).unwrap_or_else(|| (named(hand.agent), OfferId(1)))
    }

    /// An open conversation, with its holder or with another.
    fn held(&self, hand: Hand) -> (AgentId, ConversationId) {
        let agents = self.world.state.agents();
        let held: Vec<(AgentId, ConversationId)> = agents
            .flat_map(|(id, agent)| agent.holds.iter().chain(&agent.keeps).map(move |held| (id.clone(), *held)))
            .collect();
        choose(hand, &held).unwrap_or_else(|| (named(hand.agent), ConversationId(hand.which as u64)))
    }

    /// Any open conversation.
    fn open(&self, which: usize) -> ConversationId {
        let open: Vec<ConversationId> = self.world.state.conversations().map(|(id, _)| id).collect();
        pick(&open, which).unwrap_or(ConversationId(99))
    }

    /// A command about an offer.
    fn answer(&mut self, hand: Hand, command: impl FnOnce(OfferId) -> AgentCommand) {
        let (agent, offer) = self.offer(hand);
        self.world.command(&agent, command(offer));
    }

    /// A command about a conversation.
    fn handle(&mut self, hand: Hand, command: impl FnOnce(ConversationId) -> AgentCommand) -> Outcome {
        let (agent, conversation) = self.held(hand);
        self.world.command(&agent, command(conversation))
    }

    fn receipt(&mut self, which: usize, status: ReceiptStatus, by: u8) {
        let Some((message, customer, channel)) = pick(&self.sent, self.sent.len().saturating_sub(which + 1)) else {
            return;
        };
        let targets = vec![SmolStr::from(format!("p{message}"))];
        let receipt = Receipt { status, ..no_receipt() };
        let receipt = match by {
            0 => Receipt { command_id: Some(SmolStr::from(format!("main/{message}"))), targets, ..receipt },
            1 => Receipt { targets, ..receipt },
            2 => Receipt { targets: vec![targets[0].clone(), SmolStr::new_static("pm1")], ..receipt },
            3 => Receipt { through_seq: Some(message.0), ..receipt },
            _ => Receipt { watermark: Some(self.world.clock), ..receipt },
        };
        let (name, channel) = (CUSTOMERS[customer], CHANNELS[channel]);
        let envelope = fixture::receipt(receipt, name, channel, &self.key(), self.world.clock);
        self.envelope(customer, envelope);
    }

    fn input(&mut self, input: Input) {
        let at = self.world.clock;
        match input {
            Input::Message { customer, channel, german, vip, refund } => {
                let (name, channel) = (CUSTOMERS[customer], CHANNELS[channel]);
                let mut envelope = fixture::message(name, channel, &self.key(), "hello", at);
                envelope.language = german.then(|| SmolStr::new_static("de"));
                envelope.tags.extend(vip.then(|| SmolStr::new_static("vip")));
                let found = refund.then(|| Classification {
                    intent: Some(SmolStr::new_static("refund")),
                    outcome: SmolStr::new_static("answered"),
                    ..Classification::default()
                });
                self.classified(customer, envelope, found.as_ref());
            }
            Input::Found { which, refund } => {
                let found = Classification {
                    intent: refund.then(|| SmolStr::new_static("refund")),
                    outcome: SmolStr::new_static("answered"),
                    ..Classification::default()
                };
                self.world.found(self.open(which), &found);
            }
            Input::Leaves { customer, closed } => {
                let kind = if closed { EnvelopeKind::ConversationEvent } else { EnvelopeKind::ContactEvent };
                let mut envelope = fixture::other(kind, CUSTOMERS[customer], CHANNELS[0], &self.key(), at);
                let name = SmolStr::new_static(if closed { "closed" } else { "leave" });
                envelope.signal = Some(Signal { name, detail: None, data: serde_json::Map::new() });
                self.envelope(customer, envelope);
            }
            Input::Repeat { which } => {
                let which = self.envelopes.len().saturating_sub(which * which + 1);
                if let Some((customer, envelope)) = self.envelopes.get(which).cloned()
                    && self.world.state.has_seen(&envelope)
                {
                    let before = self.world.state.fingerprint();
                    assert!(self.world.envelope(customer, &envelope).is_none());
                    assert!(self.world.state.fingerprint() == before, "R7: a repeated envelope changes nothing");
                }
            }
            Input::Other { kind, customer, channel } => {
                let (name, channel) = (CUSTOMERS[customer], CHANNELS[channel]);
                let envelope = fixture::other(kind, name, channel, &self.key(), at);
                self.envelope(customer, envelope);
            }
            Input::Receipt { which, status, by } => self.receipt(which, status, by),
            Input::Presence { agent, presence } => {
                self.world.command(&named(agent), AgentCommand::PresenceSet { presence, reason: None });
            }
            Input::Accept(hand) => self.answer(hand, |offer| AgentCommand::OfferAccept { offer }),
            Input::AcceptAny { agent, offer } => {
                self.world.command(&named(agent), AgentCommand::OfferAccept { offer: OfferId(offer) });
            }
            Input::Decline { hand, reason } => {
                let reason = [None, Some(SmolStr::new_static("busy")), Some(SmolStr::new_static("unreachable"))]
                    [usize::from(reason)]
                .clone();
                self.answer(hand, |offer| AgentCommand::OfferDecline { offer, reason });
            }
            Input::TakeBack(hand) => {
                self.handle(hand, |conversation| AgentCommand::ConversationTakeBack { conversation });
            }
            Input::Consult { hand, whom, end } => {
                let agent = named(whom);
                self.handle(hand, |conversation| {
                    if end {
                        AgentCommand::ConversationConsultEnd { conversation, agent: Some(agent) }
                    } else {
                        AgentCommand::ConversationConsult { conversation, agent, note: None }
                    }
                });
            }
            Input::Monitor { hand, end } => {
                let (_, conversation) = self.held(hand);
                let command = if end {
                    AgentCommand::ConversationMonitorEnd { conversation }
                } else {
                    AgentCommand::ConversationMonitor { conversation }
                };
                self.world.command(&named(0), command);
            }
            Input::Force { hand, to, anyway, operator } => {
                let conversation = self.open(hand.which);
                let agent = named(to);
                if operator {
                    let ignore_capacity = anyway;
                    self.world.admin(AdminCommand::ConversationAssign { conversation, agent, ignore_capacity });
                } else {
                    let ignore_capacity = anyway;
                    let by = named(if hand.own { 0 } else { hand.agent });
                    self.world.command(&by, AgentCommand::ConversationForce { conversation, agent, ignore_capacity });
                }
            }
            Input::Escalate { hand, priority, queue } => {
                let to_queue = queue.map(|queue| fixture::queue(QUEUES[queue]));
                self.handle(hand, |conversation| AgentCommand::ConversationEscalate {
                    conversation,
                    priority,
                    to_queue,
                    note: None,
                });
            }
            Input::Enqueue { which, queue, priority } => {
                let conversation = self.open(which);
                let queue = queue.map(|queue| fixture::queue(QUEUES[queue]));
                self.world.admin(AdminCommand::ConversationEnqueue { conversation, queue, priority });
            }
            Input::Send(hand) => self.send(hand),
            Input::Note(hand) => {
                let text = "remember".to_owned();
                self.handle(hand, |conversation| AgentCommand::NoteAdd { conversation, text });
            }
            Input::Transfer { hand, queue, to } => {
                let to_queue = queue.map(|queue| fixture::queue(QUEUES[queue]));
                let (to_agent, note) = (to.map(named), None);
                self.handle(hand, |conversation| AgentCommand::ConversationTransfer {
                    conversation,
                    to_queue,
                    to_agent,
                    note,
                });
            }
            Input::Park { hand, secs } => {
                let (until, reason) = (secs.map(|secs| at + Millis::from_secs(secs)), None);
                self.handle(hand, |conversation| AgentCommand::ConversationPark { conversation, until, reason });
            }
            Input::Resume(hand) => {
                self.handle(hand, |conversation| AgentCommand::ConversationResume { conversation });
            }
            Input::Close(hand) => {
                let disposition = None;
                self.handle(hand, |conversation| AgentCommand::ConversationClose { conversation, disposition });
            }
            Input::WrapUp(hand) => {
                let disposition = None;
                self.handle(hand, |conversation| AgentCommand::WrapUpComplete { conversation, disposition });
            }
            Input::SameId(hand) => {
                // A client that wrongly gives two commands one id: the second is not done.
                let (agent, conversation) = self.held(hand);
                let command = AgentCommand::ConversationClose { conversation, disposition: None };
                self.world.command_as(&agent, SmolStr::new_static("same"), command);
            }
            Input::Silent { agent } => {
                self.world.silent(&named(agent));
            }
            Input::Heard { agent } => {
                self.world.heard(&named(agent));
            }
            Input::Policy { plan, waiting } => {
                let policy = Box::new(policy(&plan));
                self.world.admin(AdminCommand::PolicyApply { policy, waiting });
            }
            Input::Merge { customer, with } => {
                let kin = self.world.state.kin();
                let id = |customer: usize| kin.root(CustomerId(customer as u64 + 1));
                let (customer, from) = (id(customer), id(with));
                if customer != from {
                    let by = SmolStr::new_static("operator");
                    self.world.facts(&[contract::Event::CustomerMerged { customer, from, by, identity: None }]);
                }
            }
            Input::Split { customer } => {
                let customer = CustomerId(customer as u64 + 1);
                if let Some(from) = self.world.state.kin().parent(customer) {
                    let by = SmolStr::new_static("operator");
                    self.world.facts(&[contract::Event::CustomerSplit { customer, from, by }]);
                }
            }
            Input::Erase { customer } => {
                self.world.erase(CustomerId(customer as u64 + 1));
            }
            Input::Consent { customer, channel, granted } => {
                let channel = Some(contract::ChannelKind::new(CHANNELS[channel]).unwrap());
                let consent = contract::event::Consent { channel, provider: None, purpose: None, granted };
                let (customer, by) = (CustomerId(customer as u64 + 1), SmolStr::new_static("customer"));
                self.world.facts(&[contract::Event::CustomerConsentChanged { customer, consent, by }]);
            }
            Input::Rest { customer } => {
                self.world.rest(CustomerId(customer as u64 + 1));
            }
            Input::Restart => self.world.restart(),
            Input::Time { ms, tick } => {
                self.world.clock = Timestamp(at.0.saturating_add_signed(ms));
                if tick {
                    self.world.tick();
                }
            }
            Input::Tick => {
                self.world.tick();
            }
            Input::Snapshot => self.world.snapshot(),
            Input::TakeOver => self.world.take_over(),
        }
    }

    fn send(&mut self, hand: Hand) {
        let content = vec![fixture::said("an answer")];
        let outcome = self.handle(hand, |conversation| AgentCommand::MessageSend {
            conversation,
            content,
            reply_to: None,
            via: None,
            purpose: None,
        });
        if let Outcome::Done(step) = outcome {
            for emitted in &step.emitted {
                if let contract::Event::MessageSent { message, thread, .. } = &*emitted.event {
                    let number = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
                    let customer = number(&CUSTOMERS, &thread.thread.key);
                    let channel = number(&CHANNELS, thread.account.kind.as_str());
                    self.sent.extend(customer.zip(channel).map(|(customer, channel)| (*message, customer, channel)));
                }
            }
        }
    }
}

fn named(agent: usize) -> AgentId {
    fixture::agent(AGENTS[agent])
}

/// One of what agents have, with the one who has it or with another.
fn choose<T: Clone>(hand: Hand, from: &[(AgentId, T)]) -> Option<(AgentId, T)> {
    let (owner, what) = pick(from, hand.which)?;
    Some((if hand.own { owner } else { named(hand.agent) }, what))
}

fn no_receipt() -> Receipt {
    serde_json::from_value(serde_json::json!({ "status": "accepted" })).unwrap()
}

fn pick<T: Clone>(from: &[T], which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[which % from.len()].clone())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold(
        first in plan(),
        all_here in prop::bool::weighted(0.8),
        inputs in prop::collection::vec(input(), 1..120),
    ) {
        let mut run = Run::new(&first, all_here);
        for input in inputs {
            run.input(input);
        }
    }

    /// Whether customers leave memory or stay changes nothing of what is decided.
    #[test]
    fn who_leaves_memory_changes_no_decision(
        first in plan(),
        inputs in prop::collection::vec(input(), 1..80),
    ) {
        let (mut hot, mut cold) = (Run::new(&first, true), Run::new(&first, true));
        hot.world.cold = false;
        for input in inputs {
            hot.input(input.clone());
            cold.input(input);
            prop_assert_eq!(&hot.world.decided, &cold.world.decided);
        }
    }
}
