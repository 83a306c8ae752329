// What members of a room say to each other, so that nodes cannot read it: packed, cut into posts of at
// most 1,024 bytes, each encrypted and filled up to a multiple of 256.

import { hex, sha256 } from './pow.js';

const text = new TextEncoder();
const IV = 12;
const TAG = 16;
const STEP = 256;
const POST = 1_024;
/** Message (4), part, parts, length (2). */
const HEAD = 8;
const PART = POST - IV - TAG - HEAD;
const PARTS_MAX = 32;
/** Messages of which parts are missing. */
const OPEN_MAX = 64;
/** Bytes of a message, unpacked. */
const MESSAGE_MAX = 256 * 1024;

/** The room that an application's secret names. */
export async function roomOf(app, secret) {
  return hex(await sha256(text.encode(`wsm1 room:${app}:${secret}`)));
}

async function keyOf(secret) {
  const root = await crypto.subtle.importKey('raw', text.encode(secret), 'HKDF', false, ['deriveKey']);
  const how = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info: text.encode('wsm1 body') };
  return crypto.subtle.deriveKey(how, root, { name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
}

/** Turns messages (JSON) into posts and back, for who knows the secret. */
export class Sealer {
  #key;
  #room;
  #open = new Map();

  static async of(room, secret) {
    return new Sealer(room, await keyOf(secret));
  }

  constructor(room, key) {
    this.#room = text.encode(room);
    this.#key = key;
  }

  /** The posts that carry a message. */
  async seal(message) {
    const packed = await through(text.encode(JSON.stringify(message)), new CompressionStream('deflate-raw'));
    const parts = Math.ceil(packed.length / PART);
    if (parts > PARTS_MAX) throw new RangeError('a message too long for posts');
    const id = crypto.getRandomValues(new Uint8Array(4));
    const cut = (at) => this.#sealPart(id, at, parts, packed.subarray(at * PART, (at + 1) * PART));
    return Promise.all(Array.from({ length: parts }, (_, at) => cut(at)));
  }

  async #sealPart(id, at, parts, bytes) {
    const whole = Math.ceil((IV + HEAD + bytes.length + TAG) / STEP) * STEP;
    const plain = new Uint8Array(whole - IV - TAG);
    plain.set(id);
    plain.set([at, parts, bytes.length >> 8, bytes.length & 255], 4);
    plain.set(bytes, HEAD);
    const iv = crypto.getRandomValues(new Uint8Array(IV));
    const sealed = await crypto.subtle.encrypt(this.#algorithm(iv), this.#key, plain);
    const post = new Uint8Array(whole);
    post.set(iv);
    post.set(new Uint8Array(sealed), IV);
    return post;
  }

  #algorithm(iv) {
    return { name: 'AES-GCM', iv, additionalData: this.#room };
  }

  /** The message a post completes; null while parts are missing, and for what no member said. */
  async open(post) {
    const bytes = typeof post === 'string' ? text.encode(post) : post;
    try {
      const sealed = bytes.subarray(IV);
      const plain = await crypto.subtle.decrypt(this.#algorithm(bytes.subarray(0, IV)), this.#key, sealed);
      const packed = this.#collect(new Uint8Array(plain));
      if (!packed) return null;
      const message = await through(packed, new DecompressionStream('deflate-raw'));
      return JSON.parse(new TextDecoder().decode(message));
    } catch {
      return null;
    }
  }

  #collect(plain) {
    const id = hex(plain.subarray(0, 4));
    const [at, parts, high, low] = plain.subarray(4, HEAD);
    const bytes = plain.subarray(HEAD, HEAD + high * 256 + low);
    if (parts === 1) return bytes;
    if (at >= parts || parts > PARTS_MAX) return null;
    const got = this.#open.get(id) ?? Array(parts).fill(null);
    got[at] = bytes;
    this.#open.delete(id);
    if (got.every(Boolean)) return new Uint8Array(got.flatMap((part) => [...part]));
    this.#open.set(id, got); // the latest last: the oldest goes first
    if (this.#open.size > OPEN_MAX) this.#open.delete(this.#open.keys().next().value);
    return null;
  }
}

async function through(bytes, transform) {
  const reader = new Blob([bytes]).stream().pipeThrough(transform).getReader();
  const parts = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > MESSAGE_MAX) {
      await reader.cancel();
      throw new RangeError('a message too long');
    }
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
