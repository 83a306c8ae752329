//! Connections with the other processes: one to each, and one from each.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc, time::Duration};

use edge::ws::Ended;
use packets::{Client, Close, Line, Packet, Sibling, Siblings, Wire};
use parking_lot::Mutex;
use service::Context;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::Way;
use crate::{
    domain::desk::{Desk, Pair},
    protocol::sibling::{self, OutOfTurn, Role},
};

/// How long a process that starts waits until it knows its siblings, and they know it.
const ACQUAINTANCE: Duration = Duration::from_secs(3);
/// How often it looks whether they do.
const LOOK: Duration = Duration::from_millis(10);
/// Pause before a sibling is called again that has not answered or has hung up.
const CALL_AGAIN: Duration = Duration::from_millis(200);

/// The other processes we call.
pub(crate) struct Circle {
    desk: Arc<Desk<Way>>,
    siblings: Siblings,
    /// Whom we have called: the line, once they have answered. No more than there are leases.
    called: Mutex<HashMap<[u8; 16], Option<Line>>>,
    /// Told when somebody has called or hung up, so that it may be time to call.
    look: Notify,
    cx: Context,
}

impl Circle {
    pub(crate) fn new(desk: Arc<Desk<Way>>, siblings: Siblings, cx: &Context) -> Arc<Self> {
        let (called, look) = (Mutex::default(), Notify::new());
        Arc::new(Self { desk, siblings, called, look, cx: cx.clone() })
    }

    /// Calls all there are now, and waits until they have told of their channels and have called
    /// back; not for ever.
    pub(crate) async fn meet(self: &Arc<Self>) {
        let end = Instant::now() + ACQUAINTANCE;
        let Ok(living) = self.desk.siblings().await else { return };
        let calls: Vec<_> = living.into_iter().filter_map(|one| self.call(one)).collect();
        let count = calls.len();
        for call in calls {
            let _ = timeout_at(end, call).await; // who does not answer is not waited for
        }
        while self.desk.guests() < count && Instant::now() < end {
            sleep(LOOK).await;
        }
    }

    /// Calls whoever has come, and hangs up on who has no lease any more, until the drain.
    pub(crate) async fn keep(self: Arc<Self>, interval: Duration) {
        let draining = self.cx.stop.draining().clone();
        loop {
            let waited = timeout(interval, self.look.notified());
            if draining.run_until_cancelled(waited).await.is_none() {
                return;
            }
            let Ok(living) = self.desk.siblings().await else { continue };
            for (node, line) in &*self.called.lock() {
                let lives = living.iter().any(|sibling| sibling.node == *node);
                if let Some(line) = line.as_ref().filter(|_| !lives) {
                    line.kill();
                }
            }
            for sibling in living {
                drop(self.call(sibling));
            }
        }
    }

    /// What to do on a connection that another process has called us on.
    pub(crate) fn greet(self: &Arc<Self>) -> impl Fn(&Sibling) -> Guest + Clone + use<> {
        let circle = self.clone();
        move |sibling| {
            if !circle.called.lock().contains_key(sibling.node()) {
                circle.look.notify_one();
            }
            let line = sibling.line().clone();
            let way = |of| Way::Sibling(line.clone(), Role::Guest, of);
            Guest { pair: circle.desk.connect_guest(way), desk: circle.desk.clone() }
        }
    }

    /// Calls a process, unless we have. Whoever waits on what is returned is told when it has said
    /// which channels it has.
    fn call(self: &Arc<Self>, sibling: pg::Sibling) -> Option<oneshot::Receiver<()>> {
        if self.called.lock().contains_key(&sibling.node) {
            return None;
        }
        self.called.lock().insert(sibling.node, None);
        let (acquainted, met) = oneshot::channel();
        let circle = self.clone();
        self.cx.spawn("call", async move {
            let node = circle.desk.node();
            match circle.siblings.dial(&sibling.address, Wire::WebSocket, &node).await {
                Ok(connection) => circle.listen(sibling.node, connection, acquainted),
                Err(why) => {
                    tracing::debug!(%why, "a sibling does not answer");
                    circle.forget(sibling.node).await;
                }
            }
        });
        Some(met)
    }

    fn listen(
        self: &Arc<Self>,
        node: [u8; 16],
        connection: Sibling,
        acquainted: oneshot::Sender<()>,
    ) {
        let line = connection.line().clone();
        self.called.lock().insert(node, Some(line.clone()));
        let pair = self.desk.connect_host(|of| Way::Sibling(line.clone(), Role::Host, of));
        connection.run(Host { pair, node, circle: self.clone(), acquainted: Some(acquainted) });
    }

    async fn forget(&self, node: [u8; 16]) {
        self.cx.stop.draining().run_until_cancelled(sleep(CALL_AGAIN)).await;
        self.called.lock().remove(&node);
        self.look.notify_one();
    }
}

/// A process whose channels we may ask for.
struct Host {
    pair: Pair,
    node: [u8; 16],
    circle: Arc<Circle>,
    acquainted: Option<oneshot::Sender<()>>,
}

impl Client for Host {
    async fn packet(&mut self, packet: Packet, line: &Line) -> ControlFlow<Close> {
        let said = (packet.kind, packet.id, packet.body());
        let heard = sibling::hear_host(&self.circle.desk, self.pair, line, said);
        if sibling::ends_first_list(packet.kind)
            && let Some(acquainted) = self.acquainted.take()
        {
            let _ = acquainted.send(()); // not everybody waits
        }
        go_on(heard)
    }

    async fn gone(&mut self, _: Ended) {
        self.circle.desk.part(self.pair);
        self.circle.forget(self.node).await;
    }
}

/// A process that may ask for our channels.
pub(crate) struct Guest {
    desk: Arc<Desk<Way>>,
    pair: Pair,
}

impl Client for Guest {
    async fn packet(&mut self, packet: Packet, line: &Line) -> ControlFlow<Close> {
        let said = (packet.kind, packet.id, packet.body());
        go_on(sibling::hear_guest(&self.desk, self.pair, line, said))
    }

    async fn gone(&mut self, _: Ended) {
        self.desk.part(self.pair);
    }
}

fn go_on(heard: Result<(), OutOfTurn>) -> ControlFlow<Close> {
    match heard {
        Ok(()) => ControlFlow::Continue(()),
        Err(OutOfTurn) => ControlFlow::Break(Close::new(1002, "out of turn")),
    }
}
