//! The events of a task's history, with the texts that people and programs know.

use std::time::Duration;

use driver::{ExitResult, Signal};
use model::{TaskEvent, TaskEventKind as Kind, Timestamp, duration_text};

use crate::restart::WITHIN_POLICY;

/// The client knows of the task.
pub fn received(now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::Received, now)
}

/// Its directory is being made.
pub fn building_directory(now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::TaskSetup, now).saying("Building Task Directory")
}

/// It runs.
pub fn started(now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::Started, now)
}

/// It ended.
pub fn terminated(result: &ExitResult, now: Timestamp) -> TaskEvent {
    let mut display = format!("Exit Code: {}", result.exit_code);
    if result.signal != 0 {
        display.push_str(&format!(", Signal: {}", result.signal));
    }
    let message = if result.oom_killed { Some("OOM Killed") } else { result.err.as_deref() };
    if let Some(message) = message {
        display.push_str(&format!(", Exit Message: {message:?}"));
    }
    let mut event = TaskEvent::new(Kind::Terminated, now)
        .with("exit_code", result.exit_code.to_string())
        .with("signal", result.signal.to_string())
        .with("oom_killed", result.oom_killed.to_string())
        .shown_as(display);
    if let Some(message) = message {
        event = event.with("exit_message", message);
        event.details_mut().message = message.into();
    }
    event
}

/// It is told to stop.
pub fn killing(kill_timeout: Duration, now: Timestamp) -> TaskEvent {
    let timeout = duration_text(kill_timeout);
    TaskEvent::new(Kind::Killing, now)
        .with("kill_timeout", timeout.clone())
        .shown_as(format!("Sent interrupt. Waiting {timeout} before force killing"))
}

/// It is stopped for a reason of its own, and counts as failed.
pub fn killing_for(reason: &str, now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::Killing, now).with("fails_task", "true").shown_as(reason).failing()
}

/// It is stopped because no server could be reached for as long as its job lets it run alone.
pub fn stopped_alone(limit: Duration, now: Timestamp) -> TaskEvent {
    let limit = duration_text(limit);
    TaskEvent::new(Kind::Killing, now).with("stop_on_client_after", limit.clone()).shown_as(format!(
        "No server was reachable for {limit}; stopping, as disconnect.stop_on_client_after says"
    ))
}

/// It is stopped because its allocation ran for as long as its group lets it.
pub fn ran_too_long(limit: Duration, now: Timestamp) -> TaskEvent {
    let limit = duration_text(limit);
    TaskEvent::new(Kind::MaxRunDuration, now)
        .with("max_run_duration", limit.clone())
        .shown_as(format!("Allocation ran for its max_run_duration of {limit}"))
}

/// It is given time before it is told to stop.
pub fn waiting_for_shutdown_delay(delay: Duration, now: Timestamp) -> TaskEvent {
    let delay = duration_text(delay);
    TaskEvent::new(Kind::WaitingForShutdownDelay, now)
        .shown_as(format!("Waiting for shutdown_delay of {delay} before killing the task."))
}

/// It would be given time before it is told to stop, and a user wanted it to stop at once.
pub fn skipping_shutdown_delay(delay: Duration, now: Timestamp) -> TaskEvent {
    let delay = duration_text(delay);
    TaskEvent::new(Kind::SkippingShutdownDelay, now)
        .shown_as(format!("Skipping shutdown_delay of {delay} before killing the task."))
}

/// It was stopped.
pub fn killed(now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::Killed, now)
}

/// It starts again after a wait. A reason out of the ordinary comes first.
pub fn restarting(delay: Duration, reason: &str, now: Timestamp) -> TaskEvent {
    let wait = format!("Task restarting in {}", duration_text(delay));
    let ordinary = reason.is_empty() || reason == WITHIN_POLICY;
    let shown = if ordinary { wait } else { format!("{reason} - {wait}") };
    TaskEvent::new(Kind::Restarting, now)
        .with("restart_reason", reason)
        .with("start_delay", delay.as_nanos().to_string())
        .shown_as(shown)
}

/// It does not start again.
pub fn not_restarting(reason: &str, now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::NotRestarting, now)
        .with("restart_reason", reason)
        .with("fails_task", "true")
        .shown_as(reason)
        .failing()
}

/// A user asked for a restart.
pub fn restart_asked(all: bool, now: Timestamp) -> TaskEvent {
    let reason = if all { "User requested all tasks to restart" } else { "User requested task to restart" };
    TaskEvent::new(Kind::RestartSignal, now).with("restart_reason", reason).shown_as(reason)
}

/// A signal is sent to it.
pub fn signaling(signal: Signal, now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::Signaling, now)
        .with("signal", signal.to_string())
        .shown_as("Task being sent a signal")
}

/// The driver could not start it.
pub fn driver_failure(error: &str, now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::DriverFailure, now).with("driver_error", error).shown_as(error)
}

/// The driver says something.
pub fn driver_message(event: &driver::TaskEvent) -> TaskEvent {
    let mut noted = TaskEvent::new(Kind::Driver, Timestamp(event.at)).shown_as(event.message.as_str());
    for (name, value) in &event.details {
        noted = noted.with(name, value.as_str());
    }
    noted
}

/// Its definition is wrong.
pub fn failed_validation(error: &str, now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::FailedValidation, now).with("validation_error", error).shown_as(error)
}

/// Something before the start failed.
pub fn setup_failure(error: &str, now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::SetupFailure, now).with("setup_error", error).shown_as(error)
}

/// Its artifacts are being fetched.
pub fn downloading_artifacts(now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::DownloadingArtifacts, now)
}

/// An artifact could not be fetched.
pub fn artifact_failed(error: &str, now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::ArtifactDownloadFailed, now).with("download_error", error).shown_as(error)
}

/// A sibling failed, so it is stopped.
pub fn sibling_failed(sibling: &str, now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::SiblingFailed, now)
        .with("failed_sibling", sibling)
        .shown_as(format!("Task's sibling {sibling:?} failed"))
}

/// The leader ended, so it is stopped.
pub fn leader_dead(now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::LeaderDead, now)
}

/// The main tasks ended, so it is stopped.
pub fn main_dead(now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::MainDead, now)
}

/// Its node was out of reach and came back.
pub fn reconnected(now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::Reconnected, now)
}

/// Its allocation became unhealthy.
pub fn unhealthy(why: &str, now: Timestamp) -> TaskEvent {
    TaskEvent::new(Kind::AllocUnhealthy, now).saying(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_out_of_the_ordinary_says_why_first() {
        let shown = |reason: &str| {
            let event = restarting(Duration::from_secs(15), reason, Timestamp(1));
            event.details.map(|details| details.display.to_string())
        };
        assert_eq!(shown(WITHIN_POLICY).as_deref(), Some("Task restarting in 15s"));
        assert_eq!(
            shown("Exceeded allowed attempts, applying a delay").as_deref(),
            Some("Exceeded allowed attempts, applying a delay - Task restarting in 15s")
        );
    }
}
