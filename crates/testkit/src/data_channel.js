'use strict';
// One data channel to a server that answers offers; the test carries offer and answer.
const [label, done] = arguments;
const peer = {heard: [], changed: () => {}};
window.peer = peer;

peer.open = async () => {
  const certificate =
    await RTCPeerConnection.generateCertificate({name: 'ECDSA', namedCurve: 'P-256'});
  peer.connection = new RTCPeerConnection({certificates: [certificate]});
  peer.channel = peer.connection.createDataChannel(label);
  peer.channel.binaryType = 'arraybuffer';
  peer.channel.onopen = peer.channel.onclose = () => peer.changed();
  peer.channel.onmessage = ({data}) => {
    const binary = typeof data !== 'string';
    peer.heard.push({binary, text: binary ? new TextDecoder().decode(data) : data});
    peer.changed();
  };
  const gathered = new Promise((resolve) => {
    peer.connection.onicecandidate = ({candidate}) => { if (!candidate) resolve(); };
  });
  await peer.connection.setLocalDescription();
  await gathered;
  return peer.connection.localDescription.sdp;
};

// Calls `done` when the channel has another state than `before` or has heard something, or after
// `limit` milliseconds.
peer.listen = (before, limit, done) => {
  const report = () => {
    clearTimeout(timer);
    peer.changed = () => {};
    done({state: peer.channel.readyState, heard: peer.heard.splice(0)});
  };
  const timer = setTimeout(report, limit);
  peer.changed = () => {
    if (peer.heard.length > 0 || peer.channel.readyState !== before) report();
  };
  peer.changed();
};

peer.open().then(done, (error) => done({error: String(error)}));
