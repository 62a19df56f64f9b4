use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    Client, Query, QueryMeta, RequestError,
    query::segment,
    types::{
        AllocResourceUsage, AllocRestartRequest, AllocSignalRequest, AllocStopResponse, AllocStub,
        Allocation, CheckResult, ServiceRegistration,
    },
};

type Answer<T> = Result<T, RequestError>;
type Listed<T> = Result<(T, QueryMeta), RequestError>;

/// How an allocation is stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllocStopOptions {
    /// Without its shutdown delay.
    pub no_shutdown_delay: bool,
    /// Reschedule it, rather than only replace it.
    pub reschedule: bool,
}

/// Allocations.
impl Client {
    /// Lists allocations.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`], like all that follow.
    pub async fn allocations(&self, query: &Query) -> Listed<Vec<AllocStub>> {
        self.get("/v1/allocations", query).await
    }

    /// Reads an allocation.
    pub async fn allocation(&self, id: &str, query: &Query) -> Listed<Allocation> {
        self.get(&format!("/v1/allocation/{}", segment(id)), query).await
    }

    /// Stops an allocation; another takes its place.
    pub async fn stop_allocation(
        &self,
        id: &str,
        options: AllocStopOptions,
        query: &Query,
    ) -> Answer<AllocStopResponse> {
        let mut query = query.clone();
        if options.no_shutdown_delay {
            query = query.with("no_shutdown_delay", "true");
        }
        if options.reschedule {
            query = query.with("reschedule", "true");
        }
        Ok(self.put_empty(&format!("/v1/allocation/{}/stop", segment(id)), &query).await?.0)
    }

    /// Restarts a task, or all of them.
    pub async fn restart_allocation(
        &self,
        id: &str,
        request: &AllocRestartRequest,
        query: &Query,
    ) -> Answer<Value> {
        Ok(self.put(&format!("/v1/client/allocation/{}/restart", segment(id)), request, query).await?.0)
    }

    /// Sends a signal to a task, or to all of them.
    pub async fn signal_allocation(
        &self,
        id: &str,
        request: &AllocSignalRequest,
        query: &Query,
    ) -> Answer<Value> {
        Ok(self.put(&format!("/v1/client/allocation/{}/signal", segment(id)), request, query).await?.0)
    }

    /// Reads what an allocation uses.
    pub async fn allocation_stats(&self, id: &str, query: &Query) -> Answer<AllocResourceUsage> {
        Ok(self.get(&format!("/v1/client/allocation/{}/stats", segment(id)), query).await?.0)
    }

    /// Reads the results of an allocation's checks.
    pub async fn allocation_checks(&self, id: &str, query: &Query) -> Answer<BTreeMap<String, CheckResult>> {
        Ok(self.get(&format!("/v1/client/allocation/{}/checks", segment(id)), query).await?.0)
    }

    /// Lists the instances of an allocation's services.
    pub async fn allocation_services(&self, id: &str, query: &Query) -> Answer<Vec<ServiceRegistration>> {
        Ok(self.get(&format!("/v1/allocation/{}/services", segment(id)), query).await?.0)
    }

    /// Forgets what a terminal allocation left on its node.
    pub async fn collect_allocation(&self, id: &str, query: &Query) -> Answer<Value> {
        Ok(self.get(&format!("/v1/client/allocation/{}/gc", segment(id)), query).await?.0)
    }
}
