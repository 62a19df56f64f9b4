use sdk::{DeregisterOptions, RegisterOptions, types::JobRevertRequest};
use serde_json::json;

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    format, monitor,
    resolve::{self, FoundJob},
};

/// `job stop`.
pub async fn stop(context: &Context) -> Outcome {
    if context.args.is_empty() {
        return Err(Failure::usage("This command takes at least one argument: <job>"));
    }
    let client = context.client();
    let options = DeregisterOptions {
        purge: context.on("purge"),
        global: context.on("global"),
        eval_priority: context
            .flags
            .number("eval-priority")
            .and_then(|priority| i32::try_from(priority).ok())
            .unwrap_or(0),
        no_shutdown_delay: context.on("no-shutdown-delay"),
    };
    let mut code = 0;
    for name in &context.args {
        let found = match resolve::any_job(&client, name).await {
            Ok(found) => found,
            Err(failure) => {
                context.console.err(&failure.message);
                code = code.max(1);
                continue;
            }
        };
        if !confirmed(context, name, &found)? {
            continue;
        }
        let stopped = client.deregister_job(&found.id, &options, &found.query()).await;
        let answer = stopped.map_err(|error| {
            Failure::new(format!("Error deregistering job with id {} err: {error}", found.id))
        })?;
        if answer.eval_id.is_empty() {
            continue; // a job that only launches children has nothing to be looked at
        }
        if context.on("detach") {
            context.console.out(&answer.eval_id);
        } else {
            code = code.max(monitor::evaluation(context, &client, &answer.eval_id, &found.namespace).await?);
        }
    }
    Ok(code)
}

/// Asks before a job is stopped that was not named in full.
fn confirmed(context: &Context, name: &str, found: &FoundJob) -> Result<bool, Failure> {
    if context.on("yes") || name == found.id {
        return Ok(true);
    }
    let answer = context
        .console
        .ask(&format!("Are you sure you want to stop job {}? [y/N]", format::quoted(&found.id)))
        .map_err(|why| Failure::new(format!("Failed to parse answer: {why}")))?;
    match answer.as_str() {
        "y" => Ok(true),
        "" | "n" | "N" => {
            context.console.out("Cancelling job stop");
            Ok(false)
        }
        "Y" | "yes" | "Yes" => {
            context.console.out("For confirmation, an exact ‘y’ is required.");
            Ok(false)
        }
        other => {
            context.console.out(&format!("No confirmation detected: {other:?} is neither y nor n"));
            Ok(false)
        }
    }
}

/// `job start`.
pub async fn start(context: &Context) -> Outcome {
    if context.args.is_empty() {
        return Err(Failure::usage("This command takes at least one argument: <job>"));
    }
    let client = context.client();
    let mut code = 0;
    for name in &context.args {
        let found = resolve::any_job(&client, name).await?;
        let (mut job, _) = client.job(&found.id, &found.query()).await.or_fail("Error retrieving job")?;
        if job["Stop"] != json!(true) {
            context.console.out(&format!(
                "Job {} has not been stopped and has the following status: {}",
                format::quoted(&found.id),
                crate::job::status::text(&job, "Status")
            ));
            continue;
        }
        // What was stopped is the newest version; the one before is what ran.
        let version = job["Version"].as_u64().unwrap_or(0);
        job["Stop"] = json!(false);
        let submission = client.job_submission(&found.id, version, &found.query()).await.ok();
        let submission = submission.map(|found| sdk::types::JobSubmissionSource {
            format: found.format,
            source: found.source,
            variable_flags: found.variable_flags,
            variables: found.variables,
        });
        let options = RegisterOptions { submission, ..RegisterOptions::default() };
        let answer = client.register_job(job, options).await.or_fail("Error starting job")?;
        if context.on("detach") || answer.eval_id.is_empty() {
            context.console.out("Job start successful");
            if !answer.eval_id.is_empty() {
                context.console.out(&format!("Evaluation ID: {}", answer.eval_id));
            }
        } else {
            code = code.max(monitor::evaluation(context, &client, &answer.eval_id, &found.namespace).await?);
        }
    }
    Ok(code)
}

/// Makes the request that goes back to a version.
pub fn revert_request(job: &str, version: u64) -> JobRevertRequest {
    JobRevertRequest { job_id: job.to_owned(), job_version: version, ..JobRevertRequest::default() }
}
