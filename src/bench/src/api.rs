//! What scenarios ask of the agents: little, and read without a tree in between, so that measuring costs little.

use std::time::Duration;

use anyhow::{Context, anyhow};
use sdk::{Client, Query, RequestError};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

/// How often a request that a busy cluster did not take is made again, and how long is waited before.
const TRIES_MAX: u32 = 20;
const TRY_PAUSE: Duration = Duration::from_millis(250);

/// How far jobs are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Allocations that were ever placed.
    pub placed: usize,
    /// Those that run.
    pub running: usize,
}

/// The agents that are asked, one after the other.
#[derive(Clone)]
pub struct Api {
    agents: Vec<Client>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JobRow {
    job_summary: Option<Summary>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    summary: std::collections::BTreeMap<String, Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Group {
    starting: usize,
    running: usize,
    complete: usize,
    failed: usize,
    lost: usize,
    unknown: usize,
}

/// A row of a list of allocations.
#[derive(Deserialize)]
pub struct AllocRow {
    /// The job that it is of.
    #[serde(rename = "JobID")]
    pub job: String,
    /// The node that it is on.
    #[serde(rename = "NodeID")]
    pub node: String,
    /// What the servers want.
    #[serde(rename = "DesiredStatus")]
    pub desired: String,
    /// What the client says.
    #[serde(rename = "ClientStatus")]
    pub client: String,
    #[serde(rename = "CreateTime")]
    created: i64,
    #[serde(rename = "ModifyTime")]
    modified: i64,
}

/// A row of the list of nodes.
#[derive(Deserialize)]
pub struct NodeRow {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
    /// `ready` or not.
    #[serde(rename = "Status")]
    pub status: String,
}

impl Api {
    /// Asks these agents.
    ///
    /// # Errors
    ///
    /// When an address is none.
    pub fn new(addresses: &[String]) -> anyhow::Result<Self> {
        let agent = |address: &String| {
            let parsed = address.parse().map_err(|error| anyhow!("{address}: {error}"))?;
            let mut config = sdk::Config::from_env(|name| std::env::var(name).ok())?;
            config.address = parsed;
            Ok(Client::new(config))
        };
        Ok(Self { agents: addresses.iter().map(agent).collect::<anyhow::Result<_>>()? })
    }

    /// One of the agents, in turn.
    pub fn agent(&self, number: usize) -> &Client {
        &self.agents[number % self.agents.len()]
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, path: &str, query: &Query) -> anyhow::Result<T> {
        let mut tries = 0;
        let bytes = loop {
            match self.agent(0).get_bytes(path, query).await {
                Ok(bytes) => break bytes,
                // Between two leaders nobody answers.
                Err(error) if tries < TRIES_MAX => {
                    tries += 1;
                    tracing::debug!(path, %error, "asking again");
                    tokio::time::sleep(TRY_PAUSE).await;
                }
                Err(error) => return Err(error).with_context(|| format!("GET {path}")),
            }
        };
        serde_json::from_slice(&bytes).with_context(|| format!("GET {path}"))
    }

    /// Registers a job with one of the agents. Registering it twice is harmless, so it is tried again.
    ///
    /// # Errors
    ///
    /// When it is refused, or nobody takes it.
    pub async fn register(&self, number: usize, job: &Value) -> anyhow::Result<()> {
        let mut tries = 0;
        loop {
            let body = json!({ "Job": job });
            let answer = self.agent(number).put::<_, IgnoredAny>("/v1/jobs", &body, &Query::default()).await;
            match answer {
                Ok(_) => return Ok(()),
                Err(RequestError::Status { status, body }) if status < 500 => {
                    return Err(anyhow!("job {} is refused: {body}", job["ID"]));
                }
                Err(error) if tries >= TRIES_MAX => {
                    return Err(error).with_context(|| format!("job {}", job["ID"]));
                }
                Err(_) => {
                    tries += 1;
                    tokio::time::sleep(TRY_PAUSE).await;
                }
            }
        }
    }

    /// Stops a job and has it forgotten.
    ///
    /// # Errors
    ///
    /// When nobody takes it.
    pub async fn purge(&self, number: usize, job: &str) -> anyhow::Result<()> {
        let query = Query::default().with("purge", "true");
        let path = format!("/v1/job/{job}");
        self.agent(number).delete::<IgnoredAny>(&path, &query).await.with_context(|| path.clone())?;
        Ok(())
    }

    /// Adds up how far the jobs are whose ids begin so.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn progress(&self, prefix: &str) -> anyhow::Result<Progress> {
        let rows: Vec<JobRow> = self.read("/v1/jobs", &Query::prefix(prefix)).await?;
        let groups = rows.iter().filter_map(|row| row.job_summary.as_ref());
        let mut progress = Progress::default();
        for group in groups.flat_map(|summary| summary.summary.values()) {
            progress.running += group.running;
            let ended = group.complete + group.failed + group.lost + group.unknown;
            progress.placed += group.running + group.starting + ended;
        }
        Ok(progress)
    }

    /// Lists the allocations of the jobs whose ids begin so.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn allocations(&self, prefix: &str) -> anyhow::Result<Vec<AllocRow>> {
        let query = Query::default().with("task_states", "false");
        let rows: Vec<AllocRow> = self.read("/v1/allocations", &query).await?;
        Ok(rows.into_iter().filter(|row| row.job.starts_with(prefix)).collect())
    }

    /// Lists the nodes.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn nodes(&self) -> anyhow::Result<Vec<NodeRow>> {
        self.read("/v1/nodes", &Query::default()).await
    }

    /// Counts evaluations in a status.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn evaluations(&self, status: &str) -> anyhow::Result<usize> {
        let query = Query::default().with("status", status);
        let rows: Vec<IgnoredAny> = self.read("/v1/evaluations", &query).await?;
        Ok(rows.len())
    }

    /// Begins to empty a node.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn drain(&self, number: usize, node: &str) -> anyhow::Result<()> {
        let body = json!({ "DrainSpec": { "Deadline": 0, "IgnoreSystemJobs": false } });
        let path = format!("/v1/node/{node}/drain");
        let answer = self.agent(number).put::<_, IgnoredAny>(&path, &body, &Query::default()).await;
        answer.map(drop).with_context(|| path)
    }

    /// Removes what is over, however young.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn collect(&self) -> anyhow::Result<()> {
        let answer = self.agent(0).put_empty::<IgnoredAny>("/v1/system/gc", &Query::default()).await;
        answer.map(drop).context("/v1/system/gc")
    }

    /// Has the schedulers stop taking evaluations, or go on.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn pause_scheduling(&self, pause: bool) -> anyhow::Result<()> {
        let path = "/v1/operator/scheduler/configuration";
        let known: Value = self.read(path, &Query::default()).await?;
        let mut config = known["SchedulerConfig"].clone();
        config["PauseEvalBroker"] = json!(pause);
        let answer = self.agent(0).put::<_, IgnoredAny>(path, &config, &Query::default()).await;
        answer.map(drop).context(path)
    }
}

impl AllocRow {
    /// When it was placed, by the servers' wall clock in nanoseconds.
    pub fn created(&self) -> i64 {
        self.created
    }

    /// When it last changed.
    pub fn modified(&self) -> i64 {
        self.modified
    }
}
