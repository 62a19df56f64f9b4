use serde_json::Value;

use crate::{
    Client, Query, RequestError,
    types::{AgentHealth, AgentSelf, JoinResponse, Members},
};

type Answer<T> = Result<T, RequestError>;

/// The agent itself.
impl Client {
    /// Reads what the agent says of itself.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`], like all that follow.
    pub async fn agent_self(&self) -> Answer<AgentSelf> {
        Ok(self.get("/v1/agent/self", &Query::default()).await?.0)
    }

    /// Lists the servers that the agent knows.
    pub async fn members(&self) -> Answer<Members> {
        Ok(self.get("/v1/agent/members", &Query::default()).await?.0)
    }

    /// Asks whether the agent is well.
    pub async fn agent_health(&self) -> Answer<AgentHealth> {
        Ok(self.get("/v1/agent/health", &Query::default()).await?.0)
    }

    /// Lists the servers that a client agent uses.
    pub async fn agent_servers(&self) -> Answer<Vec<String>> {
        Ok(self.get("/v1/agent/servers", &Query::default()).await?.0)
    }

    /// Sets the servers that a client agent uses.
    pub async fn set_agent_servers(&self, servers: &[String]) -> Answer<Value> {
        let query =
            servers.iter().fold(Query::default(), |query, server| query.with("address", server.as_str()));
        Ok(self.put_empty("/v1/agent/servers", &query).await?.0)
    }

    /// Makes a server agent join others.
    pub async fn join(&self, addresses: &[String]) -> Answer<JoinResponse> {
        let query =
            addresses.iter().fold(Query::default(), |query, address| query.with("address", address.as_str()));
        Ok(self.put_empty("/v1/agent/join", &query).await?.0)
    }

    /// Makes the servers count one as gone.
    pub async fn force_leave(&self, node: &str, prune: bool) -> Answer<Value> {
        let mut query = Query::default().with("node", node);
        if prune {
            query = query.with("prune", "1");
        }
        Ok(self.put_empty("/v1/agent/force-leave", &query).await?.0)
    }

    /// Makes the agent read its configuration again.
    pub async fn reload(&self) -> Answer<Value> {
        Ok(self.put_empty("/v1/agent/reload", &Query::default()).await?.0)
    }

    /// Lists regions.
    pub async fn regions(&self) -> Answer<Vec<String>> {
        Ok(self.get("/v1/regions", &Query::default()).await?.0)
    }

    /// Returns the leader's address; empty when there is none.
    pub async fn leader(&self, region: &str) -> Answer<String> {
        let query = if region.is_empty() {
            Query::default()
        } else {
            Query { region: Some(region.to_owned()), ..Query::default() }
        };
        Ok(self.get("/v1/status/leader", &query).await?.0)
    }

    /// Lists the addresses of those that take part in Raft.
    pub async fn peers(&self) -> Answer<Vec<String>> {
        Ok(self.get("/v1/status/peers", &Query::default()).await?.0)
    }

    /// Reads the agent's metrics, as JSON or, with `format=prometheus`, as text.
    pub async fn metrics(&self, query: &Query) -> Answer<bytes::Bytes> {
        self.get_bytes("/v1/metrics", query).await
    }
}
