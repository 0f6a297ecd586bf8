//! How a call goes: what a webhook means, and what whoever is on the leg hears next. Pure.

use std::sync::Arc;

use adapter::contract::call::{CallOrder, CallStep};
use adapter::contract::envelope::Account;
use adapter::contract::outbound::ThreadWait;
use adapter::contract::{SmolStr, TenantId, Timestamp};
use adapter::webhook::Item;

use super::events::{Of, Scene, item, number};
use super::link::{Link, Step};
use super::script::{Callee, Dial, Record, Say, Script};
use super::settings::Settings;
use super::texts::{self, Line};
use super::told::{Spoken, Told};

/// After so many rounds in a row in which nobody knows of the call, it was turned away.
const ABSENT_MAX: u32 = 3;
/// How long a round is that only waits for what has been ordered, in seconds.
const MOMENT: u32 = 5;

/// Makes a whole address of a path and query behind the account, and signs it.
pub(crate) type Address = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// An account's way with calls.
#[derive(Clone)]
pub(crate) struct Desk {
    /// Its settings.
    pub(crate) settings: Settings,
    /// Whose customers.
    pub(crate) tenant: TenantId,
    /// The account.
    pub(crate) account: Account,
    /// The number that calls go out from.
    pub(crate) number: SmolStr,
    /// Whether an agent at a SIP address can be asked whether they take a call.
    pub(crate) sip_whisper: bool,
    /// Addresses of ours.
    pub(crate) address: Address,
}

/// What is remembered of a call beyond a webhook, outside this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The customer is on this leg now.
    Leg { thread: SmolStr, leg: SmolStr },
    /// The agent of an order is being called.
    Rang(SmolStr),
    /// The agent of an order has taken the call.
    Taken(SmolStr),
}

/// What comes next on the leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: it was told, not asked.
    Nothing,
    /// This.
    Play(Script),
    /// It depends on how it stands with the caller, whose number may be known.
    Wait { link: Link, callable: bool },
    /// It depends on whether the agent of the order took the call; what the provider says of it, where it does.
    Dialed { link: Link, bridged: Option<bool> },
    /// The agent hears who calls, as far as it is known.
    Whisper { link: Link },
    /// The agent does not take it: their leg ends.
    Decline { leg: SmolStr, link: Link },
    /// What was said is fetched from there.
    Transcript { at: SmolStr, recording: SmolStr, link: Link },
}

/// What a webhook means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// What is stored.
    pub(crate) items: Vec<Item>,
    /// What is remembered, before anything is answered.
    pub(crate) marks: Vec<Mark>,
    /// What is answered.
    pub(crate) next: Next,
}

impl Outcome {
    fn of(items: Vec<Item>, next: Next) -> Self {
        Self { items, marks: Vec::new(), next }
    }

    const fn nothing() -> Self {
        Self { items: Vec::new(), marks: Vec::new(), next: Next::Nothing }
    }
}

/// Tells the events of a leg apart, where a provider has two words for one state.
fn named(state: &str, told: &Told) -> String {
    told.seq.map_or_else(|| state.to_owned(), |seq| format!("{state}/{seq}"))
}

