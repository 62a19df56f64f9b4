//! `/v1/search` and `/v1/search/fuzzy`.

use std::collections::BTreeMap;

use api_types::{FuzzyMatch, FuzzySearchRequest, FuzzySearchResponse, SearchRequest, SearchResponse};
use model::Job;
use serde_json::Value;
use state::{IdPrefix, OrderedRow, Snapshot, Table};

use super::{jobs::jobs_in, scaling::policies_of};
use crate::{Api, Call, HttpError, Meta, Reply};

/// Matches of one kind that are told; whether there were more is told too.
const MATCHES_MAX: usize = 20;

/// Shortest text that is searched for in names.
const TEXT_CHARS_MIN: usize = 2;

/// What can be searched.
const CONTEXTS: [&str; 12] = [
    "allocs",
    "jobs",
    "nodes",
    "node_pools",
    "evals",
    "deployment",
    "plugins",
    "volumes",
    "scaling_policy",
    "vars",
    "namespaces",
    "host_volumes",
];

/// Answers what follows `/v1/search`.
pub(crate) fn answer(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    call.require_put()?;
    match rest {
        "" => by_prefix(api, call),
        "fuzzy" => by_name(api, call),
        _ => Err(HttpError::not_found("")),
    }
}

fn contexts(asked: &str) -> Result<Vec<&'static str>, HttpError> {
    if asked == "all" {
        return Ok(CONTEXTS.to_vec());
    }
    CONTEXTS.iter().find(|context| **context == asked).map(|context| vec![*context]).ok_or_else(|| {
        let all = CONTEXTS.join(" ");
        HttpError::internal(format!(
            "context must be one of [{all}] or 'all' for all contexts; got {asked:?}"
        ))
    })
}

fn table_of(context: &str) -> Option<Table> {
    Some(match context {
        "allocs" => Table::Allocs,
        "jobs" | "scaling_policy" => Table::Jobs,
        "nodes" => Table::Nodes,
        "node_pools" => Table::NodePools,
        "evals" => Table::Evals,
        "deployment" => Table::Deployments,
        "namespaces" => Table::Namespaces,
        _ => return None,
    })
}

fn index_of(state: &Snapshot, contexts: &[&str]) -> u64 {
    let tables: Vec<_> = contexts.iter().filter_map(|context| table_of(context)).collect();
    state.last_index_of(&tables)
}

/// The first matches, and whether there were more.
fn first<T>(matches: impl Iterator<Item = T>) -> (Vec<T>, bool) {
    let mut found: Vec<T> = matches.take(MATCHES_MAX + 1).collect();
    let more = found.len() > MATCHES_MAX;
    found.truncate(MATCHES_MAX);
    (found, more)
}

fn by_prefix(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let request: SearchRequest = call.json_of("structs.SearchRequest")?;
    let contexts = contexts(&request.context)?;
    let state = api.require_server()?.snapshot();
    let index = index_of(&state, &contexts);
    let mut response = SearchResponse { index, known_leader: true, ..SearchResponse::default() };
    for context in contexts {
        let (found, more) = with_prefix(&state, context, call.list_namespace(), &request.prefix);
        response.truncations.insert(context.to_owned(), more);
        response.matches.insert(context.to_owned(), Some(found).filter(|found| !found.is_empty()));
    }
    Reply::read(&response, Meta { index, next_token: None })
}

/// Finds the things of a kind whose id begins so.
fn with_prefix(
    state: &Snapshot,
    context: &str,
    namespace: Option<&str>,
    prefix: &str,
) -> (Vec<String>, bool) {
    let id: Option<IdPrefix> = prefix.parse().ok();
    let inside = |name: &str| namespace.is_none_or(|namespace| namespace == name);
    match (context, id) {
        ("jobs", _) => first(jobs_in(state, namespace, prefix).map(|job| job.key.id.to_string())),
        ("node_pools", _) => {
            let names = state.node_pools().map(|pool| pool.name.to_string());
            first(names.filter(|name| name.starts_with(prefix)))
        }
        ("namespaces", _) => {
            let names = state.namespaces().map(|namespace| namespace.name.to_string());
            first(names.filter(|name| name.starts_with(prefix)))
        }
        ("scaling_policy", _) => {
            let policies = state.jobs(namespace).flat_map(policies_of);
            first(policies.map(|policy| policy.id).filter(|id| id.starts_with(prefix)))
        }
        ("nodes", Some(id)) => first(state.nodes_by_prefix(&id).map(|node| node.id.to_string())),
        ("allocs", Some(id)) => {
            let allocs = state.alloc_table().iter_by_prefix(&id);
            first(allocs.filter(|alloc| inside(&alloc.job.key.namespace)).map(|alloc| alloc.id().to_string()))
        }
        ("evals", Some(id)) => {
            let evals = state.eval_table().iter_by_prefix(&id);
            first(evals.filter(|eval| inside(&eval.job.namespace)).map(|eval| eval.id().to_string()))
        }
        ("deployment", Some(id)) => {
            let deployments = state.deployment_table().iter_by_prefix(&id);
            first(
                deployments.filter(|found| inside(&found.job.namespace)).map(|found| found.id().to_string()),
            )
        }
        _ => (Vec::new(), false),
    }
}

