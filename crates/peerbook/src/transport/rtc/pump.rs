//! One WebRTC connection: bytes between the network, the channel and its conversation.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edge::ws::Frame;
use proto::book::channel::LABEL;
use service::Context;
use str0m::{
    Event, Input, Output, Rtc, RtcError,
    channel::ChannelId,
    net::{Protocol, Receive},
};
use tokio::{sync::mpsc, time::sleep_until};

use super::hub::{Arrived, Hub};
use crate::{
    domain::{
        book::Hello,
        line::Line,
        pipe::{Next, Pipe},
    },
    protocol::channel::{ChannelConversation, Desk},
};

/// Messages that wait for an answer; a client that sends more meanwhile is given up.
const WAITING: usize = 32;
/// How long the last words may take to arrive.
const GOODBYE: Duration = Duration::from_secs(5);

/// One WebRTC connection.
pub(super) struct Pump {
    pub(super) rtc: Rtc,
    pub(super) hub: Arc<Hub>,
    pub(super) arrived: mpsc::Receiver<Arrived>,
    pub(super) pipe: Pipe,
    pub(super) desk: Arc<Desk>,
    pub(super) cx: Context,
    /// Who calls; taken when the channel opens.
    pub(super) hello: Option<Hello>,
    /// When it is over at the latest: at first by when the channel has to be open.
    pub(super) ends: Instant,
    /// And then how long it may last.
    pub(super) max_age: Duration,
    pub(super) state: State,
}

/// Where a connection is.
#[derive(Default)]
pub(super) struct State {
    channel: Option<ChannelId>,
    words: Option<mpsc::Sender<Vec<u8>>>,
    over: bool,
}

impl Pump {
    /// Runs the connection to its end.
    pub(super) async fn run(mut self) {
        if let Err(why) = self.converse().await {
            tracing::debug!(%why, "data channel");
        }
        self.pipe.close();
    }

    async fn converse(&mut self) -> Result<(), RtcError> {
        let draining = self.cx.stop.draining().clone();
        while !self.state.over {
            let wake = self.poll()?;
            let said_all = self.write()?;
            let wake = if said_all { wake } else { self.poll()?.min(Instant::now() + GOODBYE) };
            if self.state.over || Instant::now() >= self.ends {
                break;
            }
            tokio::select! {
                arrived = self.arrived.recv() => match arrived {
                    Some(Arrived::Datagram { bytes, source, at }) => {
                        self.read(&bytes, source, at)?;
                    }
                    Some(Arrived::Hangup) | None => break,
                },
                () = self.pipe.changed() => {}
                () = sleep_until(wake.min(self.ends).into()) => {
                    self.rtc.handle_input(Input::Timeout(Instant::now()))?;
                }
                () = draining.cancelled() => break,
            }
        }
        self.rtc.close()?;
        self.poll().map(drop)
    }

    fn read(
        &mut self,
        bytes: &[u8],
        source: std::net::SocketAddr,
        at: Instant,
    ) -> Result<(), RtcError> {
        let Some(destination) = self.hub.address_for(source) else { return Ok(()) };
        // Not everything that reaches an open port is WebRTC.
        let Ok(contents) = bytes.try_into() else { return Ok(()) };
        let receive = Receive { proto: Protocol::Udp, source, destination, contents };
        let input = Input::Receive(at, receive);
        if self.rtc.accepts(&input) { self.rtc.handle_input(input) } else { Ok(()) }
    }

    /// Lets everything happen that is due; when to come again.
    fn poll(&mut self) -> Result<Instant, RtcError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(datagram) => {
                    self.hub.send(&datagram.contents, datagram.destination);
                }
                Output::Event(event) => self.take(event),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::ChannelOpen(id, label) if label == LABEL && self.state.channel.is_none() => {
                self.state.channel = Some(id);
                self.ends = Instant::now() + self.max_age;
                self.open();
            }
            Event::ChannelData(data) if Some(data.id) == self.state.channel => {
                let words = self.state.words.as_ref();
                // Full: it sends faster than it is answered.
                self.state.over |= words.is_none_or(|words| words.try_send(data.data).is_err());
            }
            Event::ChannelClose(id) if Some(id) == self.state.channel => self.state.over = true,
            Event::IceConnectionStateChange(state) if state.is_disconnected() => {
                self.state.over = true;
            }
            Event::Closed => self.state.over = true,
            _ => {}
        }
    }

    /// Starts the conversation, in a task of its own: what it asks the database for may take long.
    fn open(&mut self) {
        let Some(hello) = self.hello.take() else { return };
        let (words, mut heard) = mpsc::channel::<Vec<u8>>(WAITING);
        self.state.words = Some(words);
        let (desk, pipe) = (self.desk.clone(), self.pipe.clone());
        self.cx.spawn("channel", async move {
            let admission = match desk.book.admit(hello).await {
                Ok(admission) => admission,
                Err(why) => {
                    tracing::debug!(%why, "data channel not admitted");
                    return pipe.close();
                }
            };
            let line = Line::Channel(pipe.clone(), desk.ice.clone());
            let mut conversation = ChannelConversation::open(desk, admission, line);
            while let Some(text) = heard.recv().await {
                if conversation.hear(&text).await.is_break() {
                    break;
                }
            }
            pipe.close();
            conversation.end();
        });
    }

    /// Hands what waits to the channel; `false` while something was not acknowledged yet after
    /// which the connection ends.
    fn write(&mut self) -> Result<bool, RtcError> {
        let Some(id) = self.state.channel else { return Ok(true) };
        loop {
            match self.pipe.next() {
                Next::Frame(frame) => {
                    if !self.accept(id, &frame)? {
                        // What the client acknowledges brings us here again.
                        self.pipe.put_back(frame);
                        return Ok(true);
                    }
                }
                Next::Wait => return self.poll().map(|_| true),
                Next::Overflow => {
                    self.state.over = true;
                    return Ok(true);
                }
                Next::End => {
                    self.ends = self.ends.min(Instant::now() + GOODBYE);
                    let mut channel = self.rtc.channel(id);
                    let left = channel.as_mut().map_or(0, |channel| channel.buffered_amount());
                    self.state.over |= left == 0;
                    return Ok(false);
                }
            }
        }
    }

    /// Clients decode an array of bytes.
    fn accept(&mut self, id: ChannelId, frame: &Frame) -> Result<bool, RtcError> {
        match self.rtc.channel(id) {
            Some(mut channel) => channel.write(true, frame.as_payload()),
            None => {
                self.state.over = true;
                Ok(true)
            }
        }
    }
}
