use std::{collections::BTreeMap, io::Read, time::Duration};

use sdk::{Client, Query, types::JobDispatchRequest};

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    format, monitor, resolve, ui,
};

/// Largest payload that a server takes, and a little more, so that it is the server that refuses.
const PAYLOAD_BYTES_MAX: u64 = 17 << 10;

/// How long each question about a launched job waits for a change.
const WAIT: Duration = Duration::from_secs(60);

/// `job dispatch`.
pub async fn dispatch(context: &Context) -> Outcome {
    let (name, payload) = match context.args.as_slice() {
        [name] => (name, Vec::new()),
        [name, file] => (name, read_payload(file)?),
        _ => {
            return Err(Failure::usage(
                "This command takes one or two argument: <parameterized job> [input source]",
            ));
        }
    };
    let mut meta = BTreeMap::new();
    for pair in context.flags.list("meta") {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Failure::new(format!("Error parsing meta value: {pair}")))?;
        meta.insert(key.to_owned(), value.to_owned());
    }
    let client = context.client();
    let found = resolve::job(&client, name, "parameterized job", |job| job.parameterized_job).await?;
    let request = JobDispatchRequest {
        id_prefix_template: context.text("id-prefix-template").to_owned(),
        job_id: found.id.clone(),
        meta,
        payload,
        priority: context
            .flags
            .number("priority")
            .and_then(|priority| i32::try_from(priority).ok())
            .unwrap_or(0),
    };
    let answer = client
        .dispatch_job(&request, context.text("idempotency-token"), &found.query())
        .await
        .or_fail("Failed to dispatch job")?;
    let mut pairs = vec![("Dispatched Job ID", answer.dispatched_job_id.clone())];
    if !answer.eval_id.is_empty() {
        pairs.push(("Evaluation ID", context.id(&answer.eval_id)));
    }
    context.console.out(&format::pairs(&pairs));
    if context.on("detach") || answer.eval_id.is_empty() {
        return Ok(0);
    }
    context.console.out("");
    let page = format!("jobs/{}", ui::escaped(&format!("{}@{}", answer.dispatched_job_id, found.namespace)));
    ui::hint(context, "View this job", &page);
    context.console.err("");
    let code = monitor::evaluation(context, &client, &answer.eval_id, &found.namespace).await?;
    if !context.on("wait") {
        return Ok(code);
    }
    // What waits for room ends later, so that it could not be placed yet is no reason to stop waiting.
    wait_for_end(context, &client, &answer.dispatched_job_id, &found.query()).await
}

/// Waits until nothing of a launched job runs or is to run, and says how it ended.
async fn wait_for_end(context: &Context, client: &Client, id: &str, query: &Query) -> Outcome {
    let mut query = query.clone();
    query.wait = WAIT;
    loop {
        // Read before the allocations: what the job's end counts is among them then.
        let (job, meta) = client.job(id, &query).await.or_fail("Error querying job")?;
        query.index = meta.index;
        if job["Status"] != "dead" {
            continue;
        }
        let now = Query { index: 0, ..query.clone() };
        let (allocs, _) =
            client.job_allocations(id, true, &now).await.or_fail("Error querying allocations")?;
        let failed: Vec<String> = allocs
            .iter()
            .filter(|alloc| alloc.client_status != "complete" && alloc.next_allocation.is_empty())
            .map(|alloc| format!("{} {}", context.id(&alloc.id), alloc.client_status))
            .collect();
        if job["Stop"] == true || !failed.is_empty() || allocs.is_empty() {
            let detail = if failed.is_empty() { String::new() } else { format!(": {}", failed.join(", ")) };
            return Err(Failure::new(format!("Job {id} did not complete{detail}")));
        }
        context.console.out(&format!("Job {id} completed"));
        return Ok(0);
    }
}

fn read_payload(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path == "-" {
        std::io::stdin().take(PAYLOAD_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(PAYLOAD_BYTES_MAX).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::new(format!("Error reading input data: {path}: {error}")))?;
    Ok(bytes)
}

/// `job periodic force`.
pub async fn force(context: &Context) -> Outcome {
    let client = context.client();
    let found = resolve::job(&client, context.one_arg("<job>")?, "periodic job", |job| job.periodic).await?;
    let answer =
        client.force_periodic(&found.id, &found.query()).await.or_fail("Error forcing periodic job")?;
    if context.on("detach") {
        context.console.out("Force periodic successful");
        context.console.out(&format!("Evaluation ID: {}", answer.eval_id));
        return Ok(0);
    }
    monitor::evaluation(context, &client, &answer.eval_id, &found.namespace).await
}
