//! What differs between two versions of a job, as a plan shows it.

use crate::object::{self, Object};
use crate::schema::{Block, Diff, Field, Form, JOB, Kind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How something changed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// It is different.
    Edited,
    /// It is the same.
    #[default]
    None,
}

/// The difference between two versions of a job.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobDiff {
    /// The job's plain fields.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub fields: Vec<FieldDiff>,
    /// The job's id.
    #[serde(rename = "ID", default)]
    pub id: String,
    /// The job's blocks.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub objects: Vec<ObjectDiff>,
    /// All groups of both versions, by name.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub task_groups: Vec<GroupDiff>,
    /// How the job changed.
    #[serde(rename = "Type")]
    pub change: Change,
}

/// The difference between two versions of a group.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GroupDiff {
    /// The group's plain fields.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub fields: Vec<FieldDiff>,
    /// The group's name.
    #[serde(default)]
    pub name: String,
    /// The group's blocks.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub objects: Vec<ObjectDiff>,
    /// All tasks of both versions, by name.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub tasks: Vec<TaskDiff>,
    /// How the group changed.
    #[serde(rename = "Type")]
    pub change: Change,
    /// What the scheduler would do, filled by [`annotate`].
    #[serde(default)]
    pub updates: Option<BTreeMap<String, u64>>,
}

/// The difference between two versions of a task.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskDiff {
    /// What the change means for what runs, filled by [`annotate`].
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub annotations: Vec<String>,
    /// The task's plain fields.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub fields: Vec<FieldDiff>,
    /// The task's name.
    #[serde(default)]
    pub name: String,
    /// The task's blocks.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub objects: Vec<ObjectDiff>,
    /// How the task changed.
    #[serde(rename = "Type")]
    pub change: Change,
}

/// The difference between two versions of a block.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ObjectDiff {
    /// The block's plain fields.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub fields: Vec<FieldDiff>,
    /// The block's kind.
    #[serde(default)]
    pub name: String,
    /// Blocks inside it.
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub objects: Vec<ObjectDiff>,
    /// How the block changed.
    #[serde(rename = "Type")]
    pub change: Change,
}

/// The difference between two values.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FieldDiff {
    /// What the change means for what runs, filled by [`annotate`].
    #[serde(default, serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub annotations: Vec<String>,
    /// The field's name.
    #[serde(default)]
    pub name: String,
    /// The new value as text.
    #[serde(default)]
    pub new: String,
    /// The old value as text.
    #[serde(default)]
    pub old: String,
    /// How it changed.
    #[serde(rename = "Type")]
    pub change: Change,
}

fn null_if_empty<T: Serialize, S: Serializer>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    (!list.is_empty()).then_some(list).serialize(serializer)
}

fn empty_if_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What the scheduler would do to one group.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GroupUpdates {
    /// Allocations left alone.
    pub ignore: u64,
    /// Allocations to start.
    pub place: u64,
    /// Allocations to move.
    pub migrate: u64,
    /// Allocations to stop.
    pub stop: u64,
    /// Allocations changed without a restart.
    pub in_place: u64,
    /// Allocations replaced.
    pub destructive: u64,
    /// Canaries to start.
    pub canary: u64,
    /// Allocations of others that are preempted.
    pub preemptions: u64,
}

/// Blocks shown before the others, which follow in the table's order.
const FIRST: [&str; 6] = ["Constraint", "Affinity", "Spread", "RestartPolicy", "Migrate", "ReschedulePolicy"];

