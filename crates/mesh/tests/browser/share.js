// Listens to rooms of one Mesh, says something in each, leaves one, and joins another that wants to hear what
// was said before. Gives what was heard of each room.
const [node, rooms, late, done] = arguments;
(async () => {
  const { Mesh } = await import('/client.js');
  const mesh = new Mesh({ nodes: [node], discover: false });
  const heard = {};
  const until = async (holds) => {
    for (const end = Date.now() + 60_000; !holds(); ) {
      if (Date.now() > end) throw new Error(`not heard: ${JSON.stringify(heard)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const join = (room, options) => mesh.join(room, ({ body }) => (heard[room] ??= []).push(body), options);
  const all = rooms.map((room) => join(room));
  await Promise.all(all.map((one) => one.connected));
  for (const [nth, one] of all.entries()) await one.post(`first ${nth}`);
  await until(() => rooms.every((room) => heard[room]?.length === 1));
  // Said before anybody listens there.
  const other = new Mesh({ nodes: [node], discover: false });
  const stranger = other.join(late, () => {});
  await stranger.connected;
  await stranger.post('early');
  stranger.close();
  all[0].close();
  const newcomer = join(late, { since: 60 });
  await newcomer.connected;
  await until(() => heard[late]?.length === 1);
  for (const one of [all[1], newcomer]) await one.post('second');
  await until(() => heard[late].length === 2 && heard[rooms[1]].length === 2);
  window.room = newcomer;
  done(heard);
})().catch((error) => done({ error: String(error.stack ?? error) }));
