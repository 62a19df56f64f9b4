use std::io::Read;

use protocol::Command;

use crate::{
    Applied, Capture, Chain, Changes, EventKind, Hash, Refusal, RestoreError, Snapshot, State,
    apply::{self, Writer},
    image,
};

/// The one writer of a region's state, with the hash chain beside it.
#[derive(Clone, Debug, Default)]
pub struct Store {
    state: State,
    chain: Chain,
}

impl Store {
    /// Makes an empty store: what every region has from the start, at index 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the state as it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the state as it is, to keep; constant in time.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.state)
    }

    /// Returns the hash chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Returns the index of the last command that was applied.
    pub fn index(&self) -> u64 {
        self.state.index
    }

    /// Applies a command: wholly, or not at all. The result depends on nothing but the state and the arguments.
    /// `index` is the command's in the log. The state's own is the same, unless it was restored: then it is ahead, and
    /// [`Changes::index`] tells it.
    ///
    /// # Errors
    ///
    /// When the state forbids it, e.g. for a check-and-set conflict. Then only the index and the hash chain move.
    ///
    /// # Panics
    ///
    /// When the index does not follow the last one: a command applied twice would make servers differ, and a server
    /// that differs must stop.
    pub fn apply(&mut self, index: u64, command: &Command) -> Result<Applied, Refusal> {
        self.apply_encoded(index, command, &protocol::encode(command))
    }

    /// Applies a command of which the bytes are at hand that it was read from: large ones take as long to write again as
    /// they took to read. Every server has the same bytes, in its log.
    ///
    /// # Errors
    ///
    /// As for [`Store::apply`].
    ///
    /// # Panics
    ///
    /// As for [`Store::apply`].
    pub fn apply_encoded(&mut self, index: u64, command: &Command, bytes: &[u8]) -> Result<Applied, Refusal> {
        let index = index + self.state.index_offset();
        assert!(index > self.state.index, "command {index} was applied after command {}", self.state.index);
        // The rows are shared, so this copies no row; a command that is refused half way leaves nothing behind.
        let mut next = self.state.clone();
        next.index = index;
        let mut writer = Writer::new(&mut next, index);
        let result = apply::run(&mut writer, command);
        match result {
            Ok(outcome) => {
                let rows = writer.finish();
                let index = next.index;
                let hash = self.chain.extend(index, bytes, &apply::encode_rows(&next, &rows));
                self.state = next;
                Ok(Applied { outcome, changes: Changes { index, kind: EventKind::of(command), rows }, hash })
            }
            Err(refusal) => {
                if mutants::on!("refusal-leaves-traces") {
                    self.state = next;
                }
                self.state.index = index;
                self.chain.extend(index, bytes, &[]);
                Err(refusal)
            }
        }
    }

    /// Moves the index over a log entry that holds no command.
    pub fn skip(&mut self, index: u64) {
        let index = index + self.state.index_offset();
        assert!(index > self.state.index, "entry {index} was skipped after command {}", self.state.index);
        self.state.index = index;
    }

    /// Takes the state and the chain to be written elsewhere; constant in time.
    pub fn capture(&self) -> Capture {
        Capture { state: self.state.clone(), chain: self.chain.clone() }
    }

    /// Reads what a [`Capture`] wrote.
    ///
    /// # Errors
    ///
    /// When it is damaged or holds anything that this build does not know.
    pub fn restore(input: &mut dyn Read) -> Result<Self, RestoreError> {
        let (state, chain) = image::read(input)?;
        Ok(Self { state, chain })
    }

    /// Hashes every row: equal for equal states, however they came about. Takes time in proportion to the state.
    pub fn content_hash(&self) -> Hash {
        image::content_hash(&self.state)
    }
}
