//! What comes before a task starts: its dispatch payload, its artifacts, its templates.

mod beneath;
mod template;

use driver::TaskDirs;
use model::{Job, Task};
use runtime::Env;

pub use beneath::{Beneath, BeneathError};

use crate::task_env::TaskEnv;

/// Why a task could not be prepared. What was written stays and is written over by the next try.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The payload of a dispatch could not be written.
    #[error("could not write dispatch payload to {path}: {reason}")]
    Payload {
        /// Where it should go.
        path: String,
        /// Why it did not.
        reason: String,
    },
    /// An artifact could not be fetched.
    #[error("{message}")]
    Artifact {
        /// What happened.
        message: String,
    },
    /// A template could not be rendered.
    #[error("{message}")]
    Template {
        /// What happened.
        message: String,
    },
}

/// Runs everything that comes before the start of a task, in order. Environment templates add to `env`.
///
/// # Errors
///
/// The first thing that failed.
pub async fn prepare(
    agent: &Env,
    job: &Job,
    task: &Task,
    dirs: &TaskDirs,
    env: &mut TaskEnv,
) -> Result<(), PrepareError> {
    if task.dispatch_payload.is_none() && task.artifacts.is_empty() && task.templates.is_empty() {
        return Ok(());
    }
    if let Some(artifact) = task.artifacts.first() {
        return Err(PrepareError::Artifact {
            message: format!(
                "failed to download artifact \"{}\": this agent does not fetch artifacts yet; \
                 put the file into an image, a host volume or a template",
                env.replace(&artifact.getter_source)
            ),
        });
    }
    let (job, task, dirs, seen) = (job.clone(), task.clone(), dirs.clone(), env.clone());
    let rendered = agent.spawn_blocking(move || -> Result<Vec<(String, String)>, PrepareError> {
        write_payload(&job, &task, &dirs)?;
        template::render_all(&task, &dirs, &seen)
    });
    let added = rendered.await.map_err(|error| PrepareError::Template { message: error.to_string() })??;
    for (name, value) in added {
        env.set(name, value);
    }
    Ok(())
}

fn write_payload(job: &Job, task: &Task, dirs: &TaskDirs) -> Result<(), PrepareError> {
    let (Some(wanted), Some(parent)) = (&task.dispatch_payload, &job.parent) else { return Ok(()) };
    let failed =
        |error: BeneathError| PrepareError::Payload { path: wanted.file.clone(), reason: error.to_string() };
    let local = Beneath::open(&dirs.local).map_err(failed)?;
    local.write(&wanted.file, &parent.payload, 0o644).map_err(failed)
}
