use std::io;

use tokio::sync::watch;
use tracing::error;

use crate::error::Fault;

/// Remembers the first reason to stop, and tells whoever waits for one.
#[derive(Clone)]
pub(crate) struct FaultCell(watch::Sender<Option<Fault>>);

impl FaultCell {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Reports a reason to stop; the first one stays. Returns it in the form that openraft takes.
    pub(crate) fn report(&self, fault: Fault) -> io::Error {
        let error = io::Error::other(fault.to_string());
        let first = self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(fault.clone());
            }
            first
        });
        if first {
            error!(%fault, "replication stops");
        }
        error
    }

    pub(crate) fn get(&self) -> Option<Fault> {
        self.0.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Fault>> {
        self.0.subscribe()
    }
}
