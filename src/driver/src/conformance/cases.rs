use std::{fs, time::Duration};

use super::{Case, CaseResult, Fault, PATIENCE, STDERR_TEXT, STDOUT_TEXT, Script, Stage, ensure, read_log};
use crate::{
    ExitResult, LogConfig, RecoverTaskError, Signal, SignalTaskError, StartTaskError, StatsError,
    StopTaskError, TaskHandle, TaskId, TaskState, WaitError,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("an_exit_code_is_told", |s| Box::pin(an_exit_code_is_told(s))),
    ("an_end_is_told_to_all_who_wait", |s| Box::pin(an_end_is_told_to_all_who_wait(s))),
    ("a_deadly_signal_is_told", |s| Box::pin(a_deadly_signal_is_told(s))),
    ("a_stop_is_asked_for_first", |s| Box::pin(a_stop_is_asked_for_first(s))),
    ("a_stubborn_task_is_killed_in_time", |s| Box::pin(a_stubborn_task_is_killed_in_time(s))),
    ("an_ended_task_is_no_error_to_stop", |s| Box::pin(an_ended_task_is_no_error_to_stop(s))),
    ("an_unknown_task_is_said_to_be_so", |s| Box::pin(an_unknown_task_is_said_to_be_so(s))),
    ("a_launch_happens_once", |s| Box::pin(a_launch_happens_once(s))),
    ("the_environment_arrives", |s| Box::pin(the_environment_arrives(s))),
    ("output_is_kept_apart", |s| Box::pin(output_is_kept_apart(s))),
    ("output_is_bounded", |s| Box::pin(output_is_bounded(s))),
    ("output_can_be_off", |s| Box::pin(output_can_be_off(s))),
    ("what_cannot_start_leaves_nothing", |s| Box::pin(what_cannot_start_leaves_nothing(s))),
    ("a_wrong_configuration_is_refused", |s| Box::pin(a_wrong_configuration_is_refused(s))),
    ("a_running_task_is_recovered", |s| Box::pin(a_running_task_is_recovered(s))),
    ("an_exit_during_a_restart_is_not_lost", |s| Box::pin(an_exit_during_a_restart_is_not_lost(s))),
    ("a_foreign_handle_is_refused", |s| Box::pin(a_foreign_handle_is_refused(s))),
    ("destroying_takes_force_while_it_runs", |s| Box::pin(destroying_takes_force_while_it_runs(s))),
    ("offspring_does_not_outlive_its_task", |s| Box::pin(offspring_does_not_outlive_its_task(s))),
    ("a_stray_is_found_and_removed", |s| Box::pin(a_stray_is_found_and_removed(s))),
    ("a_task_can_be_measured", |s| Box::pin(a_task_can_be_measured(s))),
    ("a_cancelled_start_leaves_nothing_unknown", |s| Box::pin(a_cancelled_start_leaves_nothing_unknown(s))),
];

async fn an_exit_code_is_told(stage: &Stage<'_>) -> CaseResult {
    for code in [0, 3, 255] {
        let (task, _) = stage.started(Script::Exit { code, after_ms: 0 }).await?;
        let result = stage.exit_of(&task.id).await?;
        // A driver may add why, as users expect to read it.
        let bare = ExitResult { err: None, ..result.clone() };
        ensure!(bare == ExitResult::exited(code), "code {code} was told as {result:?}");
        ensure!(result.successful() == (code == 0), "only zero is success");
        stage.gone(&task.id).await?;
    }
    Ok(())
}

async fn an_end_is_told_to_all_who_wait(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::Exit { code: 5, after_ms: 100 }).await?;
    let Some(status) = stage.driver.inspect(&task.id) else {
        return Err(Fault::Fail("a started task is unknown".to_owned()));
    };
    ensure!(status.state == TaskState::Running, "it runs, not {:?}", status.state);
    let (one, two) = tokio::join!(stage.exit_of(&task.id), stage.exit_of(&task.id));
    let late = stage.exit_of(&task.id).await?;
    ensure!(one? == late && two? == late && late.exit_code == 5, "three different answers");
    let state = stage.driver.inspect(&task.id).map(|status| status.state);
    ensure!(matches!(state, Some(TaskState::Exited { at, .. }) if at >= status.started_at), "{state:?}");
    stage.gone(&task.id).await
}

