//! `/v1/event/stream`: what changes, line by line.

use std::{collections::BTreeMap, time::Duration};

use api_types::{Allocation, Deployment, Evaluation, Event, EventBatch, Node, NodePool, job_value};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::{Value, json};
use server::Server;
use state::{ChangedRow, Changes, EventKind, Snapshot};
use tokio::sync::mpsc;

use super::nodes::require_read;
use crate::{Api, Call, HttpError, Query, Reply, streaming};

/// Time between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Topics of one subscription; more is a mistake.
const TOPICS_MAX: usize = 256;

/// What a subscriber wants.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Wanted {
    /// Keys by topic; `*` stands for all of either.
    topics: BTreeMap<String, Vec<String>>,
    /// None for all namespaces.
    namespace: Option<String>,
}

impl Wanted {
    fn of(query: &Query) -> Result<Self, HttpError> {
        let mut topics: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in query.all("topic").take(TOPICS_MAX) {
            let (topic, key) = match text.split_once(':') {
                None => (text, "*"),
                Some((topic, key)) if !topic.is_empty() && !key.is_empty() && !key.contains(':') => {
                    (topic, key)
                }
                Some(_) => {
                    return Err(HttpError::bad_request(format!("Invalid key value pair for topic: {text}")));
                }
            };
            topics.entry(topic.to_owned()).or_default().push(key.to_owned());
        }
        if topics.is_empty() {
            topics.insert("*".to_owned(), vec!["*".to_owned()]);
        }
        let namespace = query.text("namespace").unwrap_or("default");
        Ok(Self { topics, namespace: Some(namespace.to_owned()).filter(|name| name != "*") })
    }

    /// Tells whether events of a topic are wanted at all, so that others need not be made.
    fn wants_topic(&self, topic: &str) -> bool {
        self.topics.contains_key("*") || self.topics.contains_key(topic)
    }

    fn matches(&self, event: &Event) -> bool {
        let namespace = event.namespace.as_str();
        let here = namespace.is_empty() || self.namespace.as_deref().is_none_or(|wanted| wanted == namespace);
        let is_meant = |key: &String| {
            key == "*"
                || *key == event.key
                || event.filter_keys.iter().any(|also| !also.is_empty() && also == key)
        };
        let keys = [self.topics.get("*"), self.topics.get(&event.topic)];
        here && keys.into_iter().flatten().flatten().any(is_meant)
    }
}

/// Answers `/v1/event/stream`.
pub(crate) fn answer(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    require_read(call)?;
    let server = api.require_server()?;
    let wanted = Wanted::of(&call.query)?;
    let index = match call.query.text("index") {
        None => 0,
        Some(text) => text.parse::<u64>().map_err(|_| {
            let reason = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
            HttpError::bad_request(format!("Unable to parse index: {reason}"))
        })?,
    };
    let (out, pieces) = streaming::channel();
    server.env().spawn("event-stream", follow(server.clone(), wanted, index, out));
    let mut response = streaming::response("application/json", pieces);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(Reply::Raw(response))
}