/// Compares two stored jobs. With `contextual`, changed blocks show their unchanged fields, too.
pub fn diff(old: Option<&Value>, new: Option<&Value>, contextual: bool) -> JobDiff {
    let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
    let named = new.or(old).map(|job| object::text(job, "ID").to_owned()).unwrap_or_default();
    let compare = Compare { contextual };
    let mut diff = JobDiff {
        fields: fields(&JOB, old, new, false),
        id: named,
        objects: compare.objects(&JOB, old, new, &["TaskGroups"]),
        task_groups: paired_by_name(old, new, "TaskGroups", |old, new| compare.group(old, new)),
        change: Change::None,
    };
    let inner = diff.task_groups.iter().any(|group| group.change != Change::None);
    diff.change = overall(old, new, &diff.fields, &diff.objects, inner);
    diff
}

/// Says what the changes mean for what runs.
pub fn annotate(diff: &mut JobDiff, updates: &BTreeMap<String, GroupUpdates>) {
    for group in &mut diff.task_groups {
        if let Some(updates) = updates.get(&group.name) {
            let named = [
                ("ignore", updates.ignore),
                ("create", updates.place),
                ("migrate", updates.migrate),
                ("destroy", updates.stop),
                ("in-place update", updates.in_place),
                ("create/destroy update", updates.destructive),
                ("canary", updates.canary),
                ("preemptions", updates.preemptions),
            ];
            let some = named.into_iter().filter(|(_, count)| *count > 0);
            group.updates = Some(some.map(|(name, count)| (name.to_owned(), count)).collect());
        }
        for field in group.fields.iter_mut().filter(|field| field.name == "Count") {
            let (old, new) = (field.old.parse::<i64>().unwrap_or(0), field.new.parse::<i64>().unwrap_or(0));
            match new.cmp(&old) {
                std::cmp::Ordering::Greater => field.annotations.push("forces create".into()),
                std::cmp::Ordering::Less => field.annotations.push("forces destroy".into()),
                std::cmp::Ordering::Equal => {}
            }
        }
        let group_change = group.change;
        for task in &mut group.tasks {
            task.annotations.extend(task_annotation(task, group_change).map(str::to_owned));
        }
    }
}

/// What a task's change does to its allocations. A task that comes or goes with its group is created or destroyed; any other
/// change replaces the allocation, unless the client can take it up while the task runs.
fn task_annotation(task: &TaskDiff, group: Change) -> Option<&'static str> {
    let in_place_fields = ["KillTimeout"];
    let in_place_objects = ["LogConfig", "Service", "Constraint", "Affinity"];
    match (task.change, group) {
        (Change::None, _) => None,
        (Change::Added, Change::Added) => Some("forces create"),
        (Change::Deleted, Change::Deleted) => Some("forces destroy"),
        (Change::Added | Change::Deleted, _) => Some("forces create/destroy update"),
        (Change::Edited, _) => {
            let changed = |change: Change| change != Change::None;
            let fields = task.fields.iter().filter(|field| changed(field.change));
            let objects = task.objects.iter().filter(|object| changed(object.change));
            let in_place = fields.into_iter().all(|field| in_place_fields.contains(&field.name.as_str()))
                && objects.into_iter().all(|object| in_place_objects.contains(&object.name.as_str()));
            Some(if in_place { "forces in-place update" } else { "forces create/destroy update" })
        }
    }
}

fn overall(
    old: Option<&Object>,
    new: Option<&Object>,
    fields: &[FieldDiff],
    objects: &[ObjectDiff],
    inner: bool,
) -> Change {
    let changed = inner
        || fields.iter().any(|field| field.change != Change::None)
        || objects.iter().any(|object| object.change != Change::None);
    match (old, new) {
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Deleted,
        (Some(_), Some(_)) if changed => Change::Edited,
        (Some(_), Some(_)) | (None, None) => Change::None,
    }
}

