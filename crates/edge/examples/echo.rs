//! The least a WebSocket service can do, to measure what `edge` itself costs.
//!
//! `/` echoes; `/pair/<name>/<side>` forwards to the other side; `/feed` appends each
//! message to a shared feed, which it follows from its first message on. Settings as any service: `--listen`, `--tls-cert`, ...

use std::{
    collections::HashMap, convert::Infallible, ops::ControlFlow, process::ExitCode, sync::Arc,
};

use edge::{
    Body, ListenArgs,
    ws::{self, Close, Ended, Feed, Frame, Limits, Message, Outbox, Session},
};
use http::{Request, Response};
use hyper::body::Incoming;
use parking_lot::Mutex;
use service::{About, Context};

const ABOUT: About = About {
    name: "echo",
    about: "Sends back what it gets.",
    listen: "127.0.0.1:9000",
    admin: "127.0.0.1:19000",
    aliases: &[],
    arguments: &[],
};

fn main() -> ExitCode {
    service::run(&ABOUT, serve)
}

async fn serve(mut args: ListenArgs, cx: Context) -> anyhow::Result<()> {
    args.max_connections_per_address = args.max_connections;
    let listener = edge::bind(&args, &cx).await?;
    let app = Arc::new(App {
        feed: Feed::new(16 << 20, &cx),
        pairs: Mutex::default(),
        limits: Arc::new(Limits::default()),
        cx: cx.clone(),
    });
    let service = tower::service_fn(move |request| {
        let answer = answer(&app, request);
        async move { Ok::<_, Infallible>(answer) }
    });
    edge::serve(listener, service, &cx).await
}

struct App {
    feed: Feed,
    pairs: Mutex<HashMap<String, Outbox>>,
    limits: Arc<Limits>,
    cx: Context,
}

fn answer(app: &Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let (response, upgrading) = match ws::upgrade(request) {
        Ok(upgraded) => upgraded,
        Err(refusal) => return refusal,
    };
    let (peers, path) = (app.clone(), path);
    let peer = move |outbox| Peer::new(&peers, &path, outbox);
    let pump = upgrading.pump(app.limits.clone(), peer, &app.cx);
    app.cx.spawn("socket", pump);
    response
}

struct Peer {
    own: Outbox,
    role: Role,
}

enum Role {
    Echo,
    Pair { app: Arc<App>, partner: String, outbox: Option<Outbox> },
    Feed { feed: Feed, joined: bool },
}

impl Peer {
    fn new(app: &Arc<App>, path: &str, own: Outbox) -> Self {
        let role = if path == "/feed" {
            Role::Feed { feed: app.feed.clone(), joined: false }
        } else if let Some(name) = path.strip_prefix("/pair/") {
            app.pairs.lock().insert(name.to_owned(), own.clone());
            let partner = match name.strip_suffix("/a") {
                Some(pair) => format!("{pair}/b"),
                None => name.replace("/b", "/a"),
            };
            Role::Pair { app: app.clone(), partner, outbox: None }
        } else {
            Role::Echo
        };
        Self { own, role }
    }
}

impl Session for Peer {
    async fn message(&mut self, message: Message) -> ControlFlow<Close> {
        let frame = Frame::text(message.into_bytes());
        match &mut self.role {
            Role::Echo => {
                let _ = self.own.send(frame);
            }
            Role::Feed { feed, joined } => {
                let position = feed.append(&frame);
                if !std::mem::replace(joined, true) {
                    self.own.follow(feed, position);
                }
                self.own.skip(position);
                let _ = self.own.send(frame);
            }
            Role::Pair { app, partner, outbox } => {
                if outbox.is_none() {
                    *outbox = app.pairs.lock().get(partner).cloned();
                }
                if let Some(outbox) = outbox {
                    let _ = outbox.send(frame);
                }
            }
        }
        ControlFlow::Continue(())
    }

    async fn ended(&mut self, _how: Ended) {}
}
