//! Job text to job JSON.

use api_types::JobParseRequest;
use rand::Rng;

use crate::{Api, Call, HttpError, Reply};

/// What messages call the text; callers know the name.
const FILE_NAME: &str = "input.hcl";

/// Answers `PUT /v1/jobs/parse`.
pub(super) fn parse(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_put()?;
    let request: JobParseRequest = call.json_of("api.JobsParseRequest")?;
    if request.job_hcl.is_empty() {
        return Err(HttpError::bad_request("Job spec is empty"));
    }
    let env = api.agent().env.clone();
    let random = std::sync::Arc::new(move |bytes: &mut [u8]| env.rng().fill_bytes(bytes));
    let mut inputs = hcl::Inputs::of_file(FILE_NAME, &request.job_hcl, &jobspec::ROOT_BLOCKS, random);
    inputs.var_content = request.variables;
    let wrong = |error| HttpError::bad_request(format!("Failed to parse job: {error}"));
    let mut job = jobspec::parse_hcl(&inputs).map_err(wrong)?;
    if request.canonicalize {
        jobspec::canonicalise(&mut job);
    }
    Reply::json(&job)
}
