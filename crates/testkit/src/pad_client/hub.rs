//! What a client does at channel-hub.

use bytes::Bytes;
use proto::pad::{kind, tcp, ws};

use super::{Generation, Packet, PadClient};

/// Somebody asks for a pad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadRequest {
    /// The server's id for it, which a WebSocket answer has to carry.
    pub id: u32,
    /// For which channel.
    pub channel: Bytes,
}

impl PadClient {
    /// Registers a channel; `false` when the server refuses.
    pub async fn register_channel(&mut self, name: &[u8]) -> anyhow::Result<bool> {
        let body = self.string(name)?;
        self.ask(ws::hub::REGISTER, &body).await // the same number in both generations
    }

    /// Ends a channel; `false` when the server refuses.
    pub async fn unregister_channel(&mut self, name: &[u8]) -> anyhow::Result<bool> {
        let body = self.string(name)?;
        self.ask(ws::hub::UNREGISTER, &body).await
    }

    /// All channels; `None` when the server refuses.
    pub async fn channels(&mut self) -> anyhow::Result<Option<Vec<Bytes>>> {
        let id = self.send_request(ws::hub::GET_CHANNELS, b"").await?;
        let answer = self.wait_for(|packet| packet.id == id && packet.kind != 7).await?;
        if answer.kind == kind::ERROR {
            return Ok(None);
        }
        let names = match self.generation() {
            Generation::WebSocket => ws::channels(&answer.body).collect(),
            Generation::Encrypted => tcp::channels(&answer.body)?,
        };
        Ok(Some(names.into_iter().map(|name| answer.body.slice_ref(name)).collect()))
    }

    /// Asks for a pad without waiting for the answer; returns the id.
    pub async fn send_pad_request(&mut self, channel: &[u8]) -> anyhow::Result<u32> {
        let body = self.string(channel)?;
        self.send_request(ws::hub::PAD_REQUEST, &body).await
    }

    /// The name of the pad that was made for the request of this id; `None` when there is none, by the
    /// server's or the owner's decision.
    pub async fn pad(&mut self, id: u32) -> anyhow::Result<Option<Bytes>> {
        match self.generation() {
            Generation::WebSocket => {
                if !self.answer_to(id).await? {
                    return Ok(None);
                }
                let answer = self.next_of(ws::hub::PAD_REQUEST_RESPONSE).await?;
                let ws::Verdict { ok, name } = ws::Verdict::parse(&answer.body)?;
                Ok((ok != 0).then(|| answer.body.slice_ref(name)))
            }
            Generation::Encrypted => {
                let ends = [kind::ERROR, tcp::hub::PAD_CREATED];
                let ends = |packet: &Packet| packet.id == id && ends.contains(&packet.kind);
                let answer = self.wait_for(ends).await?;
                if answer.kind == kind::ERROR {
                    return Ok(None);
                }
                let created = tcp::PadCreated::parse(&answer.body)?;
                Ok((!created.pad.is_empty()).then(|| answer.body.slice_ref(created.pad)))
            }
        }
    }

    /// Asks for a pad and waits for its name.
    pub async fn request_pad(&mut self, channel: &[u8]) -> anyhow::Result<Option<Bytes>> {
        let id = self.send_pad_request(channel).await?;
        self.pad(id).await
    }

    /// The next request for a pad of one of this client's channels.
    pub async fn next_pad_request(&mut self) -> anyhow::Result<PadRequest> {
        let Packet { id, body, .. } = self.next_of(ws::hub::PAD_REQUEST).await?;
        let channel = match self.generation() {
            Generation::WebSocket => body,
            Generation::Encrypted => body.slice_ref(tcp::string(&body)?),
        };
        Ok(PadRequest { id, channel })
    }

    /// Answers a request with the pad made for it, or refuses; `false` when the server does not take
    /// the answer.
    pub async fn answer_pad_request(
        &mut self,
        request: &PadRequest,
        pad: Option<&[u8]>,
    ) -> anyhow::Result<bool> {
        let (mut body, name) = (Vec::new(), pad.unwrap_or_default());
        match self.generation() {
            Generation::WebSocket => {
                ws::Verdict { ok: pad.is_some().into(), name }.encode(&mut body);
                self.send(ws::hub::PAD_REQUEST_RESPONSE, request.id, &body).await?;
                self.answer_to(request.id).await
            }
            Generation::Encrypted => {
                tcp::PadCreated { channel: &request.channel, pad: name }.encode(&mut body)?;
                self.ask(tcp::hub::PAD_CREATED, &body).await
            }
        }
    }
}
