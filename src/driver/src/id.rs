use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Identifies one launch of one task: `<alloc id>/<task name>/<launch>`. A restart of the task is another launch.
///
/// Cheap to clone. The text form is what handles and logs carry.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Arc<str>);

impl TaskId {
    /// Names a launch. `launch` must differ between launches of the same task, and be fit for a file name.
    pub fn new(alloc_id: &str, task: &str, launch: &str) -> Self {
        Self(format!("{alloc_id}/{task}/{launch}").into())
    }

    /// Returns the allocation's id.
    pub fn alloc_id(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// Returns the task's name, which may itself hold a slash.
    pub fn task(&self) -> &str {
        let rest = self.0.split_once('/').map_or("", |(_, rest)| rest);
        rest.rsplit_once('/').map_or(rest, |(task, _)| task)
    }

    /// Returns the part that tells launches of one task apart.
    pub fn launch(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_name_with_a_slash_keeps_its_parts() {
        let id = TaskId::new("a1", "one/two", "7");
        assert_eq!((id.alloc_id(), id.task(), id.launch()), ("a1", "one/two", "7"));
    }
}
