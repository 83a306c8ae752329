// The demo: a chat with files. What joinRoom gives, shown.

import { joinRoom, selfId } from './client.js';

const $ = (id) => document.getElementById(id);
const names = ['Heron', 'Otter', 'Lynx', 'Finch', 'Ibex', 'Marten', 'Plover', 'Vole'];
const anyName = () => names[crypto.getRandomValues(new Uint8Array(1))[0] % names.length];
/** Entries of the log; older ones go. */
const LOG_MAX = 500;

const workText = $('work').textContent;
let room = null;
let send = {};
const people = new Map();

$('room').value = decodeURIComponent(location.hash.slice(1)) || `room-${crypto.randomUUID().slice(0, 8)}`;
$('name').value = anyName();

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function log(entry) {
  const list = $('log');
  const low = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  list.append(entry);
  while (list.children.length > LOG_MAX) list.firstChild.remove();
  if (low) list.scrollTop = list.scrollHeight;
  return entry;
}

const note = (text) => log(element('li', { className: 'note' }, text));

function said(id, ...content) {
  const mine = id === selfId;
  const time = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  const who = element('cite', {}, mine ? 'You' : nameOf(id), element('time', {}, time));
  return log(element('li', { className: mine ? 'mine' : '' }, who, ...content));
}

const nameOf = (id) => people.get(id) ?? 'Somebody';

function showPeople() {
  const me = element('li', { className: 'me' }, `${$('name').value} (you)`);
  const others = [...people.values()].map((name) => element('li', {}, name));
  $('people').replaceChildren(me, ...others);
  $('nobody').hidden = people.size > 0;
  for (const control of [$('message'), $('attach'), $('say').querySelector('[type=submit]')]) {
    control.disabled = people.size === 0;
  }
}

function showState({ connected, node, error }) {
  const host = node ? new URL(node).host : 'the mesh';
  $('state').textContent = connected ? `Connected through ${host}` : `Looking for a node${error ? `: ${error.message}` : ''}`;
  $('state').className = connected ? 'good' : 'bad';
}

function showWork({ tries, expected, rate }) {
  const speed = rate ? `, ${(rate / 1e6).toFixed(1)} million a second` : '';
  $('work').textContent = `Paid the mesh with ${tries.toLocaleString()} hashes (about ${Math.round(expected).toLocaleString()} expected${speed})`;
}

function enter() {
  const [name, title] = [$('name').value, $('room').value];
  history.replaceState(null, '', `#${encodeURIComponent(title)}`);
  document.title = `${title} – Mesh chat`;
  $('title').textContent = title;
  $('enter').hidden = true;
  $('talk').hidden = false;
  showState({ connected: false });

  // For trying things out: ?relay goes through TURN only, ?here through this node only.
  const asked = new URLSearchParams(location.search);
  const rtcConfig = asked.has('relay') ? { iceTransportPolicy: 'relay' } : undefined;
  room = joinRoom({ appId: 'mesh-demo', rtcConfig, discover: !asked.has('here') }, title);
  room.onState(showState);
  room.onWork(showWork);
  const [sendName, onName] = room.makeAction('name');
  const [sendText, onText] = room.makeAction('text');
  const [sendFile, onFile, onFileProgress] = room.makeAction('file');
  send = { text: sendText, file: sendFile };

  room.onPeerJoin((id) => {
    people.set(id, 'Somebody');
    showPeople();
    sendName(name, id);
  });
  room.onPeerLeave((id) => {
    note(`${nameOf(id)} left`);
    people.delete(id);
    showPeople();
  });
  onName((value, id) => {
    const fresh = people.get(id) === 'Somebody';
    people.set(id, String(value).slice(0, 40));
    showPeople();
    if (fresh) note(`${nameOf(id)} joined`);
  });
  onText((value, id) => said(id, String(value).slice(0, 4000)));

  const arriving = new Map();
  onFileProgress((share, id, meta) => {
    const key = `${id} ${meta?.nonce}`;
    if (!arriving.has(key)) arriving.set(key, said(id, ...fileView(meta, element('progress', { max: 1, value: 0 }))));
    arriving.get(key).querySelector('progress').value = share;
  });
  onFile((blob, id, meta) => {
    const key = `${id} ${meta?.nonce}`;
    arriving.get(key)?.remove();
    arriving.delete(key);
    said(id, ...fileView(meta, download(blob, meta)));
  });
  showPeople();
  $('log').focus();
}

const fileView = (meta, shown) => [`${meta?.name ?? 'a file'}, ${size(meta?.size ?? 0)} `, shown];

function size(bytes) {
  const [unit, name] = bytes < 1024 * 1024 ? [1024, 'KiB'] : [1024 * 1024, 'MiB'];
  return `${(bytes / unit).toFixed(1)} ${name}`;
}

function download(blob, meta) {
  // Never as a page of ours: always as something to keep.
  const url = URL.createObjectURL(new Blob([blob], { type: 'application/octet-stream' }));
  const name = String(meta?.name ?? 'file').slice(0, 200);
  return element('a', { href: url, download: name }, 'Save');
}

async function sendFileOf(file) {
  const meta = { name: file.name, size: file.size, nonce: crypto.randomUUID() };
  const bar = element('progress', { max: 1, value: 0 });
  const entry = said(selfId, ...fileView(meta, bar));
  try {
    await send.file(file, null, meta, (share) => {
      bar.value = share;
    });
    bar.replaceWith(' sent');
  } catch (error) {
    entry.append(` – ${error.message}`);
  }
}

async function leave() {
  await room?.leave();
  room = null;
  people.clear();
  $('talk').hidden = true;
  $('enter').hidden = false;
  $('log').replaceChildren();
  $('state').textContent = 'Not connected';
  $('state').className = '';
  $('work').textContent = workText;
  $('room').focus();
}

$('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  enter();
});
$('say').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('message').value.trim();
  if (!text || people.size === 0) return;
  send.text(text).catch((error) => note(error.message));
  said(selfId, text);
  $('message').value = '';
});
$('attach').addEventListener('click', () => $('file').click());
$('file').addEventListener('change', () => {
  for (const file of $('file').files) sendFileOf(file);
  $('file').value = '';
});
$('leave').addEventListener('click', leave);
$('link').addEventListener('click', async () => {
  await navigator.clipboard.writeText(location.href);
  $('link').textContent = 'Copied';
  setTimeout(() => {
    $('link').textContent = 'Copy link';
  }, 2000);
});
