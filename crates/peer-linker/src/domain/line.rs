//! The way to one client, as the rules see it.

use super::event::Event;

/// The sending half of a connection. Nothing here waits but [`Line::ready`].
pub(crate) trait Line: Clone + Send + Sync + 'static {
    /// What linked clients send each other.
    type Payload: Send;

    /// Queues what the client is told: behind payload that was queued before where the order
    /// matters to it ([`Event::Unlinked`]), else before everything.
    fn tell(&self, event: &Event);

    /// Queues payload from the linked client. `true` when it should send no more until
    /// [`Line::ready`].
    fn pass(&self, payload: Self::Payload) -> bool;

    /// Waits until there is room for payload, or the connection is over.
    fn ready(&self) -> impl Future<Output = ()> + Send;

    /// Ends the connection after what is queued: the client's pad is somebody else's now.
    fn close(&self);

    /// Ends the connection at once.
    fn kill(&self);
}
