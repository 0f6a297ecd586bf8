//! Questions: answered from memory when it is there, otherwise outside the loop, from what the streams and
//! buckets hold.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use contract::answer::{AdminAnswer, ConversationDetail, CustomerDetail, ShardStatus};
use contract::command::{AdminCommand, AgentQuery, ChannelQuery, Done, Refusal, RefusalKind};
use contract::outbound::{Author, ThreadHistory};
use contract::{AgentId, TenantId};
use engine::{Shadow, ThreadKey};
use tokio::sync::watch;
use tracing::debug;

use super::{Leader, now};
use crate::commands::{Asked, ReplyTo, answer_now, conversation_view};
use crate::error::Error;
use crate::fit::{Continued, Fit, fits};
use crate::history::{Past, owned};
use crate::tenant::Tenant;

/// How long a question about a closed conversation waits for the key-value side: longer than a flush.
const READSIDE_WAIT: Duration = Duration::from_secs(4);

impl Leader {
    /// Answers a question. Errors are the journal's; what cannot be answered is refused.
    pub(super) async fn answer(&mut self, tenant_id: &TenantId, to: ReplyTo, question: Asked) -> Result<(), Error> {
        if let Asked::Agent(agent, _) = &question {
            self.hear(tenant_id, agent).await?;
        }
        let refused = match question {
            Asked::Change(_) => Ok(()),
            Asked::Agent(agent, query) => self.answer_agent(tenant_id, &to, agent, query).await,
            Asked::Channel(kind, account, ChannelQuery::ThreadHistory { thread, after, limit }) => {
                let key = ThreadKey { kind, account, key: thread };
                self.answer_thread(tenant_id, &to, key, after, limit).await
            }
            Asked::Admin(question) => self.answer_admin(tenant_id, &to, question).await,
        };
        if let Err(refusal) = refused {
            self.send(to.refused(refusal)).await;
        }
        Ok(())
    }

    /// A question is a sign of life too; the first one after a silence is a fact.
    async fn hear(&mut self, tenant_id: &TenantId, agent: &AgentId) -> Result<(), Error> {
        let mut decided = self.nothing_decided();
        let at = now();
        if let Some(tenant) = self.shard.tenants.get_mut(tenant_id)
            && tenant.engine.agent(agent).is_some()
        {
            self.liveness.entry(tenant_id.clone()).or_default().touch(agent, at);
            decided.add(tenant_id, tenant.engine.agent_heard(at, agent), None);
        }
        if decided.entries.is_empty() { Ok(()) } else { self.commit(decided).await }
    }

    fn past(&self) -> Past {
        Past { bus: self.bus.clone(), stored: self.outputs.watch(), seq: self.seq }
    }

    fn tenant(&self, tenant_id: &TenantId) -> Result<&Tenant, Refusal> {
        let missing = || Refusal::new(RefusalKind::NotFound, format!("there is no tenant {:?}", tenant_id.as_str()));
        self.shard.tenants.get(tenant_id).ok_or_else(missing)
    }

