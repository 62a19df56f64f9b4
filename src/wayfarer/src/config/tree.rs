//! A configuration file as one tree, whichever way it was written.
//!
//! `server { enabled = true }`, `server = { enabled = true }`, `"server": {"enabled": true}` and
//! `"server": [{"enabled": true}]` are the same to a reader, and so are `plugin "docker" {}` and
//! `plugin { docker {} }`.

use hcl::{Attribute, Block, Body, Position, Value};

/// A name and what it stands for.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it is written.
    pub key: String,
    /// Where it stands.
    pub at: Position,
    /// What it stands for.
    pub value: Tree,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Tree {
    /// A text, number or truth value.
    Plain(Value),
    /// Several of them.
    List(Vec<Tree>),
    /// Names with values: a block, or an object.
    Object(Vec<Entry>),
}

impl Tree {
    /// The objects that this is: itself, or the items of a list of objects. Nothing when it is something else.
    pub fn objects(&self) -> Option<Vec<&[Entry]>> {
        match self {
            Self::Plain(_) => None,
            Self::Object(entries) => Some(vec![entries]),
            Self::List(items) => {
                let mut all = Vec::new();
                for item in items {
                    all.extend(item.objects()?);
                }
                Some(all)
            }
        }
    }

    /// As JSON. Names that stand there several times become a list, and a list of one object is that
    /// object, as blocks are written in JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Plain(value) => value.to_json(),
            Self::List(items) => match items.as_slice() {
                [only @ Self::Object(_)] => only.to_json(),
                items => items.iter().map(Self::to_json).collect(),
            },
            Self::Object(entries) => object_json(entries),
        }
    }
}

fn object_json(entries: &[Entry]) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    for entry in entries {
        if object.contains_key(&entry.key) {
            continue;
        }
        let same: Vec<&Entry> = entries.iter().filter(|other| other.key == entry.key).collect();
        let value = match same.as_slice() {
            [only] => only.value.to_json(),
            several => several.iter().map(|entry| entry.value.to_json()).collect(),
        };
        object.insert(entry.key.clone(), value);
    }
    object.into()
}

/// Makes the tree of a file.
pub(super) fn entries_of(body: Body) -> Vec<Entry> {
    let attributes = body.attributes.iter().map(attribute_entry);
    let mut entries: Vec<Entry> = attributes.collect();
    entries.extend(body.blocks.into_iter().map(block_entry));
    entries.sort_by_key(|entry| entry.at.byte);
    entries
}

fn attribute_entry(attribute: &Attribute) -> Entry {
    let at = attribute.name_range.start;
    let mut path = Vec::new();
    Entry { key: attribute.name.clone(), at, value: value_tree(&attribute.value, attribute, &mut path) }
}

fn value_tree(value: &Value, attribute: &Attribute, path: &mut Vec<String>) -> Tree {
    if let Some(members) = value.as_members() {
        let mut entries = Vec::new();
        for (key, value) in members {
            path.push(key.clone());
            let place = attribute.places.find(path.iter().map(String::as_str));
            let at = place.map_or(attribute.name_range.start, |range| range.start);
            entries.push(Entry { key: key.clone(), at, value: value_tree(value, attribute, path) });
            path.pop();
        }
        return Tree::Object(entries);
    }
    let Some(items) = value.as_sequence() else { return Tree::Plain(value.clone()) };
    let mut list = Vec::new();
    for (index, item) in items.iter().enumerate() {
        path.push(index.to_string());
        list.push(value_tree(item, attribute, path));
        path.pop();
    }
    Tree::List(list)
}

fn block_entry(block: Block) -> Entry {
    let at = block.kind_range.start;
    let mut value = Tree::Object(entries_of(block.body));
    for (label, range) in block.labels.into_iter().rev() {
        value = Tree::Object(vec![Entry { key: label, at: range.start, value }]);
    }
    Entry { key: block.kind, at, value }
}
