use sdk::{
    Query,
    types::{AllocLine, Evaluation, JobStub, JobSummary},
};
use serde_json::{Value, json};

use crate::{
    command::{Context, OrFail, Outcome, short_id},
    console::Style,
    deployment, format, go_api,
    job::plan::next_launch,
    monitor::placement_failure,
    resolve, template, ui,
};

/// Makes the table of a list of jobs.
pub fn list_table(jobs: &[JobStub], namespaces: bool) -> String {
    let row = |job: &JobStub| {
        let mut kind = job.kind.clone();
        if job.periodic {
            kind.push_str("/periodic");
        }
        if job.parameterized_job {
            kind.push_str("/parameterized");
        }
        let mut row = vec![job.id.clone()];
        if namespaces {
            row.push(job.namespace.clone());
        }
        row.extend([
            kind,
            job.priority.to_string(),
            shown_status(&job.status, job.stop),
            format::time(job.submit_time),
        ]);
        row
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    let header: &[&str] = if namespaces {
        &["ID", "Namespace", "Type", "Priority", "Status", "Submit Date"]
    } else {
        &["ID", "Type", "Priority", "Status", "Submit Date"]
    };
    format::table(header, &rows)
}

fn shown_status(status: &str, stop: bool) -> String {
    if stop && status == "dead" { format!("{status} (stopped)") } else { status.to_owned() }
}

/// `job status`.
pub async fn run(context: &Context) -> Outcome {
    template::check(context)?;
    match context.args.as_slice() {
        [] => list(context).await,
        [prefix] => show(context, prefix).await,
        _ => Err(crate::command::Failure::usage("This command takes either no arguments or one: <job>")),
    }
}

/// Lists all jobs.
pub async fn list(context: &Context) -> Outcome {
    let client = context.client();
    let (mut jobs, _) = client.jobs(&Query::default()).await.or_fail("Error querying jobs")?;
    jobs.sort_by(|a, b| a.id.cmp(&b.id));
    if template::check(context)? {
        let mut all = Vec::new();
        for job in &jobs {
            all.extend(whole(&client, &job.id, &job.namespace).await?);
        }
        template::print(context, || Value::Array(all))?;
        return Ok(0);
    }
    if jobs.is_empty() {
        context.console.out("No running jobs");
    } else {
        context.console.out(&list_table(&jobs, context.globals.config.namespace == "*"));
    }
    ui::hint(context, "View and manage Nomad jobs", "jobs");
    Ok(0)
}

/// Everything that is known of a job, for `-json` and `-t`.
async fn whole(
    client: &sdk::Client,
    id: &str,
    namespace: &str,
) -> Result<Vec<Value>, crate::command::Failure> {
    let query = Query::default().in_namespace(namespace);
    let summary = client.job_summary(id, &query).await.or_fail("Error querying job summary")?;
    let (allocs, _) =
        client.job_allocations(id, true, &query).await.or_fail("Error querying job allocations")?;
    let evals = client.job_evaluations(id, &query).await.or_fail("Error querying job evaluations")?;
    let latest =
        client.latest_deployment(id, &query).await.or_fail("Error querying latest job deployment")?;
    Ok(vec![json!({
        "Allocations": go_api::alloc_stubs(&allocs),
        "Evaluations": evals.iter().map(go_api::evaluation).collect::<Vec<_>>(),
        "LatestDeployment": latest.as_ref().map(go_api::deployment),
        "Summary": summary,
    })])
}

/// Shows one job.
pub async fn show(context: &Context, prefix: &str) -> Outcome {
    let client = context.client();
    let found = resolve::any_job(&client, prefix).await?;
    if template::check(context)? {
        let all = whole(&client, &found.id, &found.namespace).await?;
        template::print(context, || Value::Array(all))?;
        return Ok(0);
    }
    let (job, _) = client.job(&found.id, &found.query()).await.or_fail("Error querying job")?;
    let page = format!("jobs/{}", ui::escaped(&format!("{}@{}", found.id, found.namespace)));
    let (periodic, parameterized) =
        (is_set(&job, "Periodic"), is_set(&job, "ParameterizedJob") && job["Dispatched"] != json!(true));
    let launch = if periodic && !parameterized && job["Stop"] != json!(true) {
        next_launch(&client, &job).await
    } else {
        None
    };
    context.console.out(&basics(&job, periodic, parameterized, launch));
    if !context.on("short") {
        if periodic && !parameterized {
            children(context, &client, &job, &found, "Children Job Summary", "Previously Launched Jobs")
                .await?;
        } else if parameterized {
            parameters(context, &job);
            children(context, &client, &job, &found, "Parameterized Job Summary", "Dispatched Jobs").await?;
        } else {
            details(context, &client, &found).await?;
        }
    }
    ui::hint(context, "View job details and metrics", &page);
    Ok(0)
}

fn is_set(job: &Value, field: &str) -> bool {
    job.get(field).is_some_and(|value| !value.is_null())
}

/// Returns a text field of a job.
pub fn text<'a>(job: &'a Value, field: &str) -> &'a str {
    job.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn basics(job: &Value, periodic: bool, parameterized: bool, launch: Option<String>) -> String {
    let list = job["Datacenters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let datacenters = list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    let stopped = job["Stop"] == json!(true);
    let mut pairs = vec![
        ("ID", text(job, "ID").to_owned()),
        ("Name", text(job, "Name").to_owned()),
        ("Submit Date", format::time(job["SubmitTime"].as_i64().unwrap_or(0))),
        ("Type", text(job, "Type").to_owned()),
        ("Priority", job["Priority"].to_string()),
        ("Datacenters", datacenters),
        ("Namespace", text(job, "Namespace").to_owned()),
        ("Node Pool", text(job, "NodePool").to_owned()),
        ("Status", shown_status(text(job, "Status"), stopped)),
        ("Periodic", periodic.to_string()),
        ("Parameterized", parameterized.to_string()),
    ];
    pairs.extend(launch.map(|launch| ("Next Periodic Launch", launch)));
    format::pairs(&pairs)
}

fn parameters(context: &Context, job: &Value) {
    let wanted = &job["ParameterizedJob"];
    let keys = |field: &str| {
        let list = wanted[field].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let payload = if text(wanted, "Payload").is_empty() { "optional" } else { text(wanted, "Payload") };
    let pairs = [
        ("Payload", payload.to_owned()),
        ("Required Metadata", keys("MetaRequired")),
        ("Optional Metadata", keys("MetaOptional")),
    ];
    context.console.section("Parameterized Job", &format::pairs(&pairs));
}

async fn children(
    context: &Context,
    client: &sdk::Client,
    job: &Value,
    found: &resolve::FoundJob,
    head: &str,
    list: &str,
) -> Result<(), crate::command::Failure> {
    let summary =
        client.job_summary(&found.id, &found.query()).await.or_fail("Error querying job summary")?;
    let counts = summary.children.unwrap_or_default();
    let row = vec![counts.pending.to_string(), counts.running.to_string(), counts.dead.to_string()];
    context.console.section(head, &format::table(&["Pending", "Running", "Dead"], &[row]));
    let mut query = found.query();
    query.prefix = format!("{}/", text(job, "ID"));
    let (launched, _) = client.jobs(&query).await.or_fail("Error querying jobs")?;
    let of_this = launched.iter().filter(|child| child.parent_id == found.id);
    let rows: Vec<_> =
        of_this.map(|child| vec![child.id.clone(), shown_status(&child.status, child.stop)]).collect();
    if rows.is_empty() {
        let none = if list == "Dispatched Jobs" {
            "No dispatched instances of parameterized job found"
        } else {
            "No instances of periodic job found"
        };
        context.console.out(&format!("\n{none}"));
    } else {
        context.console.section(list, &format::table(&["ID", "Status"], &rows));
    }
    Ok(())
}

async fn details(
    context: &Context,
    client: &sdk::Client,
    found: &resolve::FoundJob,
) -> Result<(), crate::command::Failure> {
    let query = found.query();
    let (mut allocs, _) = client
        .job_allocation_lines(&found.id, context.on("all-allocs"), &query)
        .await
        .or_fail("Error querying job allocations")?;
    let evals = client.job_evaluations(&found.id, &query).await.or_fail("Error querying job evaluations")?;
    let latest =
        client.latest_deployment(&found.id, &query).await.or_fail("Error querying latest job deployment")?;
    let summary = client.job_summary(&found.id, &query).await.or_fail("Error querying job summary")?;
    context.console.section("Summary", &summary_table(&summary));
    let reschedules = reschedule_rows(&allocs, &evals, context.on("verbose"));
    if !reschedules.is_empty() {
        context.console.section(
            "Future Rescheduling Attempts",
            &format::table(&["Task Group", "Eval ID", "Eval Time"], &reschedules),
        );
    }
    if context.on("evals") || context.on("verbose") {
        context.console.section("Evaluations", &evals_table(&evals, context.on("verbose")));
    }
    if let Some(blocked) = placement_failures(&evals) {
        let text: Vec<String> = blocked
            .iter()
            .map(|(group, metric)| {
                format!(
                    "Task Group {}:\n{}",
                    format::quoted(group),
                    placement_failure(metric, "  ", context.on("verbose"))
                )
            })
            .collect();
        context.console.section("Placement Failure", &text.join("\n\n"));
    }
    if let Some(latest) = latest {
        context
            .console
            .section("Latest Deployment", &deployment::latest_text(&latest, context.on("verbose")));
    }
    crate::alloc::status::newest_first(&mut allocs);
    let body = if allocs.is_empty() {
        "No allocations placed".to_owned()
    } else {
        crate::alloc::status::list_table(&allocs, context.on("verbose"))
    };
    context.console.section("Allocations", &body);
    Ok(())
}

fn summary_table(summary: &JobSummary) -> String {
    let header = ["Task Group", "Queued", "Starting", "Running", "Failed", "Complete", "Lost", "Unknown"];
    let row = |(name, group): (&String, &sdk::types::GroupSummary)| {
        let mut row = vec![name.clone()];
        let counts = [
            group.queued,
            group.starting,
            group.running,
            group.failed,
            group.complete,
            group.lost,
            group.unknown,
        ];
        row.extend(counts.map(|count| count.to_string()));
        row
    };
    format::table(&header, &summary.summary.iter().map(row).collect::<Vec<_>>())
}

fn evals_table(evals: &[Evaluation], full: bool) -> String {
    let mut evals: Vec<&Evaluation> = evals.iter().collect();
    evals.sort_by_key(|eval| std::cmp::Reverse(eval.create_index));
    let row = |eval: &&Evaluation| {
        let failures = !eval.failed_tg_allocs.is_empty();
        vec![
            short_id(&eval.id, full),
            eval.priority.to_string(),
            eval.triggered_by.clone(),
            eval.status.clone(),
            failures.to_string(),
        ]
    };
    format::table(
        &["ID", "Priority", "Triggered By", "Status", "Placement Failures"],
        &evals.iter().map(row).collect::<Vec<_>>(),
    )
}

fn reschedule_rows(allocs: &[AllocLine], evals: &[Evaluation], full: bool) -> Vec<Vec<String>> {
    let due = |alloc: &AllocLine| {
        evals.iter().find(|eval| {
            eval.id == alloc.followup_eval_id
                && eval.status == "pending"
                && eval.wait_until.nanos() > format::now()
        })
    };
    let row = |alloc: &AllocLine| {
        let eval = due(alloc)?;
        let wait = format::span(eval.wait_until.nanos() - format::now());
        Some(vec![alloc.task_group.clone(), short_id(&eval.id, full), format!("{wait} from now")])
    };
    allocs.iter().filter(|alloc| alloc.next_allocation.is_empty()).filter_map(row).collect()
}

/// Finds what a blocked evaluation could not place, unless a later one placed it.
fn placement_failures(
    evals: &[Evaluation],
) -> Option<&std::collections::BTreeMap<String, sdk::types::AllocMetric>> {
    let blocked =
        evals.iter().filter(|eval| eval.status == "blocked").max_by_key(|eval| eval.create_index)?;
    let latest =
        evals.iter().filter(|eval| !eval.failed_tg_allocs.is_empty()).max_by_key(|eval| eval.create_index)?;
    let shown = if blocked.failed_tg_allocs.is_empty() { latest } else { blocked };
    Some(&shown.failed_tg_allocs)
}

/// Prints warnings about a job in the form that all commands share.
pub fn warnings(context: &Context, text: &str) {
    if !text.is_empty() {
        context.console.out(&format!(
            "{}\n",
            context.console.paint(Style::Yellow, &format!("Job Warnings:\n{}", text.trim_end()))
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_kinds_and_what_was_stopped() {
        let jobs: Vec<JobStub> = sdk::types::from_slice(
            br#"[{"ID": "canary", "Type": "service", "Priority": 50, "Status": "dead", "Stop": true},
                {"ID": "param", "Type": "batch", "Priority": 50, "Status": "running", "ParameterizedJob": true}]"#,
        )
        .expect("jobs");
        let wanted = "ID      Type                 Priority  Status          Submit Date\n\
                      canary  service              50        dead (stopped)  N/A\n\
                      param   batch/parameterized  50        running         N/A";
        assert_eq!(list_table(&jobs, false), wanted);
    }
}
