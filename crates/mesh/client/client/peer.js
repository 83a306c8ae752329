// One WebRTC connection, set up by whatever carries signals: perfect negotiation, with candidates sent
// in bundles, because every post costs work.

/** How long a description waits for candidates to go with it, milliseconds. */
const GATHER_MS = 400;
/** And late candidates for each other. */
const BUNDLE_MS = 250;
/** A connection that is not there by then never will be. */
const CONNECT_MS = 45_000;

/** A connection to one peer. Both sides make one, whoever hears of the other first. */
export class Peer {
  #signal;
  #polite;
  #events;
  #making = false;
  #answering = false;
  #ignored = false;
  #epoch = 0;
  #late = [];
  #early = [];
  #bundle = null;
  #hearing = Promise.resolve();
  #gathering = true;
  #deadline;
  #closed = false;

  /**
   * `signal({description, candidates})` carries to the other side what `hear` takes there.
   * `polite` is true on exactly one side. `events`: onOpen(), onClose(), onMessage(data), onTrack(event).
   */
  constructor({ configuration, polite, signal, events }) {
    this.#signal = signal;
    this.#polite = polite;
    this.#events = events;
    this.pc = new RTCPeerConnection(configuration);
    this.channel = this.pc.createDataChannel('mesh', { negotiated: true, id: 0 });
    this.channel.binaryType = 'arraybuffer';
    this.channel.onopen = () => {
      clearTimeout(this.#deadline);
      events.onOpen();
    };
    this.channel.onclose = () => this.close();
    this.channel.onmessage = ({ data }) => events.onMessage(data);
    this.pc.ontrack = (event) => events.onTrack(event);
    this.pc.onicecandidate = ({ candidate }) => candidate && this.#candidate(candidate);
    this.pc.onconnectionstatechange = () => this.#stateChanged();
    this.#deadline = setTimeout(() => this.close(), CONNECT_MS);
  }

  /** Whether data passes. */
  get open() {
    return this.channel.readyState === 'open';
  }

  #stateChanged() {
    const state = this.pc.connectionState;
    if (state === 'closed') this.close();
    if (state !== 'failed') return;
    // Once: networks change. A second failure is the end.
    if (this.restarted || !this.open) return this.close();
    this.restarted = true;
    this.pc.restartIce();
  }

  /** Makes the first offer, as the data channel asks for one; and every later one that is needed. */
  start() {
    this.pc.onnegotiationneeded = () => this.#describe();
  }

  async #describe() {
    try {
      this.#making = true;
      await this.pc.setLocalDescription();
    } catch {
      return; // closed meanwhile
    } finally {
      this.#making = false;
    }
    await this.#send();
  }

  /** Sends the present description with the candidates found in a short while. */
  async #send() {
    const epoch = ++this.#epoch;
    this.#gathering = true;
    await gathered(this.pc, GATHER_MS);
    // Replaced by another, or taken back.
    if (epoch !== this.#epoch || this.#closed || !this.pc.localDescription) return;
    this.#gathering = false;
    this.#late = [];
    const { type, sdp } = this.pc.localDescription;
    this.#signal({ description: { type, sdp } });
  }

  #candidate(candidate) {
    if (this.#gathering) return; // goes with the description
    this.#late.push(candidate.toJSON());
    this.#bundle ??= setTimeout(() => {
      this.#bundle = null;
      const candidates = this.#late.splice(0);
      if (candidates.length && !this.#closed) this.#signal({ candidates });
    }, BUNDLE_MS);
  }

  /** Takes what the other side signalled; one after the other. */
  hear(signal) {
    this.#hearing = this.#hearing
      .then(() => this.#take(signal))
      .catch((error) => console.debug('a signal was not taken', error));
    return this.#hearing;
  }

  async #take({ description, candidates = [] }) {
    if (this.#closed) return;
    if (description) await this.#heard(description);
    for (const candidate of candidates) {
      if (!this.pc.remoteDescription) {
        if (this.#early.length < 64) this.#early.push(candidate);
        continue;
      }
      await this.#add(candidate);
    }
  }

  async #heard(description) {
    const { pc } = this;
    const stable = !this.#making && (pc.signalingState === 'stable' || this.#answering);
    const collides = description.type === 'offer' && !stable;
    this.#ignored = !this.#polite && collides;
    if (this.#ignored) return;
    // An answer to an offer that was taken back, or that came twice.
    if (description.type === 'answer' && pc.signalingState !== 'have-local-offer') return;
    this.#answering = description.type === 'answer';
    try {
      if (collides) this.#epoch++; // our offer is taken back
      await pc.setRemoteDescription(description);
    } finally {
      this.#answering = false;
    }
    for (const candidate of this.#early.splice(0)) await this.#add(candidate);
    if (description.type !== 'offer') return;
    await pc.setLocalDescription();
    pc.onnegotiationneeded ??= () => this.#describe();
    this.#send();
  }

  async #add(candidate) {
    try {
      await this.pc.addIceCandidate(candidate);
    } catch (error) {
      if (!this.#ignored) console.debug('a candidate was not taken', error.name);
    }
  }

  /** Ends it. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#deadline);
    clearTimeout(this.#bundle);
    this.pc.onnegotiationneeded = null;
    this.channel.onclose = null;
    this.pc.close();
    this.#events.onClose();
  }
}

function gathered(pc, ms) {
  if (pc.iceGatheringState === 'complete') return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      pc.removeEventListener('icegatheringstatechange', changed);
      resolve();
    };
    const changed = () => pc.iceGatheringState === 'complete' && done();
    const timer = setTimeout(done, ms);
    pc.addEventListener('icegatheringstatechange', changed);
  });
}
