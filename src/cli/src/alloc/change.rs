use sdk::{
    AllocStopOptions, Query,
    types::{AllocRestartRequest, AllocSignalRequest, Allocation},
};

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    monitor, resolve,
};

fn query_of(alloc: &Allocation) -> Query {
    Query::default().in_namespace(alloc.namespace.as_str())
}

/// Takes an allocation and perhaps a task from the arguments.
async fn alloc_and_task(context: &Context, client: &sdk::Client) -> Result<(Allocation, String), Failure> {
    let (first, task) = match context.args.as_slice() {
        [first] => (first, context.text("task").to_owned()),
        [first, task] => (first, task.clone()),
        _ => return Err(Failure::usage("This command takes one or two arguments: <allocation> [<task>]")),
    };
    let alloc = resolve::alloc(context, client, first).await?;
    if !task.is_empty() {
        resolve::task(&alloc, &task)?;
    }
    Ok((alloc, task))
}

/// `alloc stop`.
pub async fn stop(context: &Context) -> Outcome {
    let client = context.client();
    let alloc = resolve::alloc(context, &client, context.one_arg("<alloc-id>")?).await?;
    let options = AllocStopOptions { no_shutdown_delay: context.on("no-shutdown-delay"), reschedule: false };
    let answer = client
        .stop_allocation(&alloc.id, options, &query_of(&alloc))
        .await
        .or_fail("Error stopping allocation")?;
    if context.on("detach") {
        context.console.out(&answer.eval_id);
        return Ok(0);
    }
    monitor::evaluation(context, &client, &answer.eval_id, &alloc.namespace).await
}

/// `alloc restart`.
pub async fn restart(context: &Context) -> Outcome {
    let client = context.client();
    let (alloc, task_name) = alloc_and_task(context, &client).await?;
    let all_tasks = context.on("all-tasks");
    if all_tasks && !task_name.is_empty() {
        return Err(Failure::usage("The -all-tasks option is not allowed when restarting a specific task."));
    }
    let target = if all_tasks { "all tasks" } else { "task" };
    let request = AllocRestartRequest { all_tasks, task_name };
    client
        .restart_allocation(&alloc.id, &request, &query_of(&alloc))
        .await
        .or_fail(&format!("Failed to restart {target}"))
        .map_err(|failure| {
            // The cause stands in a paragraph of its own.
            Failure::new(failure.message.replacen(": ", ":\n\n", 1))
        })?;
    Ok(0)
}

/// `alloc signal`.
pub async fn signal(context: &Context) -> Outcome {
    let client = context.client();
    let (alloc, task_name) = alloc_and_task(context, &client).await?;
    let signal = context.flags.text("s").unwrap_or("SIGKILL").to_owned();
    let request = AllocSignalRequest { signal, task_name };
    client
        .signal_allocation(&alloc.id, &request, &query_of(&alloc))
        .await
        .or_fail("Error signalling allocation")?;
    Ok(0)
}

/// `alloc gc`.
pub async fn collect(context: &Context) -> Outcome {
    let client = context.client();
    let alloc = resolve::alloc(context, &client, context.one_arg("<alloc-id>")?).await?;
    client.collect_allocation(&alloc.id, &query_of(&alloc)).await.or_fail("Error collecting allocation")?;
    Ok(0)
}
