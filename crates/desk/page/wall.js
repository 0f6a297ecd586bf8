// The wall: asks for the state once a second and writes it into the page. Everything that comes from
// the server goes in as text, never as markup.
"use strict";

const POLL_MS = 1000;
const BACKOFF_MAX_MS = 15000;
const ANSWER_MS = 6000;
const PANEL_MS = 3000;
const ANNOUNCE_MS = 10000;

const STATES = ["waiting", "offered", "active", "wrapping", "parked"];
const STATE_WORDS = { wrapping: "wrapping up" };
const CHANNEL_WORDS = { chat: "chat", email: "email", voice: "phone", sms: "SMS", whatsapp: "WhatsApp" };

const byId = (id) => document.getElementById(id);

/** An element with a class, a text and children. */
function make(tag, className, text, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined && text !== null) element.textContent = text;
  element.append(...children.filter(Boolean));
  return element;
}

/** Writes only what differs, so that a selection and a reader's place stay. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setClass(element, className) {
  if (element.className !== className) element.className = className;
}

/** A part of a row that is made once and kept. */
function part(parent, name, create) {
  parent.parts ??= {};
  return (parent.parts[name] ??= parent.appendChild(create()));
}

// --- Time -----------------------------------------------------------------------------------------

/** How far the server's clock is ahead of this one. Its Date header counts whole seconds. */
let skew = 0;

function learnClock(response) {
  const said = Date.parse(response.headers.get("date") ?? "");
  if (Number.isNaN(said)) return;
  const ahead = said + 500 - Date.now();
  skew = Math.abs(ahead) < 1500 ? 0 : ahead;
}

const serverNow = () => Date.now() + skew;

function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  if (minutes) return `${minutes} min ${String(seconds % 60).padStart(2, "0")} s`;
  return `${seconds} s`;
}

