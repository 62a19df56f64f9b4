//! Names, attributes and indexes.

use unicode_segmentation::UnicodeSegmentation;

use super::{Evaluator, Scope, Undeclared, step_key};
use crate::number::Number;
use crate::range::Span;
use crate::syntax::{Step, StepKind};
use crate::types::Type;
use crate::value::Value;

impl Evaluator<'_> {
    pub(super) fn traversal(
        &mut self,
        root: &str,
        steps: &[Step],
        text: &str,
        span: Span,
        scope: &Scope<'_>,
    ) -> Value {
        let Some(value) = scope.find(root) else {
            return match self.undeclared {
                Undeclared::Runtime => Value::string(format!("${{{text}}}")),
                Undeclared::Refused => {
                    // The name alone, without what is taken from it.
                    let mut name = span;
                    name.end = name.start;
                    name.end.byte += root.len();
                    name.end.column += root.graphemes(true).count() as u32;
                    self.report("Variables not allowed", "Variables may not be used here.", name)
                }
            };
        };
        // The way down goes by reference: `var.big.part` copies the part alone.
        let mut value = value;
        for (i, step) in steps.iter().enumerate() {
            match quick(value, &step.kind) {
                Some(inner) => value = inner,
                None => {
                    let value = value.clone();
                    return self.follow(value, &steps[i..]);
                }
            }
        }
        let value = value.clone();
        self.charged(value, span)
    }

    pub(super) fn follow(&mut self, value: Value, steps: &[Step]) -> Value {
        let mut value = value;
        for step in steps {
            value = match &step.kind {
                StepKind::Attribute(name) => self.attribute(&value, name, step.span),
                StepKind::Index(_) => self.index(&value, step_key(&step.kind), step.span),
            };
        }
        value
    }

    fn attribute(&mut self, value: &Value, name: &str, span: Span) -> Value {
        match value {
            Value::Unknown => Value::Unknown,
            Value::Null => self.report(
                "Attempt to get attribute from null value",
                "This value is null, so it does not have any attributes.",
                span,
            ),
            Value::Object(members) => match members.get(name) {
                Some(value) => value.clone(),
                None => {
                    let detail = format!("This object does not have an attribute named {name:?}.");
                    let similar = crate::diagnostics::similar_name(name, members.keys().map(String::as_str));
                    let suggestion = similar.map(|s| format!("write {s:?}").into());
                    let value = self.report("Unsupported attribute", detail, span);
                    if let Some(problem) = self.problems.last_mut() {
                        problem.suggestion = suggestion;
                    }
                    value
                }
            },
            Value::Map(_, members) => match members.get(name) {
                Some(value) => value.clone(),
                None => {
                    let detail = format!("This map does not have an element with the key {name:?}.");
                    self.report("Missing map element", detail, span)
                }
            },
            Value::Tuple(items) | Value::List(_, items)
                if items.first().is_some_and(|v| v.as_members().is_some()) =>
            {
                let detail = format!(
                    "Can't access attributes on a list of objects. Did you mean to access attribute {name:?} for a specific element of the list, or across all elements of the list?"
                );
                self.report("Unsupported attribute", detail, span)
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let kind = value.friendly_type();
                let detail = format!("Can't access attributes on a primitive-typed value ({kind}).");
                self.report("Unsupported attribute", detail, span)
            }
            _ => self.report("Unsupported attribute", "This value does not have any attributes.", span),
        }
    }

    pub(super) fn index(&mut self, value: &Value, key: Value, span: Span) -> Value {
        const NOT_THERE: &str = "The given key does not identify an element in this collection value";
        if matches!(value, Value::Unknown) || matches!(key, Value::Unknown) {
            return Value::Unknown;
        }
        if value.is_null() {
            return self.report(
                "Attempt to index null value",
                "This value is null, so it does not have any indices.",
                span,
            );
        }
        if key.is_null() {
            return self.report("Invalid index", "Can't use a null value as an indexing key.", span);
        }
        match value {
            Value::Tuple(items) | Value::List(_, items) => {
                let number = match key.convert(&Type::Number) {
                    Ok(Value::Number(number)) => number,
                    Ok(_) => return Value::Unknown,
                    Err(e) => return self.report("Invalid index", format!("{NOT_THERE}: {e}."), span),
                };
                if let Some(found) = number.as_u64().and_then(|i| items.get(usize::try_from(i).ok()?)) {
                    return found.clone();
                }
                let detail = why_not(&number);
                self.report("Invalid index", format!("{NOT_THERE}{detail}."), span)
            }
            Value::Object(members) | Value::Map(_, members) => match key.convert(&Type::String) {
                Ok(Value::String(name)) => match members.get(&name) {
                    Some(found) => found.clone(),
                    None => self.report("Invalid index", format!("{NOT_THERE}."), span),
                },
                Ok(_) => Value::Unknown,
                Err(e) => self.report("Invalid index", format!("{NOT_THERE}: {e}."), span),
            },
            _ => self.report("Invalid index", "This value does not have any indices.", span),
        }
    }
}

fn why_not(index: &Number) -> String {
    if index.is_negative() {
        ": a negative number is not a valid index for a sequence".to_string()
    } else if !index.is_integer() {
        format!(
            ": indexing a sequence requires a whole number, but the given index ({index}) has a fractional part"
        )
    } else {
        String::new()
    }
}

/// One step down without copying, where it is plain.
fn quick<'v>(value: &'v Value, step: &StepKind) -> Option<&'v Value> {
    match (value, step) {
        (Value::Object(members) | Value::Map(_, members), StepKind::Attribute(name)) => members.get(name),
        (Value::Object(members) | Value::Map(_, members), StepKind::Index(Value::String(name))) => {
            members.get(name)
        }
        (Value::Tuple(items) | Value::List(_, items), StepKind::Index(Value::Number(n))) => {
            items.get(usize::try_from(n.as_u64()?).ok()?)
        }
        _ => None,
    }
}
