// A room: hearing what is posted to it, whatever becomes of the node, and posting to it.

import { readEvents } from './events.js';
import { MeshError, bytesOf, pause } from './mesh.js';

/** Ids remembered: posts come again when a stream is resumed. */
const SEEN_MAX = 4_096;
/** The longest wait before the next node is tried, milliseconds. */
const WAIT_MAX_MS = 15_000;
/** Nodes a post is tried at. */
const POST_TRIES = 5;
/** Bytes of a post. */
export const POST_MAX = 1_024;

/** Listens to one room until closed. What is posted meanwhile elsewhere comes once, in any order. */
export class Subscription {
  #mesh;
  #onPost;
  #onState;
  #stop = new AbortController();
  #seen = new Set();
  #last = null;
  #quote = null;
  #heard;
  #hear;
  /** The node listened to, or null. */
  node = null;

  /**
   * `onPost({id, at, origin, work, body})` hears every post, one's own too; `body` is a string, or bytes
   * where it is no text. `since` (seconds, at most 60) asks for what was said before.
   * `onState({connected, node, error})` hears how it goes.
   */
  constructor(mesh, room, onPost, { since = 0, onState } = {}) {
    if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(room)) throw new TypeError('a room is 40 or 64 hexadecimal digits');
    this.room = room;
    this.#mesh = mesh;
    this.#onPost = onPost;
    this.#onState = onState;
    this.#gone();
    this.#run(since).catch(() => {}); // ends when closed
  }

  /** What a post costs now, when known. */
  get quote() {
    return this.#quote;
  }

  /** Resolves when a node is listened to. */
  get connected() {
    return this.#heard;
  }

  #gone() {
    this.node = null;
    this.#quote = null;
    this.#heard = new Promise((resolve) => {
      this.#hear = resolve;
    });
  }

  async #run(since) {
    const { signal } = this.#stop;
    let wait = 250;
    while (!signal.aborted) {
      let node;
      try {
        node = await this.#mesh.pick({ signal });
        await this.#listen(node, since, signal, () => {
          wait = 250;
        });
      } catch (error) {
        if (signal.aborted) return;
        if (node) this.#mesh.avoid(node.url, error.retryAfterMs);
        this.#onState?.({ connected: false, node: node?.url, error });
      }
      this.#gone();
      await pause(wait * (0.5 + Math.random()), signal);
      wait = Math.min(2 * wait, WAIT_MAX_MS);
    }
  }

  async #listen(node, since, signal, well) {
    const query = this.#last ? `last=${this.#last}` : since ? `since=${since}` : '';
    const headers = { Accept: 'text/event-stream' };
    const answer = await fetch(`${node.url}/room/${this.room}?${query}`, { headers, signal });
    if (!answer.ok) {
      const after = Number(answer.headers.get('Retry-After')) * 1000 || undefined;
      const known = { status: answer.status, retryAfterMs: after, url: node.url };
      throw new MeshError(`${node.url}: ${answer.status}`, known);
    }
    let left;
    await readEvents(
      answer.body,
      ({ name, data }) => {
        const said = JSON.parse(data);
        if (name === 'message') this.#post(said);
        else if (name === 'bye') left = said;
        else if (name === 'hello' || name === 'price') this.#price(node, said, name === 'hello' && well);
      },
      signal,
    );
    this.#mesh.learn(left?.nodes);
    // Only who read too slowly may come back at once.
    if (left?.reason === 'slow') return;
    throw new MeshError(`${node.url}: ${left?.reason ?? 'the stream ended'}`, { code: 'gone', url: node.url });
  }

  #price(node, { room, token, target }, well) {
    if (room && room !== this.room) return;
    this.#quote = { token, target };
    if (!well) return;
    well();
    this.node = node;
    this.#hear(node);
    this.#onState?.({ connected: true, node: node.url });
  }

  #post({ id, room, at, origin, work, body, b64 }) {
    if (room !== this.room || this.#seen.has(id)) return;
    this.#seen.add(id);
    if (this.#seen.size > SEEN_MAX) this.#seen.delete(this.#seen.values().next().value);
    this.#last = id;
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
    if (this.node && this.#quote && !this.#mesh.isAvoided(this.node.url)) {
      if (!this.#mesh.tooDear(this.#quote)) return { url: this.node.url, quote: this.#quote };
    }
    const { url } = await this.#mesh.pick({ signal });
    const quote = await this.#mesh.get(url, `/room/${this.room}`, { signal });
    return { url, quote };
  }

  /** Stops listening. */
  close() {
    this.#stop.abort(new DOMException('left the room', 'AbortError'));
    this.#onState?.({ connected: false });
  }
}