async fn a_deadly_signal_is_told(stage: &Stage<'_>) -> CaseResult {
    if !stage.capabilities().send_signals {
        return Err(Fault::Skip("this driver cannot signal".to_owned()));
    }
    let (task, _) = stage.started(Script::Forever).await?;
    stage.driver.signal(&task.id, Signal::KILL).await?;
    let result = stage.exit_of(&task.id).await?;
    ensure!(was_killed(&result), "{result:?}");
    ensure!(!result.oom_killed, "nobody was short of memory");
    let again = stage.driver.signal(&task.id, Signal::HUP).await;
    ensure!(matches!(again, Err(SignalTaskError::Ended(_))), "signalling an ended task: {again:?}");
    stage.gone(&task.id).await
}

async fn a_stop_is_asked_for_first(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::Forever).await?;
    let asked = stage.stopped(&task.id, Signal::INT, PATIENCE);
    let result = tokio::time::timeout(Duration::from_secs(5), asked).await;
    let result = result.map_err(|_| Fault::Fail("a willing task was waited for".to_owned()))??;
    ensure!(was_not_killed(&result), "{result:?}");
    stage.gone(&task.id).await
}

/// Whether it was killed. Container engines tell a signal by the exit code alone.
pub(super) fn was_killed(result: &ExitResult) -> bool {
    result.exit_code == 137 && matches!(result.signal, 0 | 9)
}

/// Whether it ended by itself when asked: how, is the task's affair.
fn was_not_killed(result: &ExitResult) -> bool {
    result.signal != 9 && result.exit_code != 137
}

async fn a_stubborn_task_is_killed_in_time(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::Stubborn).await?;
    // It needs a moment before it ignores anything.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = now();
    let result = stage.stopped(&task.id, Signal::INT, Duration::from_millis(400)).await?;
    let took = now().duration_since(before);
    ensure!(was_killed(&result), "{result:?}");
    ensure!(took >= Duration::from_millis(350), "it was given only {took:?}");
    ensure!(took < Duration::from_secs(5), "it took {took:?}");
    stage.gone(&task.id).await
}

// The suite runs against real processes and containers, and so on real time.
#[allow(clippy::disallowed_methods)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

async fn an_ended_task_is_no_error_to_stop(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::Exit { code: 0, after_ms: 0 }).await?;
    stage.exit_of(&task.id).await?;
    let result = stage.stopped(&task.id, Signal::TERM, Duration::from_secs(1)).await?;
    ensure!(result.exit_code == 0, "a stop changed the result: {result:?}");
    let stats = stage.driver.stats(&task.id).await;
    ensure!(matches!(stats, Err(StatsError::Ended(_))), "measured an ended task: {stats:?}");
    stage.gone(&task.id).await
}

async fn an_unknown_task_is_said_to_be_so(stage: &Stage<'_>) -> CaseResult {
    let id = TaskId::new("00000000-0000-4000-8000-ffffffffffff", "t", "1");
    let waited = stage.driver.wait(&id).await;
    ensure!(matches!(waited, Err(WaitError::Unknown(_))), "{waited:?}");
    let stopped = stage.driver.stop(&id, Signal::INT, Duration::ZERO).await;
    ensure!(matches!(stopped, Err(StopTaskError::Unknown(_))), "{stopped:?}");
    let measured = stage.driver.stats(&id).await;
    ensure!(matches!(measured, Err(StatsError::Unknown(_))), "{measured:?}");
    stage.driver.destroy(&id, true).await?;
    ensure!(stage.driver.inspect(&id).is_none(), "it became known");
    Ok(())
}

async fn a_launch_happens_once(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::Forever).await?;
    let again = stage.driver.start(task.clone()).await;
    ensure!(matches!(again, Err(StartTaskError::Duplicate(_))), "{again:?}");
    stage.gone(&task.id).await
}

async fn the_environment_arrives(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::PrintVariable).await?;
    stage.exit_of(&task.id).await?;
    let said = read_log(&task.dirs.logs, "stdout");
    ensure!(said == b"a value with spaces\n", "{:?}", String::from_utf8_lossy(&said));
    stage.gone(&task.id).await
}

