// Values of any size over a data channel: cut into frames, sent no faster than they leave.
//
// frame = transfer (u32) | flag (1 = first) | bytes; the first frame's bytes begin with the length (u16)
// of a JSON head {action, kind, bytes, meta, type} and the head.

const text = new TextEncoder();
const HEAD = 5;
/** Bytes of a frame that every browser takes. */
const FRAME = 16 * 1024;
/** Bytes that may wait in the channel. */
const WAITING_MAX = 1024 * 1024;
/** Values a peer may be in the middle of sending. */
const OPEN_MAX = 64;

/** Sends values over a channel and puts together those that come. */
export class Transfers {
  #channel;
  #next = 1;
  #open = new Map();
  #limit;
  #events;

  /** `events`: onValue(action, value, meta), onProgress(action, share, meta). `limit`: bytes of a value. */
  constructor(channel, { limit, events }) {
    this.#channel = channel;
    this.#limit = limit;
    this.#events = events;
    channel.bufferedAmountLowThreshold = WAITING_MAX / 2;
  }

  /** Resolves when all of it is handed to the channel. `progress(share)`. */
  async send(action, value, meta, progress) {
    const { kind, bytes, type } = await encoded(value);
    const head = text.encode(JSON.stringify({ action, kind, bytes: bytes.length, meta, type }));
    if (head.length > FRAME / 2) throw new RangeError('metadata too long');
    const id = this.#next++;
    let at = 0;
    for (let first = true; first || at < bytes.length; first = false) {
      const room = FRAME - HEAD - (first ? 2 + head.length : 0);
      const part = bytes.subarray(at, at + room);
      const frame = new Uint8Array(FRAME - room + part.length);
      const view = new DataView(frame.buffer);
      view.setUint32(0, id);
      view.setUint8(4, first ? 1 : 0);
      if (first) {
        view.setUint16(HEAD, head.length);
        frame.set(head, HEAD + 2);
      }
      frame.set(part, FRAME - room);
      await this.#drained();
      this.#channel.send(frame);
      at += part.length;
      progress?.(bytes.length ? at / bytes.length : 1);
    }
  }

  #drained() {
    const channel = this.#channel;
    if (channel.readyState !== 'open') throw new DOMException('the peer is gone', 'InvalidStateError');
    if (channel.bufferedAmount < WAITING_MAX) return undefined;
    return new Promise((resolve, reject) => {
      const done = (settle, reason) => () => {
        channel.removeEventListener('bufferedamountlow', low);
        channel.removeEventListener('close', closed);
        settle(reason);
      };
      const low = done(resolve);
      const closed = done(reject, new DOMException('the peer is gone', 'InvalidStateError'));
      channel.addEventListener('bufferedamountlow', low);
      channel.addEventListener('close', closed);
    });
  }

  /** Takes a frame; what is no frame is passed over. */
  receive(data) {
    if (!(data instanceof ArrayBuffer) || data.byteLength < HEAD) return;
    const view = new DataView(data);
    const id = view.getUint32(0);
    const frame = new Uint8Array(data, HEAD);
    if (view.getUint8(4) === 1) this.#begin(id, frame);
    else this.#more(id, frame);
  }

  #begin(id, frame) {
    if (frame.length < 2) return;
    const length = frame[0] * 256 + frame[1];
    let head;
    try {
      head = JSON.parse(new TextDecoder().decode(frame.subarray(2, 2 + length)));
    } catch {
      return;
    }
    const fits = Number.isSafeInteger(head?.bytes) && head.bytes >= 0 && head.bytes <= this.#limit;
    if (!fits || this.#open.size >= OPEN_MAX) return;
    this.#open.set(id, { head, parts: [], got: 0 });
    this.#more(id, frame.subarray(2 + length));
  }

  #more(id, bytes) {
    const transfer = this.#open.get(id);
    if (!transfer) return;
    const { head, parts } = transfer;
    parts.push(bytes);
    transfer.got += bytes.length;
    if (transfer.got > head.bytes) {
      this.#open.delete(id);
      return;
    }
    this.#events.onProgress(head.action, head.bytes ? transfer.got / head.bytes : 1, head.meta);
    if (transfer.got < head.bytes) return;
    this.#open.delete(id);
    const value = decoded(head, parts);
    if (value !== undefined) this.#events.onValue(head.action, value, head.meta);
  }
}

async function encoded(value) {
  if (value instanceof Blob) {
    return { kind: 'blob', bytes: new Uint8Array(await value.arrayBuffer()), type: value.type };
  }
  if (value instanceof ArrayBuffer) return { kind: 'bytes', bytes: new Uint8Array(value) };
  if (ArrayBuffer.isView(value)) {
    return { kind: 'bytes', bytes: new Uint8Array(value.buffer, value.byteOffset, value.byteLength) };
  }
  return { kind: 'json', bytes: text.encode(JSON.stringify(value ?? null)) };
}

function decoded({ kind, type }, parts) {
  const blob = new Blob(parts, { type: typeof type === 'string' ? type : '' });
  if (kind === 'blob') return blob;
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  if (kind === 'bytes') return all;
  try {
    return JSON.parse(new TextDecoder().decode(all));
  } catch {
    return undefined;
  }
}
