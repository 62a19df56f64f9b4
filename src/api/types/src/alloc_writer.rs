//! Writes lines of allocation lists straight from the rows: a list of 100,000 must not build a tree first.

use crate::{
    AllocDeploymentStatus, AllocatedResources, DesiredTransition, RescheduleTracker, Time, task::LegacyFields,
};

/// Which of the larger parts a line has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StubFields {
    /// `AllocatedResources` is there.
    pub resources: bool,
    /// `TaskStates` is filled in.
    pub task_states: bool,
}

impl Default for StubFields {
    fn default() -> Self {
        Self { resources: false, task_states: true }
    }
}

/// Appends the JSON of an allocation's list line; it reads back as [`crate::AllocStub`].
pub fn write_alloc_stub(out: &mut Vec<u8>, alloc: &model::Allocation, node_name: &str, fields: StubFields) {
    let extra = alloc.extra();
    out.push(b'{');
    if fields.resources {
        out.extend_from_slice(b"\"AllocatedResources\":");
        tree(out, &AllocatedResources::of(&alloc.resources));
        out.push(b',');
    }
    text(out, "\"ClientDescription\":", &alloc.client_description);
    word(out, ",\"ClientStatus\":", alloc.client_status.as_str());
    number(out, ",\"CreateIndex\":", alloc.create_index);
    signed(out, ",\"CreateTime\":", alloc.create_time.0);
    out.extend_from_slice(b",\"DeploymentStatus\":");
    tree(out, &extra.health.as_ref().map(AllocDeploymentStatus::of));
    text(out, ",\"DesiredDescription\":", &alloc.desired_description);
    word(out, ",\"DesiredStatus\":", alloc.desired.as_str());
    if extra.transition == model::DesiredTransition::default() {
        out.extend_from_slice(NO_TRANSITION);
    } else {
        out.extend_from_slice(b",\"DesiredTransition\":");
        tree(out, &DesiredTransition::of(extra.transition));
    }
    id(out, ",\"EvalID\":", Some(alloc.eval_id.0));
    id(out, ",\"FollowupEvalID\":", extra.followup_eval.map(|id| id.0));
    id(out, ",\"ID\":", Some(alloc.id.0));
    text(out, ",\"JobID\":", &alloc.job.key.id);
    word(out, ",\"JobType\":", alloc.job.spec.kind.as_str());
    number(out, ",\"JobVersion\":", alloc.job.version);
    number(out, ",\"ModifyIndex\":", alloc.modify_index);
    signed(out, ",\"ModifyTime\":", alloc.modify_time.0);
    let group = &alloc.task_group().name;
    name(out, &alloc.job.key.id, group, alloc.index);
    text(out, ",\"Namespace\":", &alloc.job.key.namespace);
    id(out, ",\"NextAllocation\":", extra.next.map(|id| id.0));
    id(out, ",\"NodeID\":", Some(alloc.node_id.0));
    text(out, ",\"NodeName\":", node_name);
    out.extend_from_slice(b",\"PreemptedAllocations\":");
    if extra.preempted.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        tree(out, &extra.preempted);
    }
    id(out, ",\"PreemptedByAllocation\":", extra.preempted_by.map(|id| id.0));
    out.extend_from_slice(b",\"RescheduleTracker\":");
    tree(out, &RescheduleTracker::of(extra));
    text(out, ",\"TaskGroup\":", group);
    out.extend_from_slice(b",\"TaskStates\":");
    if fields.task_states && !alloc.task_states.is_empty() {
        task_states(out, &alloc.task_states);
    } else {
        out.extend_from_slice(b"null");
    }
    out.push(b'}');
}

const NO_TRANSITION: &[u8] = b",\"DesiredTransition\":{\"ForceReschedule\":null,\"Migrate\":null,\"MigrateDisablePlacement\":null,\"NoShutdownDelay\":null,\"Reschedule\":null}";

fn task_states(out: &mut Vec<u8>, states: &[model::TaskState]) {
    for (at, state) in states.iter().enumerate() {
        out.push(if at == 0 { b'{' } else { b',' });
        text(out, "", &state.name);
        out.extend_from_slice(b":{\"Events\":");
        for (at, event) in state.events.iter().enumerate() {
            out.push(if at == 0 { b'[' } else { b',' });
            task_event(out, event);
        }
        out.extend_from_slice(if state.events.is_empty() { b"null" } else { b"]" });
        truth(out, ",\"Failed\":", state.failed);
        time(out, ",\"FinishedAt\":", state.finished_at);
        time(out, ",\"LastRestart\":", state.last_restart);
        number(out, ",\"Paused\":\"\",\"Restarts\":", state.restarts.into());
        time(out, ",\"StartedAt\":", state.started_at);
        word(out, ",\"State\":", state.state.as_str());
        out.push(b'}');
    }
    out.push(b'}');
}

