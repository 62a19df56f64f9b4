use std::time::Duration;

use sdk::{
    AllocStopOptions, Client,
    types::{AllocRestartRequest, AllocStub, JobEvaluateRequest},
};

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    format,
    resolve::{self, FoundJob},
};

/// Longest wait for a replacement to run. A deployment would long have failed.
const REPLACEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// Time between two looks at a replacement.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// `job restart`.
pub async fn run(context: &Context) -> Outcome {
    let client = context.client();
    let found = resolve::any_job(&client, context.one_arg("<job>")?).await?;
    let (mut allocs, _) = client
        .job_allocations(&found.id, true, &found.query())
        .await
        .or_fail("Error retrieving allocations")?;
    let groups = context.flags.list("group");
    allocs.retain(|alloc| {
        alloc.desired_status == "run"
            && alloc.client_status == "running"
            && (groups.is_empty() || groups.contains(&alloc.task_group))
    });
    allocs.sort_by(|a, b| a.name.cmp(&b.name));
    if allocs.is_empty() {
        context.console.out("No allocations to restart");
        return Ok(0);
    }
    let batch = batch_size(context, allocs.len())?;
    let pause = context.flags.text("batch-wait").filter(|wait| *wait != "ask");
    let pause = pause
        .map(|wait| {
            format::parse_duration(wait).ok_or_else(|| {
                Failure::new(format!("Invalid -batch-wait value {wait:?}: wanted a time such as 30s"))
            })
        })
        .transpose()?;
    if allocs.len() > batch && !context.on("yes") && context.flags.text("batch-wait") == Some("ask") {
        let answer = context
            .console
            .ask(&format!("Restart {} allocations? [y/N]", allocs.len()))
            .map_err(|why| Failure::new(format!("Failed to parse answer: {why}")))?;
        if answer != "y" {
            return Ok(1);
        }
    }
    let restart = Restart { context, client: &client, found: &found };
    let count = allocs.len();
    restart.head(&format!("Restarting {count} allocation{}", if count == 1 { "" } else { "s" }));
    for (at, batch) in allocs.chunks(batch).enumerate() {
        if let Some(nanos) = pause.filter(|_| at > 0) {
            restart.line(&format!("Waiting {} before restarting the next batch", format::go_duration(nanos)));
            tokio::time::sleep(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))).await;
        }
        for alloc in batch {
            restart.one(alloc).await?;
        }
    }
    restart.head("Job restart finished");
    context.console.out("\nJob restarted successfully!");
    Ok(0)
}

fn batch_size(context: &Context, all: usize) -> Result<usize, Failure> {
    let text = context.flags.text("batch-size").unwrap_or("1");
    let bad = || Failure::new(format!("Invalid -batch-size value {text:?}: wanted a number or a percentage"));
    let size = match text.strip_suffix('%') {
        Some(percent) => percent
            .parse::<usize>()
            .ok()
            .filter(|percent| (1..=100).contains(percent))
            .map(|percent| (all * percent).div_ceil(100)),
        None => text.parse().ok().filter(|size| *size > 0),
    };
    size.ok_or_else(bad)
}

struct Restart<'a> {
    context: &'a Context,
    client: &'a Client,
    found: &'a FoundJob,
}

impl Restart<'_> {
    fn head(&self, text: &str) {
        self.context.console.out(&format!("==> {}: {text}", format::time(format::now())));
    }

    fn line(&self, text: &str) {
        self.context.console.out(&format!("    {}: {text}", format::time(format::now())));
    }

    fn id(&self, id: &str) -> String {
        format::quoted(&self.context.id(id))
    }

    async fn one(&self, alloc: &AllocStub) -> Result<(), Failure> {
        if self.context.on("reschedule") {
            return self.replace(alloc).await;
        }
        let tasks = self.context.flags.list("task");
        let (id, group) = (self.id(&alloc.id), format::quoted(&alloc.task_group));
        let failed = format!("Error restarting allocation {id}");
        if tasks.is_empty() {
            let all_tasks = self.context.on("all-tasks");
            self.line(&format!(
                "Restarting {} in allocation {id} for group {group}",
                if all_tasks { "all tasks" } else { "running tasks" }
            ));
            let request = AllocRestartRequest { all_tasks, task_name: String::new() };
            self.client
                .restart_allocation(&alloc.id, &request, &self.found.query())
                .await
                .or_fail(&failed)?;
        }
        for task in tasks.iter().filter(|task| alloc.task_states.contains_key(*task)) {
            self.line(&format!(
                "Restarting task {} in allocation {id} for group {group}",
                format::quoted(task)
            ));
            let request = AllocRestartRequest { all_tasks: false, task_name: task.clone() };
            self.client
                .restart_allocation(&alloc.id, &request, &self.found.query())
                .await
                .or_fail(&failed)?;
        }
        Ok(())
    }

    async fn replace(&self, alloc: &AllocStub) -> Result<(), Failure> {
        let (id, group) = (self.id(&alloc.id), format::quoted(&alloc.task_group));
        self.line(&format!("Rescheduling allocation {id} for group {group}"));
        // Of a system job nothing is rescheduled: what was stopped comes back when the job is looked at again.
        let mut looked_at = alloc.job_type != "system";
        let options = AllocStopOptions {
            no_shutdown_delay: self.context.on("no-shutdown-delay"),
            reschedule: looked_at,
        };
        self.client
            .stop_allocation(&alloc.id, options, &self.found.query())
            .await
            .or_fail(&format!("Error stopping allocation {id}"))?;
        let mut replacement = String::new();
        let waited = tokio::time::timeout(REPLACEMENT_TIMEOUT, async {
            loop {
                let current = if replacement.is_empty() { &alloc.id } else { &replacement };
                let (seen, _) = self
                    .client
                    .allocation(current, &self.found.query())
                    .await
                    .or_fail("Error querying allocation")?;
                if !looked_at && seen.desired_status == "stop" {
                    looked_at = true;
                    let request = JobEvaluateRequest { job_id: self.found.id.clone(), ..Default::default() };
                    let asked = self.client.evaluate_job(&request, &self.found.query()).await;
                    asked.or_fail("Error evaluating job")?;
                }
                if replacement.is_empty() && !seen.next_allocation.is_empty() {
                    replacement.clone_from(&seen.next_allocation);
                    let next = self.id(&replacement);
                    self.line(&format!(
                        "Allocation {id} replaced by {next}, waiting for {next} to start running"
                    ));
                    continue;
                }
                if !replacement.is_empty() && seen.client_status == "running" {
                    self.line(&format!("Allocation {} is \"running\"", self.id(&replacement)));
                    return Ok(());
                }
                if !replacement.is_empty() && seen.client_status == "failed" {
                    return Err(Failure::new(format!("Allocation {} failed", self.id(&replacement))));
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        waited.await.unwrap_or_else(|_| {
            Err(Failure::new(format!(
                "Allocation {id} was not replaced in {} s",
                REPLACEMENT_TIMEOUT.as_secs()
            )))
        })
    }
}
