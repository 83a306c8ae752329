// Proof of work: what is to be solved, and a miner of several threads that solves it.

import { loadWasm, search } from './search.js';

const text = new TextEncoder();
/** Threads at most; a page is not alone on its machine. */
const WORKERS_MAX = 4;
/** A worker that did not start by then is done without. */
const START_MS = 5_000;

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
export const unhex = (digits) => Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));

export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
}

/** What a proof for this request has to solve. `body` is what is signed of it, as bytes. */
export async function challenge(method, path, token, body) {
  const digest = hex(await sha256(body));
  return sha256(text.encode(`wsm1 pow\n${method} ${path}\n${token}\n${digest}`));
}

/** How many tries a target takes on average. */
export const workOf = (target) => Number((1n << 64n) / (BigInt(`0x${target}`) + 1n));

/** Threads that look for nonces, one proof after the other. They start with the first proof. */
export class Miner {
  #count;
  #plain;
  #workers = null;
  #job = 0;
  #queue = Promise.resolve();
  #closed = false;
  /** Hashes a second, as last measured; 0 before the first proof. */
  rate = 0;

  /** `workers`: how many threads; `plain`: without WebAssembly. */
  constructor({ workers, plain = false } = {}) {
    this.#count = workers ?? Math.min(WORKERS_MAX, globalThis.navigator?.hardwareConcurrency ?? 2);
    this.#plain = plain;
  }

  /**
   * Solves a challenge for a target (16 digits): {nonce, tries, ms}. `signal` cancels it,
   * `onProgress({tries, expected, rate})` hears of it, `start` is the first nonce [high, low].
   */
  mine(challenge, target, options = {}) {
    const turn = this.#queue.then(() => this.#mine(challenge, target, options));
    this.#queue = turn.catch(() => {});
    return turn;
  }

  async #mine(challenge, target, { signal, onProgress, start }) {
    signal?.throwIfAborted();
    if (this.#closed) throw new DOMException('the miner is closed', 'InvalidStateError');
    this.#workers ??= startWorkers(this.#count);
    const workers = await this.#workers;
    const job = ++this.#job;
    const began = performance.now();
    const expected = workOf(target);
    let tries = 0;
    const tried = (count) => {
      tries += count;
      const ms = performance.now() - began;
      if (ms > 20) this.rate = Math.round((tries / ms) * 1000);
      onProgress?.({ tries, expected, rate: this.rate });
    };
    const cancelled = aborted(signal);
    try {
      const nonce = workers.length
        ? await Promise.race([this.#spread(workers, { job, challenge, target, start }, tried), cancelled])
        : await this.#here(challenge, target, start, tried, signal);
      signal?.throwIfAborted();
      return { nonce, tries, ms: performance.now() - began };
    } finally {
      cancelled.done();
      for (const worker of workers) worker.postMessage({ stop: job });
    }
  }

  #spread(workers, { job, challenge, target, start }, tried) {
    return new Promise((resolve, reject) => {
      workers.forEach((worker, nth) => {
        worker.onmessage = ({ data }) => {
          if (data.job !== job) return;
          if (data.nonce) resolve(data.nonce);
          else tried(data.tried);
        };
        worker.onerror = () => reject(new Error('a thread of the miner broke down'));
        // Each has its own high word, and so 2^32 nonces before it meets another.
        const from = start ? [(start[0] + nth) >>> 0, start[1]] : [random(), 0];
        worker.postMessage({ job, challenge, target, start: from, plain: this.#plain });
      });
    });
  }

  async #here(challenge, target, start, tried, signal) {
    const wasm = this.#plain ? null : await loadWasm();
    const stopped = () => this.#closed || signal?.aborted;
    return search(wasm, challenge, target, start ?? [random(), 0], stopped, tried);
  }

  /** Ends the threads; what is being solved never is. */
  close() {
    this.#closed = true;
    this.#workers?.then((workers) => workers.forEach((worker) => worker.terminate()));
  }
}

const random = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** Rejects when the signal is aborted; `done` lets go of it. */
function aborted(signal) {
  let stop;
  const promise = new Promise((_, reject) => {
    stop = () => reject(signal.reason);
    signal?.addEventListener('abort', stop);
  });
  promise.catch(() => {});
  promise.done = () => signal?.removeEventListener('abort', stop);
  return promise;
}

/** As many workers as start; none where a policy forbids them. */
async function startWorkers(count) {
  const started = await Promise.all(Array.from({ length: count }, startWorker));
  return started.filter(Boolean);
}

async function startWorker() {
  const url = new URL('worker.js', import.meta.url);
  let worker;
  let made;
  try {
    if (url.origin === globalThis.origin) {
      worker = new Worker(url, { type: 'module' });
    } else {
      // Only a page's own scripts may be workers: one that imports ours is.
      made = URL.createObjectURL(new Blob([`import ${JSON.stringify(url.href)}`], { type: 'text/javascript' }));
      worker = new Worker(made, { type: 'module' });
    }
  } catch {
    return null;
  }
  const ready = await new Promise((resolve) => {
    worker.onmessage = () => resolve(true);
    worker.onerror = () => resolve(false);
    setTimeout(resolve, START_MS, false);
  });
  if (made) URL.revokeObjectURL(made);
  if (ready) return worker;
  worker.terminate();
  return null;
}
