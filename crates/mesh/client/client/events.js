// Server-sent events read with fetch: unlike EventSource it tells why a node refuses, and notices
// when one has gone silent.

/** A node says something every 15 s; one that did not for this long is gone. */
const SILENCE_MS = 40_000;
/** The longest event a node sends is far below this; more is no event. */
const EVENT_MAX = 64 * 1024;

/**
 * Calls `onEvent({name, id, data})` for every event until the stream ends.
 * Throws when it breaks off, goes silent, or `signal` is aborted.
 */
export async function readEvents(body, onEvent, signal) {
  const reader = body.getReader();
  let timer;
  const silent = () => reader.cancel(new Error('the node has gone silent'));
  const wound = () => {
    clearTimeout(timer);
    timer = setTimeout(silent, SILENCE_MS);
  };
  const text = new TextDecoder();
  let rest = '';
  try {
    for (wound(); ; wound()) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += text.decode(value, { stream: true });
      const blocks = rest.split('\n\n');
      rest = blocks.pop();
      if (rest.length > EVENT_MAX) throw new Error('an event without end');
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event) onEvent(event);
        signal?.throwIfAborted();
      }
    }
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => {});
  }
}

/** One block of lines; null for comments and the like. */
export function parseEvent(block) {
  const event = { name: 'message', id: '', data: '' };
  for (const line of block.split('\n')) {
    const [, field, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (field === 'event') event.name = value;
    else if (field === 'id') event.id = value;
    else if (field === 'data') event.data += event.data ? `\n${value}` : value;
  }
  return event.data ? event : null;
}
