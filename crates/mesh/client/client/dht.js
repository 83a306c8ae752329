// Mutable items of the BitTorrent DHT (BEP 44). Nodes only carry them: they are signed and checked here.

import { hex, unhex } from './pow.js';

const text = new TextEncoder();
/** Bytes of a value: 1,000 with its length before it. */
export const VALUE_MAX = 996;
const SALT_MAX = 64;

/** A new Ed25519 key pair to sign items with. */
export async function dhtKeys() {
  return crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify']);
}

/** A key pair from the 32 bytes of its seed. */
export async function dhtKeysFrom(seed) {
  // PKCS #8 (RFC 8410): what comes before the seed is always the same.
  const pkcs8 = new Uint8Array([...unhex('302e020100300506032b657004220420'), ...seed]);
  const privateKey = await crypto.subtle.importKey('pkcs8', pkcs8, 'Ed25519', true, ['sign']);
  const { x } = await crypto.subtle.exportKey('jwk', privateKey);
  const raw = Uint8Array.from(atob(x.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
  const publicKey = await crypto.subtle.importKey('raw', raw, 'Ed25519', true, ['verify']);
  return { privateKey, publicKey };
}

/** A public key's 64 digits: where its items are found. */
export async function dhtAddress(publicKey) {
  return hex(new Uint8Array(await crypto.subtle.exportKey('raw', publicKey)));
}

/** What an item's signature is over. */
export function signedItem(salt, seq, value) {
  const head = salt.length ? [text.encode(`4:salt${salt.length}:`), salt] : [];
  return joined([...head, text.encode(`3:seqi${seq}e1:v${value.length}:`), value]);
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

async function target(key, salt) {
  return hex(new Uint8Array(await crypto.subtle.digest('SHA-1', joined([unhex(key), salt]))));
}

const asBytes = (value) => (typeof value === 'string' ? text.encode(value) : new Uint8Array(value));

function salted(salt = '') {
  const bytes = asBytes(salt);
  if (bytes.length > SALT_MAX) throw new RangeError(`a salt has at most ${SALT_MAX} bytes`);
  return bytes;
}

/**
 * The newest item of a public key (64 digits) under a salt: {seq, value, signature}, or null.
 * `seq` asks for newer ones only, `wait: 'full'` for the newest there is rather than the first found.
 * Throws when what a node gives is not signed by the key.
 */
export async function dhtGet(mesh, key, { salt, seq, wait = 'fast', signal } = {}) {
  const bytes = salted(salt);
  const known = seq === undefined ? '' : `&seq=${seq}`;
  const query = `k=${key}&salt=${hex(bytes)}${known}&wait=${wait}`;
  const path = `/dht-get/${await target(key, bytes)}`;
  let found;
  try {
    found = await mesh.withNode(
      (node) => mesh.buy(node.url, { path, at: '/dht-get', method: 'GET', query, signal }),
      { signal },
    );
  } catch (error) {
    if (error.code === 'dht_not_found') return null;
    throw error;
  }
  const value = Uint8Array.from(atob(found.v), (c) => c.charCodeAt(0));
  const signature = unhex(found.sig);
  const publicKey = await crypto.subtle.importKey('raw', unhex(key), 'Ed25519', false, ['verify']);
  const signed = signedItem(bytes, found.seq, value);
  if (!(await crypto.subtle.verify('Ed25519', publicKey, signature, signed))) {
    throw new Error('the item is not signed by its owner');
  }
  return { seq: found.seq, value, signature };
}

/**
 * Signs a value (text or bytes, at most 996) and writes it: {target, seq, stored_at}.
 * Sequence numbers rise from write to write; `cas` is the one that must be there.
 * Items are forgotten after about two hours: write them again every hour.
 */
export async function dhtPut(mesh, keys, value, { salt, seq, cas, signal, onProgress } = {}) {
  const bytes = asBytes(value);
  if (bytes.length > VALUE_MAX) throw new RangeError(`a value has at most ${VALUE_MAX} bytes`);
  const saltBytes = salted(salt);
  const key = await dhtAddress(keys.publicKey);
  const signed = signedItem(saltBytes, seq, bytes);
  const signature = new Uint8Array(await crypto.subtle.sign('Ed25519', keys.privateKey, signed));
  const expects = cas === undefined ? '' : `&cas=${cas}`;
  const query = `k=${key}&salt=${hex(saltBytes)}&seq=${seq}&sig=${hex(signature)}${expects}`;
  const order = { path: '/dht-put', query, body: bytes, signed: joined([signed, signature]), signal, onProgress };
  return mesh.withNode((node) => mesh.buy(node.url, order), { signal });
}
