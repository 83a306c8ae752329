//! Drives one socket from its upgrade to its end, in one task.

use std::{future::poll_fn, ops::ControlFlow, pin::pin, sync::Arc, task::Poll};

use service::Context;
use tokio::time::{Instant, sleep_until};

use super::{
    Ended, Frame, Limits, Outbox, Session, Socket,
    conn::{Conn, Farewell, Next, Over},
    sockets::Place,
};

/// Runs `session` on `socket` until either side closes, breaks or falls silent.
///
/// ```text
/// peer -> decode -> Session::message, one at a time -> ...
/// peer <- gathered writes <- pong and close, own frames and the followed feed in order <- Outbox
/// ```
///
/// Reading stops while a message is handled; writing and deadlines go on. When the process
/// drains, the socket is closed with 1012 at a random moment in the first half of the grace.
pub async fn pump<S: Session>(
    socket: Socket,
    limits: Arc<Limits>,
    session: impl FnOnce(Outbox) -> S,
    cx: &Context,
) -> Ended {
    let port = socket.port.clone();
    let first_look = limits.ping_interval.min(limits.idle_timeout);
    let outbox = Outbox::new(limits, port.metrics.clone());
    let _place = Place::enter(&port, outbox.shared());
    drop(port);
    let mut session = session(outbox.clone());
    let mut conn = Conn::new(socket, &outbox, cx.stop.clone());
    drop(outbox);
    let mut timer = pin!(sleep_until(Instant::now() + first_look));
    let Over { how, farewell } = loop {
        match poll_fn(|task| conn.poll_next(timer.as_mut(), task)).await {
            Next::End(over) => break over,
            Next::Handle(message) => {
                let mut handling = pin!(session.message(message));
                let handled = poll_fn(|task| match handling.as_mut().poll(task) {
                    Poll::Ready(flow) => Poll::Ready(Some(flow)),
                    Poll::Pending => conn.poll_meanwhile(timer.as_mut(), task).map(|()| None),
                });
                match handled.await {
                    Some(ControlFlow::Continue(())) => {}
                    Some(ControlFlow::Break(close)) => {
                        let frame = Frame::close(Some(close.code), close.reason.as_bytes());
                        let farewell = Farewell::Close { frame, flush: true };
                        break Over { how: Ended::ByUs(close.code), farewell };
                    }
                    None => break Over { how: Ended::Lost, farewell: Farewell::Nothing },
                }
            }
        }
    };
    let mut answered = matches!(how, Ended::ByPeer(_));
    let deadline = Instant::now() + conn.close_timeout();
    let mut closing = conn.begin_closing(farewell);
    {
        let mut ending = pin!(session.ended(how.clone()));
        poll_fn(|task| {
            if closing && conn.poll_closing(&mut answered, task).is_ready() {
                closing = false;
            }
            ending.as_mut().poll(task)
        })
        .await;
    }
    drop(session);
    timer.as_mut().reset(deadline);
    poll_fn(|task| {
        if !closing || conn.poll_closing(&mut answered, task).is_ready() {
            return Poll::Ready(());
        }
        timer.as_mut().poll(task)
    })
    .await;
    how
}
