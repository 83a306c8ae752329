// The mesh as a client sees it: which nodes there are, which has room, and paying them with work.

import { dhtGet, dhtPut } from './dht.js';
import { Line } from './line.js';
import { Miner, challenge, workOf } from './pow.js';
import { Subscription } from './stream.js';

/** How long a node may take to say what it costs, milliseconds. */
const ASK_MS = 4_000;
/** And to do what was paid for. */
const CALL_MS = 20_000;
/** Nodes asked for their price at once. */
const SAMPLE = 8;
/** Of those that are cheap enough, one of the nearest few is taken: not all clients the same one. */
const NEAREST = 3;
/** Nodes remembered. */
const KNOWN_MAX = 200;
/** A node that failed is left alone for this long unless it says how long. */
const AVOID_MS = 15_000;
/** Longer than this nobody mines for one thing on this node when there are others. */
const PATIENCE_S = 30;
/** Where no credentials were to be had, none are asked for during this time. */
const REFUSED_MS = 10_000;
/** Attempts at one purchase: prices rise while one mines. */
const ATTEMPTS = 6;

/** A node said no, or nothing. `code` is its word for it, or `unreachable`. */
export class MeshError extends Error {
  constructor(message, { code, status = 0, retryAfterMs, url, answer } = {}) {
    super(message);
    this.name = 'MeshError';
    Object.assign(this, { code, status, retryAfterMs, url, answer });
  }

  /** Whether another node, or the same one later, may do it. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Nodes, and a miner to pay them. */
export class Mesh {
  #known = new Set();
  #avoided = new Map();
  #view = [];
  #credentials = null;
  #lines = new Set();
  #curious;

  /**
   * `nodes`: URLs of some nodes; without any the one this script came from.
   * `discover`: whether those they know of are used too.
   */
  constructor({ nodes, miner, discover = true } = {}) {
    this.#curious = discover;
    const own = [new URL(import.meta.url).origin];
    this.seeds = (nodes?.length ? nodes : own).map((url) => new URL(url).origin);
    this.miner = miner ?? new Miner();
    this.#learn(this.seeds);
  }

