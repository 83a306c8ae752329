// The mesh from a browser: import it from any node, `import { joinRoom } from 'https://NODE/client.js'`.
// Needs a secure context (https, or localhost). Types: client.d.ts beside it.

export { joinRoom, selfId } from './client/join.js';
export { Mesh, MeshError } from './client/mesh.js';
export { Subscription } from './client/stream.js';
export { Miner, challenge } from './client/pow.js';
export { Sealer, roomOf } from './client/seal.js';
export { dhtAddress, dhtKeys, dhtKeysFrom } from './client/dht.js';
