// The client's parts, one by one, inside the browser. Gives {passed: [names], failed: [texts]}.
const done = arguments[arguments.length - 1];

const load = (name) => import(`/client/${name}.js`);
const equal = (got, wanted) => {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${a} is not ${b}`);
};
const rejects = async (promise, name) => {
  const error = await promise.then(() => null, (why) => why);
  if (error?.name !== name) throw new Error(`${error} is no ${name}`);
};
const bytes = (text) => new TextEncoder().encode(text);

const TOKEN = 'AQBlU_EAiojj3XQJ8ZUBAgMEBQYHCCdss1iMmETCvu2mnhFxtDQ';
const ROOM = '648904681423c5abca2077dde957f78af460be70275cc2ce6ea10a3e134461e4';

const tests = {
  async 'challenges are those of the specification'() {
    const { challenge, hex, sha256, workOf } = await load('pow');
    equal(hex(await sha256(bytes('demo-room'))), ROOM);
    const post = await challenge('POST', `/room/${ROOM}`, TOKEN, bytes('{"hello":"mesh"}'));
    equal(hex(post), '0b24d7199bcd48d2cf004959c33caaaec0eeb06848586b4e012e03990417b955');
    const token = await challenge('POST', '/token', TOKEN, bytes(''));
    equal(hex(token), 'eb708597dc27b0d901ab73062cfaa924d999ce1fb4d28ba22a7b6114e2460891');
    equal([workOf('0000ffffffffffff'), workOf('00003fffffffffff')], [65536, 262144]);
  },

  async 'the first nonce is found, by WebAssembly and by JavaScript'() {
    const { Miner, challenge } = await load('pow');
    const room = await challenge('POST', `/room/${ROOM}`, TOKEN, bytes('{"hello":"mesh"}'));
    const token = await challenge('POST', '/token', TOKEN, bytes(''));
    const vectors = [
      [room, '00ffffffffffffff', '0000000000000155'],
      [room, '0000ffffffffffff', '00000000000049e8'],
      [room, '0000ba2e8ba2e8ba', '0000000000047ae1'],
      [room, '00003fffffffffff', '0000000000057fe4'],
      [token, '00000fffffffffff', '00000000000fb17d'],
    ];
    for (const plain of [false, true]) {
      const miner = new Miner({ workers: 1, plain });
      for (const [puzzle, target, nonce] of vectors) {
        equal((await miner.mine(puzzle, target, { start: [0, 0] })).nonce, nonce);
      }
      miner.close();
    }
  },

  async 'every hash agrees with the browser\'s own'() {
    const { compileWasm, loadWasm, prepared } = await load('search');
    const { hash } = await load('sha256');
    const { hex, unhex } = await load('pow');
    const wasm = await loadWasm();
    if (!wasm) throw new Error('no WebAssembly');
    for (let round = 0; round < 50; round++) {
      const message = crypto.getRandomValues(new Uint8Array(40));
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', message));
      const view = new DataView(message.buffer);
      const { words } = prepared(message.subarray(0, 32), '0'.repeat(16));
      const [high, low] = [view.getUint32(32), view.getUint32(36)];
      const found = [...hash(words, high, low)];
      equal(found.map((word) => word.toString(16).padStart(8, '0')).join(''), hex(digest.subarray(0, 8)));
      // Its own first word is low enough, the one before is not, unless another of the four is lower.
      if (wasm(...words, high, low, 1, found[0]) !== 0) throw new Error('WebAssembly passed over a nonce');
      const least = Math.min(...[0, 1, 2, 3].map((lane) => hash(words, high, (low + lane) >>> 0)[0]));
      equal(wasm(...words, high, low, 1, least - 1), -1);
    }
  },

  async 'a search tells how it goes and can be called off'() {
    const { Miner } = await load('pow');
    const miner = new Miner({ workers: 2 });
    const stop = new AbortController();
    let told = 0;
    const hopeless = miner.mine(new Uint8Array(32), '0000000000000000', {
      signal: stop.signal,
      onProgress: ({ tries, expected }) => {
        told = tries;
        if (expected !== 2 ** 64) stop.abort();
        if (tries > 50_000) stop.abort();
      },
    });
    await rejects(hopeless, 'AbortError');
    if (told <= 50_000) throw new Error(`told of ${told}`);
    // The threads are free for the next.
    const { tries } = await miner.mine(new Uint8Array(32), '00ffffffffffffff');
    if (!(tries > 0)) throw new Error('no tries');
    miner.close();
  },

  async 'events are put together from any pieces'() {
    const { parseEvent, readEvents } = await load('events');
    equal(parseEvent(': hb'), null);
    const stream = 'retry: 3000\nevent: hello\ndata: {"a":1}\n\n: hb\n\nid: 7\ndata: é\n\ndata: cut';
    for (const size of [1, 2, 3, 1000]) {
      const whole = bytes(stream);
      let at = 0;
      const body = new ReadableStream({
        pull(controller) {
          if (at >= whole.length) return controller.close();
          controller.enqueue(whole.slice(at, (at += size)));
        },
      });
      const events = [];
      await readEvents(body, (event) => events.push(event));
      equal(events, [
        { name: 'hello', id: '', data: '{"a":1}' },
        { name: 'message', id: '7', data: 'é' },
      ]);
    }
  },

  async 'members read each other and nobody else does'() {
    const { Sealer, roomOf } = await load('seal');
    const room = await roomOf('app', 'secret');
    const [here, there] = [await Sealer.of(room, 'secret'), await Sealer.of(room, 'secret')];
    const [post] = await here.seal({ hello: 'mesh' });
    equal(post.length, 256);
    equal(await there.open(post), { hello: 'mesh' });
    equal(await (await Sealer.of(room, 'other')).open(post), null);
    equal(await (await Sealer.of(await roomOf('b', 'secret'), 'secret')).open(post), null);
    post[40] ^= 1;
    equal(await there.open(post), null);
    equal(await there.open('no post'), null);
  },

  async 'a long message goes in parts, in any order'() {
    const { Sealer, roomOf } = await load('seal');
    const sealer = await Sealer.of(await roomOf('app', 's'), 's');
    // Random, so that it does not pack.
    const long = Array.from(crypto.getRandomValues(new Uint32Array(700)));
    const parts = await sealer.seal(long);
    if (parts.length < 3 || parts.some((part) => part.length > 1024)) throw new Error(`${parts.length} parts`);
    let whole = null;
    for (const part of parts.reverse()) {
      equal(whole, null);
      whole = await sealer.open(part);
    }
    equal(whole, long);
  },

  async 'items are signed as BEP 44 has it'() {
    const { dhtAddress, dhtGet, dhtKeysFrom, signedItem } = await load('dht');
    const { hex, unhex } = await load('pow');
    equal(new TextDecoder().decode(signedItem(bytes('foobar'), 1, bytes('x'))), '4:salt6:foobar3:seqi1e1:v1:x');
    // RFC 8032, test 1.
    const keys = await dhtKeysFrom(unhex('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60'));
    const key = await dhtAddress(keys.publicKey);
    equal(key, 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
    // A node that makes something up is found out.
    const signature = new Uint8Array(
      await crypto.subtle.sign('Ed25519', keys.privateKey, signedItem(bytes(''), 3, bytes('hello'))),
    );
    const says = (v) => ({
      withNode: (work) => work({ url: '' }),
      buy: async () => ({ seq: 3, v: btoa(v), sig: hex(signature) }),
    });
    equal(new TextDecoder().decode((await dhtGet(says('hello'), key)).value), 'hello');
    await rejects(dhtGet(says('other'), key), 'Error');
  },

  async 'values of every kind pass a channel in frames'() {
    const { Transfers } = await load('transfer');
    const values = [];
    const shares = [];
    const channel = Object.assign(new EventTarget(), { readyState: 'open', bufferedAmount: 0 });
    const there = new Transfers(new EventTarget(), {
      limit: 100_000,
      events: {
        onValue: (action, value, meta) => values.push([action, value, meta]),
        onProgress: (action, share) => shares.push(share),
      },
    });
    let longest = 0;
    channel.send = (frame) => {
      longest = Math.max(longest, frame.length);
      there.receive(frame.buffer);
    };
    const here = new Transfers(channel, { limit: 0, events: {} });
    await here.send('json', { a: [1, null] }, { m: 1 });
    await here.send('text', 'tëxt');
    await here.send('nothing', undefined);
    const big = crypto.getRandomValues(new Uint8Array(60_000));
    await here.send('bytes', big);
    await here.send('blob', new Blob(['x'], { type: 'text/plain' }));
    await here.send('too big', new Uint8Array(100_001));
    there.receive(new ArrayBuffer(3));
    there.receive('text');
    equal(values.slice(0, 3), [['json', { a: [1, null] }, { m: 1 }], ['text', 'tëxt', null], ['nothing', null, null]]);
    equal([...values[3][1]], [...big]);
    equal([values[4][1].type, await values[4][1].text()], ['text/plain', 'x']);
    equal([values.length, longest], [5, 16384]);
    if (!shares.some((share) => share > 0 && share < 1)) throw new Error('no progress');
  },
};

/** Hashes a second of one thread, as long as nobody else has it. */
async function rates() {
  const { batch, loadWasm, prepared } = await load('search');
  const work = prepared(new Uint8Array(32), '0'.repeat(16));
  const rate = (engine) => {
    batch(engine, work, 0, 0, 1 << 16);
    const began = performance.now();
    let tries = 0;
    for (; performance.now() - began < 500; tries += 1 << 14) batch(engine, work, 1, tries, 1 << 14);
    return Math.round((tries / (performance.now() - began)) * 1000);
  };
  return { wasm: rate(await loadWasm()), plain: rate(null) };
}

(async () => {
  const passed = [];
  const failed = [];
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
      passed.push(name);
    } catch (error) {
      failed.push(`${name}: ${error.stack ?? error}`);
    }
  }
  done({ passed, failed, count: Object.keys(tests).length, rates: await rates() });
})();