  /** Every node heard of. */
  get known() {
    return [...this.#known];
  }

  #learn(urls) {
    for (const url of urls) {
      if (this.#known.size >= KNOWN_MAX) return;
      try {
        this.#known.add(new URL(url).origin);
      } catch {
        // A node may say what it likes.
      }
    }
  }

  /** Leaves a node alone for a while. */
  avoid(url, ms = AVOID_MS) {
    this.#avoided.set(url, Date.now() + ms);
  }

  /** Whether a node is to be left alone now. */
  isAvoided(url) {
    return this.#avoided.get(url) > Date.now();
  }

  /** Takes up what a node that is stopping or full said of others. */
  learn(urls) {
    if (this.#curious && Array.isArray(urls)) this.#learn(urls.filter((url) => typeof url === 'string'));
  }

  /** `GET path` of a node, as JSON. */
  async get(url, path, options) {
    return (await this.call(url, path, options)).json;
  }

  /** A request to a node: {status, json}. Throws a MeshError unless it went well. */
  async call(url, path, { method = 'GET', body, signal, timeoutMs = CALL_MS } = {}) {
    const limit = AbortSignal.timeout(timeoutMs);
    const either = signal ? AbortSignal.any([signal, limit]) : limit;
    let answer;
    let json;
    try {
      answer = await fetch(url + path, { method, body, signal: either, headers: { Accept: 'application/json' } });
      json = await answer.json();
    } catch (error) {
      signal?.throwIfAborted();
      throw new MeshError(`${url}: ${error.message}`, { code: 'unreachable', status: answer?.status, url });
    }
    if (answer.ok) return { status: answer.status, json };
    // Who has no room may say who has.
    this.learn(json?.nodes);
    throw refusal(url, answer, json);
  }

  /** Asks some seeds which others they know. */
  async discover({ signal } = {}) {
    const ask = (url) => this.get(url, '/nodes?n=20', { signal, timeoutMs: ASK_MS });
    const lists = await Promise.allSettled(shuffled(this.known).slice(0, 3).map(ask));
    for (const { value } of lists) this.learn(value);
    return this.known;
  }

  /**
   * Chooses a node: of those whose price is at most twice the lowest, one of the nearest.
   * {url, key, work, rttMs, height}; waits when all known ones are to be left alone.
   */
  async pick({ signal } = {}) {
    if (this.#curious) await this.discover({ signal });
    const now = Date.now();
    const open = this.known.filter((url) => !this.isAvoided(url));
    for (const url of open) this.#avoided.delete(url);
    const asked = await this.#prices(shuffled(open).slice(0, SAMPLE), signal);
    signal?.throwIfAborted();
    this.#view = asked;
    if (asked.length) return choose(asked);
    // Whoever was left alone the longest may have recovered.
    const [[url, until] = [this.seeds[0], now]] = [...this.#avoided].sort((a, b) => a[1] - b[1]);
    await pause(Math.min(until - now, AVOID_MS), signal);
    const [node] = await this.#prices([url], signal);
    if (node) return node;
    this.avoid(url);
    throw new MeshError('no node can be reached', { code: 'unreachable', url });
  }

  async #prices(urls, signal) {
    const ask = async (url) => {
      const began = performance.now();
      const said = await this.get(url, '/', { signal, timeoutMs: ASK_MS });
      const rttMs = performance.now() - began;
      return { url, key: said.node.key, work: said.pow.work, height: said.height, rttMs };
    };
    const answers = await Promise.allSettled(urls.map(ask));
    answers.forEach(({ reason }, nth) => reason && this.avoid(urls[nth], reason.retryAfterMs));
    return answers.flatMap(({ value }) => value ?? []);
  }

  /** Whether a price is too much, as far as other nodes' are known. */
  tooDear(quote) {
    const work = workOf(quote.target);
    const others = this.#view.map((node) => node.work);
    if (others.length < 2) return false;
    const slow = this.miner.rate && work / this.miner.rate > PATIENCE_S;
    return slow || work > 4 * Math.min(...others);
  }

  /**
   * Pays for a request and makes it; the answer. `path` is what the proof is about, `query` and `body`
   * go with it, `signed` are the bytes the proof is bound to (the body's unless said otherwise).
   * The price is `quote`, or asked for; when it has risen meanwhile, what the refusal says.
   */
  async buy(url, { path, method = 'POST', query = '', body, signed, quote, at = path, ...options }) {
    const { signal, onProgress } = options;
    const bound = signed ?? (await bytesOf(body));
    for (let attempt = 1; ; attempt++) {
      let paid = '';
      if (quote) {
        const puzzle = await challenge(method, path, quote.token, bound);
        const { nonce } = await this.miner.mine(puzzle, quote.target, { signal, onProgress });
        paid = `&t=${quote.token}&n=${nonce}`;
      }
      try {
        return (await this.call(url, `${at}?${query}${paid}`, { method, body, signal })).json;
      } catch (error) {
        const fresh = error.answer?.pow;
        if (!fresh || attempt >= ATTEMPTS) throw error;
        quote = fresh;
      }
    }
  }

  /** Does something with a chosen node, and with another when that one cannot. */
  async withNode(work, { signal } = {}) {
    for (let attempt = 1; ; attempt++) {
      const node = await this.pick({ signal });
      try {
        return await work(node);
      } catch (error) {
        if (!error.passes || attempt >= 3) throw error;
        this.avoid(node.url, error.retryAfterMs);
      }
    }
  }

  /**
   * Listens to a room (40 or 64 hexadecimal digits); see Subscription. Up to sixteen rooms share one
   * connection.
   */
  join(room, onPost, options) {
    if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(room)) throw new TypeError('a room is 40 or 64 hexadecimal digits');
    let line = [...this.#lines].find((one) => one.takes(room));
    if (!line) {
      line = new Line(this, (ended) => this.#lines.delete(ended));
      this.#lines.add(line);
    }
    return new Subscription(this, line, room, onPost, options);
  }

  /** This client's address as a node sees it: {ip, family}. */
  ip(options) {
    return this.withNode((node) => this.get(node.url, '/ip', options), options);
  }

  /** STUN and TURN servers with credentials, paid for, and kept while they are good: RTCIceServer[]. */
  token(options = {}) {
    if (this.#credentials?.until > Date.now()) return this.#credentials.bought;
    const kept = { until: Infinity };
    kept.bought = this.withNode((node) => this.#buyToken(node, options), options).then(
      ({ iceServers, ttl }) => {
        // Whoever connects with them at the last moment needs some of their life.
        kept.until = Date.now() + ttl * 800;
        return iceServers;
      },
      (error) => {
        kept.until = Date.now() + REFUSED_MS;
        throw error;
      },
    );
    this.#credentials = kept;
    return kept.bought;
  }

  async #buyToken(node, options) {
    const { available, pow, stun, ttl } = await this.get(node.url, '/token', options);
    if (!available) return { iceServers: stun?.length ? [{ urls: stun }] : [], ttl };
    const given = await this.buy(node.url, { path: '/token', quote: pow, ...options });
    given.iceServers = given.iceServers.filter((server) => server.urls.length);
    return given;
  }

  /** Reads a mutable item of the DHT and checks its signature; see dht.js. */
  dhtGet(key, options) {
    return dhtGet(this, key, options);
  }

  /** Writes a mutable item of the DHT; see dht.js. */
  dhtPut(keys, value, options) {
    return dhtPut(this, keys, value, options);
  }

  /** Ends the miner's threads. */
  close() {
    this.miner.close();
  }
}

function refusal(url, answer, json) {
  const after = Number(answer.headers.get('Retry-After'));
  const { status } = answer;
  const retryAfterMs = after > 0 ? after * 1000 : undefined;
  const message = `${url}: ${json?.message ?? status}`;
  return new MeshError(message, { code: json?.error, status, retryAfterMs, url, answer: json });
}

/** One of the nearest of the cheap. */
function choose(nodes) {
  const least = Math.min(...nodes.map((node) => node.work));
  const cheap = nodes.filter((node) => node.work <= 2 * least).sort((a, b) => a.rttMs - b.rttMs);
  return cheap[Math.floor(Math.random() * Math.min(NEAREST, cheap.length))];
}

function shuffled(list) {
  const all = [...list];
  for (let at = all.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [all[at], all[other]] = [all[other], all[at]];
  }
  return all;
}

/** Waits, unless the signal is aborted. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, Math.max(0, ms));
    signal?.addEventListener('abort', stop, { once: true });
  });
}

/** A body as bytes: text, bytes or nothing. */
export async function bytesOf(body) {
  if (body === undefined) return new Uint8Array();
  if (typeof body === 'string') return new TextEncoder().encode(body);
  return body instanceof Uint8Array ? body : new Uint8Array(body);
}
