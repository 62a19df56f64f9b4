use serde_json::Value;

use crate::{
    Client, Query, RequestError,
    query::segment,
    types::{
        AgentHealth, AgentSelf, JoinResponse, JoinSettings, JoinToken, JoinTokenRequest, JoinTrust,
        KeyringRequest, KeyringResponse, Members,
    },
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

    /// Lists the servers that the agent knows, or every agent.
    pub async fn members_of(&self, all: bool) -> Answer<Members> {
        let query = if all { Query::default().with("all", "true") } else { Query::default() };
        Ok(self.get("/v1/agent/members", &query).await?.0)
    }

    /// Lists the keys of gossip.
    pub async fn keyring(&self) -> Answer<KeyringResponse> {
        Ok(self.get("/v1/agent/keyring/list", &Query::default()).await?.0)
    }

    /// Changes the keys of gossip on every member: `install`, `use` or `remove`.
    pub async fn change_keyring(&self, verb: &str, key: &str) -> Answer<KeyringResponse> {
        let request = KeyringRequest { key: key.to_owned() };
        Ok(self.put(&format!("/v1/agent/keyring/{verb}"), &request, &Query::default()).await?.0)
    }

    /// Makes a token with which an agent may join, once.
    pub async fn create_join_token(&self, request: &JoinTokenRequest) -> Answer<JoinToken> {
        Ok(self.put("/v1/agent/join-token", request, &Query::default()).await?.0)
    }

    /// Lists tokens for joining.
    pub async fn join_tokens(&self) -> Answer<Vec<JoinToken>> {
        Ok(self.get("/v1/agent/join-tokens", &Query::default()).await?.0)
    }

    /// Makes a token for joining worthless.
    pub async fn revoke_join_token(&self, id: &str) -> Answer<Value> {
        Ok(self.delete(&format!("/v1/agent/join-token/{}", segment(id)), &Query::default()).await?.0)
    }

    /// Reads what joining demands, and who is trusted.
    pub async fn join_trust(&self) -> Answer<JoinTrust> {
        Ok(self.get("/v1/agent/join-settings", &Query::default()).await?.0)
    }

    /// Demands tokens of whoever joins, or does not.
    pub async fn require_join_token(&self, require_token: bool) -> Answer<Value> {
        Ok(self.put("/v1/agent/join-settings", &JoinSettings { require_token }, &Query::default()).await?.0)
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
