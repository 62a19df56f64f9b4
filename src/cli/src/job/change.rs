use sdk::types::{DeploymentPromoteRequest, EvalOptions, JobEvaluateRequest, JobTagRequest};
use serde_json::Value;

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    format,
    job::stop::revert_request,
    monitor, resolve,
};

/// `job revert`.
pub async fn revert(context: &Context) -> Outcome {
    let [name, version] = context.args.as_slice() else {
        return Err(Failure::usage("This command takes two arguments: <job> <version|tag>"));
    };
    let client = context.client();
    let found = resolve::any_job(&client, name).await?;
    let failed = "Error retrieving job versions";
    let number = match version.parse::<u64>() {
        Ok(number) => number,
        Err(_) => {
            let versions = client.job_versions(&found.id, &found.query()).await.or_fail(failed)?.versions;
            let tagged =
                versions.iter().find(|job| job["VersionTag"]["Name"] == Value::String(version.clone()));
            let number = tagged.and_then(|job| job["Version"].as_u64());
            number.ok_or_else(|| {
                Failure::new(format!(
                    "{failed}: tag {} not found on job {}",
                    format::quoted(version),
                    format::quoted(&found.id)
                ))
            })?
        }
    };
    let answer =
        client.revert_job(&revert_request(&found.id, number), &found.query()).await.or_fail(failed)?;
    if context.on("detach") || answer.eval_id.is_empty() {
        context.console.out("Job revert successful");
        context.console.out(&format!("Evaluation ID: {}", answer.eval_id));
        return Ok(0);
    }
    monitor::evaluation(context, &client, &answer.eval_id, &found.namespace).await
}

/// `job scale`.
pub async fn scale(context: &Context) -> Outcome {
    let (name, group, count) = match context.args.as_slice() {
        [name, group, count] => (name, Some(group.clone()), count),
        [name, count] => (name, None, count),
        _ => {
            return Err(Failure::usage(
                "This command requires at least two arguments and no more than three",
            ));
        }
    };
    let count: i64 = count
        .parse()
        .map_err(|_| Failure::new(format!("Failed to convert count string to int: {count:?}")))?;
    let client = context.client();
    let found = resolve::any_job(&client, name).await?;
    let (job, _) = client.job(&found.id, &found.query()).await.or_fail("Error querying job")?;
    let groups: Vec<&str> = job["TaskGroups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|group| group["Name"].as_str())
        .collect();
    let group = match (&group, groups.as_slice()) {
        (Some(named), _) if groups.contains(&named.as_str()) => named.clone(),
        (Some(named), _) => return Err(Failure::new(format!("Group {named} not found within job"))),
        (None, [only]) => (*only).to_owned(),
        (None, _) => return Err(Failure::new("Group name required")),
    };
    let answer = client
        .scale_job(&found.id, &group, count, "submitted using the Nomad CLI", &found.query())
        .await
        .or_fail("Error submitting scaling request")?;
    crate::job::status::warnings(context, &answer.warnings);
    if context.on("detach") || answer.eval_id.is_empty() {
        context.console.out("Job scale successful");
        context.console.out(&format!("Evaluation ID: {}", answer.eval_id));
        return Ok(0);
    }
    monitor::evaluation(context, &client, &answer.eval_id, &found.namespace).await
}

/// `job promote`.
pub async fn promote(context: &Context) -> Outcome {
    let client = context.client();
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    let latest = client
        .latest_deployment(&found.id, &found.query())
        .await
        .or_fail("Error retrieving latest deployment")?;
    let Some(latest) = latest else {
        return Err(Failure::new(format!("Job {} has no deployment to promote", format::quoted(&found.id))));
    };
    let groups = context.flags.list("group").to_vec();
    let request =
        DeploymentPromoteRequest { all: groups.is_empty(), deployment_id: latest.id.clone(), groups };
    let tried = format!(
        "Error promoting deployment {} for job {}",
        format::quoted(&latest.id),
        format::quoted(&found.id)
    );
    let answer = client.promote_deployment(&request, &found.query()).await.or_fail(&tried)?;
    if context.on("detach") || answer.eval_id.is_empty() {
        context.console.out(&format!("Evaluation ID: {}", answer.eval_id));
        return Ok(0);
    }
    monitor::evaluation(context, &client, &answer.eval_id, &found.namespace).await
}

/// `job eval`.
pub async fn eval(context: &Context) -> Outcome {
    let client = context.client();
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    let options = EvalOptions { force_reschedule: context.on("force-reschedule") };
    let request = JobEvaluateRequest { eval_options: options, job_id: found.id.clone() };
    let answer = client.evaluate_job(&request, &found.query()).await.or_fail("Error evaluating job")?;
    if context.on("detach") {
        context.console.out(&format!("Created eval ID: {} ", format::quoted(&context.id(&answer.eval_id))));
        return Ok(0);
    }
    monitor::evaluation(context, &client, &answer.eval_id, &found.namespace).await
}

fn tag_name(context: &Context) -> Result<&str, Failure> {
    Some(context.text("name"))
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Failure::usage("A version tag name must be given with -name"))
}

/// `job tag apply`.
pub async fn tag(context: &Context) -> Outcome {
    let client = context.client();
    let name = tag_name(context)?;
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    let version = context.flags.number("version").and_then(|version| u64::try_from(version).ok());
    let version = match version {
        Some(version) => version,
        None => {
            let (job, _) = client.job(&found.id, &found.query()).await.or_fail("Error querying job")?;
            job["Version"].as_u64().unwrap_or(0)
        }
    };
    let request =
        JobTagRequest { description: context.text("description").to_owned(), version: Some(version) };
    client
        .tag_job_version(&found.id, name, &request, &found.query())
        .await
        .or_fail("Error tagging job version")?;
    context.console.out(&format!("Job version {version} tagged with name {}", format::quoted(name)));
    Ok(0)
}

/// `job tag unset`.
pub async fn untag(context: &Context) -> Outcome {
    let client = context.client();
    let name = tag_name(context)?;
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    client.untag_job_version(&found.id, name, &found.query()).await.or_fail("Error tagging job version")?;
    context.console.out(&format!(
        "Tag {} removed from job {}",
        format::quoted(name),
        format::quoted(&found.id)
    ));
    Ok(0)
}