function clock(ms) {
  const date = new Date(ms);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const today = new Date(serverNow()).toDateString() === date.toDateString();
  return today ? time : `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
}

/** Shows `before`, the time since `at`, and `after`, and keeps counting. */
function since(element, before, at, after = "") {
  element.ticking = { before, at, after };
  element.dataset.ticks = "";
  tick(element);
}

function still(element, text) {
  delete element.dataset.ticks;
  setText(element, text);
}

function tick(element) {
  const { before, at, after } = element.ticking;
  setText(element, before + span(serverNow() - at) + after);
}

setInterval(() => {
  if (document.hidden) return;
  document.querySelectorAll("[data-ticks]").forEach(tick);
  showFreshness();
}, 1000);

// --- Lists ----------------------------------------------------------------------------------------

/** Makes the children of `parent` match `items` by key: keeps, moves, adds and removes. */
function list(parent, items, keyOf, create, update) {
  const focused = document.activeElement;
  const known = (parent.known ??= new Map());
  const keys = new Set(items.map(keyOf));
  for (const [key, child] of known) {
    if (!keys.has(key)) {
      child.remove();
      known.delete(key);
    }
  }
  items.forEach((item, index) => {
    const key = keyOf(item);
    let child = known.get(key);
    if (!child) known.set(key, (child = create(item)));
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
    update(child, item);
  });
  // Moving a row takes the focus from what is in it.
  if (focused !== document.activeElement && focused?.isConnected && !byId("panel").open) {
    focused.focus({ preventScroll: true });
  }
}

function row(...labels) {
  const tr = make("tr");
  tr.setAttribute("role", "row");
  tr.cells_ = labels.map((label) => {
    const td = tr.appendChild(make("td"));
    td.setAttribute("role", "cell");
    td.dataset.label = label;
    return td;
  });
  return tr;
}

// --- The overview ---------------------------------------------------------------------------------

let names = new Map();
const nameOf = (agent) => names.get(agent) ?? agent;
const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
const count = (n) => n.toLocaleString("en");

function show(state) {
  names = new Map(state.agents.map((agent) => [agent.agent, agent.name]));
  setText(byId("tenant"), state.tenant);
  showShard(state);
  showTotals(state);
  showQueues(state.queues);
  showAgents(state.agents);
  showConversations(state);
  announce(state);
  const waiting = state.states.waiting ?? 0;
  document.title = `${waiting ? `${waiting} waiting` : "nobody waits"} · ${state.tenant} · Throughline`;
  byId("wall").hidden = false;
}

function showShard({ shard, policy_version }) {
  const behind = (n, what) => (n ? `${what} ${plural(n, "record")} behind` : "");
  const lag = [behind(shard.outputs_behind, "outputs"), behind(shard.views_behind, "views")].filter(Boolean);
  const pairs = [
    ["shard", String(shard.shard)],
    ["owner", shard.owner],
    ["epoch", String(shard.epoch)],
    ["policy", policy_version ? `version ${policy_version}` : "none"],
    ["lag", lag.join(", ") || "none"],
  ];
  list(byId("shard"), pairs, ([term]) => term,
    ([term]) => make("div", "", null, make("dt", "", term), make("dd")),
    (div, [, value]) => setText(div.lastElementChild, value));
}

const isReady = (agent) => agent.presence === "available" && agent.connected && agent.load < agent.capacity;

function showTotals(state) {
  const others = Object.keys(state.states).filter((name) => !STATES.includes(name));
  const totals = [...STATES, ...others].map((name) => [count(state.states[name] ?? 0), STATE_WORDS[name] ?? name]);
  const signedIn = state.agents.filter((agent) => agent.presence !== "offline").length;
  totals.push([`${state.agents.filter(isReady).length} of ${signedIn}`, "signed-in agents have room"]);
  list(byId("totals"), totals, ([, word]) => word,
    ([, word]) => make("li", "", null, make("b"), make("span", "", word)),
    (li, [value]) => setText(li.firstElementChild, value));
}

function showQueues(queues) {
  const entries = Object.entries(queues);
  byId("no-queues").hidden = entries.length > 0;
  list(byId("queues"), entries, ([name]) => name, ([name]) => make("li", "", null, make("h3", "", name)), (li, [, queue]) => {
    const stuck = queue.waiting > 0 && queue.ready === 0;
    setClass(li, stuck ? "stuck" : queue.waiting ? "waits" : "");
    const line = part(li, "count", () => make("p", "count", null, make("b"), " waiting"));
    setText(line.firstElementChild, count(queue.waiting));
    const oldest = part(li, "oldest", () => make("p"));
    if (queue.waiting && queue.oldest_ready_at) since(oldest, "longest ", queue.oldest_ready_at);
    else still(oldest, "nobody waits");
    const members = part(li, "members", () => make("p", "members"));
    setText(members, queue.members ? `${queue.ready} of ${plural(queue.members, "agent")} with room` : "no agent works it");
  });
}

function showAgents(agents) {
  byId("no-agents").hidden = agents.length > 0;
  const order = ["available", "busy", "away", "disconnected", "offline"];
  const word = (agent) => (agent.connected || agent.presence === "offline" ? agent.presence : "disconnected");
  const sorted = [...agents].sort((a, b) => order.indexOf(word(a)) - order.indexOf(word(b)) || a.name.localeCompare(b.name));
  list(byId("agent-rows"), sorted, (agent) => agent.agent, () => row("Name", "Presence", "Load", "Holds"), (tr, agent) => {
    const [name, presence, load, holds] = tr.cells_;
    const same = agent.name.toLowerCase() === agent.agent.toLowerCase();
    setText(name, same ? agent.name : `${agent.name} (${agent.agent})`);
    const mark = part(presence, "mark", () => make("span"));
    setText(mark, word(agent));
    setClass(mark, `presence presence-${order.includes(word(agent)) ? word(agent) : "busy"}`);

    const box = part(load, "box", () => make("div", "load", null, make("span"), make("div", "bar", null, make("i"))));
    const over = agent.load > agent.capacity;
    setText(box.firstElementChild, `${agent.load} / ${agent.capacity}${over ? " (forced)" : ""}`);
    const bar = box.lastElementChild;
    setClass(bar, over ? "bar over" : agent.capacity && agent.load >= agent.capacity ? "bar full" : "bar");
    const width = `${Math.round(Math.min(100, agent.capacity ? (100 * agent.load) / agent.capacity : 0))}%`;
    if (bar.firstElementChild.style.width !== width) bar.firstElementChild.style.width = width;

    const links = part(holds, "links", () => make("div"));
    const shown = agent.conversations.slice(0, 6);
    list(part(links, "list", () => make("span")), shown, (id) => id, opener, () => {});
    const more = agent.conversations.length - shown.length;
    setText(part(links, "rest", () => make("span")), shown.length ? (more ? `and ${more} more` : "") : "none");
  });
}

function opener(id) {
  const button = make("button", "link", id);
  button.type = "button";
  button.setAttribute("aria-label", `Explain conversation ${id}`);
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    openPanel(id);
  });
  return button;
}

function stateWord(state) {
  return STATE_WORDS[state] ?? state;
}

function paintState(mark, state) {
  setText(mark, stateWord(state));
  setClass(mark, `state state-${[...STATES, "closed"].includes(state) ? state : "parked"}`);
}

const channelWords = (kinds) => kinds.map((kind) => CHANNEL_WORDS[kind] ?? kind);
const customerName = (view) => (view.customer_name ? `${view.customer_name} (${view.customer})` : view.customer);

/** Nobody has taken it yet: what counts is how long it waits. Else: how old it is. */
const waits = (view) => view.state === "waiting" || view.state === "offered";

function showConversations(state) {
  const views = state.conversations;
  byId("no-conversations").hidden = views.length > 0;
  setText(byId("shown"), views.length < state.open ? `${count(views.length)} of ${count(state.open)}` : count(state.open));
  const create = (view) => {
    const tr = row("Id", "Customer", "State", "Queue", "Agent", "Waits / age", "Channel");
    tr.cells_[0].className = "id";
    tr.cells_[0].append(opener(view.conversation));
    tr.addEventListener("click", () => {
      if (!String(getSelection())) openPanel(view.conversation);
    });
    return tr;
  };
  list(byId("conversation-rows"), views, (view) => view.conversation, create, (tr, view) => {
    const [, customer, stateCell, queue, agent, age, channel] = tr.cells_;
    setText(customer, customerName(view));
    paintState(part(stateCell, "mark", () => make("span")), view.state);
    setText(queue, view.queue ?? "\u2013");
    setText(agent, view.agent ? nameOf(view.agent) : "\u2013");
    setClass(age, waits(view) ? "time waits" : "time");
    since(part(age, "text", () => make("span")), "", waits(view) ? view.ready_at : view.opened_at);
    setText(channel, channelWords(view.channels).join(" \u2192 ") || "\u2013");
  });
}

/** Says what changed in a sentence, seldom enough to be listened to. */
let announced = null;

function announce(state) {
  const now = {
    at: Date.now(),
    waiting: state.states.waiting ?? 0,
    open: state.open,
    ready: state.agents.filter(isReady).length,
  };
  if (!announced) {
    announced = now;
    return;
  }
  if (now.at - announced.at < ANNOUNCE_MS) return;
  const said = [
    [now.waiting, announced.waiting, `${now.waiting} waiting`],
    [now.open, announced.open, `${now.open} open`],
    [now.ready, announced.ready, `${plural(now.ready, "agent")} with room`],
  ].filter(([is, was]) => is !== was);
  if (!said.length) return;
  setText(byId("changes"), `${said.map(([is, was, text]) => `${text}, ${Math.abs(is - was)} ${is > was ? "more" : "fewer"}`).join("; ")}.`);
  announced = now;
}

// --- Asking ---------------------------------------------------------------------------------------

let timer = 0;
let running = null;
let failures = 0;
let arrivedAt = 0;

class Refused extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

async function ask(path, signal) {
  const limit = AbortSignal.timeout(ANSWER_MS);
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.any([signal, limit]), cache: "no-store" });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Refused("daemon", "the daemon does not answer");
  }
  learnClock(response);
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  throw new Refused(body?.reason ?? "daemon", body?.message ?? `the daemon answered ${response.status}`);
}

async function poll() {
  clearTimeout(timer);
  if (running || document.hidden) return;
  const own = (running = new AbortController());
  try {
    const state = await ask("wall/state", own.signal);
    failures = 0;
    arrivedAt = Date.now();
    show(state);
    showTrouble(null);
    showFreshness();
    if (byId("panel").open) refreshPanelIfDue(state);
    else openFromAddress();
  } catch (error) {
    if (own.signal.aborted) return;
    failures += 1;
    showTrouble(error);
  } finally {
    if (running === own) running = null;
  }
  const pause = failures ? Math.min(BACKOFF_MAX_MS, POLL_MS * 2 ** failures) : POLL_MS;
  timer = setTimeout(poll, pause);
}

function showTrouble(error) {
  const banner = byId("banner");
  byId("wall").classList.toggle("stale", Boolean(error));
  banner.hidden = !error;
  if (!error) return;
  const what = { unreachable: "router not reachable, retrying", daemon: "daemon not reachable, retrying" }[error.reason];
  setText(banner, `${what ?? "no state to show, retrying"}: ${error.message}`);
  // The panel covers the banner.
  if (byId("panel").open) note(banner.textContent);
  showFreshness();
}

function showFreshness() {
  const fresh = byId("fresh");
  const age = Date.now() - arrivedAt;
  const live = !failures && arrivedAt > 0 && age < 5000;
  fresh.classList.toggle("live", live);
  setText(fresh, live ? "live" : arrivedAt ? `as of ${span(age)} ago` : failures ? "no data yet" : "connecting");
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    running?.abort();
    running = null;
  } else {
    failures = 0;
    poll();
  }
});

// --- The panel ------------------------------------------------------------------------------------

let panel = null; // { id, asking, at, seen, cause, content }

function openPanel(id) {
  const dialog = byId("panel");
  closeAsking();
  panel = { id, asking: null, at: 0, seen: "", content: "", cause: panel?.cause ?? document.activeElement };
  setText(byId("panel-title"), `Conversation ${id}`);
  byId("panel-body").replaceChildren();
  note("asking the router");
  if (!dialog.open) dialog.showModal();
  byId("panel-title").focus();
  history.replaceState(null, "", `#${id}`);
  refreshPanel();
}

