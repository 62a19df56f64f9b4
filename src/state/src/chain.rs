use std::{collections::VecDeque, fmt};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// Hashes that are kept, so that servers at different indexes have one to compare.
///
/// Servers exchange hashes about once a second; at thousands of commands a second, a follower that lags more than this
/// is compared later. It costs 40 kB.
const WINDOW: usize = 1024;

/// The hash of everything that was applied up to some index.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The hash chain: h(i) = H(h(i-1), i, command i, touched rows). Servers compare it; one that differs stops itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Chain {
    head: Hash,
    window: VecDeque<(u64, Hash)>,
}

impl Chain {
    /// Returns the hash after the last command.
    pub fn head(&self) -> Hash {
        self.head
    }

    /// Returns the hash after the command at an index; none when it is too long ago or no command was there.
    pub fn at(&self, index: u64) -> Option<Hash> {
        let position = self.window.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(self.window[position].1)
    }

    /// Lists the hashes that are kept, oldest first.
    pub fn window(&self) -> impl DoubleEndedIterator<Item = (u64, Hash)> + '_ {
        self.window.iter().copied()
    }

    pub(crate) fn extend(&mut self, index: u64, command: &[u8], rows: &[u8]) -> Hash {
        let mut context = Context::new(&SHA256);
        context.update(&self.head.0);
        context.update(&index.to_le_bytes());
        // The length keeps a byte from moving between the command and the rows unseen.
        context.update(&(command.len() as u64).to_le_bytes());
        context.update(command);
        context.update(if mutants::on!("chain-without-rows") { &[] } else { rows });
        self.head = finish(context);
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back((index, self.head));
        self.head
    }
}

pub(crate) fn finish(context: Context) -> Hash {
    let digest = context.finish();
    Hash(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}
