//! What happens by itself between replicas: the lease, the rows of our connections, and what the
//! others tell.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bus::Event;
use parking_lot::Mutex;
use proto::book::Message;
use service::{Context, Stop};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    book::Book,
    keeper,
    presence::{self, Note, Parcel},
};

/// Pause after the database did not answer.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the last words to the database may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Users looked at with one query.
const CHUNK: usize = 500;

/// Users whose peers elsewhere have to be looked at. Bounded by the circles there are.
#[derive(Default)]
struct ToDo {
    users: Mutex<HashSet<String>>,
    more: Notify,
}

/// Starts everything, until the drain is over.
pub(crate) fn start(book: &Arc<Book>, renewal: Duration, cx: &Context) {
    let to_do = Arc::new(ToDo::default());
    let over = book.presence_over.clone();
    cx.spawn_essential("lease", keep_lease(book.clone(), to_do.clone(), renewal, over));
    cx.spawn_essential("sessions", write_rows(book.clone(), cx.stop.clone()));
    let (looking, ending) = (look(book.clone(), to_do.clone()), cx.stop.killed().clone());
    let heard = hear(book.clone(), to_do);
    let work = async move {
        ending.run_until_cancelled(async { tokio::join!(looking, heard) }).await;
    };
    // Not among what the drain waits for: it ends with the connections.
    let until = book.presence_over.clone();
    cx.spawn_essential("replicas", async move {
        until.run_until_cancelled(work).await;
    });
}

impl ToDo {
    fn add(&self, users: Vec<String>) {
        self.users.lock().extend(users);
        self.more.notify_one();
    }
}

/// Renews the lease for as long as there are connections, in the drain too.
async fn keep_lease(book: Arc<Book>, to_do: Arc<ToDo>, renewal: Duration, over: CancellationToken) {
    let mut ticks = interval(renewal);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while over.run_until_cancelled(ticks.tick()).await.is_some() {
        match book.presence.lease.renew(&book.pool).await {
            Ok(renewal) => {
                if !renewal.kept {
                    tracing::warn!("others took this process for dead; sessions put back");
                    book.presence.restore();
                }
                if renewal.swept > 0 {
                    tracing::info!(sessions = renewal.swept, "swept what a dead process left");
                    book.presence.tell_all();
                    to_do.add(book.users_here());
                }
            }
            Err(why) => tracing::warn!(%why, "lease not renewed"),
        }
    }
}

async fn write_rows(book: Arc<Book>, stop: Stop) {
    let presence = &book.presence;
    while !(stop.draining().is_cancelled() && presence.is_over()) {
        let wait = async {
            tokio::select! {
                () = presence.changed() => {}
                () = sleep(PAUSE), if stop.draining().is_cancelled() => {}
                () = stop.draining().cancelled(), if !stop.draining().is_cancelled() => {}
            }
        };
        if stop.killed().run_until_cancelled(wait).await.is_none() {
            break;
        }
        while let Err(why) = presence.write().await {
            tracing::debug!(%why, "sessions not written yet");
            if stop.killed().run_until_cancelled(sleep(PAUSE)).await.is_none() {
                break;
            }
        }
    }
    presence.bus.finish().await;
    book.presence_over.cancel();
    match timeout(LAST_WORDS, presence.lease.end(&book.pool)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::warn!(%why, "lease left to expire"),
        Err(_) => tracing::warn!("lease left to expire: the database takes too long"),
    }
}

async fn hear(book: Arc<Book>, to_do: Arc<ToDo>) {
    let mut heard = book.presence.bus.subscribe();
    loop {
        let users: Vec<String> = match heard.next().await {
            Event::Resync => book.users_here(),
            Event::Message(message) => match presence::decode(&message.bytes) {
                Some(Note::LookAtAll) => book.users_here(),
                Some(Note::Look(uid)) if book.known_circle(&uid).is_some() => vec![uid],
                Some(Note::Look(_)) | None => continue,
                Some(Note::Envelope(parcel)) => {
                    take(&book, &parcel).await;
                    continue;
                }
            },
        };
        to_do.add(users);
    }
}

async fn look(book: Arc<Book>, to_do: Arc<ToDo>) {
    loop {
        to_do.more.notified().await;
        let users: Vec<String> = std::mem::take(&mut *to_do.users.lock()).into_iter().collect();
        for some in users.chunks(CHUNK) {
            while let Err(why) = book.look_elsewhere(some).await {
                tracing::debug!(%why, "others' sessions not read yet");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Delivers what another replica's peer sent. Everything is judged again by what this replica knows,
/// which is brought up to what the other one knew: its target may be waiting here for the approval.
async fn take(book: &Book, parcel: &Parcel) {
    let known = || book.known_circle(&parcel.uid);
    let is_here = || known().is_some() || book.lobby.has(&parcel.to);
    if known().map_or(0, |circle| circle.version()) < parcel.version
        && is_here()
        && let Err(why) = keeper::refresh(book, &parcel.uid, Some(parcel.version)).await
    {
        tracing::debug!(%why, "user of an envelope not read");
    }
    let text = parcel.text.as_bytes();
    if let Some(circle) = known()
        && let Some(Message::Envelope(envelope)) = Message::read(text, parcel.dialect())
        && circle.receive(parcel, &envelope)
    {
        book.metrics.taken.inc();
    }
}

impl Book {
    /// Users with a circle here.
    fn users_here(&self) -> Vec<String> {
        self.circles.lock().keys().cloned().collect()
    }

    /// Finds out which peers of these users are connected elsewhere, and tells those here.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn look_elsewhere(&self, uids: &[String]) -> Result<(), sqlx::Error> {
        let (number, found) = self.presence.read(uids).await?;
        for uid in uids {
            if let Some(circle) = self.known_circle(uid) {
                let theirs = found.iter().filter(|one| one.uid == *uid);
                circle.note_elsewhere(number, theirs, true, self.now());
            }
        }
        Ok(())
    }

    /// As [`Book::look_elsewhere`] for one user, before the change that is told next.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn look_before(&self, uid: &str) -> Result<(), sqlx::Error> {
        if let Some(circle) = self.known_circle(uid) {
            let (number, found) = self.presence.read(&[uid.to_owned()]).await?;
            circle.note_elsewhere(number, found.iter(), false, self.now());
        }
        Ok(())
    }
}