/// The words for a leg that is over.
fn over(state: Option<&'static str>) -> Option<&'static str> {
    state.filter(|state| !matches!(*state, "ringing" | "answered"))
}

impl Desk {
    fn scene<'a>(&'a self, thread: &'a SmolStr, told: &'a Told, now: Timestamp) -> Scene<'a> {
        Scene { tenant: &self.tenant, account: &self.account, thread, told, now }
    }

    fn url(&self, link: &Link) -> String {
        (self.address)(&link.write())
    }

    fn say(&self, language: &str, lines: &[(Line, &[(&str, &str)])]) -> Vec<Say> {
        lines.iter().filter_map(|(line, values)| self.settings.say(language, *line, values)).collect()
    }

    /// Somebody calls: the call becomes known, and they wait.
    pub(crate) fn incoming(&self, told: &Told, now: Timestamp) -> Outcome {
        if told.leg.is_empty() || told.outbound || over(told.state).is_some() {
            return Outcome::nothing();
        }
        let (language, by_number) = self.settings.language_of(number(told).map(SmolStr::as_str));
        let mut envelope = self.scene(&told.leg, told, now).event(&told.leg, "ringing", "ringing", Of::default());
        if by_number {
            envelope.language = Some(texts::primary(language).into());
        }
        let link = Link {
            step: Step::Wait,
            thread: told.leg.clone(),
            leg: Some(told.leg.clone()),
            command: None,
            agent: None,
            language: language.clone(),
            round: 0,
            absent: 0,
        };
        let say = self.say(language, &[(Line::Greeting, &[])]);
        let script = Script::Wait { say, music: None, seconds: 1, key: None, next: self.url(&link) };
        Outcome::of(vec![item(envelope)], Next::Play(script))
    }

    /// What is told of calls at the address of the console: that the caller has gone.
    pub(crate) fn event(&self, told: &Told, now: Timestamp) -> Outcome {
        match over(told.state) {
            Some(state) if !told.outbound && !told.leg.is_empty() => {
                let what = named(state, told);
                let envelope = self.scene(&told.leg, told, now).event(&told.leg, state, &what, Of::default());
                Outcome::of(vec![item(envelope)], Next::Nothing)
            }
            _ => Outcome::nothing(),
        }
    }

    /// What is asked or told at an address of ours. `None`: the request is about another leg than the address.
    pub(crate) fn at(&self, link: &Link, told: &Told, now: Timestamp) -> Option<Outcome> {
        if !self.belongs(link, told) {
            return None;
        }
        let scene = self.scene(&link.thread, told, now);
        Some(match link.step {
            Step::Wait | Step::Key => self.waits(link, told, &scene),
            Step::Recorded => self.left(link, told, &scene),
            Step::Voicemail | Step::Talk => self.recording(link, told, &scene),
            Step::Transcript => self.transcript(link, told, &scene),
            Step::Status => self.status(link, told, &scene),
            Step::Agent | Step::Joined => self.agent(link, told, &scene),
            Step::Whisper => Outcome::of(Vec::new(), Next::Whisper { link: link.clone() }),
            Step::Take => self.takes(link, told, &scene),
            Step::Dialed => self.dialed(link, told, &scene),
        })
    }

    /// Whether a request is about the leg that an address was made for. An agent's leg has no address of its own before
    /// it begins: it is none of the customer's, and was begun from the customer's where the provider says so.
    fn belongs(&self, link: &Link, told: &Told) -> bool {
        let own = link.leg.as_ref();
        if link.step.of_agent() {
            let child = told.parent.is_none() || own.is_none() || told.parent.as_ref() == own;
            return link.agent.is_some() && link.command.is_some() && own != Some(&told.leg) && child;
        }
        match (own, told.leg.is_empty()) {
            // Recordings, and that a step is reached, are told of by the conversation alone, by one provider.
            (_, true) => matches!(link.step, Step::Voicemail | Step::Talk | Step::Transcript | Step::Dialed),
            (Some(own), false) => *own == told.leg,
            (None, false) => link.command.is_some() && told.leg != link.thread,
        }
    }

    /// The address is of this leg, now that its id is known.
    fn bound(link: &Link, told: &Told) -> Link {
        Link { leg: link.leg.clone().or_else(|| Some(told.leg.clone()).filter(|leg| !leg.is_empty())), ..link.clone() }
    }

    /// The customer's leg is over, as something said that is not about its state: told apart from what says so, since
    /// either may be lost.
    fn gone(link: &Link, told: &Told, scene: &Scene<'_>) -> Option<Item> {
        let state = over(told.state)?;
        let of = Of { agent: None, command: link.command.as_ref().filter(|_| told.leg != link.thread) };
        Some(item(scene.event(&told.leg, state, &format!("{state}/seen"), of)))
    }

    fn waits(&self, link: &Link, told: &Told, scene: &Scene<'_>) -> Outcome {
        if let Some(gone) = Self::gone(link, told, scene) {
            return Outcome::of(vec![gone], Next::Nothing);
        }
        let pressed = if link.step == Step::Key { told.digits.as_str() } else { "" };
        let settings = &self.settings;
        let callable = number(told).is_some();
        let again = Link { step: Step::Wait, command: None, agent: None, ..Self::bound(link, told) };
        if !pressed.is_empty() && pressed == settings.callback_key {
            if !callable {
                let say = self.say(&link.language, &[(Line::NoCallback, &[])]);
                return Outcome::of(Vec::new(), Next::Play(self.moment(&again, say)));
            }
            let envelope = scene.event(&told.leg, "callback", "callback", Of::default());
            let say = self.say(&link.language, &[(Line::Callback, &[])]);
            return Outcome::of(vec![item(envelope)], Next::Play(Script::End { say }));
        }
        if !pressed.is_empty() && pressed == settings.voicemail_key {
            return Outcome::of(Vec::new(), Next::Play(self.voicemail(&again, &[])));
        }
        // That they wait is said once.
        let first = link.step == Step::Wait && link.round == 0 && told.leg == link.thread;
        let queued = first.then(|| item(scene.event(&told.leg, "queued", "queued", Of::default())));
        Outcome::of(queued.into_iter().collect(), Next::Wait { link: again, callable })
    }

    fn left(&self, link: &Link, told: &Told, scene: &Scene<'_>) -> Outcome {
        let spoken = told.recording.as_ref().filter(|made| made.duration.is_some_and(|duration| duration.0 >= 1000));
        let heard = spoken.map(|recording| {
            let what = format!("voicemail/{}/left", recording.id);
            item(scene.event(&told.leg, "voicemail", &what, Of::default()))
        });
        let gone = Self::gone(link, told, scene);
        let next = if gone.is_some() {
            Next::Nothing
        } else {
            Next::Play(Script::End { say: self.say(&link.language, &[(Line::Thanks, &[])]) })
        };
        Outcome::of(heard.into_iter().chain(gone).collect(), next)
    }

    fn recording(&self, link: &Link, told: &Told, scene: &Scene<'_>) -> Outcome {
        let leg = link.leg.as_ref().unwrap_or(&link.thread);
        let (state, what) = if link.step == Step::Talk { ("answered", "talk") } else { ("voicemail", "voicemail") };
        let made = told.recording.as_ref().filter(|made| !made.absent);
        Outcome::of(made.map(|made| scene.recorded(leg, state, what, made)).into_iter().collect(), Next::Nothing)
    }

    fn transcript(&self, link: &Link, told: &Told, scene: &Scene<'_>) -> Outcome {
        let Some(transcript) = &told.transcript else { return Outcome::nothing() };
        match &transcript.of {
            Spoken::Text(text) => {
                Outcome::of(vec![self.transcribed(scene, link, &transcript.recording, text.clone())], Next::Nothing)
            }
            Spoken::At(at) => {
                let (at, recording) = (at.clone(), transcript.recording.clone());
                Outcome::of(Vec::new(), Next::Transcript { at, recording, link: link.clone() })
            }
            Spoken::Failed => Outcome::nothing(),
        }
    }

    fn transcribed(&self, scene: &Scene<'_>, link: &Link, recording: &SmolStr, text: String) -> Item {
        let leg = link.leg.as_ref().unwrap_or(&link.thread);
        let mut envelope = scene.event(leg, "voicemail", &format!("transcript/{recording}"), Of::default());
        envelope.language = Some(texts::primary(&link.language).into());
        if let Some(call) = &mut envelope.call {
            call.transcript = Some(text);
        }
        item(envelope)
    }

    /// The event of a transcript that was fetched.
    pub(crate) fn fetched(&self, link: &Link, recording: &SmolStr, text: String, now: Timestamp) -> Item {
        let told = Told::default();
        self.transcribed(&self.scene(&link.thread, &told, now), link, recording, text)
    }

    fn status(&self, link: &Link, told: &Told, scene: &Scene<'_>) -> Outcome {
        // The first leg was answered by us; that is nobody's answer.
        let called = told.leg != link.thread;
        let Some(state) = told.state.filter(|state| called || over(Some(*state)).is_some()) else {
            return Outcome::nothing();
        };
        let of = Of { agent: None, command: link.command.as_ref().filter(|_| called) };
        let mark = Mark::Leg { thread: link.thread.clone(), leg: told.leg.clone() };
        Outcome {
            items: vec![item(scene.event(&told.leg, state, &named(state, told), of))],
            marks: Some(mark).filter(|_| called && over(Some(state)).is_none()).into_iter().collect(),
            next: Next::Nothing,
        }
    }

    fn agent(&self, link: &Link, told: &Told, scene: &Scene<'_>) -> Outcome {
        let Some(state) = told.state else { return Outcome::nothing() };
        let of = Of { agent: link.agent.as_ref(), command: link.command.as_ref() };
        let Some(command) = link.command.clone() else { return Outcome::nothing() };
        // Who answers is heard of by the key; a voicemail box answers, too.
        if state == "answered" && link.step == Step::Agent {
            return Outcome { marks: vec![Mark::Rang(command)], ..Outcome::nothing() };
        }
        let marks = match state {
            "ringing" => vec![Mark::Rang(command)],
            "answered" => vec![Mark::Taken(command)],
            _ => Vec::new(),
        };
        let mut envelope = scene.event(&told.leg, state, &named(state, told), of);
        // It lasted, so somebody answered; the word on that may come later.
        if let Some(call) = envelope.call.as_mut().filter(|_| {
            link.step == Step::Joined && state == "completed" && told.duration.is_some_and(|duration| duration.0 > 0)
        }) {
            call.answered_at = Some(told.at.unwrap_or(scene.now));
        }
        Outcome { items: vec![item(envelope)], marks, next: Next::Nothing }
    }

    fn takes(&self, link: &Link, told: &Told, scene: &Scene<'_>) -> Outcome {
        if self.settings.take_key.is_empty() || told.digits != self.settings.take_key {
            return Outcome::of(Vec::new(), Next::Decline { leg: told.leg.clone(), link: link.clone() });
        }
        let of = Of { agent: link.agent.as_ref(), command: link.command.as_ref() };
        Outcome {
            items: vec![item(scene.event(&told.leg, "answered", "taken", of))],
            marks: link.command.clone().map(Mark::Taken).into_iter().collect(),
            next: Next::Play(Script::Join),
        }
    }

    fn dialed(&self, link: &Link, told: &Told, scene: &Scene<'_>) -> Outcome {
        // A second word on the agent's leg, should the first be lost. Where nobody has to press a key, only the first says
        // whether anybody answered.
        let asked = !self.settings.take_key.is_empty();
        let dialed = told.dialed.as_ref().filter(|(_, state)| asked && over(Some(*state)).is_some());
        let of = Of { agent: link.agent.as_ref(), command: link.command.as_ref() };
        let ended = dialed.map(|(leg, state)| item(scene.event(leg, state, &format!("{state}/dialed"), of)));
        let gone = Self::gone(link, told, scene);
        let next = match gone {
            Some(_) => Next::Nothing,
            None => Next::Dialed { link: Self::bound(link, told), bridged: told.bridged },
        };
        Outcome::of(ended.into_iter().chain(gone).collect(), next)
    }

    // === What is heard ===

    /// A short round without music.
    fn moment(&self, link: &Link, say: Vec<Say>) -> Script {
        let next = Link { round: link.round.saturating_add(1), ..link.to(Step::Wait) };
        let music = self.settings.music.clone();
        Script::Wait { say, music, seconds: MOMENT, key: None, next: self.url(&next) }
    }

    /// What whoever waits hears. `wait`: how it stands; `None`: nobody answers, and they hear nothing of it.
    pub(crate) fn waiting(&self, link: &Link, callable: bool, wait: Option<&ThreadWait>) -> Script {
        let settings = &self.settings;
        let hung_up = |wait: &ThreadWait| wait.order.as_ref().is_some_and(|order| order.step == CallStep::HangUp);
        let known = Link { absent: 0, ..link.clone() };
        let Some(wait) = wait else { return self.round(link, Vec::new(), settings.wait_seconds, callable) };
        match wait.state.as_deref() {
            None if hung_up(wait) => Script::End { say: self.say(&link.language, &[(Line::Goodbye, &[])]) },
            None if link.absent + 1 >= ABSENT_MAX => self.turned_away(link),
            None => {
                let link = Link { absent: link.absent + 1, ..link.clone() };
                self.moment(&link, Vec::new())
            }
            Some("wrapping") => Script::End { say: self.say(&link.language, &[(Line::Goodbye, &[])]) },
            Some("waiting" | "offered") if wait.closed => self.turned_away(&known),
            Some("waiting" | "offered") => {
                let loud = link.round.is_multiple_of(settings.announce_every.max(1));
                let say = if loud { self.announced(&known, callable, wait) } else { Vec::new() };
                self.round(&known, say, settings.wait_seconds, callable)
            }
            Some(_) => self.round(&known, Vec::new(), MOMENT, callable),
        }
    }

    fn round(&self, link: &Link, say: Vec<Say>, seconds: u32, callable: bool) -> Script {
        let next = Link { round: link.round.saturating_add(1), ..link.clone() };
        let keys = callable && !self.settings.callback_key.is_empty() || !self.settings.voicemail_key.is_empty();
        Script::Wait {
            say,
            music: self.settings.music.clone(),
            seconds,
            key: keys.then(|| self.url(&next.to(Step::Key))),
            next: self.url(&next),
        }
    }

    /// Position, expected wait, keys. What nobody can tell is not said.
    fn announced(&self, link: &Link, callable: bool, wait: &ThreadWait) -> Vec<Say> {
        let (settings, language) = (&self.settings, link.language.as_str());
        let mut say = Vec::new();
        match wait.before {
            Some(0) => say.extend(settings.say(language, Line::Next, &[])),
            Some(1) => say.extend(settings.say(language, Line::PositionOne, &[])),
            Some(before) => say.extend(settings.say(language, Line::Position, &[("position", &before.to_string())])),
            None => {}
        }
        match wait.expected_ms.map(|expected| expected.0.div_ceil(60_000).max(1)) {
            Some(1) => say.extend(settings.say(language, Line::ExpectedOne, &[])),
            Some(minutes) => say.extend(settings.say(language, Line::Expected, &[("minutes", &minutes.to_string())])),
            None => {}
        }
        let keys = [
            (Line::PressCallback, &settings.callback_key, callable),
            (Line::PressVoicemail, &settings.voicemail_key, true),
        ];
        for (line, key, offered) in keys {
            if offered && !key.is_empty() {
                say.extend(settings.say(language, line, &[("key", key)]));
            }
        }
        say
    }

    /// Nobody will take the call: a message can be left, where the settings let it.
    fn turned_away(&self, link: &Link) -> Script {
        if self.settings.voicemail_key.is_empty() {
            return Script::End { say: self.say(&link.language, &[(Line::Closed, &[]), (Line::Goodbye, &[])]) };
        }
        self.voicemail(link, &[(Line::Closed, &[])])
    }

    fn voicemail(&self, link: &Link, before: &[(Line, &[(&str, &str)])]) -> Script {
        let mut say = self.say(&link.language, before);
        say.extend(self.settings.say(&link.language, Line::Voicemail, &[]));
        let transcript =
            self.settings.transcribe.then(|| (self.url(&link.to(Step::Transcript)), link.language.clone()));
        Script::Record(Record {
            say,
            thanks: self.say(&link.language, &[(Line::Thanks, &[])]),
            seconds_max: self.settings.voicemail_seconds_max,
            silence_seconds: self.settings.voicemail_silence_seconds,
            done: self.url(&link.to(Step::Recorded)),
            recorded: self.url(&link.to(Step::Voicemail)),
            transcript,
        })
    }

    /// What the customer hears when the agent's leg has ended.
    pub(crate) fn after_dial(&self, link: &Link, taken: bool) -> Script {
        if taken {
            return Script::End { say: Vec::new() };
        }
        // A leg whose id is not known yet is known by the order that began it.
        let command = link.command.clone().filter(|_| link.leg.is_none());
        let link = Link { command, agent: None, round: 0, absent: 0, ..link.to(Step::Wait) };
        self.moment(&link, self.say(&link.language, &[(Line::NotReached, &[])]))
    }

    /// What an agent hears who answers. Whoever is not meant any more hears nothing.
    pub(crate) fn whispering(&self, link: &Link, wait: Option<&ThreadWait>) -> Script {
        let (settings, language) = (&self.settings, link.language.as_str());
        let order = wait.and_then(|wait| wait.order.as_ref());
        if wait.is_some() && order.is_none_or(|order| order.agent != link.agent) {
            return Script::End { say: Vec::new() };
        }
        let name = order.and_then(|order| order.customer_name.as_deref());
        let queue = order.and_then(|order| order.queue.as_ref());
        let mut say = Vec::new();
        match name {
            Some(name) => say.extend(settings.say(language, Line::Whisper, &[("customer", name)])),
            None => say.extend(settings.say(language, Line::WhisperUnknown, &[])),
        }
        if let Some(queue) = queue {
            say.extend(settings.say(language, Line::WhisperQueue, &[("queue", queue.as_str())]));
        }
        say.extend(settings.say(language, Line::PressTake, &[("key", &settings.take_key)]));
        Script::Whisper { say, seconds: settings.take_seconds, take: self.url(&link.to(Step::Take)) }
    }

    /// What an agent hears who does not take it.
    pub(crate) fn declined(&self, link: &Link) -> Script {
        Script::Hold { take: self.url(&link.to(Step::Take)) }
    }

    /// Puts a customer through to the agent of an order. `leg`: the customer's, where its id is known. `None`: nobody can
    /// be called there.
    pub(crate) fn dial(&self, link: &Link, order: &CallOrder, say: Vec<Say>) -> Option<Script> {
        let to = Callee::read(order.to.as_deref()?)?;
        let asks = !self.settings.take_key.is_empty() && (self.sip_whisper || matches!(to, Callee::Number(_)));
        // Agents hear the account's language.
        let agents = Link { language: self.settings.language.clone(), ..link.clone() };
        Some(Script::Dial(Dial {
            say,
            to,
            from: self.number.clone(),
            ring_seconds: self.settings.ring_seconds,
            whisper: asks.then(|| self.url(&agents.to(Step::Whisper))),
            status: self.url(&agents.to(if asks { Step::Agent } else { Step::Joined })),
            done: self.url(&link.to(Step::Dialed)),
            recorded: self.settings.record_calls.then(|| self.url(&link.to(Step::Talk))),
        }))
    }
}
