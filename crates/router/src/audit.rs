//! The trail of what operators did.

use contract::codec::OPERATOR;
use contract::command::{AdminCommand, Refusal};
use contract::journal::Cause;
use contract::{Event, SmolStr, Timestamp};
use engine::{Answer, CommandInput, Step};

use crate::tenant::Tenant;

/// From which [level](contract::journal::LEVEL) of all routers on the trail is written.
pub(crate) const LEVEL: u32 = 1;

/// The longest name of an operator that is recorded, in characters.
const NAME_MAX: usize = 64;

/// Who asks, as a message's header says: without what could disturb a terminal, and not longer than a name.
pub(crate) fn operator(message: &bus::Message) -> Option<SmolStr> {
    name(message.headers.get(OPERATOR)?)
}

fn name(said: &str) -> Option<SmolStr> {
    let name: String = said.trim().chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
    (!name.is_empty()).then(|| name.into())
}

/// The fact that an operator asked for something; `None`: it was not an operator. As if it was done.
pub(crate) fn commanded(input: &CommandInput, operator: Option<SmolStr>) -> Option<Event> {
    let CommandInput::Admin { id, command } = input else { return None };
    let (mut conversation, mut customer, mut agent, mut queue) = (None, None, None, None);
    match command {
        AdminCommand::ConversationAssign { conversation: which, agent: to, .. } => {
            (conversation, agent) = (Some(*which), Some(to.clone()));
        }
        AdminCommand::ConversationEnqueue { conversation: which, queue: to, .. } => {
            (conversation, queue) = (Some(*which), to.clone());
        }
        AdminCommand::ConversationShow { conversation: which }
        | AdminCommand::ConversationExplain { conversation: which } => conversation = Some(*which),
        AdminCommand::CustomerShow { customer: which }
        | AdminCommand::CustomerLink { customer: which, .. }
        | AdminCommand::CustomerUnlink { customer: which, .. }
        | AdminCommand::CustomerMerge { customer: which, .. }
        | AdminCommand::CustomerSplit { customer: which }
        | AdminCommand::CustomerDismiss { customer: which, .. }
        | AdminCommand::CustomerUpdate { customer: which, .. }
        | AdminCommand::CustomerConsent { customer: which, .. }
        | AdminCommand::CustomerErase { customer: which } => customer = Some(*which),
        AdminCommand::PolicyApply { .. }
        | AdminCommand::ShadowStart { .. }
        | AdminCommand::ShadowShow { .. }
        | AdminCommand::StatusShow { .. }
        | AdminCommand::ConversationList { .. }
        | AdminCommand::CustomerSuggestions { .. }
        | AdminCommand::CustomerFind { .. }
        | AdminCommand::AgentList {} => {}
    }
    let verb = SmolStr::new_static(command.verb());
    let command = id.clone();
    Some(Event::OperatorCommanded { operator, command, verb, conversation, customer, agent, queue, refused: None })
}

/// Records what became of an operator's command: in the step that it brought about, or in one of its own, which is
/// given back, where it was refused. One that was done before stands there already.
pub(crate) fn record(tenant: &mut Tenant, now: Timestamp, mut fact: Event, answer: &mut Answer) -> Option<Step> {
    match answer {
        Answer::Done(_, step) => {
            tenant.engine.adopt(step, fact);
            None
        }
        Answer::Repeated(_) => None,
        Answer::Refused(Refusal { kind, .. }) => {
            if let Event::OperatorCommanded { refused, .. } = &mut fact {
                *refused = Some(kind.clone());
            }
            let mut step = tenant.engine.open_step(now, Cause::Notice);
            tenant.engine.adopt(&mut step, fact);
            tenant.engine.finish(&mut step);
            Some(step)
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::command::{AgentCommand, RefusalKind};
    use contract::event::Presence;
    use contract::{AgentId, ConversationId};

    use super::*;

    /// What becomes of a command, with the step that is only there because it was refused.
    fn ask(tenant: &mut Tenant, at: u64, id: &str, command: AdminCommand) -> (Answer, Option<Step>) {
        let input = CommandInput::Admin { id: id.into(), command };
        let fact = commanded(&input, Some("ann".into())).expect("an operator's");
        let mut answer = tenant.command(Timestamp(at), input, SmolStr::default);
        let own = record(tenant, Timestamp(at), fact, &mut answer);
        (answer, own)
    }

    fn policy() -> AdminCommand {
        AdminCommand::PolicyApply { policy: Box::new(crate::tests::policy()), waiting: false }
    }

    fn trail(step: &Step) -> Vec<&Event> {
        let facts = step.emitted.iter().map(|emitted| &*emitted.event);
        facts.filter(|event| matches!(event, Event::OperatorCommanded { .. })).collect()
    }

    #[test]
    fn what_is_done_stands_last_in_its_own_step_and_once() {
        let mut tenant = Tenant::default();
        let (Answer::Done(_, step), None) = ask(&mut tenant, 1, "p", policy()) else { panic!("it is done") };
        let last = step.emitted.last().map(|emitted| &*emitted.event);
        let Some(Event::OperatorCommanded { operator, command, verb, refused: None, .. }) = last else {
            panic!("{last:?}")
        };
        assert_eq!((operator.as_deref(), command.as_str(), verb.as_str()), (Some("ann"), "p", "policy.apply"));
        assert_eq!(trail(&step).len(), 1);
        assert!(step.emitted.len() > 1, "what it brought about is there too");
        assert!(matches!(ask(&mut tenant, 2, "p", policy()), (Answer::Repeated(_), None)));
    }

    #[test]
    fn what_is_refused_is_recorded_with_what_it_named_and_can_be_asked_again() {
        let mut tenant = Tenant::default();
        let assign = || AdminCommand::ConversationAssign {
            conversation: ConversationId(7),
            agent: AgentId::new("anna").unwrap(),
            ignore_capacity: false,
        };
        for at in [1, 2] {
            let (Answer::Refused(refusal), Some(step)) = ask(&mut tenant, at, "x", assign()) else {
                panic!("there is no such conversation")
            };
            assert_eq!(refusal.kind, RefusalKind::NotFound);
            let [Event::OperatorCommanded { conversation, agent, refused, .. }] = trail(&step)[..] else {
                panic!("{step:?}")
            };
            assert_eq!(*conversation, Some(ConversationId(7)));
            assert_eq!(agent.as_ref().map(AgentId::as_str), Some("anna"));
            assert_eq!(*refused, Some(RefusalKind::NotFound));
        }
    }

    #[test]
    fn agents_are_no_operators() {
        let command = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
        let input = CommandInput::Agent { agent: AgentId::new("anna").unwrap(), id: "a".into(), command };
        assert_eq!(commanded(&input, Some("anna".into())), None);
    }

    #[test]
    fn names_are_short_and_harmless() {
        assert_eq!(name(" ann@desk "), Some("ann@desk".into()));
        assert_eq!(name("a\u{1b}[2J"), Some("a[2J".into()));
        assert_eq!(name(&"ü".repeat(100)), Some("ü".repeat(64).into()));
        assert_eq!(name("  "), None);
    }
}