async fn output_is_kept_apart(stage: &Stage<'_>) -> CaseResult {
    let (mut task, _) = stage.started(Script::Exit { code: 0, after_ms: 0 }).await?;
    stage.exit_of(&task.id).await?;
    let logs = task.dirs.logs.clone();
    ensure!(read_log(&logs, "stdout") == STDOUT_TEXT.as_bytes(), "{:?}", read_log(&logs, "stdout"));
    ensure!(read_log(&logs, "stderr") == STDERR_TEXT.as_bytes(), "{:?}", read_log(&logs, "stderr"));
    stage.gone(&task.id).await?;
    // A restart of the task goes on in the same file.
    task.id = TaskId::new(task.id.alloc_id(), task.id.task(), "2");
    stage.driver.start(task.clone()).await?;
    stage.exit_of(&task.id).await?;
    ensure!(read_log(&logs, "stdout") == STDOUT_TEXT.repeat(2).as_bytes(), "a restart lost earlier output");
    stage.gone(&task.id).await
}

async fn output_is_bounded(stage: &Stage<'_>) -> CaseResult {
    let mut task = stage.task(Script::Flood { megabytes: 5 })?;
    task.logs = LogConfig { max_files: 2, max_file_size_mb: 1, disabled: false };
    stage.driver.start(task.clone()).await?;
    stage.exit_of(&task.id).await?;
    let files: Vec<_> = fs::read_dir(&task.dirs.logs)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("t.stdout."))
        .collect();
    // Fewer when an engine that bounds its own copy has dropped the middle of the flood before it was read.
    ensure!((1..=2).contains(&files.len()), "{} files are kept", files.len());
    for file in files {
        let (name, size) = (file.file_name(), file.metadata()?.len());
        ensure!(size <= 1 << 20, "{name:?} has {size} bytes");
    }
    stage.gone(&task.id).await
}

async fn output_can_be_off(stage: &Stage<'_>) -> CaseResult {
    let mut task = stage.task(Script::Exit { code: 0, after_ms: 0 })?;
    task.logs.disabled = true;
    stage.driver.start(task.clone()).await?;
    let result = stage.exit_of(&task.id).await?;
    ensure!(result.successful(), "{result:?}");
    ensure!(fs::read_dir(&task.dirs.logs)?.next().is_none(), "there are log files");
    stage.gone(&task.id).await
}

async fn what_cannot_start_leaves_nothing(stage: &Stage<'_>) -> CaseResult {
    let task = stage.task(Script::Missing)?;
    let outcome = stage.driver.start(task.clone()).await;
    ensure!(outcome.is_err(), "it started");
    ensure!(stage.driver.inspect(&task.id).is_none(), "it is known");
    let left = stage.left_of(task.alloc_id()).await?;
    ensure!(left.is_empty(), "left after a failed start: {left:?}");
    Ok(())
}

async fn a_wrong_configuration_is_refused(stage: &Stage<'_>) -> CaseResult {
    let mut task = stage.task(Script::Forever)?;
    let Some(config) = task.config.as_object_mut() else {
        return Err(Fault::Skip("this driver's configuration is no map".to_owned()));
    };
    config.insert("no_such_option".to_owned(), true.into());
    let text = match stage.driver.validate(&task.config) {
        Err(errors) => errors.to_string(),
        Ok(()) => String::new(),
    };
    ensure!(text.contains("no_such_option"), "validation said {text:?}");
    let outcome = stage.driver.start(task.clone()).await;
    ensure!(matches!(outcome, Err(StartTaskError::Config(_))), "{outcome:?}");
    Ok(())
}

