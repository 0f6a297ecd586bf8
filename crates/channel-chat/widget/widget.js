/*
 * Throughline live chat. One script tag, no dependencies, nothing outside its shadow root:
 *
 *   <script async src="https://chat.example.com/chat/web/widget.js" data-title="Questions?"></script>
 *
 * Attributes: data-server (address up to and without /chat), data-account, data-title, data-color,
 * data-language (en, de), data-login (a login token), data-name, data-email, data-tags (comma
 * separated), data-open (opens at once).
 *
 * window.Throughline: open(), close(), login(token), logout().
 * Events on window: throughline:open, throughline:close, throughline:login (a login is needed or
 * was refused; detail.code says which).
 *
 * Text of others is only ever set as textContent.
 */
(function () {
  'use strict';
  var script = document.currentScript;
  if (!script || window.Throughline) return;

  // --- settings ---------------------------------------------------------------------------------

  var data = script.dataset;
  var source = new URL(script.src, location.href);
  var place = source.pathname.match(/^(.*)\/chat\/([^/]+)\/[^/]*$/);
  var account = data.account ? encodeURIComponent(data.account) : place ? place[2] : 'web';
  var server = (data.server || source.origin + (place ? place[1] : '')).replace(/\/+$/, '');
  var socketAddress = server.replace(/^http/, 'ws') + '/chat/' + account + '/socket';
  var storeKey = 'throughline:' + server + ':' + account;

  var TEXTS = {
    en: {
      title: 'Chat with us', open: 'Open the chat', close: 'Close the chat', log: 'Conversation',
      label: 'Your message', placeholder: 'Write a message…', send: 'Send', sending: 'Sending…', sent: 'Sent',
      failed: 'Not sent.', retry: 'Try again', you: 'You', agent: 'Support', today: 'Today', yesterday: 'Yesterday',
      typing: '{name} is typing…', hello: 'Write to us. We answer here.', offline: 'Connection lost. Trying again…',
      busy: 'We are busy right now. Your message is sent again soon.', joined: '{name} is with you',
      waiting: 'Somebody will be with you soon', closed: 'This conversation has ended', gap: 'Older messages are not shown',
      long: 'That message is too long.', login: 'Please log in to write.', unread: '{n} unread messages', one: '1 unread message',
      left: 'You are waiting for the next person',
      elsewhere: 'Go on by another channel', by: 'Go on by', goOn: 'Go on', cancel: 'Cancel', wishing: 'One moment…',
      email: 'Email', sms: 'SMS', whatsapp: 'WhatsApp', address: 'Your address', addressEmail: 'Your email address', addressTel: 'Your phone number',
      hintWrite: 'We write to you there. Answer that message, and we go on there.', hintShow: 'We show you here where to write to.',
      badAddress: 'Please check the address.', often: 'You have asked for that often. Please try again later.', notGone: 'That did not work. Please try again.',
      wished: 'What happens next stands in the conversation.'
    },
    de: {
      title: 'Schreiben Sie uns', open: 'Chat öffnen', close: 'Chat schließen', log: 'Unterhaltung',
      label: 'Ihre Nachricht', placeholder: 'Nachricht schreiben…', send: 'Senden', sending: 'Wird gesendet…', sent: 'Gesendet',
      failed: 'Nicht gesendet.', retry: 'Noch einmal', you: 'Sie', agent: 'Kundendienst', today: 'Heute', yesterday: 'Gestern',
      typing: '{name} schreibt…', hello: 'Schreiben Sie uns. Wir antworten hier.', offline: 'Verbindung unterbrochen. Neuer Versuch…',
      busy: 'Gerade ist viel los. Ihre Nachricht wird gleich noch einmal gesendet.', joined: '{name} ist für Sie da',
      waiting: 'Gleich ist jemand für Sie da', closed: 'Diese Unterhaltung ist beendet', gap: 'Ältere Nachrichten werden nicht gezeigt',
      long: 'Diese Nachricht ist zu lang.', login: 'Bitte melden Sie sich an, um zu schreiben.', unread: '{n} ungelesene Nachrichten', one: '1 ungelesene Nachricht',
      left: 'Sie warten auf die nächste Person',
      elsewhere: 'Auf einem anderen Weg weitermachen', by: 'Weitermachen per', goOn: 'Weiter', cancel: 'Abbrechen', wishing: 'Einen Moment…',
      email: 'E-Mail', sms: 'SMS', whatsapp: 'WhatsApp', address: 'Ihre Adresse', addressEmail: 'Ihre E-Mail-Adresse', addressTel: 'Ihre Telefonnummer',
      hintWrite: 'Wir schreiben Ihnen dorthin. Antworten Sie darauf, und wir machen dort weiter.', hintShow: 'Wir zeigen Ihnen hier, wohin Sie schreiben können.',
      badAddress: 'Bitte prüfen Sie die Adresse.', often: 'Das haben Sie schon oft gewünscht. Bitte später noch einmal.', notGone: 'Das hat nicht geklappt. Bitte noch einmal.',
      wished: 'Wie es weitergeht, steht in der Unterhaltung.'
    }
  };
  var wanted = (data.language || document.documentElement.lang || navigator.language || 'en').toLowerCase();
  var language = TEXTS[wanted.split('-')[0]] ? wanted.split('-')[0] : 'en';
  var texts = TEXTS[language];
  function say(key, values) {
    return texts[key].replace(/\{(\w+)\}/g, function (_, name) { return values && values[name] != null ? values[name] : ''; });
  }

  // --- what survives a reload ---------------------------------------------------------------------

  var memory = {};
  function load() {
    try { return JSON.parse(localStorage.getItem(storeKey)) || memory; } catch (_) { return memory; }
  }
  // Read, change, write: other tabs of the page write to the same place.
  function keep(change) {
    memory = load();
    change(memory);
    try { localStorage.setItem(storeKey, JSON.stringify(memory)); } catch (_) { /* private mode: this page only */ }
  }
  function outbox() { return load().outbox || []; }
  function forget(id) {
    keep(function (kept) { kept.outbox = (kept.outbox || []).filter(function (item) { return item.id !== id; }); });
  }
  function newId() {
    var bytes = crypto.getRandomValues(new Uint8Array(12));
    return Array.prototype.map.call(bytes, function (b) { return ('0' + b.toString(16)).slice(-2); }).join('');
  }

  // --- the page -----------------------------------------------------------------------------------

  function el(tag, attributes, children) {
    var node = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (name) { node.setAttribute(name, attributes[name]); });
    (children || []).forEach(function (child) { node.append(child); });
    return node;
  }
  function icon(path) {
    var ns = 'http://www.w3.org/2000/svg';
    var svg = document.createElementNS(ns, 'svg');
    svg.setAttribute('viewBox', '0 0 24 24');
    svg.setAttribute('aria-hidden', 'true');
    var shape = document.createElementNS(ns, 'path');
    shape.setAttribute('d', path);
    svg.append(shape);
    return svg;
  }

  // Black or white, whichever can be read on the page's own colour.
  function colours(text) {
    var match = /^#([0-9a-f]{6})$/i.exec(text || '');
    var hex = match ? match[1] : '1d4ed8';
    var light = [0, 2, 4].map(function (at) {
      var part = parseInt(hex.slice(at, at + 2), 16) / 255;
      return part <= 0.03928 ? part / 12.92 : Math.pow((part + 0.055) / 1.055, 2.4);
    });
    var luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
    return { main: '#' + hex, on: luminance > 0.179 ? '#000' : '#fff' };
  }
  var colour = colours(data.color);

  var CSS =
    ':host{all:initial;--main:' + colour.main + ';--on:' + colour.on + ';--back:#fff;--soft:#f1f3f7;--text:#1a2233;--faint:#566072;--line:#d5dae3;--bad:#b42318;' +
    'font:400 16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:var(--text)}' +
    '@media (prefers-color-scheme:dark){:host{--back:#161b26;--soft:#242c3b;--text:#eef1f6;--faint:#a9b4c6;--line:#39435a;--bad:#ff9b90}}' +
    '*{box-sizing:border-box}[hidden]{display:none!important}' +
    'button,textarea,input{font:inherit;color:inherit}button{cursor:pointer}' +
    ':focus-visible{outline:3px solid var(--main);outline-offset:2px;box-shadow:0 0 0 2px var(--back)}' +
    'svg{width:24px;height:24px;fill:currentColor;display:block}' +
    '.launch{position:fixed;right:20px;bottom:20px;z-index:2147483000;width:60px;height:60px;border:0;border-radius:50%;background:var(--main);color:var(--on);' +
    'display:grid;place-items:center;box-shadow:0 6px 20px rgba(10,20,40,.28)}' +
    '.launch svg{width:28px;height:28px}' +
    '.badge{position:absolute;top:-4px;right:-4px;min-width:24px;height:24px;padding:0 7px;border-radius:12px;background:#b42318;color:#fff;font-size:14px;font-weight:600;line-height:24px}' +
    '.panel{position:fixed;right:20px;bottom:92px;z-index:2147483000;width:380px;height:min(620px,calc(100vh - 112px));display:flex;flex-direction:column;overflow:hidden;' +
    'background:var(--back);border:1px solid var(--line);border-radius:16px;box-shadow:0 16px 48px rgba(10,20,40,.26)}' +
    '.head{display:flex;align-items:center;gap:12px;padding:14px 10px 14px 18px;background:var(--main);color:var(--on)}' +
    '.head div{flex:1;min-width:0}.head h2{margin:0;font-size:17px;font-weight:650;line-height:1.3}.head p{margin:1px 0 0;font-size:14px}' +
    '.head button{width:44px;height:44px;border:0;border-radius:10px;background:transparent;color:inherit;display:grid;place-items:center}' +
    '.head button:hover{background:rgba(127,127,127,.25)}.head :focus-visible{outline-color:var(--on);box-shadow:none;outline-offset:-3px}' +
    '.notice{margin:0;padding:8px 18px;font-size:14px;background:var(--soft);border-bottom:1px solid var(--line)}' +
    '.log{flex:1;overflow-y:auto;overscroll-behavior:contain;padding:16px 14px 8px}' +
    'ol{list-style:none;margin:0;padding:0}' +
    '.day,.gap,.hello{text-align:center;font-size:13px;color:var(--faint);margin:10px 0}.hello{font-size:15px;margin:28px 20px}' +
    '.msg{max-width:84%;margin:0 0 10px;width:fit-content}.msg.customer{margin-left:auto}' +
    '.who{font-size:13px;color:var(--faint);margin:0 0 2px 4px}' +
    '.text{padding:9px 13px;border-radius:14px;background:var(--soft);white-space:pre-wrap;overflow-wrap:anywhere}' +
    '.agent .text{border-bottom-left-radius:4px}.customer .text{background:var(--main);color:var(--on);border-bottom-right-radius:4px}' +
    '.text a{color:inherit;text-decoration:underline}' +
    '.meta{font-size:12px;color:var(--faint);margin:2px 4px 0}.customer .meta{text-align:right}' +
    '.failed .meta{color:var(--bad)}.meta button{border:0;background:none;padding:6px;color:inherit;text-decoration:underline}' +
    '.typing{min-height:22px;padding:0 18px 2px;margin:0;font-size:13px;color:var(--faint)}' +
    '.dots i{display:inline-block;width:5px;height:5px;margin-left:3px;border-radius:50%;background:currentColor;animation:dot 1.2s infinite}' +
    '.dots i:nth-child(2){animation-delay:.2s}.dots i:nth-child(3){animation-delay:.4s}' +
    '@keyframes dot{0%,60%,100%{opacity:.25}30%{opacity:1}}@keyframes rise{from{opacity:0;transform:translateY(10px)}}' +
    '.panel{animation:rise .16s ease-out}' +
    '.go{display:block;max-height:70%;overflow-y:auto;padding:14px 16px;background:var(--soft);border-top:1px solid var(--line)}' +
    '.go fieldset{border:0;margin:0;padding:0;min-width:0}.go legend{padding:0;font-weight:650}' +
    '.go .ways{display:flex;flex-wrap:wrap;gap:4px 16px;margin:4px 0 0}.go .ways label{display:flex;align-items:center;gap:8px;min-height:44px}' +
    '.go input[type=radio]{width:20px;height:20px;margin:0;accent-color:var(--main)}' +
    '.go .to{display:block;margin:8px 0 4px;font-size:14px}.go .address{width:100%;height:44px;padding:0 12px;border:1px solid var(--faint);border-radius:12px;background:var(--back)}' +
    '.go p{margin:8px 0 0;font-size:14px;color:var(--faint)}.go .trouble{color:var(--bad)}' +
    '.go .act{display:flex;gap:8px;margin-top:12px}.go .act button{min-height:44px;padding:0 18px;border:1px solid var(--faint);border-radius:12px;background:var(--back)}' +
    '.go .act button[type=submit]{border-color:var(--main);background:var(--main);color:var(--on);font-weight:600}.go .act button:disabled{opacity:.6;cursor:default}' +
    '.write{display:flex;gap:8px;align-items:flex-end;padding:10px 12px calc(12px + env(safe-area-inset-bottom,0px));border-top:1px solid var(--line)}' +
    'textarea{flex:1;min-width:0;height:44px;max-height:132px;resize:none;padding:9px 12px;border:1px solid var(--faint);border-radius:12px;background:var(--back)}' +
    'textarea::placeholder{color:var(--faint);opacity:1}' +
    '.send{width:44px;height:44px;flex:none;border:0;border-radius:12px;background:var(--main);color:var(--on);display:grid;place-items:center}' +
    '.out{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}' +
    '@media (max-width:480px){.panel{inset:0;width:auto;height:100dvh;border:0;border-radius:0}.panel:not([hidden])~.launch{display:none}.head{padding-top:calc(14px + env(safe-area-inset-top,0px))}}' +
    '@media (prefers-reduced-motion:reduce){*{animation:none!important;scroll-behavior:auto!important}}' +
    '@media (forced-colors:active){.launch,.send,.text,.panel{border:1px solid}}';

  var host = el('div', { id: 'throughline-chat' });
  var root = host.attachShadow({ mode: 'open' });
  try {
    var sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
  } catch (_) {
    var style = el('style', script.nonce ? { nonce: script.nonce } : {});
    style.textContent = CSS;
    root.append(style);
  }

  var title = data.title || say('title');
  var heading = el('h2', { id: 'title' }, [title]);
  var subtitle = el('p', {});
  var hide = el('button', { type: 'button', 'aria-label': say('close') }, [icon('M6.4 5 5 6.4 10.6 12 5 17.6 6.4 19l5.6-5.6 5.6 5.6 1.4-1.4-5.6-5.6L19 6.4 17.6 5 12 10.6z')]);
  var notice = el('p', { 'class': 'notice', role: 'status', hidden: '' });
  var hello = el('p', { 'class': 'hello' }, [say('hello')]);
  var list = el('ol', {});
  var waiting = el('ol', {});
  var log = el('div', { 'class': 'log', role: 'log', 'aria-live': 'polite', 'aria-label': say('log'), tabindex: '0' }, [hello, list, waiting]);
  var typing = el('p', { 'class': 'typing', 'aria-live': 'off' });
  var field = el('textarea', { id: 'field', rows: '1', placeholder: say('placeholder'), autocomplete: 'off', enterkeyhint: 'send' });
  var send = el('button', { type: 'submit', 'class': 'send', 'aria-label': say('send') }, [icon('M3 20.5v-6.6l8.2-1.9L3 10.1V3.5L22 12z')]);
  var form = el('form', { 'class': 'write' }, [el('label', { 'class': 'out', 'for': 'field' }, [say('label')]), field, send]);
  var elsewhere = el('button', { type: 'button', 'aria-label': say('elsewhere'), 'aria-expanded': 'false', 'aria-controls': 'go', title: say('elsewhere'), hidden: '' },
    [icon('M6.99 11 3 15l3.99 4v-3H14v-2H6.99zM21 9l-3.99-4v3H10v2h7.01v3z')]);
  var waysBox = el('div', { 'class': 'ways' });
  var toLabel = el('label', { 'class': 'to', 'for': 'address' });
  var toField = el('input', { id: 'address', 'class': 'address', maxlength: '254', required: '', 'aria-describedby': 'hint trouble', autocapitalize: 'none', spellcheck: 'false' });
  var goHint = el('p', { id: 'hint' });
  var goTrouble = el('p', { id: 'trouble', 'class': 'trouble', role: 'alert' });
  var goSend = el('button', { type: 'submit' }, [say('goOn')]);
  var goCancel = el('button', { type: 'button' }, [say('cancel')]);
  var go = el('form', { id: 'go', 'class': 'go', novalidate: '', hidden: '' },
    [el('fieldset', {}, [el('legend', {}, [say('by')]), waysBox]), toLabel, toField, goHint, goTrouble, el('div', { 'class': 'act' }, [goSend, goCancel])]);
  var panel = el('section', { 'class': 'panel', role: 'dialog', 'aria-labelledby': 'title', hidden: '', lang: language },
    [el('header', { 'class': 'head' }, [el('div', {}, [heading, subtitle]), elsewhere, hide]), notice, log, typing, go, form]);
  var badge = el('span', { 'class': 'badge', 'aria-hidden': 'true', hidden: '' });
  var launch = el('button', { type: 'button', 'class': 'launch', 'aria-expanded': 'false', 'aria-label': say('open'), lang: language },
    [icon('M12 3c5.5 0 10 3.6 10 8.2s-4.5 8.2-10 8.2c-1 0-2-.1-2.9-.3L4.5 21.5c-.5.2-1-.2-.9-.8l.7-3.5C2.9 15.7 2 13.5 2 11.2 2 6.6 6.5 3 12 3z'), badge]);
  root.append(panel, launch);

  // --- the transcript -------------------------------------------------------------------------------

  var last = 0;          // the last seq that is shown
  var bubbles = {};      // own messages by client_msg_id, shown before they have a seq
  var lastDay = '';
  var visitor = null;
  var limit = 4000;

  function clock(at) {
    return new Date(at).toLocaleTimeString(language, { hour: '2-digit', minute: '2-digit' });
  }
  function dayOf(at) {
    var day = new Date(at), now = new Date(), before = new Date(now.getTime() - 864e5);
    if (day.toDateString() === now.toDateString()) return say('today');
    if (day.toDateString() === before.toDateString()) return say('yesterday');
    return day.toLocaleDateString(language, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
  }

  // Addresses become links, everything stays text.
  function fill(node, text) {
    var pattern = /https?:\/\/[^\s<>"'`]+/g, from = 0, match;
    while ((match = pattern.exec(text))) {
      var address = match[0].replace(/[.,;:!?)\]}]+$/, ''), url = null;
      try { url = new URL(address); } catch (_) { continue; }
      if (url.protocol !== 'https:' && url.protocol !== 'http:') continue;
      node.append(text.slice(from, match.index));
      node.append(el('a', { href: url.href, target: '_blank', rel: 'noopener noreferrer nofollow ugc' }, [address]));
      from = match.index + address.length;
    }
    node.append(text.slice(from));
  }

  function bubble(from, name, text) {
    var words = el('div', { 'class': 'text' });
    fill(words, text);
    var who = el('div', { 'class': from === 'agent' ? 'who' : 'out' }, [from === 'agent' ? name || say('agent') : say('you')]);
    var meta = el('div', { 'class': 'meta' });
    var node = el('li', { 'class': 'msg ' + from }, [who, words, meta]);
    return { node: node, meta: meta, text: text };
  }

  function atEnd() { return log.scrollHeight - log.scrollTop - log.clientHeight < 80; }
  function toEnd() { log.scrollTop = log.scrollHeight; }

  function clear() {
    last = 0;
    lastDay = '';
    list.replaceChildren();
    Object.keys(bubbles).forEach(function (id) { if (bubbles[id].seq) delete bubbles[id]; });
  }

  function show(frame) {
    if (frame.seq <= last) return;
    last = frame.seq;
    var end = atEnd(), day = dayOf(frame.at), id = frame.client_msg_id;
    hello.hidden = true;
    if (day !== lastDay) {
      list.append(el('li', { 'class': 'day' }, [day]));
      lastDay = day;
    }
    var shown = id && bubbles[id];
    if (!shown) shown = bubble(frame.from, frame.name, frame.text);
    shown.seq = frame.seq;
    shown.node.classList.remove('failed');
    // What came or went by another channel says by which.
    var mark = frame.by || (frame.from === 'customer' ? say('sent') : '');
    shown.meta.replaceChildren(mark ? mark + ' · ' + clock(frame.at) : clock(frame.at));
    shown.node.dataset.seq = frame.seq;
    list.append(shown.node);
    if (id) { bubbles[id] = shown; settle(id); }
    if (frame.from === 'agent') {
      if (notice.textContent === say('wished')) tell(null);
      setTyping(false);
      count(frame.seq);
    }
    if (end || frame.from === 'customer') toEnd();
    reportSoon();
  }

  function state(item, what) {
    item.node.classList.toggle('failed', what === 'failed');
    item.meta.replaceChildren(say(what));
    if (what === 'failed') {
      var again = el('button', { type: 'button' }, [say('retry')]);
      again.addEventListener('click', function () { resend(item); });
      item.meta.append(' ', again);
    }
  }

  // --- sending: one at a time, in order, until it is stored ------------------------------------------

  var inFlight = null, sendTimer = 0, paused = {};

  function compose(text) {
    var item = { id: newId(), text: text };
    keep(function (kept) { kept.outbox = (kept.outbox || []).concat(item); });
    draft(item);
    pump();
  }
  function draft(item) {
    if (bubbles[item.id]) return;
    var shown = bubble('customer', null, item.text);
    shown.id = item.id;
    bubbles[item.id] = shown;
    hello.hidden = true;
    state(shown, 'sending');
    waiting.append(shown.node);
    toEnd();
  }
  function resend(shown) {
    delete paused[shown.id];
    state(shown, 'sending');
    keep(function (kept) {
      var box = (kept.outbox || []).filter(function (item) { return item.id !== shown.id; });
      kept.outbox = box.concat({ id: shown.id, text: shown.text });
    });
    connect();
    pump();
  }
  function pump() {
    if (inFlight || !joined) return;
    var next = outbox().filter(function (item) { return !paused[item.id]; })[0];
    if (!next) return;
    draft(next);
    inFlight = next.id;
    transmit({ type: 'message', client_msg_id: next.id, text: next.text });
    clearTimeout(sendTimer);
    // A connection that swallows messages is no connection.
    sendTimer = setTimeout(function () { drop(); }, 15000);
  }
  // Stored, whether the ack or the message itself says so.
  function settle(id) {
    forget(id);
    if (inFlight === id) {
      clearTimeout(sendTimer);
      inFlight = null;
    }
    pump();
  }
  function refused(id, frame) {
    if (inFlight === id) {
      clearTimeout(sendTimer);
      inFlight = null;
    }
    if (frame.retry_after_ms != null) {
      if (frame.code === 'busy') tell('busy');
      clearTimeout(sendTimer);
      inFlight = id;
      sendTimer = setTimeout(function () { inFlight = null; pump(); }, frame.retry_after_ms * (1 + Math.random() / 2));
      return;
    }
    paused[id] = true;
    if (bubbles[id]) state(bubbles[id], 'failed');
    if (frame.code === 'too_long') tell('long');
    pump();
  }

  // --- the connection ---------------------------------------------------------------------------------

  var socket = null, joined = false, tries = 0, retryTimer = 0, beatTimer = 0, heard = 0, wantsOn = false;
  var login = data.login || null;

  function transmit(frame) {
    if (socket && socket.readyState === 1) socket.send(JSON.stringify(frame));
  }

  function connect() {
    wantsOn = true;
    if (socket) return;
    clearTimeout(retryTimer);
    var ws;
    try { ws = new WebSocket(socketAddress); } catch (_) { return later(30000); }
    socket = ws;
    var dead = setTimeout(function () { if (!joined) ws.close(); }, 20000);
    ws.onopen = function () {
      transmit({
        type: 'join', session: load().session || null, login: login, after: last,
        name: data.name || null, email: data.email || null, language: language,
        page: location.href.split(/[?#]/)[0], tags: (data.tags || '').split(',').filter(Boolean)
      });
    };
    ws.onmessage = function (event) {
      heard = Date.now();
      var frame;
      try { frame = JSON.parse(event.data); } catch (_) { return; }
      if (ws === socket) receive(frame);
    };
    ws.onclose = function (event) {
      clearTimeout(dead);
      if (ws !== socket) return;
      socket = null;
      joined = false;
      inFlight = null;
      clearTimeout(sendTimer);
      clearInterval(beatTimer);
      setTyping(false);
      if (!wantsOn) return;
      // A restart is over soon; who may not be here asks seldom.
      var most = event.code === 1012 ? 1500 : event.code === 1008 ? 60000 : Math.min(30000, 500 * Math.pow(2, tries));
      tries += 1;
      if (tries > 1) tell('offline');
      later(most);
    };
  }
  function later(most) {
    clearTimeout(retryTimer);
    retryTimer = setTimeout(connect, most / 4 + Math.random() * most * 0.75);
  }
  function drop() {
    if (!socket) return;
    var old = socket;
    old.onclose({ code: 1006 });
    try { old.close(); } catch (_) { /* it is gone anyway */ }
  }
  function again() {
    if (wantsOn && !socket) { tries = 0; connect(); }
  }

  function receive(frame) {
    switch (frame.type) {
      case 'joined':
        joined = true;
        tries = 0;
        tell(null);
        if ((visitor && visitor !== frame.visitor) || frame.after < last) clear();
        visitor = frame.visitor;
        limit = frame.text_chars_max || limit;
        keep(function (kept) { kept.session = frame.session; });
        ways = frame.ways || [];
        talking = !!frame.conversation;
        offerWays();
        if (wish.id) sendWish();
        subtitle.textContent = frame.agent ? say('joined', { name: frame.agent.name || say('agent') }) : frame.conversation ? say('waiting') : '';
        clearInterval(beatTimer);
        heard = Date.now();
        beatTimer = setInterval(function () {
          if (Date.now() - heard > 40000) return drop();
          transmit({ type: 'ping' });
        }, 15000);
        outbox().forEach(draft);
        pump();
        break;
      case 'message': show(frame); break;
      case 'ack':
        if (frame.client_msg_id === wish.id) { wishDone(); break; }
        if (bubbles[frame.client_msg_id] && !bubbles[frame.client_msg_id].seq) state(bubbles[frame.client_msg_id], 'sent');
        tell(null);
        talking = true;
        offerWays();
        settle(frame.client_msg_id);
        break;
      case 'gap':
        last = Math.max(last, frame.to);
        list.append(el('li', { 'class': 'gap' }, [say('gap')]));
        break;
      case 'typing': setTyping(frame.on, frame.name); break;
      case 'presence': presence(frame); break;
      case 'error': trouble(frame); break;
    }
  }

  function presence(frame) {
    var name = (frame.agent && frame.agent.name) || say('agent');
    var words = { joined: say('joined', { name: name }), waiting: say('waiting'), left: say('left'), closed: say('closed') }[frame.state];
    if (words) subtitle.textContent = words;
    if (frame.state === 'closed' || frame.state === 'left') setTyping(false);
    talking = frame.state !== 'closed';
    offerWays();
  }

  // --- going on by another channel --------------------------------------------------------------------

  // wish.id: what was asked for is under way, and is sent again with the same id until it is stored or refused.
  var ways = [], talking = false, wish = {}, wishTimer = 0;

  function offerWays() {
    elsewhere.hidden = !(ways.length && talking);
    if (elsewhere.hidden && !go.hidden) closeWays();
  }
  function wayName(way) { return way.name || texts[way.kind] || way.kind; }
  function chosen() {
    var radio = waysBox.querySelector('input:checked');
    return radio ? ways[Number(radio.value)] : null;
  }
  function chose() {
    var way = chosen(), asks = !!(way && way.asks_address), mail = asks && way.kind === 'email';
    toLabel.hidden = toField.hidden = !asks;
    toField.type = mail ? 'email' : asks ? 'tel' : 'text';
    toField.autocomplete = mail ? 'email' : 'tel';
    toField.inputMode = mail ? 'email' : 'tel';
    toLabel.textContent = say(mail ? 'addressEmail' : /^(sms|whatsapp|voice)$/.test((way || {}).kind) ? 'addressTel' : 'address');
    goHint.textContent = say(asks ? 'hintWrite' : 'hintShow');
    wishTrouble(null);
  }
  function openWays() {
    waysBox.replaceChildren.apply(waysBox, ways.map(function (way, at) {
      var radio = el('input', { type: 'radio', name: 'way', value: String(at) });
      radio.checked = !at;
      radio.addEventListener('change', chose);
      return el('label', {}, [radio, wayName(way)]);
    }));
    var end = atEnd();
    go.hidden = false;
    if (end) toEnd();
    elsewhere.setAttribute('aria-expanded', 'true');
    if (!toField.value && data.email) toField.value = data.email;
    chose();
    (toField.hidden ? waysBox.querySelector('input') : toField).focus();
  }
  function closeWays() {
    var inside = go.contains(root.activeElement);
    wish = {};
    wishing(false);
    clearTimeout(wishTimer);
    go.hidden = true;
    elsewhere.setAttribute('aria-expanded', 'false');
    if (inside) (elsewhere.hidden ? field : elsewhere).focus();
  }
  function wishing(on) {
    goSend.disabled = on;
    goSend.textContent = say(on ? 'wishing' : 'goOn');
  }
  function wishTrouble(key) {
    goTrouble.textContent = key ? say(key) : '';
    if (key === 'badAddress') toField.setAttribute('aria-invalid', 'true');
    else toField.removeAttribute('aria-invalid');
  }
  function sendWish() {
    transmit({ type: 'switch', client_msg_id: wish.id, kind: wish.kind, account: wish.account, address: wish.address });
    clearTimeout(wishTimer);
    wishTimer = setTimeout(function () { drop(); }, 15000);
  }
  function wishDone() {
    closeWays();
    tell('wished');
    field.focus();
  }
  function wishRefused(frame) {
    clearTimeout(wishTimer);
    if (frame.code === 'busy' && frame.retry_after_ms != null) {
      wishTimer = setTimeout(function () { if (wish.id) sendWish(); }, frame.retry_after_ms * (1 + Math.random() / 2));
      return;
    }
    wish = {};
    wishing(false);
    wishTrouble(frame.code === 'address' ? 'badAddress' : frame.code === 'rate' ? 'often' : 'notGone');
    if (frame.code === 'address') toField.focus();
  }
  elsewhere.addEventListener('click', function () { if (go.hidden) openWays(); else closeWays(); });
  goCancel.addEventListener('click', closeWays);
  go.addEventListener('submit', function (event) {
    event.preventDefault();
    var way = chosen();
    if (!way || wish.id) return;
    var address = way.asks_address ? toField.value.trim() : null;
    if (way.asks_address && (!address || !toField.checkValidity())) {
      wishTrouble('badAddress');
      return toField.focus();
    }
    wishTrouble(null);
    wish = { id: newId(), kind: way.kind, account: way.account, address: address };
    wishing(true);
    if (joined) sendWish();
    else connect();
  });
  go.addEventListener('keydown', function (event) {
    if (event.key !== 'Escape') return;
    event.stopPropagation();
    closeWays();
  });

  function trouble(frame) {
    if (/^login_/.test(frame.code)) {
      tell('login');
      if (frame.code !== 'login_required') login = null;
      window.dispatchEvent(new CustomEvent('throughline:login', { detail: { code: frame.code } }));
    }
    if (frame.client_msg_id && frame.client_msg_id === wish.id) wishRefused(frame);
    else if (frame.client_msg_id) refused(frame.client_msg_id, frame);
  }

  function tell(key) {
    notice.hidden = !key;
    notice.textContent = key ? say(key) : '';
  }

  // --- typing, seen, unread -----------------------------------------------------------------------------

  var typingTimer = 0, typedAt = 0, stopTimer = 0, reportTimer = 0, told = { received: 0, seen: 0 }, unread = 0;

  function setTyping(on, name) {
    clearTimeout(typingTimer);
    typing.replaceChildren();
    if (!on) return;
    var dots = el('span', { 'class': 'dots', 'aria-hidden': 'true' }, [el('i'), el('i'), el('i')]);
    typing.append(say('typing', { name: name || say('agent') }), dots);
    typingTimer = setTimeout(function () { setTyping(false); }, 8000);
  }
  function typed() {
    clearTimeout(stopTimer);
    if (!field.value.trim()) return stopped();
    stopTimer = setTimeout(stopped, 5000);
    if (Date.now() - typedAt < 2500) return;
    typedAt = Date.now();
    transmit({ type: 'typing', on: true });
  }
  function stopped() {
    clearTimeout(stopTimer);
    if (typedAt) transmit({ type: 'typing', on: false });
    typedAt = 0;
  }

  function isOpen() { return !panel.hidden; }
  function looking() { return isOpen() && document.visibilityState === 'visible'; }
  function count(seq) {
    if (looking() || seq <= (load().seen || 0)) return;
    setUnread(unread + 1);
  }
  function setUnread(n) {
    unread = n;
    badge.hidden = !n;
    badge.textContent = n > 99 ? '99+' : String(n);
    launch.setAttribute('aria-label', say('open') + (n ? ', ' + (n === 1 ? say('one') : say('unread', { n: n })) : ''));
  }
  function reportSoon() {
    clearTimeout(reportTimer);
    reportTimer = setTimeout(report, 300);
  }
  function report() {
    if (!joined || !last) return;
    if (looking()) {
      setUnread(0);
      if (last > told.seen) {
        told.seen = last;
        transmit({ type: 'seen', seq: last });
        keep(function (kept) { kept.seen = Math.max(kept.seen || 0, last); });
      }
    } else if (last > Math.max(told.received, told.seen)) {
      told.received = last;
      transmit({ type: 'received', seq: last });
    }
  }

  // --- opening and closing --------------------------------------------------------------------------------

  function open() {
    if (isOpen()) return;
    panel.hidden = false;
    launch.setAttribute('aria-expanded', 'true');
    connect();
    toEnd();
    field.focus();
    setUnread(0);
    reportSoon();
    window.dispatchEvent(new CustomEvent('throughline:open'));
  }
  function close() {
    if (!isOpen()) return;
    var inside = root.activeElement;
    panel.hidden = true;
    launch.setAttribute('aria-expanded', 'false');
    if (inside) launch.focus();
    window.dispatchEvent(new CustomEvent('throughline:close'));
  }
  function grow() {
    field.style.height = '44px';
    field.style.height = Math.min(132, field.scrollHeight + 2) + 'px';
  }

  launch.addEventListener('click', function () { if (isOpen()) close(); else open(); });
  hide.addEventListener('click', close);
  field.addEventListener('input', function () { grow(); typed(); });
  field.addEventListener('keydown', function (event) {
    // Enter that ends a composition (Japanese, Chinese) sends nothing.
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener('submit', function (event) {
    event.preventDefault();
    var text = field.value.trim();
    if (!text) return field.focus();
    if (Array.from(text).length > limit) return tell('long');
    field.value = '';
    grow();
    stopped();
    compose(text);
    connect();
    field.focus();
  });
  panel.addEventListener('keydown', function (event) {
    if (event.key === 'Escape') {
      event.stopPropagation();
      close();
    } else if (event.key === 'Tab' && matchMedia('(max-width:480px)').matches) {
      // It covers the whole page: the keyboard stays inside.
      var all = Array.prototype.slice.call(panel.querySelectorAll('button,a[href],input,textarea,[tabindex]')), at = root.activeElement;
      all = all.filter(function (node) { return node.getClientRects().length && !node.disabled; });
      var edge = event.shiftKey ? all[0] : all[all.length - 1];
      if (at === edge) {
        event.preventDefault();
        (event.shiftKey ? all[all.length - 1] : all[0]).focus();
      }
    }
  });
  document.addEventListener('visibilitychange', function () {
    if (document.visibilityState !== 'visible') return;
    again();
    reportSoon();
  });
  window.addEventListener('online', again);
  window.addEventListener('pageshow', again);

  function relog(token) {
    login = token || null;
    paused = {};
    Object.keys(bubbles).forEach(function (id) { if (!bubbles[id].seq) state(bubbles[id], 'sending'); });
    tell(null);
    tries = 0;
    var old = socket;
    socket = null;
    joined = false;
    inFlight = null;
    clearTimeout(sendTimer);
    clearInterval(beatTimer);
    if (old) old.close();
    // Another thread may belong to the login.
    clear();
    setUnread(0);
    told = { received: 0, seen: 0 };
    connect();
  }

  window.Throughline = {
    open: open,
    close: close,
    login: function (token) { relog(token); },
    logout: function () {
      keep(function (kept) { delete kept.session; delete kept.seen; kept.outbox = []; });
      bubbles = {};
      waiting.replaceChildren();
      visitor = null;
      relog(null);
    }
  };

  function start() {
    document.body.append(host);
    outbox().forEach(draft);
    // Who was here before may have an answer; everybody else connects on opening.
    if (load().session || login) connect();
    if ('open' in data) open();
  }
  if (document.body) start();
  else document.addEventListener('DOMContentLoaded', start);
})();
