//! Getting a request answered by whoever has to: this agent, or another one, and once more when the leader changed.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, request::Parts};
use http_body_util::{BodyExt, Limited};
use raft::ReadMode;
use runtime::Instant;

use crate::{
    Api, Call, HttpError, Query, Reply,
    forward::{AGENT_HEADERS, hops_of, note_way, way_of},
    listen::Origin,
    reply::{NOT_RUN_HEADER, stamp},
    routes::{self, Route},
};

/// Largest body of a request: the largest job source, its JSON form and room for both.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Largest copy of the state that is taken in.
const SNAPSHOT_BYTES_MAX: usize = 2 << 30;

/// How long a request that did not run is asked again, beside the time that a blocking query waits: a leader that died
/// is followed by another one in less.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// Pauses between two times: the first is shorter than an election takes, the last keeps a region without a leader from
/// being asked all the time.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A body from here on is worked on by a thread of its own: reading and checking it takes long enough for the event loop
/// to miss heartbeats meanwhile. What people write by hand is far smaller.
const LARGE_BODY_BYTES: usize = 1 << 20;

/// Large bodies that are worked on at once; further ones wait. Each takes more than a hundred times its size while it is a tree
/// of values, and one of the threads for blocking work, of which it needs another one in turn.
pub(crate) const LARGE_BODIES_MAX: usize = 2;

/// Longest text of an error that is read from another agent.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// A request that may be asked more than once.
struct Asked {
    parts: Parts,
    /// The path without `/v1`.
    path: String,
    query: Query,
    body: Held,
}

/// A body.
enum Held {
    /// In memory: it can be sent again.
    Whole(Bytes),
    /// Too large for that: it is read once, by whoever answers.
    Once(Option<Body>),
}

/// What tells where a job belongs.
#[derive(serde::Deserialize)]
struct JobOfRegion {
    #[serde(rename = "Job")]
    job: Option<RegionOfJob>,
}

#[derive(serde::Deserialize)]
struct RegionOfJob {
    #[serde(rename = "Region")]
    region: Option<String>,
}

/// What one time of asking came to.
enum Answer {
    Final(Result<Response<Body>, HttpError>),
    /// Nothing happened; this is what the user is told if nobody can be asked any more.
    NotRun(HttpError),
}

