use std::sync::Arc;

use crate::{Observation, Rows};

/// The rows of the last observation. Most servers show the same ones as each other and as before, and what follows from
/// rows alone needs one look.
#[derive(Default)]
pub(crate) struct LastShown(Vec<Arc<Rows>>);

impl LastShown {
    /// Lists the rows that no server showed at the last observation, each once and with a server that has them.
    pub(crate) fn fresh<'a>(&mut self, seen: &'a Observation) -> Vec<(u64, &'a Rows)> {
        let mut shown: Vec<Arc<Rows>> = Vec::with_capacity(seen.servers.len());
        let mut fresh = Vec::new();
        for server in &seen.servers {
            let Some(rows) = &server.rows else { continue };
            // What is held here is not given away, so one address is one set of rows.
            let is_same = |known: &Arc<Rows>| Arc::ptr_eq(known, rows);
            if shown.iter().any(is_same) {
                continue;
            }
            if !self.0.iter().any(is_same) {
                fresh.push((server.id, &**rows));
            }
            shown.push(rows.clone());
        }
        self.0 = shown;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{calm, change, rows};

    #[test]
    fn rows_are_looked_at_once_and_again_when_they_are_others() {
        let (mut last, mut seen) = (LastShown::default(), calm(rows()));
        let again = seen.servers[0].clone();
        seen.servers.push(again);
        assert_eq!(last.fresh(&seen).len(), 1, "two servers have the same");
        assert!(last.fresh(&seen).is_empty());
        change(&mut seen, |rows| rows.index += 1);
        assert!(!last.fresh(&seen).is_empty());
        seen.servers.clear();
        assert!(last.fresh(&seen).is_empty());
    }
}
