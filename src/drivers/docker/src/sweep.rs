//! Everything on the engine that carries our mark.

use std::collections::HashMap;

use bollard::{models::ContainerSummary, query_parameters::ListContainersOptions};
use driver::{Found, FoundKind, TaskId};

use crate::{
    engine::{ASK, Engine, EngineError},
    labels,
};

/// A container with our mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub id: String,
    pub owner: Owner,
    /// When it was made, in seconds since the epoch.
    pub created: i64,
    pub running: bool,
    pub node_id: String,
}

/// What a container was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Task(TaskId),
    Network { alloc_id: String },
}

/// Lists all containers with one of our marks.
pub(crate) async fn marked(engine: &Engine, node_id: Option<&str>) -> Result<Vec<Marked>, EngineError> {
    let mut found = Vec::new();
    for mark in [labels::TASK, labels::NETWORK] {
        let mut wanted = vec![mark.to_owned()];
        wanted.extend(node_id.map(|node_id| format!("{}={node_id}", labels::NODE)));
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), wanted)])),
            ..ListContainersOptions::default()
        };
        let listed = engine.call(ASK, |client| async move { client.list_containers(Some(options)).await });
        found.extend(listed.await?.into_iter().filter_map(read));
    }
    Ok(found)
}

fn read(summary: ContainerSummary) -> Option<Marked> {
    let labels = summary.labels?;
    let owner = match labels.get(labels::NETWORK) {
        Some(alloc_id) => Owner::Network { alloc_id: alloc_id.clone() },
        None => Owner::Task(labels::task_id(&labels)?),
    };
    let state = summary.state.map(|state| state.to_string());
    Some(Marked {
        id: summary.id?,
        owner,
        created: summary.created.unwrap_or_default(),
        running: !matches!(state.as_deref(), Some("exited" | "dead" | "created")),
        node_id: labels.get(labels::NODE).cloned().unwrap_or_default(),
    })
}

impl Marked {
    /// Says it in the words of the census.
    pub fn found(self) -> Found {
        match self.owner {
            Owner::Task(id) => Found {
                alloc_id: id.alloc_id().to_owned(),
                task: Some(id.task().to_owned()),
                kind: FoundKind::Container { id: self.id },
            },
            Owner::Network { alloc_id } => {
                Found { alloc_id, task: None, kind: FoundKind::Network { name: self.id } }
            }
        }
    }

    /// Tells whether nobody answers for it: this node made it, long enough ago, for a task that is not known.
    pub fn is_dangling(&self, node_id: &str, oldest: i64, is_known: impl Fn(&TaskId) -> bool) -> bool {
        match &self.owner {
            Owner::Task(id) => self.node_id == node_id && self.created < oldest && !is_known(id),
            Owner::Network { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_unknown_containers_of_this_node_dangle() {
        let id = TaskId::new("a", "t", "1");
        let marked = Marked {
            id: "c".to_owned(),
            owner: Owner::Task(id.clone()),
            created: 100,
            running: true,
            node_id: "n1".to_owned(),
        };
        assert!(marked.is_dangling("n1", 200, |_| false));
        assert!(!marked.is_dangling("n2", 200, |_| false), "another node's");
        assert!(!marked.is_dangling("n1", 100, |_| false), "too young");
        assert!(!marked.is_dangling("n1", 200, |known| *known == id), "known");
        let network = Marked { owner: Owner::Network { alloc_id: "a".to_owned() }, ..marked };
        assert!(!network.is_dangling("n1", 200, |_| false));
    }
}
