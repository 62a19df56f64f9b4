use serde_json::Value;

use crate::{
    Client, JsonStream, Query, QueryMeta, RequestError,
    query::segment,
    types::{
        EventBatch, FuzzySearchRequest, FuzzySearchResponse, JobStub, Namespace, NodePool, NodeStub,
        ScalingPolicy, ScalingPolicyStub, SearchRequest, SearchResponse, ServiceList, ServiceRegistration,
    },
};

type Answer<T> = Result<T, RequestError>;
type Listed<T> = Result<(T, QueryMeta), RequestError>;

/// Namespaces, node pools, services, scaling policies, search and events.
impl Client {
    /// Lists namespaces.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`], like all that follow.
    pub async fn namespaces(&self, query: &Query) -> Listed<Vec<Namespace>> {
        self.get("/v1/namespaces", query).await
    }

    /// Reads a namespace.
    pub async fn namespace(&self, name: &str) -> Answer<Namespace> {
        Ok(self.get(&format!("/v1/namespace/{}", segment(name)), &Query::default()).await?.0)
    }

    /// Makes or changes a namespace.
    pub async fn apply_namespace(&self, namespace: &Namespace) -> Answer<Value> {
        Ok(self
            .put(&format!("/v1/namespace/{}", segment(&namespace.name)), namespace, &Query::default())
            .await?
            .0)
    }

    /// Deletes a namespace.
    pub async fn delete_namespace(&self, name: &str) -> Answer<Value> {
        Ok(self.delete(&format!("/v1/namespace/{}", segment(name)), &Query::default()).await?.0)
    }

    /// Lists node pools.
    pub async fn node_pools(&self, query: &Query) -> Listed<Vec<NodePool>> {
        self.get("/v1/node/pools", query).await
    }

    /// Reads a node pool.
    pub async fn node_pool(&self, name: &str) -> Answer<NodePool> {
        Ok(self.get(&format!("/v1/node/pool/{}", segment(name)), &Query::default()).await?.0)
    }

    /// Makes or changes a node pool.
    pub async fn apply_node_pool(&self, pool: &NodePool) -> Answer<Value> {
        Ok(self.put("/v1/node/pools", pool, &Query::default()).await?.0)
    }

    /// Deletes a node pool.
    pub async fn delete_node_pool(&self, name: &str) -> Answer<Value> {
        Ok(self.delete(&format!("/v1/node/pool/{}", segment(name)), &Query::default()).await?.0)
    }

    /// Lists the nodes of a pool.
    pub async fn node_pool_nodes(&self, name: &str, query: &Query) -> Listed<Vec<NodeStub>> {
        self.get(&format!("/v1/node/pool/{}/nodes", segment(name)), query).await
    }

    /// Lists the jobs of a pool.
    pub async fn node_pool_jobs(&self, name: &str, query: &Query) -> Listed<Vec<JobStub>> {
        self.get(&format!("/v1/node/pool/{}/jobs", segment(name)), query).await
    }

    /// Lists services.
    pub async fn services(&self, query: &Query) -> Listed<Vec<ServiceList>> {
        self.get("/v1/services", query).await
    }

    /// Lists the instances of a service.
    pub async fn service(&self, name: &str, query: &Query) -> Listed<Vec<ServiceRegistration>> {
        self.get(&format!("/v1/service/{}", segment(name)), query).await
    }

    /// Deletes an instance of a service.
    pub async fn delete_service(&self, name: &str, id: &str, query: &Query) -> Answer<Value> {
        Ok(self.delete(&format!("/v1/service/{}/{}", segment(name), segment(id)), query).await?.0)
    }

    /// Lists scaling policies.
    pub async fn scaling_policies(&self, query: &Query) -> Listed<Vec<ScalingPolicyStub>> {
        self.get("/v1/scaling/policies", query).await
    }

    /// Reads a scaling policy.
    pub async fn scaling_policy(&self, id: &str, query: &Query) -> Answer<ScalingPolicy> {
        Ok(self.get(&format!("/v1/scaling/policy/{}", segment(id)), query).await?.0)
    }

    /// Finds things whose id begins so; `context` is `all`, `jobs`, `nodes`, ...
    pub async fn search(&self, prefix: &str, context: &str, query: &Query) -> Answer<SearchResponse> {
        let request = SearchRequest { context: context.to_owned(), prefix: prefix.to_owned() };
        Ok(self.put("/v1/search", &request, query).await?.0)
    }

    /// Finds things whose name contains a text.
    pub async fn fuzzy_search(
        &self,
        text: &str,
        context: &str,
        query: &Query,
    ) -> Answer<FuzzySearchResponse> {
        let request = FuzzySearchRequest { context: context.to_owned(), text: text.to_owned() };
        Ok(self.put("/v1/search/fuzzy", &request, query).await?.0)
    }

    /// Follows what happens; `topics` are `Topic` or `Topic:key`, all of them when there are none.
    pub async fn events(&self, topics: &[String], query: &Query) -> Answer<JsonStream<EventBatch>> {
        let mut query = query.clone();
        for topic in topics {
            query = query.with("topic", topic.as_str());
        }
        if query.index > 0 {
            query = query.clone().with("index", query.index.to_string());
            query.index = 0; // here it says where to begin, and does not wait
        }
        self.get_json_stream("/v1/event/stream", &query).await
    }
}
