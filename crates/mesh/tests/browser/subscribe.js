// Listens to a room through some node: window.room, and what is heard in window.heard.
const [nodes, room, done] = arguments;
(async () => {
  const { Mesh } = await import('/client.js');
  window.heard = [];
  window.mesh = new Mesh({ nodes });
  window.room = window.mesh.join(room, ({ body }) => window.heard.push(body));
  done((await window.room.connected).url);
})().catch((error) => done({ error: String(error) }));
