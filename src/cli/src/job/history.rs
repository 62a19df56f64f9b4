use serde_json::Value;

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    format, go_api,
    job::{diff, status::text},
    resolve, template,
};

/// `job history`.
pub async fn run(context: &Context) -> Outcome {
    template::check(context)?;
    let client = context.client();
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    let mut query = found.query();
    let with_diffs =
        context.on("p") || context.flags.given("diff-version") || context.flags.given("diff-tag");
    query = query.with("diffs", with_diffs.to_string());
    for (flag, parameter) in [("diff-version", "diff_version"), ("diff-tag", "diff_tag")] {
        if let Some(value) = context.flags.text(flag) {
            query = query.with(parameter, value);
        }
    }
    let answer = client.job_versions(&found.id, &query).await.or_fail("Error retrieving job versions")?;
    let diffs = answer.diffs.unwrap_or_default();
    let versions: Vec<(Value, Option<Value>)> =
        answer.versions.into_iter().enumerate().map(|(at, job)| (job, diffs.get(at).cloned())).collect();
    let wanted = context.flags.text("version");
    if let Some(wanted) = wanted {
        let only = versions.into_iter().find(|(job, _)| {
            job["Version"].as_u64().is_some_and(|number| wanted.parse() == Ok(number))
                || job["VersionTag"]["Name"] == Value::String(wanted.to_owned())
        });
        let Some(only) = only else {
            return Err(Failure::new(format!("Error retrieving job versions: version {wanted} not found")));
        };
        if template::print(context, || go_api::job(&only.0))? {
            return Ok(0);
        }
        context.console.out(&version_text(context, &only)?);
        return Ok(0);
    }
    if template::print(context, || Value::Array(versions.iter().map(|(job, _)| go_api::job(job)).collect()))?
    {
        return Ok(0);
    }
    let texts =
        versions.iter().map(|version| version_text(context, version)).collect::<Result<Vec<_>, _>>()?;
    context.console.out(&texts.join("\n\n"));
    Ok(0)
}

fn version_text(context: &Context, (job, change): &(Value, Option<Value>)) -> Result<String, Failure> {
    let mut pairs = vec![
        ("Version", job["Version"].to_string()),
        ("Stable", job["Stable"].to_string()),
        ("Submit Date", format::time(job["SubmitTime"].as_i64().unwrap_or(0))),
    ];
    let tag = &job["VersionTag"];
    if !tag.is_null() {
        pairs.push(("Tag Name", text(tag, "Name").to_owned()));
        if !text(tag, "Description").is_empty() {
            pairs.push(("Tag Description", text(tag, "Description").to_owned()));
        }
    }
    if let Some(change) = change {
        let change: jobspec::JobDiff = serde_json::from_value(change.clone())
            .map_err(|error| Failure::new(format!("Error reading a difference: {error}")))?;
        pairs.push(("Diff", format!("\n{}", diff::job_text(&context.console, &change, false))));
    }
    if context.on("full") {
        pairs.push(("Full", format!("JSON Job:\n{}", template::json(&go_api::job(job)))));
    }
    Ok(format::pairs(&pairs))
}