/// Sends what is kept from an index on, then what comes, until the reader goes or falls so far behind that something
/// it should see is not kept any more.
async fn follow(server: Server, wanted: Wanted, index: u64, out: mpsc::Sender<Bytes>) {
    let (env, ring) = (server.env().clone(), server.events().clone());
    let mut last = ring.follow();
    if out.send(Bytes::from_static(b"{}\n")).await.is_err() {
        return;
    }
    let mut beat_at = env.now() + HEARTBEAT;
    // The index that was asked for is part of what is sent.
    let mut seen = index.saturating_sub(1);
    let mut first = true;
    loop {
        last.borrow_and_update();
        let following = ring.after(seen);
        if following.gap && !first {
            tracing::debug!(seen, "event stream closed: its reader is too slow");
            return;
        }
        first = false;
        for changes in following.batches {
            seen = changes.index;
            let Some(line) = line(&changes, &wanted, &server.snapshot()) else { continue };
            beat_at = env.now() + HEARTBEAT;
            if out.send(line).await.is_err() {
                return;
            }
        }
        tokio::select! {
            biased;
            () = env.shutdown().wait() => return,
            () = out.closed() => return,
            changed = last.changed() => if changed.is_err() { return },
            () = env.sleep_until(beat_at) => {
                beat_at = env.now() + HEARTBEAT;
                if out.send(Bytes::from_static(b"{}\n")).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Writes what of a batch is wanted as one line; none when nothing is.
fn line(changes: &Changes, wanted: &Wanted, snapshot: &Snapshot) -> Option<Bytes> {
    let events: Vec<Event> =
        events(changes, wanted, snapshot).filter(|event| wanted.matches(event)).collect();
    if events.is_empty() {
        return None;
    }
    let mut line =
        serde_json::to_vec(&EventBatch { events, index: changes.index }).expect("events are plain data");
    line.push(b'\n');
    Some(line.into())
}

/// Makes the events of a batch, of wanted topics only.
fn events<'a>(
    changes: &'a Changes,
    wanted: &'a Wanted,
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = Event> + 'a {
    let kind = changes.kind;
    changes.rows.iter().filter_map(move |row| {
        let kind = kind?;
        let subject = subject(row, kind)?;
        if !wanted.wants_topic(subject.topic) {
            return None;
        }
        Some(Event {
            filter_keys: subject.filter_keys,
            index: changes.index,
            key: subject.key,
            namespace: subject.namespace,
            payload: json!({ subject.topic: payload(row, snapshot) }),
            topic: subject.topic.to_owned(),
            kind: kind.as_str().to_owned(),
        })
    })
}

/// What an event is about.
struct Subject {
    topic: &'static str,
    key: String,
    namespace: String,
    filter_keys: Vec<String>,
}

/// Names what a changed row is about; none for rows that events do not tell. Records that were collected go without a
/// word; jobs and nodes do not.
fn subject(row: &ChangedRow, kind: EventKind) -> Option<Subject> {
    let removes = matches!(kind, EventKind::JobDeregistered | EventKind::JobBatchDeregistered);
    let forgets = kind == EventKind::NodeDeregistration;
    match row {
        ChangedRow::Node { before, after } => {
            let node = after.as_ref().or(before.as_ref().filter(|_| forgets))?;
            Some(Subject::new("Node", node.id.to_string(), String::new(), Vec::new()))
        }
        ChangedRow::Job { before, after } => {
            let job = after.as_ref().or(before.as_ref().filter(|_| removes))?;
            Some(Subject::new("Job", job.key.id.to_string(), job.key.namespace.to_string(), Vec::new()))
        }
        ChangedRow::Alloc { after, .. } => {
            let alloc = after.as_ref()?;
            let deployment = alloc.extra().deployment.map(|id| id.to_string()).unwrap_or_default();
            let keys = vec![alloc.job.key.id.to_string(), deployment];
            Some(Subject::new("Allocation", alloc.id.to_string(), alloc.job.key.namespace.to_string(), keys))
        }
        ChangedRow::Eval { after, .. } => {
            let eval = after.as_ref()?;
            let deployment = eval.deployment_id.map(|id| id.to_string()).unwrap_or_default();
            let keys = vec![eval.job.id.to_string(), deployment];
            Some(Subject::new("Evaluation", eval.id.to_string(), eval.job.namespace.to_string(), keys))
        }
        ChangedRow::Deployment { after, .. } => {
            let deployment = after.as_ref()?;
            let keys = vec![deployment.job.id.to_string()];
            let namespace = deployment.job.namespace.to_string();
            Some(Subject::new("Deployment", deployment.id.to_string(), namespace, keys))
        }
        ChangedRow::NodePool { name, .. } => {
            Some(Subject::new("NodePool", name.to_string(), String::new(), Vec::new()))
        }
        ChangedRow::Cluster
        | ChangedRow::JobVersion { .. }
        | ChangedRow::Summary(_)
        | ChangedRow::Submission(..)
        | ChangedRow::PeriodicLaunch(_)
        | ChangedRow::ScalingEvents(_)
        | ChangedRow::Namespace(_)
        | ChangedRow::SchedulerConfig
        | ChangedRow::AutopilotConfig
        | ChangedRow::RootKey(_)
        | ChangedRow::JoinToken(_)
        | ChangedRow::JoinSettings
        | ChangedRow::Region(_)
        | ChangedRow::Restore { .. } => None,
    }
}

impl Subject {
    fn new(topic: &'static str, key: String, namespace: String, filter_keys: Vec<String>) -> Self {
        Self { topic, key, namespace, filter_keys }
    }
}

/// Shows a row as it is, or as it was if it is gone.
fn payload(row: &ChangedRow, snapshot: &Snapshot) -> Value {
    let shown = match row {
        ChangedRow::Node { before, after } => {
            after.as_ref().or(before.as_ref()).map(|node| serde_json::to_value(Node::of(node)))
        }
        ChangedRow::Job { before, after } => after.as_ref().or(before.as_ref()).map(|job| Ok(job_value(job))),
        ChangedRow::Alloc { after, .. } => after.as_ref().map(|alloc| {
            let name = snapshot.node(alloc.node_id).map(|node| node.name.clone()).unwrap_or_default();
            serde_json::to_value(Allocation { job: None, ..Allocation::of(alloc, &name) })
        }),
        ChangedRow::Eval { after, .. } => {
            after.as_ref().map(|eval| serde_json::to_value(Evaluation::of(eval)))
        }
        ChangedRow::Deployment { after, .. } => {
            after.as_ref().map(|deployment| serde_json::to_value(Deployment::of(deployment)))
        }
        ChangedRow::NodePool { name, after } => {
            let gone = || NodePool { name: name.to_string(), ..NodePool::default() };
            let shape = after.as_ref().map_or_else(gone, |pool| NodePool::of(pool, String::new()));
            Some(serde_json::to_value(shape))
        }
        _ => None,
    };
    shown.and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{EvalId, EvalTrigger, JobKey, JobType, Timestamp};

    use super::*;

    fn wanted(query: &str) -> Wanted {
        Wanted::of(&Query::parse(query)).expect("a good query")
    }

    fn eval_changes() -> Changes {
        let key = JobKey::new("default", "web");
        let id = EvalId::from_random(7);
        let mut eval =
            model::Evaluation::pending(id, key, JobType::Service, 50, EvalTrigger::JobRegister, Timestamp(1));
        eval.modify_index = 9;
        let row = ChangedRow::Eval { before: None, after: Some(Arc::new(eval)) };
        let gone = ChangedRow::Eval { before: None, after: None };
        Changes { index: 9, kind: Some(EventKind::JobRegistered), rows: vec![row, gone, ChangedRow::Cluster] }
    }

    fn told(query: &str) -> Option<Value> {
        let line = line(&eval_changes(), &wanted(query), &Snapshot::default())?;
        assert_eq!(line.last(), Some(&b'\n'));
        Some(serde_json::from_slice(&line).expect("a line of JSON"))
    }

    #[test]
    fn an_event_has_the_type_of_its_command_and_the_keys_of_its_row() {
        let batch = told("").expect("everything is wanted");
        assert_eq!(batch["Index"], 9);
        let event = &batch["Events"][0];
        assert_eq!((&event["Topic"], &event["Type"]), (&json!("Evaluation"), &json!("JobRegistered")));
        assert_eq!(event["FilterKeys"], json!(["web", ""]));
        assert_eq!(event["Payload"]["Evaluation"]["JobID"], "web");
        assert_eq!(batch["Events"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn topics_and_keys_choose() {
        for query in [
            "topic=*",
            "topic=Evaluation",
            "topic=Evaluation:web",
            "topic=*:web",
            "topic=Job&topic=Evaluation",
        ] {
            assert!(told(query).is_some(), "{query}");
        }
        for query in ["topic=Job", "topic=Evaluation:db", "topic=Nope", "topic=Job:web", "namespace=other"] {
            assert!(told(query).is_none(), "{query}");
        }
        assert!(told("namespace=*").is_some());
    }

    #[test]
    fn malformed_topics_are_refused() {
        assert!(Wanted::of(&Query::parse("topic=Job:")).is_err());
        assert!(Wanted::of(&Query::parse("topic=:x")).is_err());
        assert!(Wanted::of(&Query::parse("topic=Job:a:b")).is_err());
        assert!(Wanted::of(&Query::parse("topic=Evaluation:::*")).is_err());
    }
}
