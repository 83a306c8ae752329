// joinRoom: peers that know the same secret, connected to each other.

import { Mesh, pause } from './mesh.js';
import { Peer } from './peer.js';
import { Sealer, roomOf } from './seal.js';
import { Transfers } from './transfer.js';

/** Who this page is, to every room it joins. */
export const selfId = Array.from(crypto.getRandomValues(new Uint8Array(10)), (b) => b.toString(16).padStart(2, '0')).join('');

/** Between announcements, milliseconds: soon at first, then seldom; each costs work. */
const ANNOUNCE_MS = [4_000, 8_000, 15_000, 30_000];
/** Who announced earlier than that is not answered: most likely gone. */
const FRESH_S = 40;
/** Peers one page connects to. */
const PEERS_MAX = 64;
const VALUE_MAX = 256 * 1024 * 1024;
const ACTION_MAX = 32;
/** Actions of our own begin with it. */
const OWN = '@';

/**
 * Joins a room of an application: everybody with the same `appId`, `roomName` and `password`.
 *
 * config: appId; password; nodes (URLs), discover (false: no others); mesh (a Mesh to share between rooms); rtcConfig (RTCConfiguration);
 * turn (false: no credentials are bought); maxBytes (of a received value).
 */
export function joinRoom(config, roomName) {
  if (!config?.appId) throw new TypeError('an appId is needed');
  if (!roomName) throw new TypeError('a room name is needed');
  return new Room(config, roomName).surface();
}

class Room {
  #config;
  #mesh;
  #peers = new Map();
  #actions = new Map();
  #pings = new Map();
  #streamMeta = new Map();
  #on = { join: () => {}, leave: () => {}, stream: () => {}, track: () => {}, state: () => {}, work: () => {} };
  #stop = new AbortController();
  #posting = Promise.resolve();
  #hearing = Promise.resolve();
  #subscription = null;
  #sealer = null;
  #ready;

