use std::collections::BTreeMap;

use api_types::AllocMetric;
use sdk::{Client, RequestError};
use serde_json::{Value, json};

use crate::{
    command::{Context, Failure, Outcome},
    console::Style,
    format,
    job::{diff, run::placed},
    jobfile, monitor, template,
};

/// Exit code of a plan that changes something.
const EXIT_CHANGES: i32 = 1;

/// Exit code of a plan that could not be made.
const EXIT_ERROR: i32 = 255;

/// Allocations that make room which are listed one by one.
const PREEMPTIONS_LISTED_MAX: usize = 10;

/// `job plan`.
pub async fn run(context: &Context) -> Outcome {
    plan(context).await.map_err(|failure| failure.with_code(EXIT_ERROR))
}

async fn plan(context: &Context) -> Outcome {
    let path = context.one_arg("<path>")?;
    let job = placed(context, jobfile::read(context, path)?.job);
    let show_diff = context.flags.truth("diff").unwrap_or(true);
    let failed = |error: RequestError| Failure::new(format!("Error during plan: {error}"));
    let answer =
        context.client().plan_job(job, show_diff, context.on("policy-override")).await.map_err(failed)?;
    let changes =
        answer.annotations.iter().flat_map(|plan| plan.desired_tg_updates.values()).any(|updates| {
            updates.place
                + updates.stop
                + updates.migrate
                + updates.destructive_update
                + updates.in_place_update
                + updates.canary
                > 0
        });
    let form = context.text("t");
    if context.on("json-output") || !form.is_empty() {
        if context.on("json-output") && !form.is_empty() {
            return Err(Failure::new("Both json and template formatting are not allowed"));
        }
        let value = serde_json::to_value(&answer).map_err(|error| Failure::new(error.to_string()))?;
        let text = if form.is_empty() { template::json(&value) } else { template::render(form, &value)? };
        context.console.out(&text);
        return Ok(if changes { EXIT_CHANGES } else { 0 });
    }
    let console = &context.console;
    if let Some(found) = answer.diff.clone().filter(|_| show_diff) {
        let found: jobspec::JobDiff = serde_json::from_value(found)
            .map_err(|error| Failure::new(format!("Error reading the plan's difference: {error}")))?;
        console.out(&format!("{}\n", diff::job_text(console, &found, context.on("verbose"))));
    }
    console.out(&console.paint(Style::Bold, "Scheduler dry-run:"));
    console.out(&dry_run(context, &answer));
    console.out("");
    crate::job::status::warnings(context, &answer.warnings);
    let preempted = answer.annotations.as_ref().map_or(&[][..], |plan| &plan.preempted_allocs);
    if !preempted.is_empty() {
        let heading = console.paint(Style::Bold, "Preemptions:");
        console.out(&format!("{heading}\n\n{}\n", preemptions(preempted)));
    }
    console.out(&console.paint(Style::Bold, &format!("Job Modify Index: {}", answer.job_modify_index)));
    console.out(&submit_help(context, answer.job_modify_index, path));
    Ok(if changes { EXIT_CHANGES } else { 0 })
}

/// Says how to run exactly what was planned. Scripts take the command from here.
fn submit_help(context: &Context, index: u64, path: &str) -> String {
    let mut command = format!("{} job run -check-index {index}", context.program);
    for var in context.flags.list("var") {
        command.push_str(&format!(" -var={}", format::quoted(var)));
    }
    for file in context.flags.list("var-file") {
        command.push_str(&format!(" -var-file={}", format::quoted(file)));
    }
    format!(
        "To submit the job with version verification run:\n\n{command} {path}\n\n\
         When running the job with the check-index flag, the job will only be run if the\n\
         job modify index given matches the server-side version. If the index has\n\
         changed, another user has modified the job and the plan's results are\n\
         potentially invalid."
    )
}

fn dry_run(context: &Context, answer: &api_types::JobPlanResponse) -> String {
    let console = &context.console;
    let mut text = String::new();
    let rolling = answer.created_evals.iter().find(|eval| eval.triggered_by == "rolling-update");
    if answer.failed_tg_allocs.is_empty() {
        text.push_str(&console.paint(Style::Green, "- All tasks successfully allocated."));
    } else {
        text.push_str(&console.paint(Style::Yellow, "- WARNING: Failed to place all allocations."));
        let lines =
            answer.failed_tg_allocs.iter().map(|(group, metric)| failed_group(context, group, metric));
        for line in lines {
            text.push('\n');
            text.push_str(&line);
        }
    }
    if let Some(next) = rolling {
        text.push_str(&format!(
            "\n- Rolling update, next evaluation will be in {}.",
            format::go_duration(next.wait)
        ));
    }
    let launch = answer.next_periodic_launch;
    if !launch.is_zero() {
        let span = format::go_duration((launch.nanos() - format::now()) / 1_000_000_000 * 1_000_000_000);
        text.push_str(&format!(
            "\n- If submitted now, next periodic launch would be at {} ({span} from now).",
            format::time(launch.nanos())
        ));
    }
    text
}

/// Lists who would have to make room; above [`PREEMPTIONS_LISTED_MAX`] only how many of each job.
fn preemptions(preempted: &[Value]) -> String {
    let text = |alloc: &Value, name: &str| alloc[name].as_str().unwrap_or_default().to_owned();
    if preempted.len() <= PREEMPTIONS_LISTED_MAX {
        let row = |alloc: &Value| ["ID", "JobID", "TaskGroup"].map(|name| text(alloc, name)).to_vec();
        let rows: Vec<Vec<String>> = preempted.iter().map(row).collect();
        return format::table(&["Alloc ID", "Job ID", "Task Group"], &rows);
    }
    let mut by_job: BTreeMap<[String; 3], u32> = BTreeMap::new();
    for alloc in preempted {
        *by_job.entry(["JobID", "Namespace", "JobType"].map(|name| text(alloc, name))).or_default() += 1;
    }
    let row = |(job, count): (&[String; 3], &u32)| [job.as_slice(), &[count.to_string()]].concat();
    let rows: Vec<Vec<String>> = by_job.iter().map(row).collect();
    format::table(&["Job ID", "Namespace", "Job Type", "Preemptions"], &rows)
}

fn failed_group(context: &Context, group: &str, metric: &AllocMetric) -> String {
    let count = metric.coalesced_failures + 1;
    let plural = if count > 1 { "s" } else { "" };
    let why = monitor::placement_failure(metric, "    ", context.on("verbose"));
    format!("  Task Group {} (failed to place {count} allocation{plural}):\n{why}", format::quoted(group))
}

/// Says when a periodic job is launched next, by asking the agent what running it would do; `None` when it is not
/// periodic, or never.
pub async fn next_launch(client: &Client, job: &Value) -> Option<String> {
    let periodic = job.get("Periodic").filter(|periodic| !periodic.is_null())?;
    if periodic.get("Enabled") == Some(&json!(false)) {
        return None;
    }
    // Not knowing is no failure of the command that asks.
    let plan = client.plan_job(job.clone(), false, false).await.ok()?;
    let next = plan.next_periodic_launch.nanos();
    let span = format::go_duration((next - format::now()) / 1_000_000_000 * 1_000_000_000);
    (next != 0).then(|| format!("{} ({span} from now)", format::time(next)))
}
