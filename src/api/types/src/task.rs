use std::collections::BTreeMap;

use crate::{
    Time,
    shape::{go_duration, or_null},
};

shape! {
    /// A task's life so far.
    TaskState {
        #[serde(serialize_with = "or_null")]
        events "Events": Vec<TaskEvent>,
        failed "Failed": bool,
        finished_at "FinishedAt": Time,
        last_restart "LastRestart": Time,
        paused "Paused": String,
        restarts "Restarts": u64,
        started_at "StartedAt": Time,
        state "State": String,
    }
    /// One entry of a task's history. The fields beside `Details` and `DisplayMessage` are what older clients read.
    TaskEvent {
        details "Details": BTreeMap<String, String>,
        disk_limit "DiskLimit": i64,
        display_message "DisplayMessage": String,
        download_error "DownloadError": String,
        driver_error "DriverError": String,
        driver_message "DriverMessage": String,
        exit_code "ExitCode": i64,
        failed_sibling "FailedSibling": String,
        fails_task "FailsTask": bool,
        generic_source "GenericSource": String,
        kill_error "KillError": String,
        kill_reason "KillReason": String,
        kill_timeout "KillTimeout": i64,
        message "Message": String,
        restart_reason "RestartReason": String,
        setup_error "SetupError": String,
        signal "Signal": i64,
        start_delay "StartDelay": i64,
        task_signal "TaskSignal": String,
        task_signal_reason "TaskSignalReason": String,
        time "Time": i64,
        kind "Type": String,
        validation_error "ValidationError": String,
        vault_error "VaultError": String,
    }
}

impl TaskState {
    /// Makes the shape of a task's state.
    pub fn of(state: &model::TaskState) -> Self {
        Self {
            events: state.events.iter().map(TaskEvent::of).collect(),
            failed: state.failed,
            finished_at: state.finished_at.into(),
            last_restart: state.last_restart.into(),
            paused: String::new(),
            restarts: state.restarts.into(),
            started_at: state.started_at.into(),
            state: state.state.to_string(),
        }
    }
}

impl TaskEvent {
    /// Makes the shape of an event; the older fields are read from its details.
    pub fn of(event: &model::TaskEvent) -> Self {
        let legacy = LegacyFields::of(event);
        let details = event.details.as_deref();
        let pairs = details.map(|details| details.pairs.as_slice()).unwrap_or_default();
        Self {
            details: pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            disk_limit: legacy.disk_limit,
            display_message: event.display().to_owned(),
            download_error: legacy.download_error.to_owned(),
            driver_error: legacy.driver_error.to_owned(),
            driver_message: legacy.driver_message.to_owned(),
            exit_code: legacy.exit_code,
            failed_sibling: legacy.failed_sibling.to_owned(),
            fails_task: legacy.fails_task,
            generic_source: String::new(),
            kill_error: legacy.kill_error.to_owned(),
            kill_reason: legacy.kill_reason.to_owned(),
            kill_timeout: legacy.kill_timeout,
            message: legacy.message.to_owned(),
            restart_reason: legacy.restart_reason.to_owned(),
            setup_error: legacy.setup_error.to_owned(),
            signal: legacy.signal,
            start_delay: legacy.start_delay,
            task_signal: legacy.task_signal.to_owned(),
            task_signal_reason: legacy.task_signal_reason.to_owned(),
            time: event.time.0,
            kind: event.kind.to_string(),
            validation_error: legacy.validation_error.to_owned(),
            vault_error: String::new(),
        }
    }
}

/// The older fields of an event, borrowed from its details.
#[derive(Default)]
pub(crate) struct LegacyFields<'a> {
    pub disk_limit: i64,
    pub download_error: &'a str,
    pub driver_error: &'a str,
    pub driver_message: &'a str,
    pub exit_code: i64,
    pub failed_sibling: &'a str,
    pub fails_task: bool,
    pub kill_error: &'a str,
    pub kill_reason: &'a str,
    pub kill_timeout: i64,
    pub message: &'a str,
    pub restart_reason: &'a str,
    pub setup_error: &'a str,
    pub signal: i64,
    pub start_delay: i64,
    pub task_signal: &'a str,
    pub task_signal_reason: &'a str,
    pub validation_error: &'a str,
}

impl<'a> LegacyFields<'a> {
    pub(crate) fn of(event: &'a model::TaskEvent) -> Self {
        let mut legacy = Self::default();
        let Some(details) = event.details.as_deref() else { return legacy };
        legacy.fails_task = details.fails_task;
        for (name, value) in &details.pairs {
            let value = value.as_str();
            match name.as_str() {
                "disk_limit" => legacy.disk_limit = value.parse().unwrap_or(0),
                "download_error" => legacy.download_error = value,
                "driver_error" => legacy.driver_error = value,
                "driver_message" => legacy.driver_message = value,
                "exit_code" => legacy.exit_code = value.parse().unwrap_or(0),
                "exit_message" | "message" => legacy.message = value,
                "failed_sibling" => legacy.failed_sibling = value,
                "fails_task" => legacy.fails_task |= value == "true",
                "kill_error" => legacy.kill_error = value,
                "kill_reason" => legacy.kill_reason = value,
                "kill_timeout" => legacy.kill_timeout = go_duration(value).unwrap_or(0),
                "restart_reason" => legacy.restart_reason = value,
                "setup_error" => legacy.setup_error = value,
                // The signal that a task is sent is named, the one that ended it is a number.
                "signal" => legacy.signal = value.parse().unwrap_or(0),
                "start_delay" => {
                    legacy.start_delay = value.parse().unwrap_or_else(|_| go_duration(value).unwrap_or(0))
                }
                "task_signal" => legacy.task_signal = value,
                "task_signal_reason" => legacy.task_signal_reason = value,
                "validation_error" => legacy.validation_error = value,
                _ => {} // details of drivers are theirs
            }
        }
        match event.kind {
            model::TaskEventKind::Driver if legacy.driver_message.is_empty() => {
                legacy.driver_message = event.display()
            }
            _ => {}
        }
        legacy
    }
}

#[cfg(test)]
mod tests {
    use model::{TaskEvent as Event, TaskEventKind as Kind, Timestamp};

    use super::*;

    #[test]
    fn older_fields_follow_from_the_details() {
        let ended = Event::new(Kind::Terminated, Timestamp(5))
            .with("exit_code", "130")
            .with("signal", "2")
            .with("oom_killed", "false");
        let shape = TaskEvent::of(&ended);
        assert_eq!((shape.exit_code, shape.signal, shape.kind.as_str()), (130, 2, "Terminated"));
        assert_eq!(shape.details["oom_killed"], "false");
        let sent = TaskEvent::of(&Event::new(Kind::Signaling, Timestamp(5)).with("signal", "SIGCONT"));
        assert_eq!((sent.signal, sent.task_signal.as_str()), (0, ""));
        let killing = TaskEvent::of(&Event::new(Kind::Killing, Timestamp(5)).with("kill_timeout", "1m30.5s"));
        assert_eq!(killing.kill_timeout, 90_500_000_000);
    }
}