    async fn answer_admin(
        &mut self,
        tenant_id: &TenantId,
        to: &ReplyTo,
        question: AdminCommand,
    ) -> Result<(), Refusal> {
        let tenant = self.tenant(tenant_id)?;
        match question {
            AdminCommand::ShadowStart { policy } => {
                let problems: Vec<String> = policy::check(&policy).problems.iter().map(ToString::to_string).collect();
                if !problems.is_empty() {
                    return Err(Refusal::new(RefusalKind::Invalid, problems.join("; ")));
                }
                let shadow = Shadow::new(now(), &tenant.engine, *policy);
                let report = Some(Box::new(shadow.report()));
                self.shadows.insert(tenant_id.clone(), shadow);
                self.send(to.done(AdminAnswer::Shadow(report))).await;
                return Ok(());
            }
            AdminCommand::ShadowShow { stop } => {
                let report = self.shadows.get(tenant_id).map(|shadow| Box::new(shadow.report()));
                if stop {
                    self.shadows.remove(tenant_id);
                }
                self.send(to.done(AdminAnswer::Shadow(report))).await;
                return Ok(());
            }
            _ => {}
        }
        if let Some(answer) = answer_now(tenant, &question, &self.status()) {
            self.send(to.done(answer)).await;
            return Ok(());
        }
        let not_found = |what: String| Refusal::new(RefusalKind::NotFound, format!("there is no {what}"));
        let (wanted, past) = (tenant_id.clone(), self.past());
        match question {
            AdminCommand::ConversationShow { conversation } | AdminCommand::ConversationExplain { conversation } => {
                let open = conversation_view(tenant, conversation);
                let explanation = tenant.engine.explain(conversation);
                if open.is_none() {
                    // One that was closed just now is in neither place until the next flush.
                    self.flush();
                }
                let (bus, written, seq) = (self.bus.clone(), self.readside.watch(), self.seq);
                self.spawn_answer(to.clone(), async move {
                    let view = match open {
                        Some(view) => Some(view),
                        None => closed_view(&bus, written, seq, &wanted, conversation).await?,
                    };
                    let view = view.ok_or_else(|| not_found(format!("conversation {conversation}")))?;
                    let facts = past.conversation(&wanted, view.customer, conversation).await?;
                    let detail = ConversationDetail { conversation: Some(view), explanation, facts };
                    Ok(AdminAnswer::Conversation(Box::new(detail)))
                })
            }
            AdminCommand::CustomerShow { customer } => {
                let view = tenant.profile.view(customer);
                let view = view.ok_or_else(|| not_found(format!("customer {customer}")))?;
                let open = tenant.engine.open_conversation(customer);
                let open = open.and_then(|id| conversation_view(tenant, id));
                self.spawn_answer(to.clone(), async move {
                    let facts = past.customer(&wanted, customer).await?;
                    Ok(AdminAnswer::Customer(Box::new(CustomerDetail { customer: view, open, facts })))
                })
            }
            _ => Err(Refusal::new(RefusalKind::Invalid, "is not a question")),
        }
    }

    async fn answer_agent(
        &mut self,
        tenant_id: &TenantId,
        to: &ReplyTo,
        agent: AgentId,
        query: AgentQuery,
    ) -> Result<(), Refusal> {
        if self.tenant(tenant_id)?.engine.agent(&agent).is_none() {
            let message = format!("there is no agent {:?} in the policy", agent.as_str());
            return Err(Refusal::new(RefusalKind::Forbidden, message));
        }
        match query {
            AgentQuery::FeedAck { .. } => {
                self.send(to.done(Done::default())).await;
                Ok(())
            }
            AgentQuery::FeedSync { since } => {
                let Some(tenant) = self.shard.tenants.get(tenant_id) else { return Ok(()) };
                let mut sync = self.feeds.sync(tenant_id, &agent, &tenant.engine, since, to.encoding);
                if !sync.items.is_empty() && !fits(&sync, to.encoding) {
                    sync = self.feeds.sync(tenant_id, &agent, &tenant.engine, None, to.encoding);
                }
                if let Some(snapshot) = &mut sync.snapshot {
                    let views = snapshot.conversations.iter_mut();
                    for view in views.chain(snapshot.offers.iter_mut().map(|offer| &mut offer.conversation)) {
                        let customer = tenant.profile.customer(view.customer);
                        view.customer_name = customer.and_then(|customer| customer.display.clone());
                    }
                }
                self.send(to.done(sync)).await;
                Ok(())
            }
            AgentQuery::ConversationHistory { conversation, limit } => {
                let known = self.tenant(tenant_id)?.engine.conversation(conversation);
                let Some(known) = known.filter(|known| known.concerns(&agent)) else {
                    let message = format!("conversation {conversation} is not with you");
                    return Err(Refusal::new(RefusalKind::Gone, message));
                };
                let (customer, tenant_id, past) = (known.customer, tenant_id.clone(), self.past());
                let limit = limit.unwrap_or(50).min(100) as usize;
                self.spawn_answer(to.clone(), async move { past.messages(&tenant_id, customer, limit).await })
            }
        }
    }

