use http::StatusCode;
use server::SubmitError;

/// An answer that is an error: a status code and a plain text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct HttpError {
    /// The status code.
    pub code: StatusCode,
    /// What was wrong and what to do, for people.
    pub message: String,
}

impl HttpError {
    /// Makes an error.
    ///
    /// # Panics
    ///
    /// When the code is not one.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        let code = StatusCode::from_u16(code).expect("a status code written in the code");
        Self { code, message: message.into() }
    }

    /// The request is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
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
        Self::internal(match error {
            SubmitError::Refused(refusal) => refusal.to_string(),
            SubmitError::NotLeader => "No cluster leader".to_owned(),
            SubmitError::Unknown | SubmitError::Unavailable(_) => error.to_string(),
        })
    }
}
