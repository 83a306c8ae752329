'use strict';
// Which kinds of path work from this browser. Nothing is sent to anybody but this server, the TURN
// server it names, and the services it names.

const GATHER_MS = 8000;
const LOOP_MS = 15000;
const PINGS = 20;
const $ = (id) => document.getElementById(id);
const rows = [];

class Row {
  constructor(list, picture, name, detail) {
    this.name = name;
    this.item = document.createElement('li');
    this.item.append(icon('p-' + picture, 'picture'));
    const text = document.createElement('div');
    const title = document.createElement('span');
    title.className = 'name';
    title.textContent = name;
    this.detail = document.createElement('span');
    this.detail.className = 'detail';
    this.detail.textContent = detail;
    text.append(title, this.detail);
    this.state = document.createElement('div');
    this.state.className = 'state';
    this.item.append(text, this.state);
    list.append(this.item);
    rows.push(this);
    this.show('busy', 'wait', 'checking');
  }
  show(look, picture, word) {
    this.item.className = look;
    this.look = look;
    this.word = word;
    this.state.replaceChildren(icon('i-' + picture), document.createTextNode(word));
  }
  good(word, detail) { this.show('good', 'good', word); if (detail) this.detail.textContent = detail; }
  bad(word, detail) { this.show('bad', 'bad', word); if (detail) this.detail.textContent = detail; }
  none(word, detail) { this.show('none', 'none', word); if (detail) this.detail.textContent = detail; }
}

function icon(id, name) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  if (name) svg.setAttribute('class', name);
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(space, 'use');
  use.setAttribute('href', '#' + id);
  svg.append(use);
  return svg;
}

const now = () => performance.now();
const later = (ms) => new Promise((done) => setTimeout(done, ms));
const median = (times) => [...times].sort((a, b) => a - b)[times.length >> 1];
const ms = (time) => (time < 10 ? time.toFixed(1) : Math.round(time)) + ' ms';

// The first candidate of a type, and how long it took; null when there is none in time.
async function gather(iceServers, policy, type) {
  const pc = new RTCPeerConnection({iceServers, iceTransportPolicy: policy});
  try {
    const begun = now();
    pc.createDataChannel('check');
    const found = new Promise((done) => {
      pc.onicecandidate = ({candidate}) => {
        if (!candidate) done(null);
        else if (candidate.candidate && candidate.type === type) {
          done({took: now() - begun, candidate});
        }
      };
    });
    await pc.setLocalDescription();
    return await Promise.race([found, later(GATHER_MS).then(() => null)]);
  } finally {
    pc.close();
  }
}

// Two connections in this page; the median time there and back, or null.
async function loop(iceServers, policy) {
  const config = {iceServers, iceTransportPolicy: policy};
  const [here, there] = [new RTCPeerConnection(config), new RTCPeerConnection(config)];
  try {
    for (const [from, to] of [[here, there], [there, here]]) {
      from.onicecandidate = ({candidate}) => candidate && to.addIceCandidate(candidate).catch(() => {});
    }
    there.ondatachannel = ({channel}) => {
      channel.onmessage = ({data}) => channel.send(data);
    };
    const channel = here.createDataChannel('loop');
    const opened = new Promise((done) => { channel.onopen = done; });
    const measured = (async () => {
      await here.setLocalDescription();
      await there.setRemoteDescription(here.localDescription);
      await there.setLocalDescription();
      await here.setRemoteDescription(there.localDescription);
      await opened;
      const times = [];
      for (let count = 0; count < PINGS; count += 1) {
        const begun = now();
        const back = new Promise((done) => { channel.onmessage = done; });
        channel.send(String(count));
        await back;
        times.push(now() - begun);
      }
      return median(times);
    })();
    return await Promise.race([measured.catch(() => null), later(LOOP_MS).then(() => null)]);
  } finally {
    here.close();
    there.close();
  }
}

async function fetched(url, mode) {
  const times = [];
  for (let count = 0; count < 5; count += 1) {
    const begun = now();
    const answer = await fetch(url, {mode, cache: 'no-store', credentials: 'omit'});
    if (mode !== 'no-cors' && !answer.ok) throw new Error(String(answer.status));
    times.push(now() - begun);
  }
  return median(times.slice(1)); // the first one makes the connection
}

function socket() {
  const url = location.origin.replace(/^http/, 'ws') + '/check';
  return new Promise((done, failed) => {
    const begun = now();
    const opening = new WebSocket(url);
    opening.onopen = () => { done(now() - begun); opening.close(); };
    opening.onerror = () => failed(new Error('no WebSocket'));
    setTimeout(() => failed(new Error('no answer')), GATHER_MS);
  });
}

async function timed(row, measure, words) {
  try {
    row.good(ms(await measure()), words);
    return true;
  } catch {
    row.bad('no answer');
    return false;
  }
}

const KINDS = [
  ['udp', 'Relayed, over UDP', 'Through the relay server, the quick way.'],
  ['tcp', 'Relayed, over TCP', 'Through the relay server, where UDP is blocked.'],
  ['tls', 'Relayed, over TLS', 'Through the relay server, looking like any secure web page.'],
];
const kindOf = (url) =>
  url.startsWith('turns:') ? 'tls' : /transport=tcp/i.test(url) ? 'tcp' : 'udp';