fn task_event(out: &mut Vec<u8>, event: &model::TaskEvent) {
    out.extend_from_slice(b"{\"Details\":{");
    let Some(details) = event.details.as_deref() else {
        text(out, "},\"DiskLimit\":0,\"DisplayMessage\":", event.display());
        signed(out, NO_LEGACY, event.time.0);
        word(out, ",\"Type\":", event.kind.as_str());
        out.extend_from_slice(b",\"ValidationError\":\"\",\"VaultError\":\"\"}");
        return;
    };
    for (at, (key, value)) in details.pairs.iter().enumerate() {
        text(out, if at == 0 { "" } else { "," }, key);
        text(out, ":", value);
    }
    let legacy = LegacyFields::of(event);
    signed(out, "},\"DiskLimit\":", legacy.disk_limit);
    text(out, ",\"DisplayMessage\":", event.display());
    text(out, ",\"DownloadError\":", legacy.download_error);
    text(out, ",\"DriverError\":", legacy.driver_error);
    text(out, ",\"DriverMessage\":", legacy.driver_message);
    signed(out, ",\"ExitCode\":", legacy.exit_code);
    text(out, ",\"FailedSibling\":", legacy.failed_sibling);
    truth(out, ",\"FailsTask\":", legacy.fails_task);
    text(out, ",\"GenericSource\":\"\",\"KillError\":", legacy.kill_error);
    text(out, ",\"KillReason\":", legacy.kill_reason);
    signed(out, ",\"KillTimeout\":", legacy.kill_timeout);
    text(out, ",\"Message\":", legacy.message);
    text(out, ",\"RestartReason\":", legacy.restart_reason);
    text(out, ",\"SetupError\":", legacy.setup_error);
    signed(out, ",\"Signal\":", legacy.signal);
    signed(out, ",\"StartDelay\":", legacy.start_delay);
    text(out, ",\"TaskSignal\":", legacy.task_signal);
    text(out, ",\"TaskSignalReason\":", legacy.task_signal_reason);
    signed(out, ",\"Time\":", event.time.0);
    word(out, ",\"Type\":", event.kind.as_str());
    text(out, ",\"ValidationError\":", legacy.validation_error);
    out.extend_from_slice(b",\"VaultError\":\"\"}");
}

/// Everything between the message and the time of an event that has no details.
const NO_LEGACY: &str = ",\"DownloadError\":\"\",\"DriverError\":\"\",\"DriverMessage\":\"\",\"ExitCode\":0,\"FailedSibling\":\"\",\"FailsTask\":false,\"GenericSource\":\"\",\"KillError\":\"\",\"KillReason\":\"\",\"KillTimeout\":0,\"Message\":\"\",\"RestartReason\":\"\",\"SetupError\":\"\",\"Signal\":0,\"StartDelay\":0,\"TaskSignal\":\"\",\"TaskSignalReason\":\"\",\"Time\":";

fn tree<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(&mut *out, value)
        .expect("these shapes have text keys and a vector takes any bytes");
}

