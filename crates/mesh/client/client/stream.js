// A room: hearing what is posted to it, whatever becomes of the node, and posting to it.

import { bytesOf } from './mesh.js';

/** Ids remembered: posts come again when a stream is resumed. */
const SEEN_MAX = 4_096;
/** Nodes a post is tried at. */
const POST_TRIES = 5;
/** Bytes of a post. */
export const POST_MAX = 1_024;

/** Listens to one room until closed. What is posted meanwhile elsewhere comes once, in any order. */
export class Subscription {
  #mesh;
  #line;
  #onPost;
  #onState;
  #stop = new AbortController();
  #seen = new Set();
  #quote = null;
  #connected;
  #connect;
  /** The node listened to, or null. */
  node = null;
  /** Whether none ever was. */
  fresh = true;

  /**
   * `onPost({id, at, origin, work, body})` hears every post, one's own too; `body` is a string, or bytes
   * where it is no text. `since` (seconds, at most 60) asks for what was said before; more of it may come
   * when other rooms of the same Mesh ask for more.
   * `onState({connected, node, error})` hears how it goes. `line` is the Line that carries it.
   */
  constructor(mesh, line, room, onPost, { since = 0, onState } = {}) {
    this.room = room;
    this.since = since;
    this.#mesh = mesh;
    this.#onPost = onPost;
    this.#onState = onState;
    this.gone();
    this.#line = line;
    line.add(this);
  }

  /** What a post costs now, when known. */
  get quote() {
    return this.#quote;
  }

  /** Resolves when a node is listened to. */
  get connected() {
    return this.#connected;
  }

  // What the line tells.

  /** A node is listened to. */
  found(node) {
    const again = this.node !== null;
    this.node = node;
    this.fresh = false;
    if (again) return;
    this.#connect(node);
    this.#onState?.({ connected: true, node: node.url });
  }

  /** And is not any more. */
  gone() {
    if (this.#connected && !this.node) return; // who waits still does
    this.node = null;
    this.#quote = null;
    this.#connected = new Promise((resolve) => {
      this.#connect = resolve;
    });
  }

  lost(node, error) {
    this.#onState?.({ connected: false, node: node?.url, error });
  }

  priced(quote) {
    this.#quote = quote;
  }

  hear({ id, at, origin, work, body, b64 }) {
    if (this.#seen.has(id)) return;
    this.#seen.add(id);
    if (this.#seen.size > SEEN_MAX) this.#seen.delete(this.#seen.values().next().value);
    const bytes = b64 === undefined ? body : Uint8Array.from(atob(b64), (c) => c.charCodeAt(0));
    this.#onPost({ id, at, origin, work, body: bytes });
  }

  /**
   * Posts text or bytes, at most 1,024 of them, and pays for it. {id, at, delivered, node}.
   * `signal` cancels it, `onProgress` hears from the miner. Another node is tried when one fails.
   */
  async post(body, { signal, onProgress } = {}) {
    const bytes = await bytesOf(body);
    if (bytes.length > POST_MAX) throw new RangeError(`a post has at most ${POST_MAX} bytes`);
    const either = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    for (let attempt = 1; ; attempt++) {
      const { url, quote } = await this.#poster(either);
      try {
        const path = `/room/${this.room}`;
        const told = await this.#mesh.buy(url, { path, body: bytes, quote, signal: either, onProgress });
        if (url === this.node?.url) this.#quote = told.pow;
        return { id: told.id, at: told.at, delivered: told.delivered, node: url };
      } catch (error) {
        if (!error.passes || attempt >= POST_TRIES) throw error;
        this.#mesh.avoid(url, error.retryAfterMs);
      }
    }
  }

  /** The node listened to, unless it has become too dear or has just failed. */
  async #poster(signal) {
    const { node } = this;
    if (node && !this.#mesh.isAvoided(node.url)) {
      // A stream of several rooms begins with the price of one.
      this.#quote ??= await this.#price(node.url, signal).catch(() => null);
      if (this.#quote && !this.#mesh.tooDear(this.#quote)) return { url: node.url, quote: this.#quote };
    }
    signal.throwIfAborted();
    const { url } = await this.#mesh.pick({ signal });
    return { url, quote: await this.#price(url, signal) };
  }

  #price(url, signal) {
    return this.#mesh.get(url, `/room/${this.room}`, { signal });
  }

  /** Stops listening. */
  close() {
    if (this.#stop.signal.aborted) return;
    this.#line.remove(this);
    this.#stop.abort(new DOMException('left the room', 'AbortError'));
    this.#onState?.({ connected: false });
  }
}