function openFromAddress() {
  const id = location.hash.slice(1);
  if (/^c[0-9]+$/.test(id)) openPanel(id);
}

function closeAsking() {
  panel?.asking?.abort();
}

/** Asks again when the conversation moved, and now and then. */
function refreshPanelIfDue(state) {
  const view = state.conversations.find((one) => one.conversation === panel.id);
  const seen = view ? `${view.state} ${view.agent} ${view.queue}` : "";
  if (seen !== panel.seen || Date.now() - panel.at > PANEL_MS) {
    panel.seen = seen;
    refreshPanel();
  }
}

async function refreshPanel() {
  if (panel.asking) return;
  const own = panel;
  own.asking = new AbortController();
  own.at = Date.now();
  try {
    const detail = await ask(`wall/conversation/${own.id}`, own.asking.signal);
    if (panel !== own) return;
    const content = JSON.stringify({ ...detail, explanation: detail.explanation && { ...detail.explanation, waiting_ms: 0 } });
    if (content !== own.content) {
      own.content = content;
      showPanel(detail);
    }
    note(null);
  } catch (error) {
    if (panel !== own || own.asking.signal.aborted) return;
    note(error.message);
  } finally {
    own.asking = null;
  }
}

function note(text) {
  byId("panel-note").hidden = !text;
  setText(byId("panel-note"), text ?? "");
}

