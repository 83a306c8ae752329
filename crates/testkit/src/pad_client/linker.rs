//! What a client does at peer-linker.

use anyhow::ensure;
use bytes::Bytes;
use proto::pad::{kind, tcp, ws};

use super::{Generation, PadClient};

/// The packet type for payload: the encrypted generation's only one, and in the WebSocket generation
/// any that the server gives no meaning.
pub const PAYLOAD: u16 = tcp::linker::PAYLOAD;

/// Somebody asks for a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The pad that asks.
    pub requester: Bytes,
    /// What it gave as its secret.
    pub secret: Bytes,
}

impl PadClient {
    /// Registers this client's pad; `false` when the server refuses.
    pub async fn register_pad(&mut self, name: &[u8]) -> anyhow::Result<bool> {
        let body = self.string(name)?;
        self.ask(ws::linker::REGISTER, &body).await // the same number in both generations
    }

    /// Gives the pad back; `false` when there is none.
    pub async fn unregister_pad(&mut self) -> anyhow::Result<bool> {
        self.ask(ws::linker::UNREGISTER, b"").await
    }

    /// Ends the link; `false` when there is none.
    pub async fn unlink(&mut self) -> anyhow::Result<bool> {
        self.ask(ws::linker::UNLINK, b"").await
    }

    /// Asks for a link to the pad `name` without waiting for what becomes of it; returns the id.
    pub async fn send_link(&mut self, name: &[u8], secret: &[u8]) -> anyhow::Result<u32> {
        let mut body = Vec::new();
        match self.generation() {
            Generation::WebSocket => ws::Link { name, secret }.encode(&mut body)?,
            Generation::Encrypted => tcp::Link { name, secret }.encode(&mut body)?,
        }
        self.send_request(ws::linker::LINK, &body).await
    }

    /// What became of the link request of this id: `false` when it was refused, by the server or
    /// the pad's owner.
    pub async fn linked(&mut self, id: u32) -> anyhow::Result<bool> {
        if !self.answer_to(id).await? {
            return Ok(false);
        }
        if self.generation() == Generation::Encrypted {
            return Ok(true);
        }
        let ends = [ws::linker::LINK_SUCCESS, ws::linker::LINK_DENIED];
        let end = self.wait_for(|packet| ends.contains(&packet.kind)).await?;
        Ok(end.kind == ws::linker::LINK_SUCCESS)
    }

    /// Asks for a link and waits for what becomes of it.
    pub async fn link(&mut self, name: &[u8], secret: &[u8]) -> anyhow::Result<bool> {
        let id = self.send_link(name, secret).await?;
        self.linked(id).await
    }

    /// Links to the pad `name` of `other`, who accepts.
    pub async fn link_to(
        &mut self,
        other: &mut Self,
        name: &[u8],
        secret: &[u8],
    ) -> anyhow::Result<()> {
        let id = self.send_link(name, secret).await?;
        let auth = other.next_auth().await?;
        ensure!(auth.secret == secret, "another secret: {auth:?}");
        other.answer_auth(&auth.requester, true).await?;
        ensure!(self.linked(id).await?, "the link was refused");
        Ok(())
    }

    /// The next link request to this client's pad.
    pub async fn next_auth(&mut self) -> anyhow::Result<Auth> {
        let (name, secret, body);
        match self.generation() {
            Generation::WebSocket => {
                body = self.next_of(ws::linker::LINK_AUTH).await?.body;
                ws::Link { name, secret } = ws::Link::parse(&body)?;
            }
            Generation::Encrypted => {
                body = self.next_of(tcp::linker::AUTH).await?.body;
                tcp::Link { name, secret } = tcp::Link::parse(&body)?;
            }
        }
        Ok(Auth { requester: body.slice_ref(name), secret: body.slice_ref(secret) })
    }

    /// Accepts or denies a link request. Over WebSocket the server's verdict on the answer is waited
    /// for and has to be Success; the encrypted generation has none.
    pub async fn answer_auth(&mut self, requester: &[u8], ok: bool) -> anyhow::Result<()> {
        let mut body = Vec::new();
        match self.generation() {
            Generation::WebSocket => {
                ws::Verdict { ok: ok.into(), name: requester }.encode(&mut body);
                let taken = self.ask(ws::linker::LINK_AUTH_RESPONSE, &body).await?;
                ensure!(taken, "the answer was refused");
            }
            Generation::Encrypted => {
                tcp::AuthResponse { requester, ok }.encode(&mut body)?;
                self.send_request(tcp::linker::AUTH_RESPONSE, &body).await?;
            }
        }
        Ok(())
    }

    /// Sends bytes to the linked pad.
    pub async fn send_payload(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.send_request(PAYLOAD, payload).await.map(drop)
    }

    /// What the linked pad sent next.
    pub async fn next_payload(&mut self) -> anyhow::Result<Bytes> {
        Ok(self.next_of(PAYLOAD).await?.body)
    }

    /// Waits to be told that the partner is gone.
    pub async fn unlinked(&mut self) -> anyhow::Result<()> {
        let unlinked = self.unlinked_kind();
        self.next_of(unlinked).await.map(drop)
    }

    /// The type of the packet that says so.
    pub fn unlinked_kind(&self) -> u16 {
        match self.generation() {
            Generation::WebSocket => ws::linker::UNLINKED,
            Generation::Encrypted => tcp::linker::UNLINKED,
        }
    }

    /// Acknowledges a packet of the linked pad, as WebSocket clients do among themselves.
    pub async fn acknowledge(&mut self, id: u32) -> anyhow::Result<()> {
        self.send(kind::SUCCESS, id, b"").await
    }
}
