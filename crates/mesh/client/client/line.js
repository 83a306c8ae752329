// One event stream of a node, shared by rooms: over HTTP/1.1 a browser keeps few connections to a host.

import { readEvents } from './events.js';
import { MeshError, pause } from './mesh.js';

/** Rooms of one stream: one in its path, the others named besides. */
export const ROOMS_MAX = 16;
/** The longest wait before the next node is tried, milliseconds. */
const WAIT_MAX_MS = 15_000;
/** Rooms that come and go within this time cost one new stream, not one each. */
const CHANGE_MS = 30;
/** Seconds before now that a node still knows of. */
const SINCE_MAX_S = 60;

/** Listens to rooms for their subscriptions, at one node or another, for as long as there are any. */
export class Line {
  #mesh;
  #rooms = new Map();
  /** Rooms of the stream that is open now. */
  #asked = null;
  #round = new AbortController();
  #changing = null;
  #last = null;
  #ended;

  /** `ended` hears when nobody listens any more. */
  constructor(mesh, ended) {
    this.#mesh = mesh;
    this.#ended = ended;
  }

  /** Whether it can carry a room too. */
  takes(room) {
    return this.#rooms.has(room) || this.#rooms.size < ROOMS_MAX;
  }

  add(subscription) {
    const { room } = subscription;
    const idle = this.#rooms.size === 0;
    if (!this.#rooms.has(room)) this.#rooms.set(room, new Set());
    this.#rooms.get(room).add(subscription);
    if (idle) this.#run();
    else this.#changed();
  }

  remove(subscription) {
    const { room } = subscription;
    const all = this.#rooms.get(room);
    if (!all?.delete(subscription) || all.size) return;
    this.#rooms.delete(room);
    if (this.#rooms.size) return this.#changed();
    this.#round.abort();
    this.#ended(this);
  }

  /** Opens another stream once the rooms, or who wants what was said before, have changed. */
  #changed() {
    this.#changing ??= setTimeout(() => {
      this.#changing = null;
      const asked = this.#asked;
      if (!asked) return; // the next one is about to be asked for
      const same = asked.length === this.#rooms.size && asked.every((room) => this.#rooms.has(room));
      if (!same || this.#all().some((one) => one.fresh)) this.#round.abort();
    }, CHANGE_MS);
  }

  #all() {
    return [...this.#rooms.values()].flatMap((all) => [...all]);
  }

  async #run() {
    // Rooms that are joined in one go share the first stream.
    await null;
    let wait = 250;
    let node = null;
    while (this.#rooms.size) {
      const { signal } = (this.#round = new AbortController());
      try {
        node ??= await this.#mesh.pick({ signal });
        await this.#listen(node, signal, () => {
          wait = 250;
        });
      } catch (error) {
        // Other rooms, at the same node: nobody was left alone meanwhile.
        if (signal.aborted) continue;
        if (node) this.#mesh.avoid(node.url, error.retryAfterMs);
        for (const one of this.#all()) one.lost(node, error);
      } finally {
        this.#asked = null;
      }
      for (const one of this.#all()) one.gone();
      node = null;
      await pause(wait * (0.5 + Math.random()), signal).catch(() => {});
      wait = Math.min(2 * wait, WAIT_MAX_MS);
    }
  }

  /** The stream's address: its rooms, and from where on. */
  #address() {
    const [first, ...others] = (this.#asked = [...this.#rooms.keys()]);
    const query = new URLSearchParams();
    if (others.length) query.set('also', others.join(','));
    const since = Math.max(0, ...this.#all().map((one) => (one.fresh ? one.since : 0)));
    if (this.#last && !since) query.set('last', this.#last);
    // Whoever went on before may not miss anything either.
    else if (since) query.set('since', this.#last ? SINCE_MAX_S : since);
    return `/room/${first}?${query}`;
  }

  async #listen(node, signal, well) {
    const headers = { Accept: 'text/event-stream' };
    const answer = await fetch(node.url + this.#address(), { headers, signal });
    if (!answer.ok) throw await this.#refusal(node, answer);
    let left;
    const hear = ({ name, data }) => {
      const said = JSON.parse(data);
      if (name === 'message') this.#post(said);
      else if (name === 'bye') left = said;
      else if (name === 'price') this.#price(said.room, said);
      else if (name === 'hello') {
        well();
        for (const room of said.rooms) for (const one of this.#rooms.get(room) ?? []) one.found(node);
        this.#price(said.rooms[0], said);
      }
    };
    await readEvents(answer.body, hear, signal);
    this.#mesh.learn(left?.nodes);
    // Only who read too slowly may come back at once.
    if (left?.reason === 'slow') return;
    throw new MeshError(`${node.url}: ${left?.reason ?? 'the stream ended'}`, { code: 'gone', url: node.url });
  }

  async #refusal({ url }, answer) {
    const said = await answer.json().catch(() => null);
    this.#mesh.learn(said?.nodes);
    const retryAfterMs = Number(answer.headers.get('Retry-After')) * 1000 || undefined;
    const known = { code: said?.error, status: answer.status, retryAfterMs, url, answer: said };
    return new MeshError(`${url}: ${said?.message ?? answer.status}`, known);
  }

  #price(room, { token, target }) {
    for (const one of this.#rooms.get(room) ?? []) one.priced({ token, target });
  }

  #post(post) {
    if (!this.#rooms.has(post.room)) return;
    this.#last = post.id;
    for (const one of this.#rooms.get(post.room)) one.hear(post);
  }
}
