//! The state as raft drives it: applies commands and tells everyone who waits.

use std::{io, sync::Arc};

use protocol::Command;
use raft::{Halt, StateMachine, WriteSnapshot};
use state::{Changes, Outcome, Refusal, Store};

use crate::hub::Hub;

/// The region's state under raft.
pub struct Machine {
    store: Store,
    hub: Arc<Hub>,
}

impl Machine {
    /// Makes an empty machine that tells `hub`.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { store: Store::new(), hub }
    }

    /// The state, with its hash chain.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl StateMachine for Machine {
    /// The command's index in the state, and what came of it.
    type Response = Result<(u64, Outcome), Refusal>;

    fn apply(&mut self, index: u64, command: &[u8]) -> Result<Self::Response, Halt> {
        let bytes = command;
        let command: Command = protocol::decode(bytes).map_err(|error| {
            Halt(format!("command {index} can not be read: {error}; run the version that wrote it"))
        })?;
        let applied = self.store.apply_encoded(index, &command, bytes);
        // The snapshot is published before anyone is told, so that whoever wakes sees what woke it.
        self.hub.publish(self.store.snapshot());
        match applied {
            Ok(applied) => {
                let (index, replaced) = (applied.changes.index, applied.changes.replaced());
                self.hub.tell(Arc::new(applied.changes));
                if replaced {
                    self.hub.wake_all();
                }
                Ok(Ok((index, applied.outcome)))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn snapshot(&self) -> WriteSnapshot {
        let capture = self.store.capture();
        Box::new(move |writer| capture.write(writer))
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        self.store = Store::restore(reader).map_err(io::Error::other)?;
        self.hub.publish(self.store.snapshot());
        self.hub.tell(Arc::new(Changes::everything(self.store.index())));
        self.hub.wake_all();
        Ok(())
    }
}
