//! Follows the output of a container into the log files of its task.
//!
//! The engine keeps what a container said and when. The files know up to which moment they are written; whatever
//! interrupts the conversation, be it a restart of the agent or of the engine, the next one goes on behind that moment.

mod entries;
mod files;

use std::{io, path::PathBuf, time::Duration};

use bollard::{container::LogOutput, query_parameters::LogsOptions};
use driver::LogConfig;
use futures_util::StreamExt;
use runtime::{Backoff, Env, Shutdown};
use tokio::sync::watch;
use tracing::{debug, warn};

use self::{
    entries::Entry,
    files::{LogFiles, Stream},
};
use crate::engine::{Engine, EngineError};

/// Pieces of output that are written at once.
const BATCH_MAX: usize = 256;
/// How soon a broken conversation is taken up again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long the end of the output may come before the end of the task is known.
const END_GAP_MAX: Duration = Duration::from_secs(2);

/// What to follow, and where to.
pub(crate) struct Follower {
    pub env: Env,
    pub engine: Engine,
    pub shutdown: Shutdown,
    pub container: String,
    pub task: String,
    pub dir: PathBuf,
    pub config: LogConfig,
    pub tty: bool,
}

/// How a conversation ended.
enum End {
    /// The engine said that there is no more.
    Complete,
    /// It broke off.
    Broken,
    /// There will never be more.
    Never,
}

impl Follower {
    /// Follows until the task has ended and all it said is written, or the agent stops.
    pub async fn run(self, mut ended: watch::Receiver<bool>) {
        let opened = {
            let (dir, task, container, config) =
                (self.dir.clone(), self.task.clone(), self.container.clone(), self.config);
            self.env.spawn_blocking(move || LogFiles::open(&dir, &task, &container, config)).await
        };
        let mut files = match opened.map_err(io::Error::other).and_then(|opened| opened) {
            Ok(files) => files,
            Err(error) => {
                warn!(container = self.container, %error, "cannot write the task's output");
                return;
            }
        };
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut rng = self.env.rng();
        loop {
            let had_ended = *ended.borrow();
            files.resume();
            let end = tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                end = self.converse(&mut files, &mut backoff) => end,
            };
            match end {
                End::Never => return,
                End::Complete if had_ended => return,
                End::Complete => {
                    // The output ends a moment before the engine tells the exit.
                    if tokio::time::timeout(END_GAP_MAX, ended.wait_for(|ended| *ended)).await.is_ok() {
                        return;
                    }
                }
                End::Broken => {}
            }
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                () = self.env.sleep(backoff.next_wait(&mut rng)) => {}
            }
        }
    }

    async fn converse(&self, files: &mut LogFiles, backoff: &mut Backoff) -> End {
        let Ok(client) = self.engine.client().await else { return End::Broken };
        let options = LogsOptions {
            follow: true,
            stdout: true,
            stderr: true,
            timestamps: true,
            since: files.since(),
            ..LogsOptions::default()
        };
        let mut batches = client.logs(&self.container, Some(options)).ready_chunks(BATCH_MAX);
        while let Some(batch) = batches.next().await {
            let (mut heard, mut failure) = (Vec::with_capacity(batch.len()), None);
            for item in batch {
                match item {
                    Ok(output) => self.understand(output, &mut heard),
                    Err(error) => failure = Some(self.engine.heard(error)),
                }
            }
            if !heard.is_empty() {
                backoff.reset();
                // Written here rather than on another thread: a few writes into the page cache, and being cancelled
                // in between must not lose the files.
                files.take(heard);
            }
            match failure {
                None => {}
                Some(error) if error.is_missing() => return End::Never,
                Some(EngineError::Refused { message, .. })
                    if message.contains("does not support reading") =>
                {
                    warn!(container = self.container, message, "the engine's log driver keeps no output");
                    return End::Never;
                }
                Some(error) => {
                    debug!(container = self.container, %error, "the output broke off");
                    return End::Broken;
                }
            }
        }
        End::Complete
    }

    fn understand(&self, output: LogOutput, heard: &mut Vec<(Stream, Entry)>) {
        match output {
            LogOutput::StdOut { message } | LogOutput::StdIn { message } => {
                heard.push((Stream::Stdout, entries::split(&message)));
            }
            LogOutput::StdErr { message } => heard.push((Stream::Stderr, entries::split(&message))),
            LogOutput::Console { message } if self.tty => {
                heard.extend(
                    entries::split_terminal(&message).into_iter().map(|entry| (Stream::Stdout, entry)),
                );
            }
            // An engine that tells of its own trouble in between.
            LogOutput::Console { message } => {
                debug!(container = self.container, text = %String::from_utf8_lossy(&message), "unexpected output");
            }
        }
    }
}
