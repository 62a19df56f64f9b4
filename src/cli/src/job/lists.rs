use sdk::types::ScalingEvent;
use serde_json::{Value, json};

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    deployment, format, go_api, resolve, template,
};

/// `job inspect`.
pub async fn inspect(context: &Context) -> Outcome {
    template::check(context)?;
    let client = context.client();
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    let failed = "Error inspecting job";
    let wanted = context.flags.number("version").and_then(|version| u64::try_from(version).ok());
    let job = match wanted {
        None => client.job(&found.id, &found.query()).await.or_fail(failed)?.0,
        Some(version) => {
            let versions = client.job_versions(&found.id, &found.query()).await.or_fail(failed)?.versions;
            let version = versions.into_iter().find(|job| job["Version"].as_u64() == Some(version));
            version.ok_or_else(|| {
                Failure::new(format!("{failed}: job {} has no such version", format::quoted(&found.id)))
            })?
        }
    };
    if context.on("hcl") {
        let version = job["Version"].as_u64().unwrap_or(0);
        let source = client.job_submission(&found.id, version, &found.query()).await.or_fail(failed)?;
        if source.format != "hcl2" {
            return Err(Failure::new(format!(
                "{failed}: the job was not registered from HCL but from {}",
                source.format
            )));
        }
        context.console.out(&source.source);
        if context.on("with-vars") {
            context.console.out(&source.variables);
        }
        return Ok(0);
    }
    if !context.text("t").is_empty() {
        context.console.out(&template::render(context.text("t"), &go_api::job(&job))?);
        return Ok(0);
    }
    context.console.out(&template::json(&json!({ "Job": go_api::job(&job) })));
    Ok(0)
}

/// `job allocs`.
pub async fn allocs(context: &Context) -> Outcome {
    let formatted = template::check(context)?;
    let client = context.client();
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    let (all, query, failed) = (context.on("all"), found.query(), "Error retrieving allocations");
    if formatted {
        let (allocs, _) = client.job_allocations(&found.id, all, &query).await.or_fail(failed)?;
        template::print(context, || go_api::alloc_stubs(&allocs))?;
        return Ok(0);
    }
    let (mut allocs, _) = client.job_allocation_lines(&found.id, all, &query).await.or_fail(failed)?;
    crate::alloc::status::newest_first(&mut allocs);
    let text = if allocs.is_empty() {
        "No allocations placed".to_owned()
    } else {
        crate::alloc::status::list_table(&allocs, context.on("verbose"))
    };
    context.console.out(&text);
    Ok(0)
}

/// `job deployments`.
pub async fn deployments(context: &Context) -> Outcome {
    template::check(context)?;
    let client = context.client();
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    let failed = "Error retrieving deployments";
    if context.on("latest") {
        let latest = client.latest_deployment(&found.id, &found.query()).await.or_fail(failed)?;
        let Some(latest) = latest else {
            context.console.out("No deployments found");
            return Ok(0);
        };
        if !template::print(context, || go_api::deployment(&latest))? {
            context.console.out(&deployment::status_text(&latest, context.on("verbose")));
        }
        return Ok(0);
    }
    let deployments =
        client.job_deployments(&found.id, context.on("all"), &found.query()).await.or_fail(failed)?;
    if template::print(context, || Value::Array(deployments.iter().map(go_api::deployment).collect()))? {
        return Ok(0);
    }
    let text = if deployments.is_empty() {
        "No deployments found".to_owned()
    } else {
        deployment::list_table(&deployments, context.on("verbose"))
    };
    context.console.out(&text);
    Ok(0)
}

/// `job scaling-events`.
pub async fn scaling_events(context: &Context) -> Outcome {
    let client = context.client();
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    let status =
        client.job_scale_status(&found.id, &found.query()).await.or_fail("Error listing scaling events")?;
    if template::print(context, || json!(status.task_groups))? {
        return Ok(0);
    }
    let mut events: Vec<(&String, &ScalingEvent)> = status
        .task_groups
        .iter()
        .flat_map(|(group, status)| status.events.iter().map(move |event| (group, event)))
        .collect();
    if events.is_empty() {
        context.console.out("No events found");
        return Ok(0);
    }
    events.sort_by_key(|(_, event)| std::cmp::Reverse(event.time));
    let full = context.on("verbose");
    let row = |(group, event): &(&String, &ScalingEvent)| {
        let count = event.count.map(|count| count.to_string()).unwrap_or_default();
        let mut row = vec![(*group).clone(), count, event.previous_count.to_string()];
        if full {
            row.extend([
                event.error.to_string(),
                event.message.clone(),
                event.eval_id.clone().unwrap_or_default(),
            ]);
        }
        row.push(format::time(event.time));
        row
    };
    let rows: Vec<_> = events.iter().map(row).collect();
    let header: &[&str] = if full {
        &["Task Group", "Count", "PrevCount", "Error", "Message", "Eval ID", "Date"]
    } else {
        &["Task Group", "Count", "PrevCount", "Date"]
    };
    context.console.out(&format::table(header, &rows));
    Ok(0)
}