async function check() {
  rows.length = 0;
  const [paths, services] = [$('paths'), $('services')];
  paths.replaceChildren();
  services.replaceChildren();
  $('again').disabled = $('copy').disabled = true;
  $('copied').textContent = '';
  verdict('', 'Checking …');

  const host = new Row(paths, 'host', 'Same network', 'Straight to a device nearby.');
  const reflexive =
    new Row(paths, 'reflexive', 'Through the router', 'Straight to a device elsewhere, as most calls go.');
  const relays = KINDS.map(([kind, name, detail]) => [kind, new Row(paths, 'relay', name, detail)]);
  const round = new Row(paths, 'loop', 'There and back through the relay', 'Data really sent, to this page itself.');
  const web = new Row(services, 'service', 'Web', 'Requests to this server.');
  const ws = new Row(services, 'service', 'WebSocket', 'How devices find each other.');

  if (!window.RTCPeerConnection) {
    for (const row of rows.slice(0, 6)) row.bad('not there');
    return finish({webrtc: false});
  }
  const asked = fetch('/check/servers', {method: 'POST', cache: 'no-store'}).then(async (answer) => {
    if (answer.status === 429) return {limited: true, iceServers: [], services: []};
    return answer.ok ? answer.json() : {iceServers: [], services: []};
  }).catch(() => ({iceServers: [], services: []}));
  const {iceServers, limited, services: others} = await asked;
  const stun = iceServers.filter((server) => String(server.urls).startsWith('stun:'));
  const turn = iceServers.filter((server) => !stun.includes(server));
  const why = limited ? 'asked too often: try again in a minute' : 'this server has no relay set up';

  const results = {webrtc: true, limited};
  const work = [
    (async () => {
      const found = await gather([], 'all', 'host');
      const direct = found && await loop([], 'all');
      results.host = direct !== null && found !== null;
      if (results.host) host.good('works', 'Straight to a device nearby.');
      else if (found) host.bad('blocked', 'This browser has an address, but does not even reach itself.');
      else host.bad('no address', 'This browser tells no address of its own.');
    })(),
    (async () => {
      if (!stun.length) { reflexive.none('not tried', why); return; }
      const found = await gather(stun, 'all', 'srflx');
      results.reflexive = found !== null;
      if (found) reflexive.good('works', 'Answered after ' + ms(found.took) + '.');
      // Behind no router the address is the same, and browsers leave the copy out.
      else reflexive.none('no other address', 'No router in between, or UDP is blocked.');
    })(),
    ...relays.map(async ([kind, row]) => {
      const urls = turn.flatMap((server) => [server.urls].flat().filter((url) => kindOf(url) === kind));
      if (!urls.length) { row.none('not tried', why); return; }
      const {username, credential} = turn[0];
      const found = await gather([{urls, username, credential}], 'relay', 'relay');
      results[kind] = found !== null;
      if (found) row.good('works', row.detail.textContent.replace(/\.$/, '') + '; ready after ' + ms(found.took) + '.');
      else row.bad('no answer');
    }),
    (async () => {
      if (!turn.length) { round.none('not tried', why); return; }
      const time = await loop(turn, 'relay');
      results.loop = time !== null;
      if (time === null) round.bad('nothing came back');
      else round.good(ms(time), 'Data really sent, to this page itself: half of ' + PINGS + ' took less.');
    })(),
    timed(web, () => fetched('/check/ping')),
    timed(ws, socket).then((works) => { results.socket = works; }),
    ...others.map(([name, url]) =>
      timed(new Row(services, 'service', name, new URL(url).host), () => fetched(url, 'no-cors'))),
  ];
  await Promise.all(work);
  finish(results);
}

function verdict(look, text) {
  $('verdict').className = 'verdict ' + look;
  $('verdict').textContent = text;
}

function judge(r) {
  if (!r.webrtc) return ['bad', 'This browser cannot connect devices at all: WebRTC is missing or switched off.'];
  if (r.socket === false) return ['bad', 'WebSockets do not get through, so devices cannot find each other from here.'];
  const relayed = r.udp || r.tcp || r.tls;
  if (relayed && r.loop === false) return ['bad', 'The relay answers, but nothing sent through it comes back.'];
  if (r.udp && r.loop) return ['good', 'Everything works: connections are made directly where they can be, and through the relay where not.'];
  if (relayed) return ['warn', 'Connections work, but only over a detour: UDP to the relay is blocked, so calls may stutter.'];
  const tried = ['udp', 'tcp', 'tls'].some((kind) => kind in r);
  if (tried) return ['bad', 'The relay cannot be reached from here. Only devices that reach each other directly will connect.'];
  if (r.host || r.reflexive) return ['warn', 'Direct connections may work. There is no relay to fall back to, so some networks will not connect.'];
  return ['bad', 'No way to another device works from here.'];
}

function finish(results) {
  const [look, text] = judge(results);
  verdict(look, text);
  const lines = rows.map((row) => row.name.padEnd(34) + row.word);
  $('report').value = [
    'Connection check of ' + location.host, new Date().toISOString(), navigator.userAgent, '', text, '',
    ...lines,
  ].join('\n');
  $('again').disabled = $('copy').disabled = false;
  document.documentElement.dataset.checked = look;
}

async function copy() {
  const report = $('report');
  try {
    // Where a browser asks first, it may never answer.
    const refused = later(1000).then(() => { throw new Error('no clipboard'); });
    await Promise.race([navigator.clipboard.writeText(report.value), refused]);
  } catch {
    // Only pages over TLS have the clipboard.
    report.closest('details').open = true;
    report.select();
    if (!document.execCommand('copy')) {
      $('copied').textContent = 'Select the text below and copy it.';
      return;
    }
  }
  $('copied').textContent = 'Copied.';
}

$('again').addEventListener('click', check);
$('copy').addEventListener('click', copy);
check();
