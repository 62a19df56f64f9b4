use sdk::ExecCommand;

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    format, help, resolve, terminal,
};

/// `job actions`.
pub async fn list(context: &Context) -> Outcome {
    let job = context.text("job");
    if job.is_empty() {
        context.console.out(&help::command(&context.program, context.command));
        return Ok(1);
    }
    let client = context.client();
    let found = resolve::any_job(&client, job).await?;
    let actions = client.job_actions(&found.id, &found.query()).await.or_fail("Error listing actions")?;
    if actions.is_empty() {
        context.console.out("No actions found");
        return Ok(0);
    }
    let rows: Vec<_> = actions
        .into_iter()
        .map(|action| vec![action.name, action.task_group_name, action.task_name])
        .collect();
    context.console.out(&format::table(&["Action Name", "Task Group", "Task"], &rows));
    Ok(0)
}

/// `job action`.
pub async fn run(context: &Context) -> Outcome {
    let action = context.one_arg("<action>")?;
    if context.text("job").is_empty() {
        return Err(Failure::usage("A job ID must be specified with the -job flag"));
    }
    let client = context.client();
    let found = resolve::any_job(&client, context.text("job")).await?;
    let wanted = match context.text("allocation") {
        "" => context.text("alloc"),
        id => id,
    };
    let alloc = match wanted {
        "" => resolve::alloc_of_job(&client, &found.id, context.text("group")).await?,
        id => resolve::alloc(context, &client, id).await?,
    };
    let task = resolve::task(&alloc, context.text("task"))?;
    let tty = context.flags.truth("t").unwrap_or_else(terminal::is_interactive);
    let command = ExecCommand { alloc_id: alloc.id, task, command: Vec::new(), tty };
    let (input, output) = client
        .run_action(&found.id, action, &command)
        .await
        .map_err(|error| Failure::new(format!("failed to run action: {error}")))?;
    terminal::attach(context, input, output, tty, context.flags.truth("i").unwrap_or(true)).await
}