/// Compares what has the same name, in the order of names.
fn paired_by_name<T>(
    old: Option<&Object>,
    new: Option<&Object>,
    key: &str,
    compare: impl Fn(Option<&Object>, Option<&Object>) -> T,
) -> Vec<T> {
    let named = |side: Option<&'_ Object>| -> BTreeMap<String, Object> {
        let items = side.into_iter().flat_map(|side| object::children(side, key));
        items.map(|item| (object::text(item, "Name").to_owned(), item.clone())).collect()
    };
    let (old, new) = (named(old), named(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    names.into_iter().map(|name| compare(old.get(name), new.get(name))).collect()
}

struct Compare {
    contextual: bool,
}

impl Compare {
    fn group(&self, old: Option<&Object>, new: Option<&Object>) -> GroupDiff {
        let block = nested(&JOB, "TaskGroups");
        let restart =
            |side: Option<&Object>| side.and_then(|group| object::child(group, "RestartPolicy")).cloned();
        let (old_restart, new_restart) = (restart(old), restart(new));
        let tasks = paired_by_name(old, new, "Tasks", |old, new| {
            self.task(block, (old, old_restart.as_ref()), (new, new_restart.as_ref()))
        });
        let fields = fields(block, old, new, false);
        let objects = self.objects(block, old, new, &["Tasks"]);
        let inner = tasks.iter().any(|task| task.change != Change::None);
        GroupDiff {
            name: new.or(old).map(|group| object::text(group, "Name").to_owned()).unwrap_or_default(),
            change: overall(old, new, &fields, &objects, inner),
            fields,
            objects,
            tasks,
            updates: None,
        }
    }

    fn task(
        &self,
        group: &'static Block,
        (old, old_restart): (Option<&Object>, Option<&Object>),
        (new, new_restart): (Option<&Object>, Option<&Object>),
    ) -> TaskDiff {
        let block = nested(group, "Tasks");
        // A task's policy starts as its group's, which is shown there; here, only what is its own.
        let inherited = |task: Option<&Object>, group: Option<&Object>| {
            task.is_none_or(|task| object::child(task, "RestartPolicy") == group)
        };
        let hide: &[&str] =
            if inherited(old, old_restart) && inherited(new, new_restart) { &["RestartPolicy"] } else { &[] };
        let fields = fields(block, old, new, false);
        let objects = self.objects(block, old, new, hide);
        TaskDiff {
            annotations: Vec::new(),
            name: new.or(old).map(|task| object::text(task, "Name").to_owned()).unwrap_or_default(),
            change: overall(old, new, &fields, &objects, false),
            fields,
            objects,
        }
    }

    /// The blocks inside a block, without those that did not change.
    fn objects(
        &self,
        block: &'static Block,
        old: Option<&Object>,
        new: Option<&Object>,
        skip: &[&str],
    ) -> Vec<ObjectDiff> {
        let mut found = Vec::new();
        for field in
            block.fields.iter().filter(|field| field.form != Form::Submitted && !skip.contains(&field.json))
        {
            let Some(name) = field.diff_name() else { continue };
            let value = |side: Option<&'_ Object>| {
                side.and_then(|side| side.get(field.json)).cloned().unwrap_or_default()
            };
            let (old, new) = (value(old), value(new));
            if old != new {
                self.field_objects(field, name, &old, &new, &mut found);
            }
        }
        let rank =
            |object: &ObjectDiff| FIRST.iter().position(|name| *name == object.name).unwrap_or(FIRST.len());
        found.sort_by_key(rank);
        found
    }

    fn field_objects(
        &self,
        field: &Field,
        name: &str,
        old: &Value,
        new: &Value,
        found: &mut Vec<ObjectDiff>,
    ) {
        match field.kind {
            Kind::Block(inner) => found.extend(self.object(inner, name, old.as_object(), new.as_object())),
            Kind::Blocks(inner) => self.list(inner, name, old, new, found),
            Kind::BlockMap(inner) => {
                let empty = Object::new();
                let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
                let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
                for key in names {
                    let side = |map: &Object| map.get(key).and_then(Value::as_object).cloned();
                    found.extend(self.object(inner, name, side(old).as_ref(), side(new).as_ref()));
                }
            }
            Kind::Strings | Kind::Ints => found.extend(self.set(name, old, new)),
            Kind::Free | Kind::StringListMap => {
                let (old, new) = (flatten(old), flatten(new));
                let fields = compare_texts(&old, &new, self.contextual);
                let change = match (old.is_empty(), new.is_empty()) {
                    (true, true) => Change::None,
                    (true, false) => Change::Added,
                    (false, true) => Change::Deleted,
                    (false, false) => Change::Edited,
                };
                let changed = fields.iter().any(|field| field.change != Change::None);
                found.extend(changed.then(|| ObjectDiff {
                    fields,
                    name: name.to_owned(),
                    objects: Vec::new(),
                    change,
                }));
            }
            Kind::String
            | Kind::Int
            | Kind::Uint
            | Kind::Bool
            | Kind::Duration
            | Kind::Bytes
            | Kind::StringMap => {}
        }
    }

    fn object(
        &self,
        block: &'static Block,
        name: &str,
        old: Option<&Object>,
        new: Option<&Object>,
    ) -> Option<ObjectDiff> {
        if old == new {
            return None;
        }
        let fields = fields(block, old, new, self.contextual);
        let objects = self.objects(block, old, new, &[]);
        let change = overall(old, new, &fields, &objects, false);
        (change != Change::None).then(|| ObjectDiff { fields, name: name.to_owned(), objects, change })
    }

    /// Pairs blocks that have a name; of the others, equal ones cancel out and the rest came or went.
    fn list(&self, block: &'static Block, name: &str, old: &Value, new: &Value, found: &mut Vec<ObjectDiff>) {
        let items = |side: &'_ Value| -> Vec<Object> {
            side.as_array().into_iter().flatten().filter_map(Value::as_object).cloned().collect()
        };
        let named = block.label().or_else(|| block.fields.iter().find(|field| field.json == "Name"));
        let name_of =
            |item: &Object| named.map(|field| object::text(item, field.json)).unwrap_or_default().to_owned();
        let old = items(old);
        let mut new = Pool::new(items(new), |item| (fingerprint(item), name_of(item)));
        let changed: Vec<_> =
            old.into_iter().filter(|item| new.take_equal(&fingerprint(item)).is_none()).collect();
        for item in changed {
            let partner = new.take_named(&name_of(&item));
            found.extend(self.object(block, name, Some(&item), partner.as_ref()));
        }
        for item in new.items.into_iter().flatten() {
            found.extend(self.object(block, name, None, Some(&item)));
        }
    }

    fn set(&self, name: &str, old: &Value, new: &Value) -> Option<ObjectDiff> {
        let items =
            |side: &Value| -> BTreeSet<String> { side.as_array().into_iter().flatten().map(text).collect() };
        let (old, new) = (items(old), items(new));
        let fields: Vec<_> = old
            .union(&new)
            .filter_map(|item| {
                let side =
                    |set: &BTreeSet<String>| if set.contains(item) { item.clone() } else { String::new() };
                compare_text(name, side(&old), side(&new), self.contextual)
            })
            .collect();
        let change = match (old.is_empty(), new.is_empty()) {
            _ if old == new => return None,
            (true, _) => Change::Added,
            (_, true) => Change::Deleted,
            _ => Change::Edited,
        };
        Some(ObjectDiff { fields, name: name.to_owned(), objects: Vec::new(), change })
    }
}