async fn a_running_task_is_recovered(stage: &Stage<'_>) -> CaseResult {
    let (task, started) = stage.started(Script::Forever).await?;
    let next = Stage { bench: stage.bench, driver: (stage.bench.make)().await };
    ensure!(next.driver.inspect(&task.id).is_none(), "a driver knows what it was not told");
    // Handles are written to disk and read again.
    let text = serde_json::to_string(&started.handle)?;
    let handle: TaskHandle = serde_json::from_str(&text)?;
    next.driver.recover(handle.clone()).await?;
    next.driver.recover(handle).await?;
    let state = next.driver.inspect(&task.id).map(|status| status.state);
    ensure!(state == Some(TaskState::Running), "{state:?}");
    let result = next.stopped(&task.id, Signal::INT, PATIENCE).await?;
    ensure!(was_not_killed(&result), "{result:?}");
    next.gone(&task.id).await
}

async fn an_exit_during_a_restart_is_not_lost(stage: &Stage<'_>) -> CaseResult {
    let (task, started) = stage.started(Script::Exit { code: 7, after_ms: 100 }).await?;
    stage.exit_of(&task.id).await?;
    let next = Stage { bench: stage.bench, driver: (stage.bench.make)().await };
    next.driver.recover(started.handle).await?;
    let result = next.exit_of(&task.id).await?;
    ensure!(result.exit_code == 7, "{result:?}");
    next.gone(&task.id).await
}

async fn a_foreign_handle_is_refused(stage: &Stage<'_>) -> CaseResult {
    let (task, started) = stage.started(Script::Exit { code: 0, after_ms: 0 }).await?;
    stage.exit_of(&task.id).await?;
    stage.gone(&task.id).await?;
    let foreign = TaskHandle { driver: "another".to_owned(), ..started.handle.clone() };
    let newer = TaskHandle { version: u32::MAX, ..started.handle };
    for handle in [foreign, newer] {
        let outcome = stage.driver.recover(handle).await;
        ensure!(matches!(outcome, Err(RecoverTaskError::Handle { .. })), "{outcome:?}");
    }
    Ok(())
}

async fn destroying_takes_force_while_it_runs(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::Forever).await?;
    let refused = stage.driver.destroy(&task.id, false).await;
    ensure!(matches!(refused, Err(crate::DestroyTaskError::Running(_))), "{refused:?}");
    let state = stage.driver.inspect(&task.id).map(|status| status.state);
    ensure!(state == Some(TaskState::Running), "a refused destroy changed it: {state:?}");
    stage.gone(&task.id).await?;
    stage.gone(&task.id).await
}

async fn offspring_does_not_outlive_its_task(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::LeaveOffspring).await?;
    stage.exit_of(&task.id).await?;
    stage.gone(&task.id).await
}

async fn a_stray_is_found_and_removed(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::Forever).await?;
    let found = stage.left_of(task.alloc_id()).await?;
    ensure!(!found.is_empty(), "the census does not see a running task");
    for stray in &found {
        stage.driver.remove_stray(stray).await?;
        stage.driver.remove_stray(stray).await?;
    }
    let result = stage.exit_of(&task.id).await?;
    ensure!(!result.successful(), "a removed task succeeded: {result:?}");
    stage.gone(&task.id).await
}

async fn a_task_can_be_measured(stage: &Stage<'_>) -> CaseResult {
    let (task, _) = stage.started(Script::Forever).await?;
    // The kernel counts in batches, so that a young process may seem to use nothing.
    let mut stats = stage.driver.stats(&task.id).await?;
    for _ in 0..100 {
        if stats.memory.measured.is_empty() || stats.memory.rss > 0 {
            ensure!(stats.at > 0, "no time");
            return stage.gone(&task.id).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        stats = stage.driver.stats(&task.id).await?;
    }
    Err(Fault::Fail(format!("a running task uses no memory: {stats:?}")))
}

async fn a_cancelled_start_leaves_nothing_unknown(stage: &Stage<'_>) -> CaseResult {
    let task = stage.task(Script::Forever)?;
    let start = stage.driver.start(task.clone());
    // Long enough to have begun, too short to be done.
    drop(tokio::time::timeout(Duration::from_micros(300), start).await);
    for _ in 0..400 {
        if stage.driver.inspect(&task.id).is_some() {
            // It was quick enough and is known: that is fine too.
            return stage.gone(&task.id).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        if stage.left_of(task.alloc_id()).await?.is_empty() {
            return Ok(());
        }
    }
    Err(Fault::Fail(format!("left and unknown: {:?}", stage.left_of(task.alloc_id()).await?)))
}
