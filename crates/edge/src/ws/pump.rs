//! Drives one socket from its upgrade to its end, in one task.

use std::{
    future::poll_fn,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use service::Context;
use tokio::time::{Instant, Sleep, sleep_until};

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
pub fn pump<S, F>(
    socket: Socket,
    limits: Arc<Limits>,
    session: F,
    cx: &Context,
) -> impl Future<Output = Ended> + use<S, F>
where
    S: Session,
    F: FnOnce(Outbox) -> S,
{
    let outbox = Outbox::new(limits, socket.port.metrics.clone());
    let place = Place::enter(&socket.port, outbox.shared());
    let mut session = session(outbox.clone());
    let mut conn = Conn::new(socket, &outbox, cx.stop.clone());
    drop(outbox);
    // Not an async fn: that would keep room for each argument beside what is made of it.
    async move {
        let mut timer = pin!(sleep_until(conn.first_look()));
        let over = converse(&mut conn, &mut session, timer.as_mut()).await;
        let how = over.how.clone();
        part(&mut conn, &mut session, timer.as_mut(), over).await;
        drop(place);
        how
    }
}

/// Hands messages to the session until it is over.
async fn converse<S: Session>(
    conn: &mut Conn,
    session: &mut S,
    mut timer: Pin<&mut Sleep>,
) -> Over {
    loop {
        let message = match poll_fn(|task| conn.poll_next(timer.as_mut(), task)).await {
            Next::Handle(message) => message,
            Next::End(over) => return over,
        };
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
                return Over { how: Ended::ByUs(close.code), farewell };
            }
            None => return Over { how: Ended::Lost, farewell: Farewell::Nothing },
        }
    }
}

/// Tells the session and the peer that it is over, both at once.
async fn part<S: Session>(
    conn: &mut Conn,
    session: &mut S,
    mut timer: Pin<&mut Sleep>,
    Over { how, farewell }: Over,
) {
    let mut answered = matches!(how, Ended::ByPeer(_));
    let mut closing = conn.begin_closing(farewell);
    timer.as_mut().reset(Instant::now() + conn.close_timeout());
    {
        let mut ending = pin!(session.ended(how));
        poll_fn(|task| {
            closing = closing && conn.poll_closing(&mut answered, task).is_pending();
            ending.as_mut().poll(task)
        })
        .await;
    }
    poll_fn(|task| {
        if !closing || conn.poll_closing(&mut answered, task).is_ready() {
            return Poll::Ready(());
        }
        timer.as_mut().poll(task)
    })
    .await;
}
