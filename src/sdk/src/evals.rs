use crate::{
    Client, Query, QueryMeta, RequestError,
    query::segment,
    types::{AllocStub, EvalDeleteRequest, EvalDeleteResponse, Evaluation},
};

type Answer<T> = Result<T, RequestError>;
type Listed<T> = Result<(T, QueryMeta), RequestError>;

/// Evaluations.
impl Client {
    /// Lists evaluations.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`], like all that follow.
    pub async fn evaluations(&self, query: &Query) -> Listed<Vec<Evaluation>> {
        self.get("/v1/evaluations", query).await
    }

    /// Reads an evaluation; with those that are related when `related`.
    pub async fn evaluation(&self, id: &str, related: bool, query: &Query) -> Listed<Evaluation> {
        let query = if related { query.clone().with("related", "true") } else { query.clone() };
        self.get(&format!("/v1/evaluation/{}", segment(id)), &query).await
    }

    /// Lists what an evaluation placed.
    pub async fn evaluation_allocations(&self, id: &str, query: &Query) -> Listed<Vec<AllocStub>> {
        self.get(&format!("/v1/evaluation/{}/allocations", segment(id)), query).await
    }

    /// Deletes evaluations.
    pub async fn delete_evaluations(&self, request: &EvalDeleteRequest) -> Answer<EvalDeleteResponse> {
        let body =
            serde_json::to_vec(request).map_err(|error| RequestError::Unsendable(error.to_string()))?;
        let raw = crate::RawRequest {
            method: http::Method::DELETE,
            target: self.target("/v1/evaluations", &Query::default()),
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
            .map_err(|source| RequestError::Decode { url: self.url("/v1/evaluations"), source })
    }
}