function pairs(...entries) {
  const dl = make("dl", "pairs");
  for (const [term, value] of entries) {
    if (value === null || value === undefined || value === "") continue;
    dl.append(make("dt", "", term), typeof value === "string" ? make("dd", "", value) : make("dd", "", null, value));
  }
  return dl;
}

function counting(at) {
  const element = make("span");
  since(element, "", at);
  return element;
}

function paintedState(state) {
  const mark = make("span");
  paintState(mark, state);
  return mark;
}

function skillWords(skills) {
  return Object.entries(skills).map(([skill, level]) => `${skill} at level ${level}`).join(", ") || "none";
}

function choiceList(choice, eligibleWords) {
  const ul = make("ul", "choice");
  for (const one of choice.eligible) ul.append(make("li", "can", `${nameOf(one.agent)} ${eligibleWords} (${one.load} of ${one.capacity} in use)`));
  for (const one of choice.left_out) ul.append(make("li", "cannot", `${nameOf(one.agent)} ${one.because}`));
  if (choice.unlisted) ul.append(make("li", "", `${plural(choice.unlisted, "more member")} not looked at one by one`));
  return ul;
}

function offerItem(offer) {
  const outcomes = { accepted: "accepted after", declined: "declined after", expired: "not answered within", rescinded: "taken back after" };
  const outcome = offer.outcome ? outcomes[offer.outcome] ?? offer.outcome : "stands";
  const ended = offer.ended_at ? ` ${span(offer.ended_at - offer.at)}` : `, lapses at ${clock(offer.expires_at)}`;
  const reason = offer.reason ? `: ${offer.reason}` : "";
  return make("li", "", null,
    make("p", "", null, make("b", "", nameOf(offer.agent)), ` at ${clock(offer.at)} (${offer.offer})`),
    make("p", `outcome outcome-${offer.outcome ?? "standing"}`, outcome + ended + reason),
    offer.choice.why && make("p", "why", `Why ${nameOf(offer.agent)}: ${offer.choice.why}.`),
    choiceList(offer.choice, "could take it"));
}