    async fn answer_thread(
        &mut self,
        tenant_id: &TenantId,
        to: &ReplyTo,
        key: ThreadKey,
        after: u64,
        limit: Option<u32>,
    ) -> Result<(), Refusal> {
        let limit = limit.unwrap_or(200).min(200) as usize;
        let tenant = self.tenant(tenant_id)?;
        let Some(thread) = tenant.engine.thread(&key) else {
            let empty = ThreadHistory { records: Vec::new(), head: 0, conversation: None, agent: None };
            self.send(to.done(empty)).await;
            return Ok(());
        };
        let conversation = tenant.engine.open_conversation(thread.customer);
        let holder = conversation.and_then(|id| tenant.engine.conversation(id)?.responsible().cloned());
        let agent =
            holder.map(|agent| Author { display: Some(tenant.engine.display_name(&agent)), agent: Some(agent) });
        let mut answer = ThreadHistory { records: Vec::new(), head: thread.seq, conversation, agent };
        if after >= thread.seq {
            self.send(to.done(answer)).await;
            return Ok(());
        }
        if let Some(records) = self.transcripts.after(tenant_id, &key, after) {
            answer.records = owned(records);
            let message = if after > 0 { to.done(Continued(answer)) } else { to.done(answer) };
            self.send(message).await;
            return Ok(());
        }
        let (customer, tenant_id, past) = (thread.customer, tenant_id.clone(), self.past());
        if after > 0 {
            return self.spawn_answer(to.clone(), async move {
                answer.records = past.thread(&tenant_id, customer, &key, after, limit).await?;
                Ok(Continued(answer))
            });
        }
        self.spawn_answer(to.clone(), async move {
            answer.records = past.thread(&tenant_id, customer, &key, after, limit).await?;
            Ok(answer)
        })
    }

    /// Answers outside the loop, since the streams must be read for it.
    fn spawn_answer<T: Fit + Send + 'static>(
        &self,
        to: ReplyTo,
        answer: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<(), Refusal> {
        let Ok(permit) = Arc::clone(&self.history).try_acquire_owned() else {
            return Err(Refusal::new(RefusalKind::Unavailable, "too many questions about the past at once"));
        };
        let bus = self.bus.clone();
        tokio::spawn(async move {
            let message = match answer.await {
                Ok(answer) => to.done(answer),
                Err(refusal) => to.refused(refusal),
            };
            if let Some(message) = message
                && let Err(error) = bus.send(message).await
            {
                debug!(%error, "an answer was dropped");
            }
            drop(permit);
        });
        Ok(())
    }

    fn status(&self) -> ShardStatus {
        ShardStatus {
            shard: self.shard_no,
            epoch: self.journal.epoch,
            owner: self.options.instance.clone(),
            seq: self.seq,
            cursor: self.shard.cursor,
            outputs_done: self.outputs.done(),
            kv_done: self.readside.done(),
        }
    }
}

/// A conversation that is no longer open, once the key-value side reflects the journal up to `seq`.
async fn closed_view(
    bus: &Bus,
    mut written: watch::Receiver<u64>,
    seq: u64,
    tenant: &TenantId,
    id: contract::ConversationId,
) -> Result<Option<contract::feed::ConversationView>, Refusal> {
    let behind = |_| Refusal::new(RefusalKind::Unavailable, "the key-value side is behind");
    let reached = tokio::time::timeout(READSIDE_WAIT, written.wait_for(|written| *written >= seq)).await;
    reached.map_err(|_| behind(())).and_then(|reached| reached.map(drop).map_err(|_| behind(())))?;
    let unavailable = |error: bus::Error| Refusal::new(RefusalKind::Unavailable, error.to_string());
    let bucket = bus.bucket("tl-conversations").await.map_err(unavailable)?;
    let key = format!("{}.{id}", contract::token::encode(tenant.as_str()));
    let entry = bucket.get(&key).await.map_err(unavailable)?;
    Ok(entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()))
}
