// How often fresh clients choose which of these nodes: {url: count}.
const [nodes, count, done] = arguments;
(async () => {
  const { Mesh } = await import('/client.js');
  const chosen = {};
  for (let at = 0; at < count; at++) {
    const { url } = await new Mesh({ nodes }).pick();
    chosen[url] = (chosen[url] ?? 0) + 1;
  }
  done(chosen);
})().catch((error) => done({ error: String(error) }));
