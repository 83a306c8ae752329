/** Where a request went wrong. `code` is the node's word, `unreachable` when there was none. */
export class MeshError extends Error {
  readonly code?: string;
  readonly status: number;
  readonly retryAfterMs?: number;
  readonly url?: string;
  readonly answer?: unknown;
  /** Whether another node, or the same one later, may do it. */
  readonly passes: boolean;
}

export interface Progress {
  tries: number;
  /** Tries it takes on average. */
  expected: number;
  /** Hashes a second. */
  rate: number;
}

export interface Paid {
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

export interface MinerOptions {
  /** Threads; as many as there are cores, at most four, unless given. */
  workers?: number;
  /** Without WebAssembly. */
  plain?: boolean;
}

export class Miner {
  constructor(options?: MinerOptions);
  /** Hashes a second, as last measured. */
  readonly rate: number;
  /** Solves a challenge for a target of 16 hexadecimal digits. */
  mine(
    challenge: Uint8Array,
    target: string,
    options?: Paid & { start?: [high: number, low: number] },
  ): Promise<{ nonce: string; tries: number; ms: number }>;
  close(): void;
}

/** What a proof for a request has to solve; `body` is what is signed of it. */
export function challenge(method: string, path: string, token: string, body: Uint8Array): Promise<Uint8Array>;

export interface Node {
  url: string;
  key: string;
  /** Tries a post to an idle room takes on average. */
  work: number;
  height: number;
  rttMs: number;
}

export interface Post {
  id: string;
  /** Milliseconds since the epoch, by the clock of the node it was sent to. */
  at: number;
  origin: string;
  work: number;
  /** Bytes where it is no text. */
  body: string | Uint8Array;
}

export interface State {
  connected: boolean;
  node?: string;
  error?: Error;
}

export interface SubscriptionOptions {
  /**
   * Seconds before now, at most 60, of which posts are heard too; more of them when other rooms of the same
   * Mesh ask for more.
   */
  since?: number;
  onState?: (state: State) => void;
}

/** A room that is listened to, through one node or another, until it is closed. */
export class Subscription {
  readonly room: string;
  readonly node: Node | null;
  readonly quote: { token: string; target: string } | null;
  readonly connected: Promise<Node>;
  /** Posts at most 1,024 bytes. */
  post(
    body: string | Uint8Array | ArrayBuffer,
    options?: Paid,
  ): Promise<{ id: string; at: number; delivered: number; node: string }>;
  close(): void;
}

export interface DhtItem {
  seq: number;
  value: Uint8Array;
  signature: Uint8Array;
}

export class Mesh {
  /**
   * `nodes`: URLs of some nodes; the one this script came from unless given.
   * `discover`: whether those they know of are used too; true unless given.
   */
  constructor(options?: { nodes?: string[]; miner?: Miner; discover?: boolean });
  readonly known: string[];
  readonly miner: Miner;
  /** One of the nearest of the least-loaded nodes. */
  pick(options?: { signal?: AbortSignal }): Promise<Node>;
  discover(options?: { signal?: AbortSignal }): Promise<string[]>;
  /** Leaves a node alone for a while. */
  avoid(url: string, ms?: number): void;
  /**
   * A room is 40 or 64 hexadecimal digits: the hash of something only its members know. Up to sixteen rooms share
   * one connection.
   */
  join(room: string, onPost: (post: Post) => void, options?: SubscriptionOptions): Subscription;
  /** STUN and TURN servers, with credentials that were paid for. */
  token(options?: Paid): Promise<RTCIceServer[]>;
  ip(options?: { signal?: AbortSignal }): Promise<{ ip: string; family: 4 | 6 }>;
  /** The item of a public key (64 hexadecimal digits), its signature checked; null when there is none. */
  dhtGet(
    key: string,
    options?: Paid & { salt?: string | Uint8Array; seq?: number; wait?: 'fast' | 'full' },
  ): Promise<DhtItem | null>;
  /** Signs and writes at most 996 bytes. */
  dhtPut(
    keys: CryptoKeyPair,
    value: string | Uint8Array,
    options: Paid & { seq: number; salt?: string | Uint8Array; cas?: number },
  ): Promise<{ target: string; seq: number; stored_at: number; ms: number }>;
  /** Ends the miner's threads. */
  close(): void;
}

export function dhtKeys(): Promise<CryptoKeyPair>;
/** From the 32 bytes of a seed. */
export function dhtKeysFrom(seed: Uint8Array): Promise<CryptoKeyPair>;
export function dhtAddress(publicKey: CryptoKey): Promise<string>;

/** The room that an application's secret names. */
export function roomOf(app: string, secret: string): Promise<string>;

/** Messages between those who know a room's secret, as posts of at most 1,024 bytes. */
export class Sealer {
  static of(room: string, secret: string): Promise<Sealer>;
  seal(message: unknown): Promise<Uint8Array[]>;
  /** Null while parts are missing, and for what no member said. */
  open(post: string | Uint8Array): Promise<unknown>;
}

export type Value = unknown | Blob | ArrayBuffer | ArrayBufferView;
export type Targets = string | string[] | null;

export type Action = [
  send: (
    value: Value,
    targets?: Targets,
    meta?: unknown,
    progress?: (share: number, peer: string, meta?: unknown) => void,
  ) => Promise<void[]>,
  receive: (handler: (value: any, peer: string, meta?: any) => void) => void,
  onProgress: (handler: (share: number, peer: string, meta?: any) => void) => void,
];

export interface RoomConfig {
  appId: string;
  /** Part of the secret: who has the room's name alone is elsewhere. */
  password?: string;
  /** Nodes to begin with. */
  nodes?: string[];
  /** False: none but those. */
  discover?: boolean;
  /** To share nodes and miner between rooms. */
  mesh?: Mesh;
  rtcConfig?: RTCConfiguration;
  /** False: no TURN credentials are bought. */
  turn?: boolean;
  /** Bytes of a value that is taken; 256 MiB unless given. */
  maxBytes?: number;
}

/** The shape that users of Trystero know. */
export interface Room {
  leave(): Promise<void>;
  makeAction(name: string): Action;
  /** Milliseconds there and back. */
  ping(peer: string): Promise<number>;
  getPeers(): Record<string, RTCPeerConnection>;
  addStream(stream: MediaStream, targets?: Targets, meta?: unknown): void;
  removeStream(stream: MediaStream, targets?: Targets): void;
  addTrack(track: MediaStreamTrack, stream: MediaStream, targets?: Targets, meta?: unknown): void;
  removeTrack(track: MediaStreamTrack, stream: MediaStream, targets?: Targets): void;
  replaceTrack(
    old: MediaStreamTrack,
    fresh: MediaStreamTrack,
    stream: MediaStream,
    targets?: Targets,
  ): Promise<void[]>;
  onPeerJoin(handler: (peer: string) => void): void;
  onPeerLeave(handler: (peer: string) => void): void;
  onPeerStream(handler: (stream: MediaStream, peer: string, meta?: any) => void): void;
  onPeerTrack(handler: (track: MediaStreamTrack, stream: MediaStream, peer: string, meta?: any) => void): void;
  /** How the connection to the mesh goes. */
  onState(handler: (state: State) => void): void;
  /** How the work for the next post goes. */
  onWork(handler: (progress: Progress) => void): void;
  /** When the room is listened to, or why it cannot be. */
  ready: Promise<void>;
}

/** Joins everybody with the same appId, password and room name. */
export function joinRoom(config: RoomConfig, roomName: string): Room;
export const selfId: string;
