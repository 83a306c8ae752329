use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{FutureExt, StreamExt};
use prometheus::Registry;

use super::*;

fn transfers(bounds: Bounds) -> Transfers {
    let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
    Transfers::new(bounds, metrics, CancellationToken::new())
}

fn bounds() -> Bounds {
    let (meet, stall) = (Duration::from_secs(5), Duration::from_secs(5));
    Bounds { max: 2, meet, stall }
}

async fn everything(mut reading: Reading) -> (Vec<u8>, bool) {
    let (mut all, mut broken) = (Vec::new(), false);
    while let Some(chunk) = reading.next().await {
        match chunk {
            Ok(chunk) => all.extend_from_slice(&chunk),
            Err(Cut) => broken = true,
        }
    }
    (all, broken)
}

async fn send(transfers: &Transfers, chunks: u8) -> Result<(), Failed> {
    let sending = transfers.send(b"n", Some(u64::from(chunks))).await?;
    for chunk in 0..chunks {
        sending.push(vec![chunk].into()).await?;
    }
    sending.finish().await
}

#[tokio::test]
async fn either_may_come_first_and_the_name_is_free_afterwards() {
    let transfers = transfers(bounds());
    let read = async {
        let reading = transfers.read(b"n").await.unwrap();
        assert_eq!(reading.announced(), Some(20));
        everything(reading).await
    };
    let (sent, (all, broken)) = tokio::join!(send(&transfers, 20), read);
    assert_eq!((sent, all.len(), broken), (Ok(()), 20, false));
    let read = async { everything(transfers.read(b"n").await.unwrap()).await };
    let ((all, broken), sent) = tokio::join!(read, send(&transfers, 3));
    assert_eq!((sent, &all[..], broken), (Ok(()), &[0, 1, 2][..], false));
    assert!(transfers.places.by_name.lock().is_empty());
    assert_eq!(transfers.places.metrics.transfers.get(), 0);
}

#[tokio::test]
async fn a_second_of_the_same_side_is_refused() {
    let transfers = transfers(bounds());
    let mut first = std::pin::pin!(transfers.read(b"n"));
    assert!(first.as_mut().now_or_never().is_none());
    assert_eq!(transfers.read(b"n").await.err(), Some(Failed::Taken));
    let sending = transfers.send(b"n", None).await.unwrap();
    assert_eq!(transfers.send(b"n", None).await.err(), Some(Failed::Taken));
    let reading = first.await.unwrap();
    drop(sending);
    assert_eq!(transfers.send(b"n", None).await.err(), Some(Failed::Taken), "one is still there");
    assert_eq!(everything(reading).await, (Vec::new(), true));
    assert!(transfers.places.by_name.lock().is_empty());
}

#[tokio::test]
async fn a_sender_that_leaves_breaks_the_readers_stream() {
    let transfers = transfers(bounds());
    let sending = async {
        let sending = transfers.send(b"n", None).await.unwrap();
        sending.push(Bytes::from_static(b"half")).await.unwrap();
    };
    let reading = async { everything(transfers.read(b"n").await.unwrap()).await };
    let ((), read) = tokio::join!(sending, reading);
    assert_eq!(read, (b"half".to_vec(), true));
}

#[tokio::test]
async fn a_reader_that_leaves_is_noticed() {
    let transfers = transfers(bounds());
    let left = AtomicBool::new(false);
    let read = async {
        drop(transfers.read(b"n").await.unwrap());
        left.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(send(&transfers, 50), read);
    assert_eq!((sent, left.into_inner()), (Err(Failed::Left), true));
}

#[tokio::test]
async fn waiting_ends_and_stalling_ends() {
    let short = Duration::from_millis(30);
    let transfers = transfers(Bounds { max: 2, meet: short, stall: short });
    assert_eq!(transfers.read(b"n").await.err(), Some(Failed::Unmet));
    assert_eq!(transfers.send(b"n", None).await.err(), Some(Failed::Unmet));
    assert!(transfers.places.by_name.lock().is_empty());
    // Polled first, so that the reader is there within the short time to meet.
    let (reading, sending) = tokio::join!(transfers.read(b"n"), transfers.send(b"n", None));
    let (_reading, sending) = (reading.unwrap(), sending.unwrap());
    for _ in 0..CHUNKS {
        sending.push(Bytes::from_static(b"x")).await.unwrap();
    }
    assert_eq!(sending.push(Bytes::from_static(b"x")).await, Err(Failed::Stalled));
}

#[tokio::test]
async fn no_more_pads_than_allowed() {
    let transfers = transfers(bounds());
    let mut waiting = [Box::pin(transfers.read(b"1")), Box::pin(transfers.read(b"2"))];
    for one in &mut waiting {
        assert!(one.now_or_never().is_none());
    }
    assert_eq!(transfers.read(b"3").await.err(), Some(Failed::Full));
    drop(waiting);
    assert!(transfers.read(b"3").now_or_never().is_none(), "there is room again");
}

/// Whoever serves a reader stops asking at the announced length.
#[tokio::test]
async fn a_reader_that_has_all_that_was_announced_may_leave() {
    let transfers = transfers(bounds());
    let read = async {
        let mut reading = transfers.read(b"n").await.unwrap();
        for _ in 0..3 {
            reading.next().await.unwrap().unwrap();
        }
    };
    let (sent, ()) = tokio::join!(send(&transfers, 3), read);
    assert_eq!(sent, Ok(()));
    let (sent, ()) = tokio::join!(send(&transfers, 0), async {
        drop(transfers.read(b"n").await.unwrap());
    });
    assert_eq!(sent, Ok(()));
}

#[tokio::test]
async fn nobody_waits_in_a_process_that_stops() {
    let transfers = transfers(bounds());
    let mut waiting = std::pin::pin!(transfers.read(b"n"));
    assert!(waiting.as_mut().now_or_never().is_none());
    transfers.stopping.cancel();
    assert_eq!(waiting.await.err(), Some(Failed::Stopping));
    assert!(transfers.places.by_name.lock().is_empty());
}
