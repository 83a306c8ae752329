// The search for a nonce: WebAssembly four at a time where there is SIMD, plain JavaScript elsewhere.
// Used by worker.js, and by the page itself where no worker can be had.

import { fits } from './sha256.js';

/** How long a batch should take: as long as a page may stop, and a cancelled search go on. */
const BATCH_MS = 12;
const WORD = 2 ** 32;

/** The WebAssembly search, or null where it does not run. */
export async function loadWasm(url = new URL('miner.wasm', import.meta.url)) {
  try {
    const answer = await fetch(url);
    if (!answer.ok) return null;
    return await compileWasm(await answer.arrayBuffer());
  } catch {
    return null; // no WebAssembly, no SIMD, or a policy against it
  }
}

/** As loadWasm, from bytes. */
export async function compileWasm(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes);
  return instance.exports.search;
}

/** A challenge's bytes as words, a target's 16 digits as two. */
export function prepared(challenge, target) {
  const view = new DataView(challenge.buffer, challenge.byteOffset, challenge.byteLength);
  const words = Int32Array.from({ length: 8 }, (_, at) => view.getInt32(4 * at));
  return { words, target: [0, 8].map((at) => parseInt(target.slice(at, at + 8), 16)) };
}

/**
 * Tries `tries` nonces (a multiple of four) from `low` on; the first that fits, or -1.
 * `wasm` is what loadWasm gave.
 */
export function batch(wasm, { words, target }, high, low, tries) {
  const end = low + tries;
  while (low < end) {
    let four = low;
    if (wasm) {
      const group = wasm(...words, high, low, (end - low) / 4, target[0]);
      if (group < 0) return -1;
      four = low + 4 * group;
    }
    const stop = wasm ? four + 4 : end;
    for (let nonce = four; nonce < stop; nonce++) {
      if (fits(words, high, nonce, target)) return nonce;
    }
    low = stop;
  }
  return -1;
}

/** Lets messages and events through; unlike a timer it is not slowed down. */
const breath = () =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });

/**
 * Searches from `start` = [high, low] until it finds a nonce or `stopped()`.
 * Tells `tried(count)` after every batch. Gives the nonce as 16 digits, or null.
 */
export async function search(wasm, challenge, target, start, stopped, tried) {
  const work = prepared(challenge, target);
  let [high, low] = start;
  let tries = 1 << 12;
  while (!stopped()) {
    const began = performance.now();
    const size = Math.min(tries, WORD - low);
    const found = batch(wasm, work, high, low, size);
    tried(found < 0 ? size : found - low + 1);
    if (found >= 0) return digits(high) + digits(found);
    low += size;
    if (low === WORD) [high, low] = [(high + 1) % WORD, 0];
    if (performance.now() - began < BATCH_MS) tries *= 2;
    else if (tries > 1 << 12 && performance.now() - began > 2 * BATCH_MS) tries /= 2;
    await breath();
  }
  return null;
}

const digits = (word) => word.toString(16).padStart(8, '0');
