// One thread of the miner. Takes {job, challenge, target, start} and {stop: job};
// says {ready}, {job, tried} and {job, nonce}.

import { loadWasm, search } from './search.js';

const wasm = loadWasm();
let current = null;

addEventListener('message', async ({ data }) => {
  if ('stop' in data) {
    if (data.stop === current) current = null;
    return;
  }
  const { job, challenge, target, start, plain } = data;
  current = job;
  const tried = (count) => postMessage({ job, tried: count });
  const engine = plain ? null : await wasm;
  const nonce = await search(engine, challenge, target, start, () => current !== job, tried);
  if (nonce) postMessage({ job, nonce });
});

postMessage({ ready: true });
