use http::StatusCode;
use raft::ReadError;
use server::{RequestError, SubmitError};

use crate::MembershipError;

/// An answer that is an error: a status code and a plain text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct HttpError {
    /// The status code.
    pub code: StatusCode,
    /// What was wrong and what to do, for people.
    pub message: String,
    /// The index of the state in which something was not found; a caller may wait for a later one.
    pub index: Option<u64>,
    /// Nothing happened here because another server has to answer, or none leads: it may be asked again.
    pub not_run: bool,
}

impl HttpError {
    /// Makes an error.
    ///
    /// # Panics
    ///
    /// When the code is not one.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        let code = StatusCode::from_u16(code).expect("a status code written in the code");
        Self { code, message: message.into(), index: None, not_run: false }
    }

    /// The request is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// The same, at an index of the state.
    #[must_use]
    pub fn at(self, index: u64) -> Self {
        Self { index: Some(index), ..self }
    }

    /// There is no leader, or it can not be reached; nothing happened.
    pub fn no_leader() -> Self {
        Self::internal("No cluster leader").not_run()
    }

    /// The same, and nothing happened: whoever passes requests on may ask again.
    #[must_use]
    pub fn not_run(self) -> Self {
        Self { not_run: true, ..self }
    }

    /// The path does not take this method.
    pub fn invalid_method() -> Self {
        Self::new(405, "Invalid method")
    }

    /// It can not be done. Nomad answers so to most mistakes that are found behind its front door.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, message)
    }
}

impl From<SubmitError> for HttpError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refusal) => Self::internal(refusal.to_string()),
            SubmitError::NotLeader => Self::no_leader(),
            SubmitError::Unknown | SubmitError::Unavailable(_) => Self::internal(error.to_string()),
        }
    }
}

impl From<ReadError> for HttpError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotLeader { .. } | ReadError::NoQuorum => Self::no_leader(),
            ReadError::Stopped { .. } => Self::internal(error.to_string()),
        }
    }
}

impl From<MembershipError> for HttpError {
    fn from(error: MembershipError) -> Self {
        match error {
            MembershipError::Wrong(text) => Self::bad_request(text),
            MembershipError::NotFound(text) => Self::not_found(text),
            MembershipError::Failed(text) => Self::internal(text),
        }
    }
}

impl From<RequestError> for HttpError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Wrong(text) => Self::bad_request(text),
            RequestError::NotFound(text) => Self::not_found(text),
            RequestError::Forbidden(text) => Self::new(403, text),
            RequestError::Failed(text) => Self::internal(text),
            RequestError::Submit(error) => error.into(),
        }
    }
}
