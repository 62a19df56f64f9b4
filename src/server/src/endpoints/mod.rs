//! What users ask a region to do: each method makes one command and has it agreed on.

mod admission;
mod allocs;
mod cluster;
mod deployments;
mod dispatch;
mod jobs;
mod nodes;
mod plan;
mod scaling;

use control::Moment;
use model::{JobKey, Timestamp};
use std::{pin::Pin, time::Duration};

use crate::{Server, SubmitError};

pub use admission::{Admitted, Draft};
pub use allocs::{StopAlloc, Stopped};
pub use deployments::DeploymentChanged;
pub use dispatch::{Dispatch, Dispatched};
pub use jobs::{Deregister, JobChanged, Register, Revert};
pub use nodes::{DrainDeadline, DrainWish, NodeChanged};
pub use plan::Planned;
pub use scaling::Scale;

/// Why what a user asked for was not done. Nothing changed, unless [`SubmitError`] says that it may have.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request contradicts itself or what is there.
    #[error("{0}")]
    Wrong(String),
    /// What it is about is not there.
    #[error("{0}")]
    NotFound(String),
    /// It is not allowed at this time.
    #[error("{0}")]
    Forbidden(String),
    /// It was understood and can not be done.
    #[error("{0}")]
    Failed(String),
    /// It was refused or lost on its way.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl RequestError {
    fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}

impl Server {
    /// Gives the pure crates their time and chance.
    fn with_moment<T>(&self, decide: impl FnOnce(&mut Moment<'_>) -> T) -> T {
        let env = self.env();
        let mut draw = || env.random_u128();
        // Nothing that users ask for is measured in monotonic time.
        decide(&mut Moment { elapsed: Duration::ZERO, wall: Timestamp(env.wall()), draw: &mut draw })
    }

    /// Fails when operators do not let jobs come in.
    fn require_registration(&self) -> Result<(), RequestError> {
        if self.snapshot().scheduler_config().reject_job_registration {
            return Err(RequestError::Forbidden(
                "job registration, dispatch, and scale are disabled by the scheduler configuration"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Waits until this server knows every change that was acknowledged before. Whoever is refused because of what this server
    /// knows is refused rightly then, and who was told of a job by another server can change it here.
    fn catch_up(&self) -> Pin<Box<dyn Future<Output = Result<(), RequestError>> + Send + '_>> {
        // Boxed: futures of futures have become deeper than the compiler follows.
        Box::pin(async { Ok(self.ready_to_read(crate::Consistency::Default).await?) })
    }

    async fn require_job(&self, key: &JobKey) -> Result<std::sync::Arc<model::Job>, RequestError> {
        self.catch_up().await?;
        self.snapshot().job(key).cloned().ok_or_else(|| RequestError::failed("job not found"))
    }
}
