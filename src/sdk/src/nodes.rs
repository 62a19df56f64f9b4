use serde_json::Value;

use crate::{
    Client, Query, QueryMeta, RequestError,
    query::segment,
    types::{
        AllocLine, Allocation, HostStats, Node, NodeDrainRequest, NodeEligibilityRequest, NodeMetaRequest,
        NodeMetaResponse, NodeStub, NodeUpdateResponse,
    },
};

type Answer<T> = Result<T, RequestError>;
type Listed<T> = Result<(T, QueryMeta), RequestError>;

fn path(node: &str, rest: &str) -> String {
    format!("/v1/node/{}{rest}", segment(node))
}

/// Nodes.
impl Client {
    /// Lists nodes.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`], like all that follow.
    pub async fn nodes(&self, query: &Query) -> Listed<Vec<NodeStub>> {
        self.get("/v1/nodes", query).await
    }

    /// Reads a node.
    pub async fn node(&self, id: &str, query: &Query) -> Listed<Node> {
        self.get(&path(id, ""), query).await
    }

    /// Lists the allocations of a node, in full.
    pub async fn node_allocations(&self, id: &str, query: &Query) -> Listed<Vec<Allocation>> {
        self.get(&path(id, "/allocations"), query).await
    }

    /// Lists the allocations of a node, of all namespaces, with what tables show of them and what they hold.
    pub async fn node_allocation_lines(&self, id: &str) -> Listed<Vec<AllocLine>> {
        let filter = format!("NodeID == \"{id}\"");
        let query = Query { filter, ..Query::default() }
            .in_namespace("*")
            .with("resources", "true")
            .with("task_states", "false");
        self.get_exact("/v1/allocations", &query).await
    }

    /// Empties a node, or stops doing so.
    pub async fn drain_node(&self, request: &NodeDrainRequest) -> Answer<NodeUpdateResponse> {
        Ok(self.put(&path(&request.node_id, "/drain"), request, &Query::default()).await?.0)
    }

    /// Says whether a node takes new allocations.
    pub async fn set_node_eligibility(&self, request: &NodeEligibilityRequest) -> Answer<NodeUpdateResponse> {
        Ok(self.put(&path(&request.node_id, "/eligibility"), request, &Query::default()).await?.0)
    }

    /// Looks at the jobs of a node again.
    pub async fn evaluate_node(&self, id: &str) -> Answer<Value> {
        Ok(self.put_empty(&path(id, "/evaluate"), &Query::default()).await?.0)
    }

    /// Forgets a node.
    pub async fn purge_node(&self, id: &str) -> Answer<Value> {
        Ok(self.put_empty(&path(id, "/purge"), &Query::default()).await?.0)
    }

    /// Reads what a node uses.
    pub async fn node_stats(&self, id: &str) -> Answer<HostStats> {
        Ok(self.get("/v1/client/stats", &Query::default().with("node_id", id)).await?.0)
    }

    /// Reads what a node uses, and what its allocations use together where the agent knows that question.
    pub async fn node_stats_with_allocations(&self, id: &str) -> Answer<HostStats> {
        let query = Query::default().with("node_id", id).with("allocations", "true");
        Ok(self.get("/v1/client/stats", &query).await?.0)
    }

    /// Reads a node's metadata; that of the agent itself when the id is empty.
    pub async fn node_meta(&self, id: &str) -> Answer<NodeMetaResponse> {
        let query = if id.is_empty() { Query::default() } else { Query::default().with("node_id", id) };
        Ok(self.get("/v1/client/metadata", &query).await?.0)
    }

    /// Changes a node's metadata.
    pub async fn apply_node_meta(&self, request: &NodeMetaRequest) -> Answer<NodeMetaResponse> {
        let query = if request.node_id.is_empty() {
            Query::default()
        } else {
            Query::default().with("node_id", request.node_id.as_str())
        };
        let body =
            serde_json::to_vec(request).map_err(|error| RequestError::Unsendable(error.to_string()))?;
        let raw = crate::RawRequest {
            method: http::Method::POST, // the one write that does not take PUT
            target: self.target("/v1/client/metadata", &query),
            headers: Vec::new(),
            body: body.into(),
        };
        let answer = self.request(raw).await?;
        let status = answer.status;
        let bytes = answer.collect().await?;
        if status >= 300 {
            return Err(RequestError::Status {
                status,
                body: String::from_utf8_lossy(&bytes).trim_end().to_owned(),
            });
        }
        crate::types::from_slice(&bytes)
            .map_err(|source| RequestError::Decode { url: self.url("/v1/client/metadata"), source })
    }
}