/// The blocks of the new version that no block of the old one was paired with yet. Jobs may have thousands of them, so both
/// ways of finding one are indexed.
struct Pool {
    items: Vec<Option<Object>>,
    equal: BTreeMap<String, VecDeque<usize>>,
    named: BTreeMap<String, VecDeque<usize>>,
}

impl Pool {
    fn new(items: Vec<Object>, keys: impl Fn(&Object) -> (String, String)) -> Self {
        let (mut equal, mut named) = (BTreeMap::<_, VecDeque<_>>::new(), BTreeMap::<_, VecDeque<_>>::new());
        for (index, item) in items.iter().enumerate() {
            let (text, name) = keys(item);
            equal.entry(text).or_default().push_back(index);
            if !name.is_empty() {
                named.entry(name).or_default().push_back(index);
            }
        }
        Self { items: items.into_iter().map(Some).collect(), equal, named }
    }

    fn take_equal(&mut self, text: &str) -> Option<Object> {
        let index = self.equal.get_mut(text)?.pop_front()?;
        self.items.get_mut(index)?.take()
    }

    fn take_named(&mut self, name: &str) -> Option<Object> {
        let waiting = self.named.get_mut(name)?;
        while let Some(index) = waiting.pop_front() {
            if let Some(item) = self.items.get_mut(index).and_then(Option::take) {
                return Some(item);
            }
        }
        None
    }
}

