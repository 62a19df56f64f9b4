use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use crate::{JobType, TaskGroup, Text};

/// What a user asked for: one job's specification.
///
/// `document` is the whole of it, in the API's JSON form with every default filled in; it is what the API shows, what
/// differences are computed on and what is stored. The other fields are read from it once and never disagree with it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    document: Arc<str>,
    view: View,
}

/// A job document does not have the shape of a job.
#[derive(Debug, thiserror::Error)]
#[error("job document can not be read")]
pub struct BadDocument {
    #[from]
    source: serde_json::Error,
}

impl JobSpec {
    /// Reads an admitted job document: the API's JSON form with every default filled in.
    ///
    /// # Errors
    ///
    /// When a field that scheduling or running reads has another type than the API gives it.
    pub fn from_document(document: &Value) -> Result<Self, BadDocument> {
        let mut filled = document.clone();
        strip_nulls(&mut filled);
        let view = View::deserialize(filled)?;
        Ok(Self { document: document.to_string().into(), view })
    }

    /// Returns the job in the API's JSON form, without what the server sets (status, indexes, version).
    pub fn document(&self) -> &str {
        &self.document
    }

    /// Returns the job in the API's JSON form as a tree.
    pub fn document_value(&self) -> Value {
        serde_json::from_str(&self.document).expect("a job document was checked to be JSON when it was made")
    }
}

impl std::ops::Deref for JobSpec {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Serialize for JobSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.document)
    }
}

impl<'de> Deserialize<'de> for JobSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let document: Value = serde_json::from_str(&text).map_err(D::Error::custom)?;
        Self::from_document(&document).map_err(|error| D::Error::custom(error.source))
    }
}

/// The fields of a job that scheduling and running read; reached through [`JobSpec`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct View {
    /// Shown name; equals the id unless the user set it.
    pub name: Text,
    /// Which scheduler places the job.
    #[serde(rename = "Type")]
    pub kind: JobType,
    /// 1 to 100 by default; higher is served first.
    pub priority: i32,
    /// The region that the job asks for.
    pub region: Text,
    /// Datacenters that it may be placed in; globs allowed.
    pub datacenters: Vec<Text>,
    /// The node pool that it may be placed in.
    pub node_pool: Text,
    /// Place everything or nothing.
    pub all_at_once: bool,
    /// Free key-value pairs, passed to the tasks.
    pub meta: BTreeMap<Text, String>,
    /// What every node of the job must satisfy.
    pub constraints: Vec<Constraint>,
    /// What nodes of the job should satisfy.
    pub affinities: Vec<Affinity>,
    /// How the job should be spread over nodes.
    pub spreads: Vec<Spread>,
    /// The task groups, in the user's order. At least one.
    #[serde(rename = "TaskGroups")]
    pub groups: Vec<TaskGroup>,
    /// Launch by the clock.
    pub periodic: Option<Periodic>,
    /// Launch on demand with parameters.
    #[serde(rename = "ParameterizedJob")]
    pub parameterized: Option<Parameterized>,
}

// The enum's macro leaves no place for a `#[default]`.
#[allow(clippy::derivable_impls)]
impl Default for JobType {
    fn default() -> Self {
        Self::Service
    }
}

/// A condition on a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(default)]
pub struct Constraint {
    /// What is looked at, usually `${attr...}` or `${meta...}`.
    #[serde(rename = "LTarget")]
    pub left: Text,
    /// `=`, `!=`, `>`, `regexp`, `version`, `distinct_hosts`, ...
    #[serde(rename = "Operand")]
    pub operator: Text,
    /// What it is compared with.
    #[serde(rename = "RTarget")]
    pub right: Text,
}

/// A preference for nodes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Affinity {
    /// What is looked at.
    #[serde(rename = "LTarget")]
    pub left: Text,
    /// As for constraints.
    #[serde(rename = "Operand")]
    pub operator: Text,
    /// What it is compared with.
    #[serde(rename = "RTarget")]
    pub right: Text,
    /// -100 to 100, not 0; negative is an aversion.
    #[serde(rename = "Weight")]
    pub weight: i32,
}

/// A wish to spread allocations over the values of an attribute.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Spread {
    /// Whose values are spread over.
    pub attribute: Text,
    /// 1 to 100.
    pub weight: i32,
    /// Wanted shares; empty for an even spread.
    #[serde(rename = "SpreadTarget")]
    pub targets: Vec<SpreadTarget>,
}

/// One value's wanted share of a spread.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SpreadTarget {
    /// The attribute's value.
    pub value: Text,
    /// 0 to 100.
    pub percent: u32,
}

/// Launches a job by the clock.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Periodic {
    /// Whether it launches at all.
    pub enabled: bool,
    /// One cron expression.
    pub spec: Text,
    /// Or several.
    pub specs: Vec<Text>,
    /// Skip a launch while the one before still runs.
    pub prohibit_overlap: bool,
    /// Name of the time zone that the expressions are in.
    pub time_zone: Text,
}

/// Launches a job on demand.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Parameterized {
    /// `optional`, `required` or `forbidden`.
    pub payload: Text,
    /// Meta keys that a dispatch must give.
    pub meta_required: Vec<Text>,
    /// Meta keys that a dispatch may give.
    pub meta_optional: Vec<Text>,
}

/// Removes every `null`, so that absent and null read the same.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => {
            items.retain(|value| !value.is_null());
            items.iter_mut().for_each(strip_nulls);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
