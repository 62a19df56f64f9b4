use std::{cell::RefCell, collections::VecDeque, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Text, Timestamp, named::named_enum};

named_enum! {
    /// What happened to a task.
    TaskEventKind {
        /// The client knows of it.
        Received = "Received",
        /// Something before the start failed.
        SetupFailure = "Setup Failure",
        /// The driver could not start it.
        DriverFailure = "Driver Failure",
        /// The driver says something.
        Driver = "Driver",
        /// It runs.
        Started = "Started",
        /// It ended by itself.
        Terminated = "Terminated",
        /// It is being stopped.
        Killing = "Killing",
        /// It was stopped.
        Killed = "Killed",
        /// It is going to be started again.
        Restarting = "Restarting",
        /// It is not started again.
        NotRestarting = "Not Restarting",
        /// A user asked for a restart.
        RestartSignal = "Restart Signaled",
        /// A signal was sent to it.
        Signaling = "Signaling",
        /// Its artifacts are being fetched.
        DownloadingArtifacts = "Downloading Artifacts",
        /// An artifact could not be fetched.
        ArtifactDownloadFailed = "Failed Artifact Download",
        /// Its directory is being made.
        TaskSetup = "Task Setup",
        /// Its directory is being made (older name).
        BuildingTaskDirectory = "Building Task Directory",
        /// Its definition is wrong.
        FailedValidation = "Failed Validation",
        /// A sibling failed.
        SiblingFailed = "Sibling Task Failed",
        /// The leader ended.
        LeaderDead = "Leader Task Dead",
        /// The main tasks ended.
        MainDead = "Main Tasks Dead",
        /// Something around it says something.
        Hook = "Task hook message",
        /// Its template says something.
        Template = "Template",
        /// Its allocation became unhealthy.
        AllocUnhealthy = "Alloc Unhealthy",
        /// Its node came back.
        Reconnected = "Reconnected",
        /// Its node was lost.
        Disconnected = "Disconnected",
        /// It used too much disk.
        DiskExceeded = "Disk Resources Exceeded",
        /// A hook failed.
        HookFailed = "Task hook failed",
        /// It was restored after a restart of the client, and could not be.
        FailedRestoring = "Failed Restoring Task",
        /// It ran for longer than it may.
        MaxRunDuration = "Max Run Duration Exceeded",
        /// It is told to stop once its shutdown delay is over.
        WaitingForShutdownDelay = "Waiting for shutdown delay",
        /// It is told to stop without its shutdown delay.
        SkippingShutdownDelay = "Skipping shutdown delay",
    }
}

/// One entry of a task's history.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TaskEvent {
    /// What happened.
    pub kind: TaskEventKind,
    /// When.
    pub time: Timestamp,
    /// More about it; none for most events of a healthy life. Equal ones that were read soon after one another are one.
    #[serde(deserialize_with = "sharing")]
    pub details: Option<Arc<EventDetails>>,
}

/// More about a task event.
///
/// `pairs` are the API's `Details`, e.g. `exit_code`, `signal`, `oom_killed`, `kill_timeout`, `start_delay`,
/// `restart_reason`, `driver_error`, `message`; the API's older fields (`ExitCode`, `Signal`, ...) are read from them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct EventDetails {
    /// The sentence that people see.
    pub display: Text,
    /// A message of the one who made the event.
    pub message: Text,
    /// Names and values, in the order that they were added.
    pub pairs: Vec<(Text, Text)>,
    /// The task counts as failed.
    pub fails_task: bool,
}

/// Details that were read last and may come again: most tasks are set up with the same words.
const LATEST_MAX: usize = 16;

thread_local! {
    static LATEST: RefCell<VecDeque<Arc<EventDetails>>> = const { RefCell::new(VecDeque::new()) };
}

/// Reads details, and has those that are like others share their memory: a region has millions of them.
fn sharing<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Arc<EventDetails>>, D::Error> {
    let Some(details) = Option::<EventDetails>::deserialize(input)? else { return Ok(None) };
    Ok(Some(LATEST.with_borrow_mut(|latest| {
        if let Some(known) = latest.iter().find(|known| ***known == details) {
            return known.clone();
        }
        latest.truncate(LATEST_MAX - 1);
        latest.push_front(Arc::new(details));
        latest[0].clone()
    })))
}

impl TaskEvent {
    /// Makes an event without details.
    pub fn new(kind: TaskEventKind, time: Timestamp) -> Self {
        Self { kind, time, details: None }
    }

    /// Returns the details, to be changed.
    pub fn details_mut(&mut self) -> &mut EventDetails {
        Arc::make_mut(self.details.get_or_insert_default())
    }

    /// Returns the value of a detail.
    pub fn detail(&self, name: &str) -> Option<&str> {
        let pairs = &self.details.as_deref()?.pairs;
        pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Text>) -> Self {
        self.details_mut().pairs.push((name.into(), value.into()));
        self
    }

    /// Sets the sentence that people see.
    #[must_use]
    pub fn shown_as(mut self, display: impl Into<Text>) -> Self {
        self.details_mut().display = display.into();
        self
    }

    /// Sets the message; it is a detail of its own, too.
    #[must_use]
    pub fn saying(mut self, message: impl Into<Text>) -> Self {
        let message = message.into();
        let details = self.details_mut();
        details.pairs.push(("message".into(), message.clone()));
        details.message = message;
        self
    }

    /// Marks the task as failed by this event.
    #[must_use]
    pub fn failing(mut self) -> Self {
        self.details_mut().fails_task = true;
        self
    }

    /// Returns the sentence that people see; events that do not bring one have a fixed one.
    pub fn display(&self) -> &str {
        match &self.details {
            Some(details) if !details.display.is_empty() => &details.display,
            Some(details) if !details.message.is_empty() => &details.message,
            _ => match self.kind {
                TaskEventKind::Received => "Task received by client",
                TaskEventKind::Started => "Task started by client",
                TaskEventKind::Killed => "Task successfully killed",
                TaskEventKind::DownloadingArtifacts => "Client is downloading artifacts",
                TaskEventKind::LeaderDead => "Leader Task in Group dead",
                TaskEventKind::MainDead => "Main tasks in the group died",
                TaskEventKind::FailedValidation => "Validation of task failed",
                TaskEventKind::Reconnected => "Client reconnected",
                _ => "",
            },
        }
    }
}
