use sdk::RegisterOptions;
use serde_json::{Value, json};

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    job::{
        plan::next_launch,
        status::{text, warnings},
    },
    jobfile, monitor, template, ui,
};

/// `job validate`.
pub async fn validate(context: &Context) -> Outcome {
    let file = jobfile::read(context, context.one_arg("<path>")?)?;
    let answer =
        context.client().validate_job(placed(context, file.job)).await.or_fail("Error validating job")?;
    if !answer.error.is_empty() {
        return Err(Failure::new(format!("Job validation errors:\n{}", answer.error)));
    }
    warnings(context, &answer.warnings);
    context.console.out("Job validation successful");
    Ok(0)
}

/// Puts the job where the flags say, when it does not say itself.
pub fn placed(context: &Context, mut job: Value) -> Value {
    let config = &context.globals.config;
    for (field, value) in [("Region", &config.region), ("Namespace", &config.namespace)] {
        if !value.is_empty() && text(&job, field).is_empty() {
            job[field] = json!(value);
        }
    }
    for (field, flag) in [("ConsulNamespace", "consul-namespace"), ("VaultNamespace", "vault-namespace")] {
        let value = context.text(flag);
        if !value.is_empty() {
            job[field] = json!(value);
        }
    }
    job
}

/// `job run`.
pub async fn run(context: &Context) -> Outcome {
    let file = jobfile::read(context, context.one_arg("<path>")?)?;
    let job = placed(context, file.job);
    if context.on("output") {
        context.console.out(&template::json(&json!({ "Job": jobspec::in_declared_order(&job) })));
        return Ok(0);
    }
    let enforce_index = context.flags.number("check-index").map(|index| u64::try_from(index).unwrap_or(0));
    let options = RegisterOptions {
        enforce_index,
        preserve_counts: context.on("preserve-counts"),
        preserve_resources: context.on("preserve-resources"),
        policy_override: context.on("policy-override"),
        eval_priority: context
            .flags
            .number("eval-priority")
            .and_then(|priority| i32::try_from(priority).ok())
            .unwrap_or(0),
        submission: Some(file.submission),
    };
    let client = context.client();
    let answer = match client.register_job(job.clone(), options).await {
        Ok(answer) => answer,
        Err(error)
            if enforce_index.is_some()
                && error.body().is_some_and(|body| body.contains("Enforcing job modify index")) =>
        {
            let body = error.body().unwrap_or_default();
            let at = body.find("Enforcing job modify index").unwrap_or(0);
            return Err(Failure::new(format!("{}\nJob not updated", &body[at..])));
        }
        Err(error) => return Err(Failure::new(format!("Error submitting job: {error}"))),
    };
    warnings(context, &answer.warnings);
    let namespace = if text(&job, "Namespace").is_empty() { "default" } else { text(&job, "Namespace") };
    let page = format!("jobs/{}", ui::escaped(&format!("{}@{namespace}", text(&job, "ID"))));
    // Jobs that only launch children have no evaluation to follow.
    if answer.eval_id.is_empty() || context.on("detach") {
        context.console.out("Job registration successful");
        if !answer.eval_id.is_empty() {
            context.console.out(&format!("Evaluation ID: {}", answer.eval_id));
        } else if let Some(launch) = next_launch(&client, &job).await {
            context.console.out(&format!("Approximate next launch time: {launch}"));
        }
        ui::hint(context, "View this job", &page);
        return Ok(0);
    }
    // The pointer comes first, as following may take long; it goes to standard error.
    ui::hint(context, "View this job", &page);
    context.console.err("");
    monitor::evaluation(context, &client, &answer.eval_id, namespace).await
}
