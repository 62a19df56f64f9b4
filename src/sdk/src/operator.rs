use bytes::Bytes;
use serde_json::Value;

use crate::{
    ByteStream, Client, Query, RawRequest, RequestError,
    types::{
        AutopilotConfig, AutopilotHealth, RaftConfiguration, SchedulerConfig, SchedulerConfigResponse,
        SchedulerSetResponse, StateHashes,
    },
};

type Answer<T> = Result<T, RequestError>;

/// Whose log is followed, and how much of it.
#[derive(Clone, Debug, Default)]
pub struct MonitorOptions {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub log_level: String,
    /// Another client's log.
    pub node_id: String,
    /// Another server's log.
    pub server_id: String,
    /// As JSON.
    pub log_json: bool,
    /// With the place in the source.
    pub include_location: bool,
}

/// What operators do.
impl Client {
    /// Collects everything that is over.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`], like all that follow.
    pub async fn collect_garbage(&self) -> Answer<Value> {
        Ok(self.put_empty("/v1/system/gc", &Query::default()).await?.0)
    }

    /// Counts the allocations of every job again.
    pub async fn reconcile_summaries(&self) -> Answer<Value> {
        Ok(self.put_empty("/v1/system/reconcile/summaries", &Query::default()).await?.0)
    }

    /// Reads the settings of the schedulers.
    pub async fn scheduler_config(&self) -> Answer<SchedulerConfigResponse> {
        Ok(self.get("/v1/operator/scheduler/configuration", &Query::default()).await?.0)
    }

    /// Changes the settings of the schedulers; only if their index is `cas`, when there is one.
    pub async fn set_scheduler_config(
        &self,
        config: &SchedulerConfig,
        cas: Option<u64>,
    ) -> Answer<SchedulerSetResponse> {
        Ok(self.put("/v1/operator/scheduler/configuration", config, &with_cas(cas)).await?.0)
    }

    /// Lists who takes part in Raft.
    pub async fn raft_configuration(&self, stale: bool) -> Answer<RaftConfiguration> {
        Ok(self.get("/v1/operator/raft/configuration", &Query { stale, ..Query::default() }).await?.0)
    }

    /// Reads the hashes of its state that one server still has.
    pub async fn state_hashes(&self, server: &str) -> Answer<StateHashes> {
        Ok(self.get("/v1/operator/raft/hashes", &Query::default().with("server_id", server)).await?.0)
    }

    /// Takes a server out of Raft.
    pub async fn remove_raft_peer(&self, id: &str) -> Answer<Value> {
        Ok(self.delete("/v1/operator/raft/peer", &Query::default().with("id", id)).await?.0)
    }

    /// Makes another server the leader; it is named by `id` or by `address`.
    pub async fn transfer_leadership(&self, id: &str, address: &str) -> Answer<Value> {
        let query = if id.is_empty() {
            Query::default().with("address", address)
        } else {
            Query::default().with("id", id)
        };
        Ok(self.put_empty("/v1/operator/raft/transfer-leadership", &query).await?.0)
    }

    /// Reads the settings of autopilot.
    pub async fn autopilot_config(&self) -> Answer<AutopilotConfig> {
        Ok(self.get("/v1/operator/autopilot/configuration", &Query::default()).await?.0)
    }

    /// Changes the settings of autopilot; tells whether they were changed.
    pub async fn set_autopilot_config(&self, config: &AutopilotConfig, cas: Option<u64>) -> Answer<bool> {
        Ok(self.put("/v1/operator/autopilot/configuration", config, &with_cas(cas)).await?.0)
    }

    /// Reads what autopilot thinks of the servers. An unhealthy cluster answers with a status of its own, and with this.
    pub async fn autopilot_health(&self) -> Answer<AutopilotHealth> {
        match self.get("/v1/operator/autopilot/health", &Query::default()).await {
            Ok((health, _)) => Ok(health),
            Err(RequestError::Status { status: 429, body }) => crate::types::from_slice(body.as_bytes())
                .map_err(|source| RequestError::Decode {
                    url: self.url("/v1/operator/autopilot/health"),
                    source,
                }),
            Err(error) => Err(error),
        }
    }

    /// Reads a copy of the state.
    pub async fn save_snapshot(&self, stale: bool) -> Answer<ByteStream> {
        self.get_stream("/v1/operator/snapshot", &Query { stale, ..Query::default() }).await
    }

    /// Replaces the state by a copy.
    pub async fn restore_snapshot(&self, snapshot: Bytes) -> Answer<()> {
        let raw = RawRequest {
            method: http::Method::PUT,
            target: self.target("/v1/operator/snapshot", &Query::default()),
            headers: Vec::new(),
            body: snapshot,
        };
        let answer = self.request(raw).await?;
        let status = answer.status;
        let body = answer.collect().await?;
        if status < 300 {
            return Ok(());
        }
        Err(RequestError::Status { status, body: String::from_utf8_lossy(&body).trim_end().to_owned() })
    }

    /// Follows an agent's log as plain text.
    pub async fn monitor(&self, options: &MonitorOptions) -> Answer<ByteStream> {
        let mut query = Query::default().with("plain", "true");
        for (name, value) in [
            ("log_level", &options.log_level),
            ("node_id", &options.node_id),
            ("server_id", &options.server_id),
        ] {
            if !value.is_empty() {
                query = query.with(name, value.as_str());
            }
        }
        if options.log_json {
            query = query.with("log_json", "true");
        }
        if options.include_location {
            query = query.with("log_include_location", "true");
        }
        self.get_stream("/v1/agent/monitor", &query).await
    }
}

fn with_cas(cas: Option<u64>) -> Query {
    cas.map_or_else(Query::default, |index| Query::default().with("cas", index.to_string()))
}
