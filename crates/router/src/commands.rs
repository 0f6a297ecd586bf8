//! Requests: who asks, what, and how the answer is written.

use std::collections::BTreeMap;

use bus::{Message, Publish};
use contract::answer::{AdminAnswer, Counts, ShardStatus, StatusView};
use contract::codec::CONTENT_TYPE;
use contract::command::{AdminCommand, AgentCommand, AgentQuery, ChannelQuery, Refusal, RefusalKind, Reply};
use contract::feed::ConversationView;
use contract::outbound::{OutCommand, ThreadWait};
use contract::subject::{Command, Sender};
use contract::{AccountId, AgentId, ChannelKind, ConversationId, Encoding, SmolStr, TenantId, Timestamp};
use engine::{CommandInput, ThreadKey};

use crate::fit::{self, Fit};
use crate::tenant::Tenant;

/// A request as it came.
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) message: Message,
}

/// Where an answer goes, and how it is written.
#[derive(Debug, Clone)]
pub(crate) struct ReplyTo {
    pub(crate) subject: Option<String>,
    pub(crate) id: SmolStr,
    pub(crate) encoding: Encoding,
    /// Who asks, as an operator's tool says.
    pub(crate) operator: Option<SmolStr>,
}

/// What a request asks.
pub(crate) enum Asked {
    /// To change something.
    Change(CommandInput),
    /// A question of an agent's tool.
    Agent(AgentId, AgentQuery),
    /// A question of an operator.
    Admin(AdminCommand),
    /// A question of a channel.
    Channel(ChannelKind, AccountId, ChannelQuery),
}

impl Request {
    /// The tenant whose request it is.
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.command.tenant
    }

    /// Reads the request.
    pub(crate) fn read(self) -> (ReplyTo, Result<Asked, Refusal>) {
        let payload = &self.message.payload;
        let mut reply_to = ReplyTo {
            subject: self.message.reply.clone(),
            id: SmolStr::default(),
            encoding: Encoding::Json,
            operator: crate::audit::operator(&self.message),
        };
        reply_to.encoding = match Encoding::detect(self.message.headers.get(CONTENT_TYPE), payload) {
            Ok(encoding) => encoding,
            Err(error) => return (reply_to, Err(Refusal::new(RefusalKind::Invalid, error.to_string()))),
        };
        let (verb, encoding) = (self.command.verb.as_str(), reply_to.encoding);
        let mut id = SmolStr::default();
        let asked = match self.command.sender {
            Sender::Agent(agent) if AgentQuery::VERBS.contains(&verb) => AgentQuery::decode(verb, encoding, payload)
                .map(|request| {
                    id = request.id;
                    Asked::Agent(agent, request.args)
                }),
            Sender::Agent(agent) => AgentCommand::decode(verb, encoding, payload).map(|request| {
                id = request.id.clone();
                Asked::Change(CommandInput::Agent { agent, id: request.id, command: request.args })
            }),
            Sender::Admin => AdminCommand::decode(verb, encoding, payload).map(|request| {
                id = request.id.clone();
                if AdminCommand::CHANGING.contains(&verb) {
                    Asked::Change(CommandInput::Admin { id: request.id, command: request.args })
                } else {
                    Asked::Admin(request.args)
                }
            }),
            Sender::Channel(kind, account) => ChannelQuery::decode(verb, encoding, payload).map(|request| {
                id = request.id;
                Asked::Channel(kind, account, request.args)
            }),
        };
        reply_to.id = id;
        (reply_to, asked)
    }
}

impl ReplyTo {
    /// The answer as a message; `None` when nobody waits for it.
    pub(crate) fn message<T: Fit>(&self, reply: Reply<T>) -> Option<Publish> {
        let subject = self.subject.clone()?;
        let payload = fit::encode(reply, self.encoding)?;
        Some(Publish {
            subject,
            payload: payload.into(),
            content_type: Some(self.encoding.content_type()),
            ..Publish::default()
        })
    }

    /// An answer.
    pub(crate) fn done<T: Fit>(&self, result: T) -> Option<Publish> {
        self.message(Reply::done(self.id.clone(), result))
    }

    /// A refusal.
    pub(crate) fn refused(&self, refusal: Refusal) -> Option<Publish> {
        self.message(Reply::<()>::refused(self.id.clone(), refusal))
    }
}

/// An open conversation with the customer's name.
pub(crate) fn conversation_view(tenant: &Tenant, id: ConversationId) -> Option<ConversationView> {
    let view = tenant.engine.conversation_view(id)?;
    let name = tenant.profile.display(view.customer);
    Some(ConversationView { customer_name: name, ..view })
}

/// How it stands with whoever waits on a thread, with the customer's name where it was said to whom they are put through.
pub(crate) fn thread_wait(tenant: &Tenant, key: &ThreadKey) -> ThreadWait {
    let mut wait = tenant.engine.thread_wait(Timestamp(runtime::clock::now()), key);
    let customer = wait.conversation.and_then(|id| tenant.engine.conversation_view(id)).map(|view| view.customer);
    if let (Some(order), Some(customer)) = (wait.order.as_mut().filter(|order| order.agent.is_some()), customer) {
        order.customer_name = tenant.profile.display(customer);
    }
    wait
}

/// A command with what its channel cannot know: what the customer of a call is called, for the agent's ear.
pub(crate) fn addressed(mut command: OutCommand, profile: &profile::State) -> OutCommand {
    if let Some(order) = command.call.as_mut().filter(|order| order.agent.is_some()) {
        order.customer_name = profile.display(command.customer);
    }
    command
}

/// The digest of a tenant's state: equal states have equal digests.
#[must_use]
pub fn digest(tenant: &Tenant) -> SmolStr {
    let mut bytes = tenant.engine.fingerprint();
    bytes.extend(tenant.profile.fingerprint());
    crate::checkpoint::digest(&bytes)
}

/// The answers to commands that need no stream, by verb.
pub(crate) fn answer_now(
    tenant: &Tenant,
    question: &AdminCommand,
    shard: &ShardStatus,
    counts: impl FnOnce() -> Counts,
) -> Option<AdminAnswer> {
    match question {
        AdminCommand::StatusShow { digest: wanted } => Some(AdminAnswer::Status(Box::new(StatusView {
            counts: counts(),
            customers: tenant.profile.len() as u64 + tenant.profile.resting().0,
            shard: shard.clone(),
            digest: wanted.then(|| digest(tenant)),
        }))),
        AdminCommand::ConversationList { limit } => {
            let limit = limit.unwrap_or(100).min(1000) as usize;
            let views = tenant.engine.conversations().take(limit);
            let views = views.filter_map(|(id, _)| conversation_view(tenant, id)).collect();
            Some(AdminAnswer::Conversations(views))
        }
        AdminCommand::CustomerSuggestions { limit } => {
            let limit = limit.unwrap_or(100).min(1000) as usize;
            let mut suggestions = tenant.profile.suggestions();
            suggestions.truncate(limit);
            Some(AdminAnswer::Suggestions(suggestions))
        }
        AdminCommand::CustomerFind { identity } => {
            let found = tenant.profile.find(identity);
            Some(AdminAnswer::Customers(found.into_iter().filter_map(|id| tenant.customer_view(id)).collect()))
        }
        AdminCommand::AgentList {} => {
            let views: BTreeMap<_, _> =
                tenant.engine.agents().filter_map(|(id, _)| Some((id, tenant.engine.agent_view(id)?))).collect();
            Some(AdminAnswer::Agents(views.into_values().collect()))
        }
        _ => None,
    }
}