/// Answers a request under `/v1`, here or elsewhere.
pub(crate) async fn answer(
    api: &Api,
    request: Request<Body>,
    path: &str,
    origin: Origin,
) -> Result<Response<Body>, HttpError> {
    let env = &api.agent().env;
    let mut asked = Asked::read(request, path, origin).await?;
    let begun = env.now();
    let until = asked.give_up_at(begun);
    let mut pause = PAUSE_FIRST;
    for attempt in 0.. {
        let error = match asked.ask(api, origin, attempt).await {
            Answer::Final(answer) => return answer,
            Answer::NotRun(error) => error,
        };
        // An agent in between does not repeat: the first one does, and would else be asked for many times over.
        if origin == Origin::Agent || env.now() + pause >= until || !asked.can_repeat() {
            return Err(error);
        }
        tracing::debug!(path = asked.path, attempt, %error, "request did not run; asking again");
        tokio::select! {
            biased;
            () = env.shutdown().wait() => return Err(error),
            () = env.sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
        asked.shorten_wait(begun, env.now());
    }
    unreachable!("the loop above ends by returning")
}

impl Asked {
    async fn read(request: Request<Body>, path: &str, origin: Origin) -> Result<Self, HttpError> {
        let (mut parts, body) = request.into_parts();
        if origin == Origin::User {
            // What agents tell each other is not believed of others.
            for name in AGENT_HEADERS {
                parts.headers.remove(name);
            }
        }
        let body = match () {
            () if matches!(parts.method, Method::GET | Method::HEAD) => Held::Whole(Bytes::new()),
            () if path == "/operator/snapshot" => Held::Once(Some(body)),
            () => Held::Whole(collect(body, BODY_BYTES_MAX).await?),
        };
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        Ok(Self { path: path.to_owned(), query, parts, body })
    }

    fn is_read(&self) -> bool {
        matches!(self.parts.method, Method::GET | Method::HEAD)
    }

    fn can_repeat(&self) -> bool {
        !matches!(self.body, Held::Once(None))
    }

    fn give_up_at(&self, now: Instant) -> Instant {
        let waits = self.query.wait().ok().flatten().filter(|_| self.is_read());
        now + AGAIN_WITHIN + waits.map_or(Duration::ZERO, |wait| wait.wait)
    }

    /// Takes the time that has passed off a blocking query's wait.
    fn shorten_wait(&mut self, begun: Instant, now: Instant) {
        let Some(wait) = self.query.wait().ok().flatten().filter(|_| self.is_read()) else { return };
        let left = wait.wait.saturating_sub(now.saturating_duration_since(begun));
        self.set_query(&self.query.with_wait(left));
    }

    fn set_query(&mut self, text: &str) {
        let path = self.parts.uri.path();
        if let Ok(uri) = format!("{path}?{text}").parse() {
            self.parts.uri = uri;
            self.query = Query::parse(text);
        }
    }

    /// The region of a job that is handed in here and belongs to another one that is known.
    fn region_of_job(&self, api: &Api) -> Option<String> {
        let hands_in = self.path == "/jobs" || self.path.starts_with("/job/");
        if self.is_read() || !hands_in || self.query.text("region").is_some() {
            return None;
        }
        let known = api.membership()?.regions();
        // Reading a job twice is for those who have several regions.
        let Held::Whole(body) = &self.body else { return None };
        if known.len() < 2 {
            return None;
        }
        let named: JobOfRegion = serde_json::from_slice(body).ok()?;
        let region = named.job?.region?;
        (region != api.agent().region && known.contains(&region)).then_some(region)
    }

    async fn ask(&mut self, api: &Api, origin: Origin, attempt: u32) -> Answer {
        let hops = hops_of(&self.parts.headers);
        // Of a user's request these headers are what this agent noted for whom it asked before.
        let (asked_before, is_final) = match origin {
            Origin::Agent => way_of(&self.parts.headers),
            Origin::User => (0, false),
        };
        let attempt = attempt.max(asked_before);
        let subject = routes::Asking {
            path: &self.path,
            query: &self.query,
            is_read: self.is_read(),
            origin,
            hops,
            attempt,
            is_final,
        };
        match routes::elsewhere(api, &subject).await {
            Err(error) if error.not_run => Answer::NotRun(error),
            Err(error) => Answer::Final(Err(error)),
            Ok(Route::To(connection)) => {
                note_way(&mut self.parts.headers, attempt, false);
                self.pass_on(api, &connection, origin).await
            }
            Ok(Route::ToHolder(connection)) => {
                note_way(&mut self.parts.headers, attempt, true);
                self.pass_on(api, &connection, origin).await
            }
            Ok(Route::Here) => self.here(api, None).await,
            Ok(Route::HereAsLeader) if self.is_read() => {
                let sure = self.query.get("consistent").is_some_and(|value| value != "false");
                self.here(api, Some(if sure { ReadMode::Quorum } else { ReadMode::Lease })).await
            }
            Ok(Route::HereAsLeader) => match self.region_of_job(api) {
                Some(region) => {
                    self.set_query(&self.query.with_region(&region));
                    Box::pin(self.ask(api, origin, attempt)).await
                }
                None => self.here(api, None).await,
            },
        }
    }

    /// Answers from what this agent has; with a mode, only if it is sure that it leads.
    async fn here(&mut self, api: &Api, mode: Option<ReadMode>) -> Answer {
        if let (Some(mode), Some(server)) = (mode, api.server())
            && let Err(error) = server.raft().barrier(mode).await
        {
            let error = HttpError::from(error);
            return if error.not_run { Answer::NotRun(error) } else { Answer::Final(Err(error)) };
        }
        let body = match &mut self.body {
            Held::Whole(body) => body.clone(),
            Held::Once(body) => match collect(body.take().unwrap_or_default(), SNAPSHOT_BYTES_MAX).await {
                Ok(body) => body,
                Err(error) => return Answer::Final(Err(error)),
            },
        };
        let parts = self.parts.clone();
        let method = if parts.method == Method::POST { Method::PUT } else { parts.method.clone() };
        let call = Call { method, path: self.path.clone(), query: self.query.clone(), body, parts };
        let pretty = call.query.pretty();
        match dispatch(api, call).await {
            Ok(reply) => {
                let mut response = reply.into_response(pretty);
                if let Some((known, contact)) = lag(api) {
                    stamp(&mut response, known, contact);
                }
                Answer::Final(Ok(response))
            }
            Err(error) if error.not_run => Answer::NotRun(error),
            Err(error) => Answer::Final(Err(error)),
        }
    }

    async fn pass_on(&mut self, api: &Api, connection: &transport::Connection, origin: Origin) -> Answer {
        let body = match &mut self.body {
            Held::Whole(body) => Body::from(body.clone()),
            Held::Once(body) => body.take().unwrap_or_default(),
        };
        let is_read = self.is_read();
        let mut response = match api.pass_on(connection, Request::from_parts(self.parts.clone(), body)).await
        {
            Ok(response) => response,
            Err(error) => {
                let error = error.into_error(is_read);
                return if error.not_run { Answer::NotRun(error) } else { Answer::Final(Err(error)) };
            }
        };
        if origin == Origin::Agent || !has_not_run(response.headers()) {
            return Answer::Final(Ok(response));
        }
        response.headers_mut().remove(NOT_RUN_HEADER);
        let code = response.status();
        // Whatever of the text can not be read is not told.
        let text = collect(response.into_body(), ERROR_BYTES_MAX).await.unwrap_or_default();
        let message = String::from_utf8_lossy(&text).into_owned();
        Answer::NotRun(HttpError { code, message, index: None, not_run: true })
    }
}

/// Answers, and keeps what takes long off the event loop.
async fn dispatch(api: &Api, call: Call) -> Result<Reply, HttpError> {
    if call.body.len() < LARGE_BODY_BYTES {
        return routes::dispatch(api, call).await;
    }
    let permit = api.inner.large_bodies.clone().acquire_owned().await;
    let (apart, runtime) = (api.clone(), tokio::runtime::Handle::current());
    let work = move || {
        let _permit = permit;
        runtime.block_on(routes::dispatch(&apart, call))
    };
    let worked = api.agent().env.spawn_blocking(work).await;
    worked
        .unwrap_or_else(|error| Err(HttpError::internal(format!("the request can not be answered: {error}"))))
}

fn has_not_run(headers: &HeaderMap) -> bool {
    headers.contains_key(NOT_RUN_HEADER)
}

async fn collect(body: Body, max: usize) -> Result<Bytes, HttpError> {
    let limited = Limited::new(body, max).collect().await;
    Ok(limited
        .map_err(|error| HttpError::new(413, format!("request body can not be read: {error}")))?
        .to_bytes())
}

/// Whether a follower knows a leader, and how long ago it heard of it; none on leaders and on agents without state.
fn lag(api: &Api) -> Option<(bool, Duration)> {
    let server = api.server()?;
    if server.is_leader() {
        return None;
    }
    Some((server.known_leader(), server.last_contact().unwrap_or_default()))
}
