// SHA-256 of a challenge (32 bytes) and a nonce (8 bytes), in plain JavaScript: one compression.
// What browsers without WebAssembly SIMD mine with, and what looks again at what that finds.

const CONSTANTS = Int32Array.of(
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
);
const schedule = new Int32Array(64);
const first = new Uint32Array(2);

/** The first two words of the hash. `words` are the challenge's eight; what is returned is reused. */
export function hash(words, high, low) {
  const s = schedule;
  for (let i = 0; i < 8; i++) s[i] = words[i];
  s[8] = high;
  s[9] = low;
  s[10] = 0x80000000;
  for (let i = 11; i < 15; i++) s[i] = 0;
  s[15] = 320; // bits hashed
  for (let i = 16; i < 64; i++) {
    const x = s[i - 15];
    const y = s[i - 2];
    const x0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const y1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    s[i] = (s[i - 16] + x0 + s[i - 7] + y1) | 0;
  }
  let a = 0x6a09e667;
  let b = 0xbb67ae85 | 0;
  let c = 0x3c6ef372;
  let d = 0xa54ff53a | 0;
  let e = 0x510e527f;
  let f = 0x9b05688c | 0;
  let g = 0x1f83d9ab;
  let h = 0x5be0cd19;
  for (let i = 0; i < 64; i++) {
    const e1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t = (h + e1 + ((e & f) ^ (~e & g)) + CONSTANTS[i] + s[i]) | 0;
    const a0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const u = (a0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t) | 0;
    d = c;
    c = b;
    b = a;
    a = (t + u) | 0;
  }
  first[0] = a + 0x6a09e667;
  first[1] = b + 0xbb67ae85;
  return first;
}

/** Whether the hash's first 64 bits are at most the target: two words, unsigned. */
export function fits(words, high, low, target) {
  const found = hash(words, high, low);
  return found[0] < target[0] || (found[0] === target[0] && found[1] <= target[1]);
}
