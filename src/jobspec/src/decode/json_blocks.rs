//! Blocks in HCL's JSON syntax: objects and lists of objects, below as many names as the block has labels.

use std::borrow::Cow;

use hcl::{Body, Range, Value};

use super::{Decoder, Found, Labels};

const SUMMARY: &str = "Incorrect JSON value type";

/// A member of an object, with the path to it.
struct Member<'v> {
    name: &'v str,
    path: Vec<String>,
    value: &'v Value,
}

fn below(path: &[String], step: impl Into<String>) -> Vec<String> {
    path.iter().cloned().chain([step.into()]).collect()
}

impl Decoder<'_> {
    /// The blocks that a member of a JSON text stands for.
    pub(super) fn json_blocks(
        &mut self,
        attribute: &hcl::Attribute,
        path: Vec<String>,
        kind: &str,
        expected: Labels,
    ) -> Vec<Found<'static>> {
        let mut found = Vec::new();
        let Labels::One(label) = expected else {
            self.unpack(attribute, path, &attribute.value, kind, None, &mut found);
            return found;
        };
        let place = self.bracket_place(&path, attribute);
        let list = format!(
            "Either a JSON object or JSON array of objects is required here, to specify {label} labels for this block."
        );
        let item = format!("A JSON object is required here, to specify {label} labels for this block.");
        let names = self.members(attribute, &path, &attribute.value, &list, &item);
        if names.is_empty() && !matches!(attribute.value, Value::Unknown) {
            let detail = format!(
                "At least one object property is required, whose name represents the {kind} block's {label}."
            );
            self.report("Missing block label", detail, place);
        }
        for member in names {
            let range = self.name_place(&member.path, attribute);
            let label = (member.name.to_owned(), range);
            self.unpack(attribute, member.path, member.value, kind, Some(label), &mut found);
        }
        found
    }

    /// The blocks of one label.
    fn unpack(
        &mut self,
        owner: &hcl::Attribute,
        path: Vec<String>,
        value: &Value,
        kind: &str,
        label: Option<(String, Range)>,
        found: &mut Vec<Found<'static>>,
    ) {
        let head = self.bracket_place(&path, owner);
        match value {
            Value::Null | Value::Unknown => {}
            Value::Object(_) if self.is_written_out(&path) => {
                found.push(self.json_block(owner, path, value, label, head));
            }
            Value::Tuple(items) if self.is_written_out(&path) => {
                for (index, item) in items.iter().enumerate() {
                    let path = below(&path, index.to_string());
                    found.push(self.json_block(owner, path, item, label.clone(), head.clone()));
                }
            }
            _ => {
                let detail = format!(
                    "Either a JSON object or a JSON array is required, representing the contents of one or more {kind:?} blocks."
                );
                self.report(SUMMARY, detail, head);
            }
        }
    }

    /// One block, whose body is an object, or the members of several.
    fn json_block(
        &mut self,
        owner: &hcl::Attribute,
        path: Vec<String>,
        value: &Value,
        label: Option<(String, Range)>,
        head: Range,
    ) -> Found<'static> {
        let list = "Either a JSON object or JSON array of objects is required here, to define arguments and child blocks.";
        let item = "A JSON object is required here, to define arguments and child blocks.";
        let members = self.members(owner, &path, value, list, item);
        let whole = self.place(&path, owner);
        // What is missing in an object is told of at its end, in a list at its beginning.
        let open = match value {
            Value::Tuple(_) => self.bracket_place(&path, owner),
            _ => whole.clone(),
        };
        let attributes = members
            .into_iter()
            .filter(|member| member.name != "//")
            .map(|member| hcl::Attribute {
                name: member.name.to_owned(),
                name_range: self.name_place(&member.path, owner),
                value: member.value.clone(),
                value_range: self.bracket_place(&member.path, owner),
                range: self.place(&member.path, owner),
                is_object: false,
                places: hcl::Places::default(),
            })
            .collect();
        let body = Body { attributes, blocks: Vec::new(), range: whole, json: true };
        Found { labels: label.into_iter().collect(), head, open, dynamic: None, body: Cow::Owned(body), path }
    }

    /// The members of an object, or of all objects in a list.
    fn members<'v>(
        &mut self,
        owner: &hcl::Attribute,
        path: &[String],
        value: &'v Value,
        no_list: &str,
        no_item: &str,
    ) -> Vec<Member<'v>> {
        let mut members = Vec::new();
        match value {
            Value::Null | Value::Unknown => {}
            Value::Object(object) if self.is_written_out(path) => {
                members.extend(object.iter().map(|(name, value)| Member {
                    name,
                    path: below(path, name.as_str()),
                    value,
                }));
            }
            Value::Tuple(items) if self.is_written_out(path) => {
                for (index, item) in items.iter().enumerate() {
                    let path = below(path, index.to_string());
                    match item {
                        Value::Object(object) if self.is_written_out(&path) => {
                            members.extend(object.iter().map(|(name, value)| Member {
                                name,
                                path: below(&path, name.as_str()),
                                value,
                            }));
                        }
                        Value::Unknown => {}
                        _ => {
                            let place = self.bracket_place(&path, owner);
                            self.report(SUMMARY, no_item, place);
                        }
                    }
                }
            }
            _ => {
                let place = self.bracket_place(path, owner);
                self.report(SUMMARY, no_list, place);
            }
        }
        members
    }

    /// Whether an object or a list is one in the text, and not what an expression came to. Of what `dynamic` blocks
    /// generated nothing is known, and it is.
    fn is_written_out(&self, path: &[String]) -> bool {
        let steps = || path.iter().map(String::as_str);
        self.places
            .is_none_or(|places| places.find(steps()).is_none() || places.find_bracket(steps()).is_some())
    }

    fn place(&self, path: &[String], owner: &hcl::Attribute) -> Range {
        let known = self.places.and_then(|places| places.find(path.iter().map(String::as_str)));
        known.unwrap_or(&owner.name_range).clone()
    }

    /// Where the name at the end of a path stands.
    fn name_place(&self, path: &[String], owner: &hcl::Attribute) -> Range {
        let known = self.places.and_then(|places| places.find_name(path.iter().map(String::as_str)));
        known.cloned().unwrap_or_else(|| self.place(path, owner))
    }

    /// The opening bracket of an object or a list; of anything else the whole.
    fn bracket_place(&self, path: &[String], owner: &hcl::Attribute) -> Range {
        let known = self.places.and_then(|places| places.find_bracket(path.iter().map(String::as_str)));
        known.cloned().unwrap_or_else(|| self.place(path, owner))
    }
}
