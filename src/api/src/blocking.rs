//! Reads that wait for a change.

use std::time::Duration;

use raft::Leadership;
use rand::RngExt;
use server::Watch;
use state::Snapshot;
use tokio::sync::watch;

use crate::{Api, Call, HttpError};

/// The index of what was there before the first change: a caller that waits for one later than 0 would not wait.
pub(crate) const FIRST_INDEX: u64 = 1;

/// Waits until this server does not lead.
async fn lost(leadership: &mut watch::Receiver<Leadership>) {
    // A server that stopped does not lead either.
    let _ = leadership.wait_for(|leadership| !leadership.is_leader()).await;
}

impl Api {
    /// Reads from the state; when the caller gave an index, waits until what it reads is later, or the time is over.
    ///
    /// `read` returns the index of what it read, and is called again after each change of anything in `watched`.
    ///
    /// # Errors
    ///
    /// What `read` returns, and 400 when the query is wrong.
    pub(crate) async fn read<T>(
        &self,
        call: &Call,
        watched: &[Watch],
        read: impl Fn(&Snapshot) -> Result<(u64, T), HttpError>,
    ) -> Result<(u64, T), HttpError> {
        let server = self.require_server()?;
        let Some(wait) = call.query.wait()? else { return read(&server.snapshot()) };
        let env = server.env();
        // A sixteenth of jitter at most, so that many watchers do not come back together.
        let jitter = env.rng().random_range(0.0..=1.0 / 16.0);
        let deadline = env.now() + wait.wait + Duration::mul_f64(wait.wait, jitter);
        let mut leadership = server.raft().leadership();
        let stale = call.query.is_stale();
        loop {
            let waiter = server.wait_for(watched);
            let (index, value) = read(&server.snapshot())?;
            if index > wait.index || env.now() >= deadline {
                return Ok((index, value));
            }
            tokio::select! {
                biased;
                () = waiter.changed() => {}
                // Who does not lead may be cut off, and would let the caller wait for nothing: another one answers.
                () = lost(&mut leadership), if !stale => return Err(HttpError::no_leader()),
                () = env.sleep_until(deadline) => {}
                () = env.shutdown().wait() => return Err(HttpError::internal("agent is stopping")),
            }
        }
    }

    /// As [`Api::read`], for one thing: when there is none, the answer is 404 with this text, once the wait is over.
    ///
    /// # Errors
    ///
    /// As for [`Api::read`], and 404.
    pub(crate) async fn find<T>(
        &self,
        call: &Call,
        watched: &[Watch],
        missing: &str,
        read: impl Fn(&Snapshot) -> Result<(u64, Option<T>), HttpError>,
    ) -> Result<(u64, T), HttpError> {
        let (index, found) = self.read(call, watched, read).await?;
        found.map(|found| (index, found)).ok_or_else(|| HttpError::not_found(missing).at(index))
    }
}
