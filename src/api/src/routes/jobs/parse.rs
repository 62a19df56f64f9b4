//! Job text to job JSON.

use api_types::JobParseRequest;
use rand::Rng;

use crate::{Api, Call, HttpError, Reply};

/// What messages call the text; callers know the name.
const FILE_NAME: &str = "input.hcl";

/// Answers `PUT /v1/jobs/parse`.
///
/// A text may take the better part of a second, during which the event loop has others to serve.
pub(super) async fn parse(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_put()?;
    let request: JobParseRequest = call.json_of("api.JobsParseRequest")?;
    if request.job_hcl.is_empty() {
        return Err(HttpError::bad_request("Job spec is empty"));
    }
    let env = api.agent().env.clone();
    let random = std::sync::Arc::new(move |bytes: &mut [u8]| env.rng().fill_bytes(bytes));
    let mut inputs = hcl::Inputs::of_file(FILE_NAME, &request.job_hcl, &jobspec::ROOT_BLOCKS, random);
    inputs.var_content = request.variables;
    let read = move || {
        let mut job = jobspec::parse_hcl(&inputs)?;
        if request.canonicalize {
            jobspec::canonicalise(&mut job);
        }
        Ok(job)
    };
    let read = api.agent().env.spawn_blocking(read).await;
    let job: Result<_, hcl::Diagnostics> =
        read.map_err(|error| HttpError::new(500, format!("the job file can not be read: {error}")))?;
    Reply::json(&job.map_err(|error| HttpError::bad_request(format!("Failed to parse job: {error}")))?)
}
