use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use crate::{JobType, TaskGroup, Text};

/// What a user asked for: one job's specification.
///
/// `document` is the whole of it, in the API's JSON form with every default filled in; it is what the API shows, what
/// differences are computed on and what is stored. The other fields are read from it once and never disagree with it.
#[derive(Clone, Debug)]
pub struct JobSpec {
    document: Arc<str>,
    view: Arc<View>,
    packed: Arc<OnceLock<Box<[u8]>>>,
}

impl PartialEq for JobSpec {
    fn eq(&self, other: &Self) -> bool {
        *self.document == *other.document
    }
}

/// Documents that were read last, in this process. A job comes to a server with its registration and again with its
/// command, and a machine with many nodes on it gets it for each: a few hundred jobs are under way at a time, and each
/// takes some kilobytes.
const RECENT_MAX: usize = 512;

static RECENT: Mutex<Recent> = Mutex::new(Recent { specs: BTreeMap::new(), order: VecDeque::new() });

/// What was read last, by the hash of its text; the oldest makes room. What is read of a text depends on nothing else.
struct Recent {
    specs: BTreeMap<u64, JobSpec>,
    order: VecDeque<u64>,
}

impl Recent {
    fn find(&self, hash: u64, document: &str) -> Option<JobSpec> {
        self.specs.get(&hash).filter(|known| *known.document == *document).cloned()
    }

    fn keep(&mut self, hash: u64, spec: &JobSpec) {
        if self.specs.insert(hash, spec.clone()).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.specs.remove(&oldest);
        }
    }
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
        Self::from_admitted(document.to_string())
    }

    /// Reads the text of an admitted document, without a tree in between: every server reads every job that is registered.
    ///
    /// # Errors
    ///
    /// As [`JobSpec::from_document`], or when it is not JSON.
    pub fn from_admitted(document: String) -> Result<Self, BadDocument> {
        let mut hasher = DefaultHasher::new();
        document.hash(&mut hasher);
        let hash = hasher.finish();
        let recent = || RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = recent().find(hash, &document) {
            return Ok(known);
        }
        let view = Arc::new(serde_json::from_str(&without_nulls(&document))?);
        let spec = Self { document: document.into(), view, packed: Arc::default() };
        recent().keep(hash, &spec);
        Ok(spec)
    }

    /// Returns the job in the API's JSON form, without what the server sets (status, indexes, version).
    pub fn document(&self) -> &str {
        &self.document
    }

    /// Returns the document as `pack` makes it, which is asked once: a job goes to many nodes.
    pub fn packed(&self, pack: impl FnOnce(&str) -> Box<[u8]>) -> &[u8] {
        self.packed.get_or_init(|| pack(&self.document))
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
        Self::from_admitted(text).map_err(|error| D::Error::custom(error.source))
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

/// Leaves out of a JSON text what is null, so that a field without a value reads as one that is not there. The text is
/// cut, not checked: whoever reads the rest does that.
fn without_nulls(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    // Where what follows the last separator begins: a null takes its name along.
    let mut member = 0;
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => end_of_string(bytes, at),
            b'n' if text[at..].starts_with("null") => {
                let follows = bytes.get(at + 4);
                if matches!(follows, Some(b',' | b'}' | b']')) {
                    out.truncate(member);
                    at += 4;
                    if follows == Some(&b',') {
                        at += 1;
                    } else if out.ends_with(',') {
                        out.pop();
                    }
                    continue;
                }
                at + 4
            }
            _ => at + 1 + bytes[at + 1..].iter().take_while(|byte| is_plain(**byte)).count(),
        };
        let separates = matches!(bytes[at], b'{' | b'[' | b',');
        out.push_str(&text[at..end]);
        if separates {
            member = out.len() - (end - at - 1);
        }
        at = end;
    }
    out
}

/// Returns where a string ends that begins here, behind its closing mark.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Tells whether a byte outside of strings means nothing to whoever looks for nulls.
fn is_plain(byte: u8) -> bool {
    !matches!(byte, b'"' | b'n' | b'{' | b'[' | b',' | b'}' | b']')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The same, on a tree.
    fn pruned(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let kept = map.iter().filter(|(_, value)| !value.is_null());
                kept.map(|(name, value)| (name.clone(), pruned(value))).collect()
            }
            Value::Array(items) => items.iter().filter(|item| !item.is_null()).map(pruned).collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn a_text_without_nulls_is_that_of_the_tree_without_them() {
        for value in [
            json!({}),
            json!({"a": null}),
            json!({"a": null, "b": 1, "c": null}),
            json!({"b": [null, 1, null, null, 2], "c": [null], "n": {"a": null, "b": null}}),
            json!([{"name": "null", "\"nul\\": null, "ünï": "nu\"ll,null}"}, null, true, -1.5e9, "n"]),
            json!({"deep": [[[null], {"a": [null, {"b": null}]}], null], "last": "x"}),
        ] {
            let found: Value = serde_json::from_str(&without_nulls(&value.to_string())).expect("it is JSON");
            assert_eq!(found, pruned(&value));
        }
    }

    #[test]
    fn what_is_no_json_is_no_job() {
        for text in ["", "null", "{\"ID\":null", "{\"ID\":null\"Name\":1}", "{\"Name\":\"a", "[", "{\"\\"] {
            assert!(JobSpec::from_admitted(text.to_owned()).is_err(), "{text}");
        }
    }
}