  constructor(config, name) {
    this.#config = config;
    this.#mesh = config.mesh ?? new Mesh({ nodes: config.nodes, discover: config.discover });
    this.#ready = this.#start(config.password ? `${name}\n${config.password}` : String(name));
    this.#ready.catch((error) => this.#on.state({ connected: false, error }));
    this.#action(`${OWN}ping`, (nonce, id) => this.#send(`${OWN}pong`, nonce, [id]));
    this.#action(`${OWN}pong`, (nonce) => this.#pings.get(nonce)?.());
    this.#action(`${OWN}signal`, (signal, id) => this.#peers.get(id)?.peer.hear(signal));
    this.#action(`${OWN}stream`, ({ stream, meta }, id) => this.#streamMeta.set(`${id} ${stream}`, meta));
    globalThis.addEventListener?.('pagehide', this.#hidden);
  }

  #hidden = () => this.leave();

  async #start(secret) {
    const room = await roomOf(this.#config.appId, secret);
    this.#sealer = await Sealer.of(room, secret);
    // Before anybody is met: the first connection waits for them.
    this.#iceServers();
    this.#subscription = this.#mesh.join(room, (post) => this.#heard(post), {
      since: FRESH_S,
      onState: (state) => this.#on.state(state),
    });
    this.#announce().catch(() => {}); // ends with the room
  }

  #iceServers() {
    const { rtcConfig, turn } = this.#config;
    if (rtcConfig?.iceServers || turn === false) return Promise.resolve(rtcConfig?.iceServers ?? []);
    const bought = this.#mesh.token({ signal: this.#stop.signal });
    return bought.catch(() => []); // most peers find each other without
  }

  async #announce() {
    const { signal } = this.#stop;
    for (let nth = 0; ; nth++) {
      await this.#subscription.connected;
      if (signal.aborted) return;
      await this.#post({ hi: true });
      await pause(ANNOUNCE_MS[Math.min(nth, ANNOUNCE_MS.length - 1)] * (0.75 + Math.random() / 2), signal);
    }
  }

  /** Says something to all, or to one, by posts. They are paid for one after the other. */
  #post(message) {
    const sent = this.#posting.then(async () => {
      for (const body of await this.#sealer.seal({ from: selfId, ...message })) {
        await this.#subscription.post(body, {
          signal: this.#stop.signal,
          onProgress: (progress) => this.#on.work(progress),
        });
      }
    });
    this.#posting = sent.catch((error) => {
      if (!this.#stop.signal.aborted) this.#on.state({ connected: true, error });
    });
    return this.#posting;
  }

  #heard(post) {
    // In the order they came: opening takes differently long.
    this.#hearing = this.#hearing.then(async () => {
      const message = await this.#sealer.open(post.body);
      if (!message || message.from === selfId || typeof message.from !== 'string') return;
      if (message.to !== undefined && message.to !== selfId) return;
      await this.#told(message, post);
    }).catch((error) => console.debug('a signal was not understood', error));
  }

  async #told({ from, hi, signal, session, answers }, { at }) {
    const known = this.#peers.get(from);
    if (hi) {
      const fresh = Date.now() - at < FRESH_S * 1000;
      if (!known && fresh) (await this.#connect(from))?.peer.start();
      return;
    }
    if (!signal) return;
    // Meant for a connection that is over.
    if (answers && known && answers !== known.session) return;
    if (answers && !known) return;
    let entry = known;
    if (entry?.theirs && entry.theirs !== session) {
      entry.peer.close();
      entry = undefined;
    }
    if (!entry && signal.description?.type !== 'offer') return;
    entry ??= await this.#connect(from);
    if (!entry) return;
    entry.theirs = session;
    await entry.peer.hear(signal);
  }

  async #connect(id) {
    if (this.#peers.size >= PEERS_MAX) return undefined;
    const iceServers = await this.#iceServers();
    if (this.#stop.signal.aborted) return undefined;
    const session = Math.random().toString(36).slice(2, 10);
    const entry = { session, theirs: null, joined: false };
    entry.peer = new Peer({
      configuration: { iceServers, ...this.#config.rtcConfig },
      polite: selfId < id,
      signal: (signal) => this.#signal(id, entry, signal),
      events: {
        onOpen: () => {
          entry.joined = true;
          this.#on.join(id);
        },
        onClose: () => this.#closed(id, entry),
        onMessage: (data) => entry.transfers.receive(data),
        onTrack: ({ track, streams }) => this.#tracked(id, track, streams),
      },
    });
    entry.transfers = new Transfers(entry.peer.channel, {
      limit: this.#config.maxBytes ?? VALUE_MAX,
      events: {
        onValue: (action, value, meta) => this.#actions.get(action)?.receive(value, id, meta),
        onProgress: (action, share, meta) => this.#actions.get(action)?.progress(share, id, meta),
      },
    });
    this.#peers.set(id, entry);
    return entry;
  }

  /** Over the connection itself once there is one: that costs no work. */
  #signal(id, entry, signal) {
    if (entry.peer.open) return entry.transfers.send(`${OWN}signal`, signal).catch(() => {});
    return this.#post({ to: id, signal, session: entry.session, answers: entry.theirs ?? undefined });
  }

  #closed(id, entry) {
    if (this.#peers.get(id) !== entry) return;
    this.#peers.delete(id);
    for (const key of this.#streamMeta.keys()) if (key.startsWith(`${id} `)) this.#streamMeta.delete(key);
    if (entry.joined) this.#on.leave(id);
  }

  #tracked(id, track, streams) {
    for (const stream of streams) {
      const meta = this.#streamMeta.get(`${id} ${stream.id}`);
      this.#on.track(track, stream, id, meta);
      // Once a stream, with its first track.
      if (stream.getTracks()[0] === track) this.#on.stream(stream, id, meta);
    }
  }

  #action(name, receive = () => {}) {
    const action = { receive, progress: () => {} };
    this.#actions.set(name, action);
    return action;
  }

  #targets(targets) {
    const ids = targets ? [targets].flat() : [...this.#peers.keys()];
    return ids.flatMap((id) => {
      const entry = this.#peers.get(id);
      return entry?.peer.open ? [[id, entry]] : [];
    });
  }

  #send(name, value, targets, meta, progress) {
    const one = ([id, { transfers }]) =>
      transfers.send(name, value, meta, (share) => progress?.(share, id, meta));
    return Promise.all(this.#targets(targets).map(one));
  }

  #makeAction(name) {
    const bytes = new TextEncoder().encode(name).length;
    if (!name || bytes > ACTION_MAX) throw new TypeError(`an action's name has 1 to ${ACTION_MAX} bytes`);
    if (name.startsWith(OWN)) throw new TypeError(`names that begin with ${OWN} are taken`);
    const action = this.#actions.get(name) ?? this.#action(name);
    return [
      (value, targets, meta, progress) => this.#send(name, value, targets, meta, progress),
      (receive) => {
        action.receive = receive;
      },
      (progress) => {
        action.progress = progress;
      },
    ];
  }

  async #ping(id) {
    if (!this.#peers.get(id)?.peer.open) throw new Error('no such peer');
    const nonce = crypto.randomUUID();
    const began = performance.now();
    try {
      await new Promise((resolve, reject) => {
        this.#pings.set(nonce, resolve);
        setTimeout(reject, 15_000, new Error('no answer'));
        this.#send(`${OWN}ping`, nonce, [id]).catch(reject);
      });
      return performance.now() - began;
    } finally {
      this.#pings.delete(nonce);
    }
  }

  #tellOf(stream, targets, meta) {
    if (meta !== undefined) this.#send(`${OWN}stream`, { stream: stream.id, meta }, targets).catch(() => {});
  }

  #addTracks(tracks, stream, targets, meta) {
    this.#tellOf(stream, targets, meta);
    for (const [, { peer }] of this.#targets(targets)) {
      for (const track of tracks) peer.pc.addTrack(track, stream);
    }
  }

  #removeTracks(tracks, targets) {
    for (const [, { peer }] of this.#targets(targets)) {
      for (const sender of peer.pc.getSenders()) {
        if (sender.track && tracks.includes(sender.track)) peer.pc.removeTrack(sender);
      }
    }
  }

  #replaceTrack(old, fresh, targets) {
    const senders = this.#targets(targets).flatMap(([, { peer }]) => peer.pc.getSenders());
    return Promise.all(senders.filter(({ track }) => track === old).map((s) => s.replaceTrack(fresh)));
  }

  /** Tells the others, closes every connection. */
  async leave() {
    if (this.#stop.signal.aborted) return;
    globalThis.removeEventListener?.('pagehide', this.#hidden);
    for (const { peer } of [...this.#peers.values()]) peer.close();
    this.#stop.abort(new DOMException('left the room', 'AbortError'));
    this.#subscription?.close();
    if (!this.#config.mesh) this.#mesh.close();
  }

  /** What joinRoom gives. */
  surface() {
    const on = (event) => (handler) => {
      this.#on[event] = handler;
    };
    return {
      leave: () => this.leave(),
      makeAction: (name) => this.#makeAction(name),
      ping: (id) => this.#ping(id),
      getPeers: () => Object.fromEntries(this.#targets().map(([id, { peer }]) => [id, peer.pc])),
      addStream: (stream, targets, meta) => this.#addTracks(stream.getTracks(), stream, targets, meta),
      removeStream: (stream, targets) => this.#removeTracks(stream.getTracks(), targets),
      addTrack: (track, stream, targets, meta) => this.#addTracks([track], stream, targets, meta),
      removeTrack: (track, _stream, targets) => this.#removeTracks([track], targets),
      replaceTrack: (old, fresh, _stream, targets) => this.#replaceTrack(old, fresh, targets),
      onPeerJoin: (handler) => {
        this.#on.join = handler;
        for (const [id] of this.#targets()) handler(id);
      },
      onPeerLeave: on('leave'),
      onPeerStream: on('stream'),
      onPeerTrack: on('track'),
      onState: on('state'),
      onWork: on('work'),
      ready: this.#ready,
    };
  }
}
