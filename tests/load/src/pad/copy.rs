//! A relay that does nothing but copy, on one thread: what any relay in user space has to do.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

/// What it reads at once at most.
const BUFFER: usize = 64 * 1024;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3998")]
    pub(crate) listen: SocketAddr,
}

/// Joins the first connection to the second, the third to the fourth, until it is killed.
pub(crate) fn serve(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let set = tokio::task::LocalSet::new();
    set.block_on(&runtime, async {
        let listener = TcpListener::bind(options.listen).await?;
        loop {
            let (one, other) = (accept(&listener).await?, accept(&listener).await?);
            tokio::task::spawn_local(copy(one, other));
        }
    })
}

async fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn copy(mut one: TcpStream, mut other: TcpStream) {
    // Whoever resets its connection ends the other.
    let _ = copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER, BUFFER).await;
}
