//! The router's metrics.

/// Every metric that the router writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Envelopes decided.
    Inputs,
    /// Envelopes that were repeats.
    Repeats,
    /// Inputs that went to the dead-letter stream.
    Rejected,
    /// Commands answered, by outcome.
    Commands,
    /// Journal records appended.
    Records,
    /// Facts decided.
    Events,
    /// Seconds from the beginning of an append to its acknowledgement.
    AppendSeconds,
    /// Seconds that deciding a batch took.
    DecideSeconds,
    /// Seconds that the loop of a shard was at one thing, by what: nothing else is decided meanwhile.
    TurnSeconds,
    /// Requests that wait for the owner of a shard, by shard.
    RequestsQueued,
    /// What an owner is to do between two batches, by shard.
    ControlsQueued,
    /// Outputs that wait to be stored, by shard.
    OutputsQueued,
    /// Entries of the key-value side that wait to be written, by shard.
    ReadsideQueued,
    /// Records of `IN` that are not decided yet, by shard.
    InputLag,
    /// Seconds for which something in `IN` has waited to be decided, by shard.
    InputBehind,
    /// Shards that this process leads.
    ShardsLed,
    /// Shards that there are, to compare with.
    Shards,
    /// Seconds that a takeover took, from the claim to the first input.
    TakeoverSeconds,
    /// Times that this process was deposed.
    Deposed,
    /// Violations found of an invariant; must stay 0.
    Violations,
    /// Conversations that a classifier is being asked about, by shard.
    ClassificationsInFlight,
    /// Its answers that wait for the loop, by shard.
    ClassificationsQueued,
    /// Conversations that a classifier was to be asked about, by outcome.
    Classified,
    /// Customers of whom a program of the company's is being asked, by shard.
    LookupsInFlight,
    /// Its answers that wait for the loop, by shard.
    LookupsQueued,
    /// Customers of whom a program of the company's was to be asked, by outcome.
    Lookups,
    /// Questions about the past that are being answered, by shard.
    HistoryInFlight,
    /// Customers that are to be erased, by shard.
    ErasuresQueued,
    /// Decisions of the policy beside the one in force, by whether they were the same.
    Shadow,
    /// Customers, by whether they are in memory.
    Customers,
    /// Persons that left memory.
    Rested,
    /// Persons that came back.
    Recalled,
    /// Seconds that a batch waited for customers who were not in memory.
    RecallSeconds,
    /// Persons that were forgotten by themselves.
    Forgotten,
    /// Checkpoints taken.
    Checkpoints,
    /// Open conversations by state.
    Conversations,
    /// Conversations waiting, by queue.
    Waiting,
    /// Agents by presence.
    Agents,
}

impl Metric {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inputs => "router_inputs_total",
            Self::Repeats => "router_repeats_total",
            Self::Rejected => "router_rejected_total",
            Self::Commands => "router_commands_total",
            Self::Records => "router_records_total",
            Self::Events => "router_events_total",
            Self::AppendSeconds => "router_append_seconds",
            Self::DecideSeconds => "router_decide_seconds",
            Self::TurnSeconds => "router_turn_seconds",
            Self::RequestsQueued => "router_requests_queued",
            Self::ControlsQueued => "router_controls_queued",
            Self::OutputsQueued => "router_outputs_queued",
            Self::ReadsideQueued => "router_readside_queued",
            Self::InputLag => "router_input_lag_records",
            Self::InputBehind => "router_input_behind_seconds",
            Self::ShardsLed => "router_shards_led",
            Self::Shards => "router_shards",
            Self::TakeoverSeconds => "router_takeover_seconds",
            Self::Deposed => "router_deposed_total",
            Self::Violations => "router_invariant_violations_total",
            Self::ClassificationsInFlight => "router_classifications_in_flight",
            Self::ClassificationsQueued => "router_classifications_queued",
            Self::Classified => "router_classified_total",
            Self::LookupsInFlight => "router_lookups_in_flight",
            Self::LookupsQueued => "router_lookups_queued",
            Self::Lookups => "router_lookups_total",
            Self::HistoryInFlight => "router_history_in_flight",
            Self::ErasuresQueued => "router_erasures_queued",
            Self::Shadow => "router_shadow_decisions_total",
            Self::Customers => "router_customers",
            Self::Rested => "router_customers_rested_total",
            Self::Recalled => "router_customers_recalled_total",
            Self::RecallSeconds => "router_recall_seconds",
            Self::Forgotten => "router_customers_forgotten_total",
            Self::Checkpoints => "router_checkpoints_total",
            Self::Conversations => "router_conversations",
            Self::Waiting => "router_waiting",
            Self::Agents => "router_agents",
        }
    }

    /// Shows how many there are in a shard.
    pub(crate) fn show(self, shard: u16, count: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!(self.name(), "shard" => shard.to_string()).set(count as f64);
    }
}
