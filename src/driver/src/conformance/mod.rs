//! What every driver must do, as a suite that each driver's tests run.
//!
//! A driver's test makes a [`Bench`]: how to make the driver (again, as a restarted agent would), and how its
//! configuration expresses each [`Script`]. A script or an ability that a driver does not have skips the cases that
//! need it, and the report says so. The suite must run on a multi-threaded runtime, on real time.

mod cases;
mod exec_cases;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::{
    Capabilities, Driver, ExitResult, LogConfig, Resources, Signal, Started, TaskConfig, TaskDirs, TaskEnv,
    TaskId,
};

/// How long a case waits for something that normally takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a task of the suite does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Writes to both outputs, waits, and exits.
    Exit {
        /// With this code.
        code: i32,
        /// After so many milliseconds.
        after_ms: u64,
    },
    /// Runs until a signal ends it.
    Forever,
    /// Runs until it is killed: SIGINT and SIGTERM do nothing.
    Stubborn,
    /// Writes the value of the variable `CONFORMANCE` to its output and exits.
    PrintVariable,
    /// Writes so many megabytes of output and exits.
    Flood {
        /// How many.
        megabytes: u32,
    },
    /// Starts processes that try to outlive it, and exits.
    LeaveOffspring,
    /// Cannot be started, because what it should run does not exist.
    Missing,
}

/// What `Script::Exit` writes to standard output.
pub const STDOUT_TEXT: &str = "said to everybody\n";
/// What `Script::Exit` writes to standard error.
pub const STDERR_TEXT: &str = "said in anger\n";

/// A driver on the bench.
pub struct Bench {
    /// A directory for the allocations' directories, the same that the driver was told.
    pub alloc_dir: PathBuf,
    /// Makes the driver; called again where an agent would have been restarted.
    pub make: Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Driver>> + Send + Sync>,
    /// Writes a script as the driver's configuration; none skips the cases that need it.
    pub config: Box<dyn Fn(Script) -> Option<Value> + Send + Sync>,
    /// Writes a shell command as arguments for `exec`; none skips those cases.
    pub shell: Option<fn(&str) -> Vec<String>>,
}

/// How one case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it must.
    Passed,
    /// Not run.
    Skipped {
        /// Why.
        reason: String,
    },
    /// Not as it must.
    Failed {
        /// What was seen.
        reason: String,
    },
}

type CaseResult = Result<(), Fault>;

/// Why a case ended early.
#[derive(Debug)]
enum Fault {
    Skip(String),
    Fail(String),
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Fail(format!("unexpected error: {error}"))
    }
}

/// Fails a case with what was seen.
macro_rules! ensure {
    ($condition:expr, $($seen:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Fault::Fail(format!($($seen)+)));
        }
    };
}
use ensure;

type Case = for<'a> fn(&'a Stage<'a>) -> BoxFuture<'a, CaseResult>;

/// Runs every case whose name contains one of `filters` (all without any), and tells how each went.
pub async fn run(bench: &Bench, filters: &[String]) -> Vec<(&'static str, Outcome)> {
    let mut report = Vec::new();
    let cases = cases::CASES.iter().chain(exec_cases::CASES);
    for (name, case) in
        cases.filter(|(name, _)| filters.is_empty() || filters.iter().any(|f| name.contains(f)))
    {
        let stage = Stage { bench, driver: (bench.make)().await };
        let outcome = match tokio::time::timeout(PATIENCE * 2, case(&stage)).await {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(Fault::Skip(reason))) => Outcome::Skipped { reason },
            Ok(Err(Fault::Fail(reason))) => Outcome::Failed { reason },
            Err(_) => Outcome::Failed { reason: "it did not end".to_owned() },
        };
        report.push((*name, outcome));
    }
    report
}

/// Runs the suite as a test program's `main` does: filters from the command line, one line a case.
/// Returns whether nothing failed.
pub async fn run_as_tests(bench: &Bench) -> bool {
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let report = run(bench, &filters).await;
    for (name, outcome) in &report {
        match outcome {
            Outcome::Passed => println!("test conformance::{name} ... ok"),
            Outcome::Skipped { reason } => println!("test conformance::{name} ... ignored, {reason}"),
            Outcome::Failed { reason } => println!("test conformance::{name} ... FAILED: {reason}"),
        }
    }
    !report.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed { .. }))
}

