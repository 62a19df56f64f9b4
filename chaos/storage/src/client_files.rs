use std::{path::Path, sync::Arc};

use anyhow::Context;
use client::journal::{Entry, Journal, Remembered, TaskRow};
use model::{
    AllocId, AllocRecord, ClientStatus, DesiredStatus, EvalId, Job, JobKey, JobSpec, JobStatus, NodeId,
    TaskRunState, TaskState, Timestamp,
};
use runtime::{Env, Shutdown};

use crate::{Files, Subject, Verdict};

/// Allocations in the journal.
const ALLOCS: u128 = 12;

/// What a client remembers of its allocations: its journal and the mark beside it.
#[derive(Debug)]
pub struct ClientFiles {
    files: Files,
    older: Files,
    expected: Vec<Remembered>,
}

impl ClientFiles {
    /// Makes the files below a directory that is empty.
    ///
    /// # Errors
    ///
    /// When the journal does not open or is not written.
    pub async fn make(dir: &Path) -> anyhow::Result<Self> {
        let env = Env::real(Shutdown::new());
        let journal = Journal::open(&env, dir)?.journal;
        let job = Arc::new(job()?);
        for number in 0..ALLOCS {
            let alloc = alloc(&job, number);
            let first = Entry::Task(alloc.id, task(1));
            journal.write(vec![Entry::Job(job.clone()), Entry::Alloc(alloc), first]).await?;
        }
        let older = Files::read(dir)?;
        for number in 0..ALLOCS {
            let id = AllocId::from_random(number);
            if number % 4 == 3 {
                journal.write(vec![Entry::Forget(id)]).await?;
            } else {
                journal.write(vec![Entry::Task(id, task(2))]).await?;
            }
        }
        let files = Files::read(dir)?;
        // What is to be found is what the product finds in whole files.
        let copy = tempfile::tempdir().context("no directory for a copy")?;
        files.write(copy.path())?;
        let expected = Journal::open(&env, copy.path())?.remembered;
        env.shutdown().fire();
        Ok(Self { files, older, expected })
    }
}

impl Subject for ClientFiles {
    fn name(&self) -> &'static str {
        "client"
    }

    fn files(&self) -> &Files {
        &self.files
    }

    fn older(&self) -> &Files {
        &self.older
    }

    async fn judge(&self, dir: &Path) -> anyhow::Result<Verdict> {
        let env = Env::real(Shutdown::new());
        let verdict = match Journal::open(&env, dir) {
            Err(_) => Verdict::Refused,
            Ok(opened) if opened.damage.is_some() => Verdict::Detected,
            Ok(opened) if opened.remembered == self.expected => Verdict::Harmless,
            Ok(_) => Verdict::Silent,
        };
        env.shutdown().fire();
        Ok(verdict)
    }
}

fn job() -> anyhow::Result<Job> {
    let document = serde_json::json!({
        "ID": "web", "Type": "service", "TaskGroups": [{"Name": "web", "Count": 12, "Tasks": [{"Name": "main", "Driver": "mock_driver"}]}],
    });
    Ok(Job {
        key: JobKey::new("default", "web"),
        spec: Arc::new(JobSpec::from_document(&document)?),
        version: 0,
        stop: false,
        stable: false,
        status: JobStatus::Running,
        status_description: "".into(),
        submit_time: Timestamp(1),
        create_index: 3,
        modify_index: 3,
        job_modify_index: 3,
        version_tag: None,
        parent: None,
    })
}

fn alloc(job: &Job, number: u128) -> AllocRecord {
    AllocRecord {
        id: AllocId::from_random(number),
        eval_id: EvalId::from_random(1),
        node_id: NodeId::from_random(1),
        job: job.key.clone(),
        job_create_index: job.create_index,
        job_version: job.version,
        group: 0,
        index: u32::try_from(number).unwrap_or(0),
        desired: DesiredStatus::Run,
        client_status: ClientStatus::Running,
        desired_description: "".into(),
        client_description: "".into(),
        resources: Arc::default(),
        metrics: None,
        task_states: Arc::new([]),
        extra: None,
        create_index: 4,
        modify_index: 4,
        alloc_modify_index: 4,
        create_time: Timestamp(1),
        modify_time: Timestamp(1),
    }
}

fn task(launch: u64) -> TaskRow {
    let state = TaskState {
        name: "main".into(),
        state: TaskRunState::Running,
        failed: false,
        restarts: 0,
        last_restart: Timestamp::ZERO,
        started_at: Timestamp(5),
        finished_at: Timestamp::ZERO,
        events: Box::new([]),
    };
    TaskRow { state, restarts: Default::default(), launch, handle: Some(format!("{{\"pid\": {launch}}}")) }
}