fn by_name(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let request: FuzzySearchRequest = call.json_of("structs.FuzzySearchRequest")?;
    let length = request.text.chars().count();
    if length < TEXT_CHARS_MIN {
        let text = format!("fuzzy search query must be at least {TEXT_CHARS_MIN} characters, got {length}");
        return Err(HttpError::internal(text));
    }
    let asked = if request.context.is_empty() { "all" } else { request.context.as_str() };
    let contexts = contexts(asked)?;
    let state = api.require_server()?.snapshot();
    let index = index_of(&state, &contexts);
    let mut response = FuzzySearchResponse { index, known_leader: true, ..FuzzySearchResponse::default() };
    let namespace = call.list_namespace();
    let mut search = Search { text: request.text.to_lowercase(), found: BTreeMap::new() };
    for context in contexts {
        let mut more = false;
        match context {
            "jobs" => state.jobs(namespace).for_each(|job| search.look_into_job(job)),
            "nodes" => {
                state.nodes().for_each(|node| search.offer("nodes", &node.name, || vec![node.id.to_string()]))
            }
            "allocs" => {
                let allocs = state.allocs().filter(|alloc| {
                    namespace.is_none_or(|namespace| alloc.job.key.namespace == namespace)
                        && !alloc.terminal()
                });
                for alloc in allocs {
                    let scope = || vec![alloc.job.key.namespace.to_string(), alloc.id.to_string()];
                    search.offer("allocs", &alloc.name(), scope);
                }
            }
            "namespaces" => {
                state.namespaces().for_each(|found| search.offer("namespaces", &found.name, Vec::new))
            }
            "node_pools" => {
                state.node_pools().for_each(|pool| search.offer("node_pools", &pool.name, Vec::new))
            }
            // What has no name but an id is found by its beginning.
            _ => {
                let (found, cut) = with_prefix(&state, context, namespace, &request.text);
                more = cut;
                if !matches!(context, "plugins" | "vars") {
                    let matches = found.into_iter().map(|id| FuzzyMatch { id, scope: Vec::new() }).collect();
                    response.matches.insert(context.to_owned(), matches);
                }
            }
        }
        response.truncations.insert(context.to_owned(), more);
    }
    search.finish(&mut response);
    Reply::read(&response, Meta { index, next_token: None })
}

/// A search in names, with what it found by kind: where in the name, the name, and where that is.
struct Search {
    text: String,
    found: BTreeMap<&'static str, Vec<Found>>,
}

/// Where in the name, its length, the name, and where that is; in the order in which they are told.
type Found = (usize, usize, String, Vec<String>);

impl Search {
    fn offer(&mut self, kind: &'static str, name: &str, scope: impl FnOnce() -> Vec<String>) {
        if let Some(at) = name.to_lowercase().find(&self.text) {
            self.found.entry(kind).or_default().push((at, name.len(), name.to_owned(), scope()));
        }
    }

    /// A job is found by its name and by those of all that is in it.
    fn look_into_job(&mut self, job: &Job) {
        let (namespace, id) = (job.key.namespace.to_string(), job.key.id.to_string());
        let job_scope = || vec![namespace.clone(), id.clone()];
        self.offer("jobs", &job.spec.name, job_scope);
        for group in &job.spec.groups {
            self.offer("groups", &group.name, job_scope);
            let within = |more: &[&str]| {
                let mut scope = job_scope();
                scope.push(group.name.to_string());
                scope.extend(more.iter().map(|name| (*name).to_owned()));
                scope
            };
            for service in &group.services {
                self.offer("services", &service.name, || within(&[]));
            }
            for task in &group.tasks {
                self.offer("tasks", &task.name, || within(&[]));
                for service in &task.services {
                    self.offer("services", &service.name, || within(&[&task.name]));
                }
                for (field, kind) in [("image", "images"), ("command", "commands"), ("class", "classes")] {
                    if let Some(Value::String(value)) = task.config.get(field) {
                        self.offer(kind, value, || within(&[&task.name]));
                    }
                }
            }
        }
    }

    /// Names in which the text comes early come first, then short ones.
    fn finish(self, response: &mut FuzzySearchResponse) {
        for (kind, mut found) in self.found {
            found.sort_unstable();
            if found.len() > MATCHES_MAX {
                found.truncate(MATCHES_MAX);
                response.truncations.insert(kind.to_owned(), true);
            }
            let matches = found.into_iter().map(|(_, _, id, scope)| FuzzyMatch { id, scope }).collect();
            response.matches.insert(kind.to_owned(), matches);
        }
    }
}