/// One case at work.
struct Stage<'a> {
    bench: &'a Bench,
    driver: Arc<dyn Driver>,
}

impl Stage<'_> {
    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    /// A task with directories of its own.
    fn task(&self, script: Script) -> Result<TaskConfig, Fault> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let config = (self.bench.config)(script)
            .ok_or_else(|| Fault::Skip(format!("this driver has no {script:?}")))?;
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let alloc_id = format!("{:08x}-0000-4000-8000-{n:012x}", std::process::id());
        let root = self.bench.alloc_dir.join(&alloc_id);
        let dirs = TaskDirs {
            alloc_shared: root.join("alloc"),
            task: root.join("t"),
            local: root.join("t/local"),
            secrets: root.join("t/secrets"),
            logs: root.join("alloc/logs"),
        };
        for dir in [&dirs.local, &dirs.secrets, &dirs.logs] {
            fs::create_dir_all(dir)?;
        }
        let variables = [
            ("CONFORMANCE", "a value with spaces"),
            ("NOMAD_ALLOC_ID", &alloc_id),
            ("NOMAD_TASK_NAME", "t"),
            ("NOMAD_ALLOC_DIR", &dirs.alloc_shared.display().to_string()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ];
        Ok(TaskConfig {
            id: TaskId::new(&alloc_id, "t", "1"),
            alloc_name: "job.group[0]".to_owned(),
            job_id: "job".to_owned(),
            job_name: "job".to_owned(),
            group: "group".to_owned(),
            namespace: "default".to_owned(),
            node_id: "node".to_owned(),
            node_name: "node".to_owned(),
            env: variables.into_iter().collect::<TaskEnv>(),
            user: None,
            resources: Resources::default(),
            dirs,
            ports: Vec::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            network: None,
            dns: None,
            logs: LogConfig::default(),
            config,
            kill_signal: None,
            kill_timeout: Duration::from_secs(5),
        })
    }

    async fn started(&self, script: Script) -> Result<(TaskConfig, Started), Fault> {
        let task = self.task(script)?;
        let started = self.driver.start(task.clone()).await?;
        Ok((task, started))
    }

    async fn exit_of(&self, id: &TaskId) -> Result<ExitResult, Fault> {
        let waited = tokio::time::timeout(PATIENCE, self.driver.wait(id)).await;
        Ok(waited.map_err(|_| Fault::Fail("the task did not end".to_owned()))??)
    }

    async fn stopped(&self, id: &TaskId, signal: Signal, timeout: Duration) -> Result<ExitResult, Fault> {
        let stopped = tokio::time::timeout(PATIENCE, self.driver.stop(id, signal, timeout)).await;
        stopped.map_err(|_| Fault::Fail("the stop did not end".to_owned()))??;
        self.exit_of(id).await
    }

    /// Ends a task and sees that nothing of it is left.
    async fn gone(&self, id: &TaskId) -> CaseResult {
        self.driver.destroy(id, true).await?;
        ensure!(self.driver.inspect(id).is_none(), "a destroyed task is still known");
        let left = self.left_of(id.alloc_id()).await?;
        ensure!(left.is_empty(), "left after destroy: {left:?}");
        Ok(())
    }

    async fn left_of(&self, alloc_id: &str) -> Result<Vec<crate::Found>, Fault> {
        Ok(self.driver.census().await?.into_iter().filter(|found| found.alloc_id == alloc_id).collect())
    }
}

/// Reads all files of a stream, in order.
fn read_log(dir: &Path, stream: &str) -> Vec<u8> {
    let mut index = 0;
    let mut text = Vec::new();
    while let Ok(bytes) = fs::read(dir.join(format!("t.{stream}.{index}"))) {
        text.extend(bytes);
        index += 1;
    }
    text
}