/// Appends a key and a text that needs no escapes.
fn word(out: &mut Vec<u8>, key: &str, word: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// Appends a key and a text of any kind.
fn text(out: &mut Vec<u8>, key: &str, text: &str) {
    if needs_escapes(text) {
        out.extend_from_slice(key.as_bytes());
        tree(out, &text);
    } else {
        word(out, key, text);
    }
}

/// Looks at every byte, which takes less time than stopping at the first that matters.
fn needs_escapes(text: &str) -> bool {
    text.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\'))
}

fn name(out: &mut Vec<u8>, job: &str, group: &str, index: u32) {
    out.extend_from_slice(b",\"Name\":\"");
    for part in [job, ".", group] {
        if needs_escapes(part) {
            let quoted = serde_json::to_string(part).expect("text is JSON");
            out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        } else {
            out.extend_from_slice(part.as_bytes());
        }
    }
    number(out, "[", index.into());
    out.extend_from_slice(b"]\"");
}

fn number(out: &mut Vec<u8>, key: &str, mut value: u64) {
    out.extend_from_slice(key.as_bytes());
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn signed(out: &mut Vec<u8>, key: &str, value: i64) {
    out.extend_from_slice(key.as_bytes());
    if value < 0 {
        out.push(b'-');
    }
    number(out, "", value.unsigned_abs());
}

fn truth(out: &mut Vec<u8>, key: &str, value: bool) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn time(out: &mut Vec<u8>, key: &str, time: model::Timestamp) {
    out.extend_from_slice(key.as_bytes());
    if time.is_zero() {
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
        Time::from(time).write(out);
        out.push(b'"');
    }
}

fn id(out: &mut Vec<u8>, key: &str, id: Option<uuid::Uuid>) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    if let Some(id) = id {
        let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
        out.extend_from_slice(id.as_hyphenated().encode_lower(&mut text).as_bytes());
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{TaskEvent, TaskEventKind, Timestamp};
    use serde_json::json;

    use super::*;

    fn alloc() -> model::Allocation {
        let spec = model::JobSpec::from_document(&json!({
            "ID": "we\"b", "Name": "web", "Type": "service",
            "TaskGroups": [{"Name": "front", "Tasks": [{"Name": "server"}]}],
        }))
        .expect("a job");
        let job = model::Job {
            key: model::JobKey::new("default", "we\"b"),
            spec: Arc::new(spec),
            version: 3,
            stop: false,
            stable: false,
            status: model::JobStatus::Running,
            status_description: model::Text::default(),
            submit_time: Timestamp(7),
            create_index: 1,
            modify_index: 2,
            job_modify_index: 2,
            version_tag: None,
            parent: None,
        };
        let events = Box::new([
            TaskEvent::new(TaskEventKind::Received, Timestamp(10)),
            TaskEvent::new(TaskEventKind::Terminated, Timestamp(11)).with("exit_code", "1").saying("a\nb"),
        ]);
        let states = [model::TaskState {
            name: "server".into(),
            state: model::TaskRunState::Dead,
            failed: true,
            restarts: 2,
            last_restart: Timestamp(1_795_359_585_744_779_331),
            started_at: Timestamp(1_795_359_585_000_000_000),
            finished_at: Timestamp::ZERO,
            events,
        }];
        model::Allocation {
            id: model::AllocId::from_random(1 << 100),
            eval_id: model::EvalId::from_random(2),
            node_id: model::NodeId::from_random(3),
            job: Arc::new(job),
            group: 0,
            index: 12,
            desired: model::DesiredStatus::Run,
            client_status: model::ClientStatus::Failed,
            desired_description: model::Text::default(),
            client_description: "Failed \"tasks\"".into(),
            resources: Arc::default(),
            metrics: None,
            task_states: Arc::new(states),
            extra: Some(Box::new(model::AllocExtra {
                previous: Some(model::AllocId::from_random(9)),
                preempted: vec![model::AllocId::from_random(8)],
                last_reschedule: "ok".into(),
                transition: model::DesiredTransition { migrate: Some(true), ..Default::default() },
                ..Default::default()
            })),
            create_index: 20,
            modify_index: 21,
            alloc_modify_index: 20,
            create_time: Timestamp(-5),
            modify_time: Timestamp(6),
        }
    }

    #[test]
    fn a_written_line_is_the_stub_to_the_byte() {
        for resources in [false, true] {
            let mut line = Vec::new();
            write_alloc_stub(&mut line, &alloc(), "n1", StubFields { resources, task_states: true });
            let stub: crate::AllocStub = crate::from_slice(&line).expect("the line is JSON of a stub");
            assert_eq!(
                serde_json::to_string(&stub).expect("serialises"),
                String::from_utf8(line).expect("text")
            );
            assert_eq!(stub.name, "we\"b.front[12]");
            assert_eq!(stub.task_states["server"].events[1].exit_code, 1);
        }
    }

    #[test]
    fn the_full_shape_leaves_out_what_is_empty() {
        let full = serde_json::to_value(crate::Allocation::of(&alloc(), "")).expect("serialises");
        assert!(
            full.get("NodeName").is_none()
                && full.get("NextAllocation").is_none()
                && full.get("Metrics").is_none()
        );
        assert_eq!(full["Job"]["Version"], 3);
        assert_eq!(full["DesiredTransition"]["Migrate"], true);
        assert_eq!(full["DesiredTransition"]["Reschedule"], json!(null));
    }
}
