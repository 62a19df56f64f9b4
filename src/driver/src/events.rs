use std::collections::BTreeMap;

use tokio::sync::broadcast;

use crate::TaskId;

/// Events kept for a subscriber that lags. Image pulls are the only busy source and say one thing in ten seconds,
/// so this is minutes of many pulls; past it the oldest are lost, which costs a line in a task's history.
const EVENTS_MAX: usize = 256;

/// A message for the user about one task. Becomes a task event of type `Driver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEvent {
    /// The task.
    pub id: TaskId,
    /// When, in nanoseconds since the epoch.
    pub at: i64,
    /// What happened, such as `Downloading image`.
    pub message: String,
    /// More, by name; shown as the event's details.
    pub details: BTreeMap<String, String>,
}

/// Where a driver puts its events.
#[derive(Clone, Debug)]
pub struct EventSender(broadcast::Sender<TaskEvent>);

impl Default for EventSender {
    fn default() -> Self {
        Self(broadcast::channel(EVENTS_MAX).0)
    }
}

impl EventSender {
    /// Tells all subscribers. Without any, the event is gone.
    pub fn send(&self, event: TaskEvent) {
        // Nobody listening is not an error: events are a courtesy.
        let _ = self.0.send(event);
    }

    /// Adds a subscriber, who sees what is sent from here on.
    pub fn subscribe(&self) -> EventReceiver {
        EventReceiver(self.0.subscribe())
    }
}

/// Where the client reads a driver's events.
#[derive(Debug)]
pub struct EventReceiver(broadcast::Receiver<TaskEvent>);

impl EventReceiver {
    /// Waits for the next event; none when the driver is gone. Skips over what was lost by lagging.
    pub async fn next(&mut self) -> Option<TaskEvent> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
