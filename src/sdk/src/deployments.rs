use crate::{
    Client, Query, QueryMeta, RequestError,
    query::segment,
    types::{
        AllocStub, Deployment, DeploymentIdRequest, DeploymentPauseRequest, DeploymentPromoteRequest,
        DeploymentUpdateResponse,
    },
};

type Answer<T> = Result<T, RequestError>;
type Listed<T> = Result<(T, QueryMeta), RequestError>;

/// Deployments.
impl Client {
    /// Lists deployments.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`], like all that follow.
    pub async fn deployments(&self, query: &Query) -> Listed<Vec<Deployment>> {
        self.get("/v1/deployments", query).await
    }

    /// Reads a deployment.
    pub async fn deployment(&self, id: &str, query: &Query) -> Listed<Deployment> {
        self.get(&format!("/v1/deployment/{}", segment(id)), query).await
    }

    /// Lists the allocations of a deployment.
    pub async fn deployment_allocations(&self, id: &str, query: &Query) -> Listed<Vec<AllocStub>> {
        self.get(&format!("/v1/deployment/allocations/{}", segment(id)), query).await
    }

    /// Takes over canaries.
    pub async fn promote_deployment(
        &self,
        request: &DeploymentPromoteRequest,
        query: &Query,
    ) -> Answer<DeploymentUpdateResponse> {
        Ok(self
            .put(&format!("/v1/deployment/promote/{}", segment(&request.deployment_id)), request, query)
            .await?
            .0)
    }

    /// Gives a deployment up.
    pub async fn fail_deployment(&self, id: &str, query: &Query) -> Answer<DeploymentUpdateResponse> {
        let request = DeploymentIdRequest { deployment_id: id.to_owned() };
        Ok(self.put(&format!("/v1/deployment/fail/{}", segment(id)), &request, query).await?.0)
    }

    /// Stops a deployment for now, or lets it go on.
    pub async fn pause_deployment(
        &self,
        id: &str,
        pause: bool,
        query: &Query,
    ) -> Answer<DeploymentUpdateResponse> {
        let request = DeploymentPauseRequest { deployment_id: id.to_owned(), pause };
        Ok(self.put(&format!("/v1/deployment/pause/{}", segment(id)), &request, query).await?.0)
    }

    /// Releases a deployment that another region holds back.
    pub async fn unblock_deployment(&self, id: &str, query: &Query) -> Answer<DeploymentUpdateResponse> {
        let request = DeploymentIdRequest { deployment_id: id.to_owned() };
        Ok(self.put(&format!("/v1/deployment/unblock/{}", segment(id)), &request, query).await?.0)
    }
}