/// The same text for equal objects, whatever the order of their keys.
fn fingerprint(item: &Object) -> String {
    let mut item = Value::from(item.clone());
    item.sort_all_objects();
    item.to_string()
}

fn nested(block: &'static Block, json: &str) -> &'static Block {
    match block.json_field(json).map(|field| field.kind) {
        Some(Kind::Block(inner) | Kind::Blocks(inner) | Kind::BlockMap(inner)) => inner,
        _ => block,
    }
}

/// The plain fields of a block that differ, by name; with `contextual` the others, too.
fn fields(
    block: &'static Block,
    old: Option<&Object>,
    new: Option<&Object>,
    contextual: bool,
) -> Vec<FieldDiff> {
    let texts = |side: Option<&Object>| side.map(|side| plain(block, side)).unwrap_or_default();
    compare_texts(&texts(old), &texts(new), contextual)
}

fn compare_texts(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    contextual: bool,
) -> Vec<FieldDiff> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let value = |side: &BTreeMap<String, String>, name: &str| side.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| compare_text(name, value(old, name), value(new, name), contextual))
        .collect()
}

fn compare_text(name: &str, old: String, new: String, contextual: bool) -> Option<FieldDiff> {
    let change = match (old.as_str(), new.as_str()) {
        (old, new) if old == new => Change::None,
        ("", _) => Change::Added,
        (_, "") => Change::Deleted,
        _ => Change::Edited,
    };
    let shown = change != Change::None || contextual;
    shown.then(|| FieldDiff { annotations: Vec::new(), name: name.to_owned(), new, old, change })
}

/// The plain fields of a block as texts; maps as `Name[key]`.
fn plain(block: &'static Block, object: &Object) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for field in block.alphabetical().iter().filter(|field| field.form != Form::Submitted) {
        let Some(name) = field.diff_name() else { continue };
        match (field.kind, object.get(field.json)) {
            (Kind::StringMap, Some(Value::Object(map))) => {
                texts.extend(map.iter().map(|(key, value)| (format!("{name}[{key}]"), text(value))));
            }
            (Kind::String | Kind::Int | Kind::Uint | Kind::Bool | Kind::Duration | Kind::Bytes, value) => {
                match value {
                    Some(Value::Null) => {}
                    Some(value) => drop(texts.insert(name.to_owned(), text(value))),
                    None if block.omit_empty && field.diff != Diff::WhenPresent => {
                        texts.insert(name.to_owned(), text(&crate::shape::zero(field.kind)));
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }
    texts
}

/// A free-form value as texts: `args[0]`, `mount[0][type]`.
fn flatten(value: &Value) -> BTreeMap<String, String> {
    fn walk(name: &str, value: &Value, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let name = if name.is_empty() { key.clone() } else { format!("{name}[{key}]") };
                    walk(&name, value, into);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    walk(&format!("{name}[{index}]"), value, into);
                }
            }
            Value::Null => {}
            value => drop(into.insert(name.to_owned(), text(value))),
        }
    }
    let mut texts = BTreeMap::new();
    walk("", value, &mut texts);
    texts
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                (float as i64).to_string()
            }
            _ => number.to_string(),
        },
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