function showPanel({ conversation, explanation, offers, facts }) {
  const body = [];
  if (explanation) body.push(make("p", "summary", `It ${explanation.summary}.`));
  else if (conversation) body.push(make("p", "summary", `It is ${stateWord(conversation.state)}.`));
  const place = explanation?.position;
  if (conversation) {
    body.push(pairs(
      ["Customer", customerName(conversation)],
      ["State", paintedState(conversation.state)],
      ["Queue", conversation.queue],
      ["Agent", conversation.agent && nameOf(conversation.agent)],
      ["Waiting for", waits(conversation) ? counting(conversation.ready_at) : null],
      ["Open for", conversation.closed_at ? null : counting(conversation.opened_at)],
      ["Until", conversation.until ? clock(conversation.until) : null],
      ["Closed", conversation.closed_at ? clock(conversation.closed_at) : null],
      ["Position", place === null || place === undefined ? null : place ? `${count(place)} before it` : "first in its queue"],
      ["Round", explanation && explanation.round ? String(explanation.round) : null],
      ["Asked in it", explanation && explanation.asked.map(nameOf).join(", ")],
      ["Priority", conversation.priority ? String(conversation.priority) : null],
      ["Skills needed", skillWords(conversation.skills)],
      ["Channels", channelWords(conversation.channels).join(", then ")],
      ["Outcome", conversation.disposition],
    ));
  }
  if (explanation) {
    const now = explanation.now;
    body.push(make("h3", "", conversation?.state === "waiting" ? "Who could take it now" : "Who could take it if it had to move now"));
    if (now.eligible.length + now.left_out.length + now.unlisted) body.push(choiceList(now, "could take it"));
    else body.push(make("p", "note", "Its queue has no members."));
  }
  body.push(make("h3", "", "Offers, newest first"));
  if (offers.length) body.push(make("ol", "offers", null, ...[...offers].reverse().map(offerItem)));
  else body.push(make("p", "note", "It was not offered to anybody."));
  body.push(make("h3", "", "What happened"));
  if (facts.length) {
    body.push(make("ol", "facts", null, ...facts.map((fact) => {
      const time = make("time", "", clock(fact.at));
      time.dateTime = new Date(fact.at).toISOString();
      return make("li", "", null, time, make("span", "", fact.text));
    })));
  } else body.push(make("p", "note", "Its facts are no longer kept."));
  byId("panel-body").replaceChildren(...body);
}

byId("panel-close").addEventListener("click", () => byId("panel").close());
byId("panel").addEventListener("click", (event) => {
  // The backdrop belongs to the dialog itself; everything within is a child.
  const box = byId("panel").getBoundingClientRect();
  if (event.target === byId("panel") && event.clientX < box.left) byId("panel").close();
});
byId("panel").addEventListener("close", () => {
  const cause = panel?.cause;
  const id = panel?.id;
  closeAsking();
  panel = null;
  history.replaceState(null, "", location.pathname + location.search);
  const again = byId("conversation-rows").known?.get(id)?.querySelector("button");
  const target = cause?.isConnected && cause !== document.body ? cause : again ?? byId("conversations");
  target.focus({ preventScroll: true });
});
addEventListener("hashchange", () => {
  if (!byId("panel").open) openFromAddress();
});

poll();
