use sdk::{ExecCommand, ExecError};

use crate::{
    command::{Context, Failure, Outcome},
    resolve, terminal,
};

/// `alloc exec`.
pub async fn run(context: &Context) -> Outcome {
    let Some((first, command)) = context.args.split_first() else {
        let what = if context.on("job") { "A job ID is required" } else { "An allocation ID is required" };
        return Err(Failure::usage(what));
    };
    if command.is_empty() {
        return Err(Failure::usage("A command is required"));
    }
    let client = context.client();
    let alloc = if context.on("job") {
        resolve::alloc_of_job(&client, first, context.text("group")).await?
    } else {
        resolve::alloc(context, &client, first).await?
    };
    let task = resolve::task(&alloc, context.text("task"))?;
    let stdin = context.flags.truth("i").unwrap_or(true);
    let tty = context.flags.truth("t").unwrap_or_else(terminal::is_interactive);
    if tty && !stdin {
        return Err(Failure::usage("-i must be enabled if running with tty"));
    }
    let command = ExecCommand { alloc_id: alloc.id, task, command: command.to_vec(), tty };
    let opened = client.exec(&command).await;
    let (input, output) =
        opened.map_err(|error: ExecError| Failure::new(format!("failed to exec into task: {error}")))?;
    terminal::attach(context, input, output, tty, stdin).await
}
