use std::{future::Future, sync::Arc, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker as Client, errors::Error as BollardError};
use parking_lot::Mutex;
use runtime::Env;

use crate::{breaker::Breaker, config::Endpoint};

/// How long the engine may take over a question: it answers in milliseconds, or in seconds while it is busy.
pub(crate) const ASK: Duration = Duration::from_secs(30);
/// How long the engine may take over making, starting or removing a container. On a loaded machine with slow disks
/// that is minutes at worst.
pub(crate) const WORK: Duration = Duration::from_secs(120);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The library's own deadline, in seconds, longer than any of ours so that ours decide.
const LIBRARY_TIMEOUT: u64 = 3600;

/// The connection to one engine. Every call has a deadline and goes through one circuit breaker.
#[derive(Clone)]
pub(crate) struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    endpoint: Endpoint,
    client: Mutex<Option<Client>>,
    breaker: Mutex<Breaker>,
}

/// Why the engine did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// It did not answer, so that nobody knows whether it did.
    #[error("the container engine at {endpoint} does not answer: {reason}")]
    Unreachable { endpoint: String, reason: String },
    /// It said no.
    #[error("Error response from daemon: {message}")]
    Refused { status: u16, message: String },
    /// It said something that nobody understands.
    #[error("the container engine answered with something unreadable: {0}")]
    Unreadable(String),
}

impl EngineError {
    /// Tells whether what was asked about does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Tells whether an image is needed first.
    pub fn is_missing_image(&self) -> bool {
        matches!(self, Self::Refused { status: 404, message } if message.to_ascii_lowercase().contains("no such image"))
    }

    /// Tells whether it conflicts with what is there.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    /// Tells whether nobody knows if it was done.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl Engine {
    pub fn new(env: Env, endpoint: Endpoint) -> Self {
        let (client, breaker) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { env, endpoint, client, breaker }) }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Asks one question, and waits for the answer no longer than `deadline`.
    pub async fn call<T, F>(
        &self,
        deadline: Duration,
        ask: impl FnOnce(Client) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, BollardError>>,
    {
        let client = self.client().await?;
        let outcome = match tokio::time::timeout(deadline, ask(client)).await {
            Ok(outcome) => outcome.map_err(|error| self.understood(error)),
            Err(_) => Err(self.unreachable(format!("no answer within {} seconds", deadline.as_secs()))),
        };
        self.noted(outcome.as_ref().err());
        outcome
    }

    /// Gives the client for a conversation whose deadlines the caller keeps; its errors go through `heard`.
    pub async fn client(&self) -> Result<Client, EngineError> {
        let inner = &self.inner;
        inner.breaker.lock().permit(inner.env.now()).map_err(|reason| self.unreachable(reason))?;
        if let Some(client) = inner.client.lock().clone() {
            return Ok(client);
        }
        let connected = tokio::time::timeout(CONNECT, self.connect()).await;
        let connected =
            connected.unwrap_or_else(|_| Err(self.unreachable("it accepts no connection".to_owned())));
        self.noted(connected.as_ref().err());
        let client = connected?;
        *inner.client.lock() = Some(client.clone());
        Ok(client)
    }

    /// Turns an error of a conversation into ours, and lets the breaker know.
    pub fn heard(&self, error: BollardError) -> EngineError {
        let error = self.understood(error);
        self.noted(Some(&error));
        error
    }

    async fn connect(&self) -> Result<Client, EngineError> {
        let client = match &self.inner.endpoint {
            Endpoint::Unix(path) => {
                Client::connect_with_unix(&path.display().to_string(), LIBRARY_TIMEOUT, API_DEFAULT_VERSION)
            }
            Endpoint::Tcp(host) => {
                Client::connect_with_http(&format!("tcp://{host}"), LIBRARY_TIMEOUT, API_DEFAULT_VERSION)
            }
        };
        let client = client.map_err(|error| self.understood(error))?;
        // The library writes credentials in the common alphabet of base64, the engine reads the one for URLs and takes
        // what it cannot read for no credentials at all.
        let client = client.with_request_modifier(|mut request| {
            if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
                let text = value.to_str().unwrap_or_default().replace('+', "-").replace('/', "_");
                if let Ok(fixed) = text.parse() {
                    *value = fixed;
                }
            }
            request
        });
        client.negotiate_version().await.map_err(|error| self.understood(error))
    }

    fn unreachable(&self, reason: String) -> EngineError {
        EngineError::Unreachable { endpoint: self.inner.endpoint.to_string(), reason }
    }

    fn understood(&self, error: BollardError) -> EngineError {
        match error {
            BollardError::DockerResponseServerError { status_code, message } => {
                EngineError::Refused { status: status_code, message }
            }
            BollardError::DockerStreamError { error } => EngineError::Refused { status: 500, message: error },
            error @ (BollardError::JsonDataError { .. }
            | BollardError::JsonSerdeError { .. }
            | BollardError::StrParseError { .. }) => EngineError::Unreadable(error.to_string()),
            error => self.unreachable(chain(&error)),
        }
    }

    fn noted(&self, error: Option<&EngineError>) {
        let inner = &self.inner;
        match error {
            Some(EngineError::Unreachable { reason, .. }) => {
                inner.breaker.lock().failed(inner.env.now(), reason);
                // An engine that comes back may be of another version.
                *inner.client.lock() = None;
            }
            Some(EngineError::Refused { .. } | EngineError::Unreadable(_)) | None => {
                inner.breaker.lock().answered()
            }
        }
    }
}

/// Says an error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
