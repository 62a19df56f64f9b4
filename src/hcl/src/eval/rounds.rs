//! `for` expressions.

use std::collections::BTreeMap;

use super::{Evaluator, KeyWords, Scope};
use crate::number::Number;
use crate::range::Span;
use crate::syntax::ForExpr;
use crate::types::Type;
use crate::value::{Members, Value};

const FOR_KEY: KeyWords = KeyWords {
    null: ("Invalid object key", "Key expression in 'for' expression must not produce a null value."),
    wrong: ("Invalid object key", "The key expression produced an invalid result"),
};

/// Results of the rounds of a `for`.
struct Rounds {
    items: Vec<Value>,
    members: Members,
    groups: Members,
    known: bool,
}

/// Keys and values of a collection, those of objects in the order of their names.
pub(crate) fn entries_of(collection: &Value) -> Vec<(Value, Value)> {
    match collection {
        Value::Set(_, items) => items.iter().map(|v| (v.clone(), v.clone())).collect(),
        Value::Tuple(items) | Value::List(_, items) => {
            items.iter().enumerate().map(|(i, v)| (Value::Number(Number::from(i)), v.clone())).collect()
        }
        Value::Object(members) | Value::Map(_, members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            sorted.into_iter().map(|(name, value)| (Value::String(name.clone()), value.clone())).collect()
        }
        Value::Null | Value::Unknown | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

impl Evaluator<'_> {
    pub(super) fn for_expr(&mut self, parts: &ForExpr, scope: &Scope<'_>) -> Value {
        let collection = self.eval(&parts.collection, scope);
        let entries = match self.entries(&collection, parts.collection.span) {
            Some(entries) => entries,
            None => return Value::Unknown,
        };
        let mut rounds =
            Rounds { items: Vec::new(), members: Members::new(), groups: Members::new(), known: true };
        for (key, value) in entries {
            let mut names = BTreeMap::new();
            if let Some(name) = &parts.key_name {
                names.insert(name.clone(), key);
            }
            names.insert(parts.value_name.clone(), value);
            if !self.spend(1, 64, parts.value.span) {
                return Value::Unknown;
            }
            self.for_round(parts, &scope.child(&names), &mut rounds);
        }
        match (rounds.known, &parts.key) {
            (false, _) => Value::Unknown,
            (true, None) => Value::Tuple(rounds.items),
            (true, Some(_)) if parts.group => Value::object(rounds.groups),
            (true, Some(_)) => Value::object(rounds.members),
        }
    }

    fn for_round(&mut self, parts: &ForExpr, scope: &Scope<'_>, rounds: &mut Rounds) {
        if let Some(condition) = &parts.condition {
            match self.eval(condition, scope).convert(&Type::Bool) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return,
                Ok(Value::Null) => {
                    self.report(
                        "Condition is null",
                        "The value of the 'if' clause must not be null.",
                        condition.span,
                    );
                    rounds.known = false;
                    return;
                }
                Ok(_) => {
                    rounds.known = false;
                    return;
                }
                Err(e) => {
                    let detail = format!("The 'if' clause value is invalid: {e}.");
                    self.report("Invalid 'for' condition", detail, condition.span);
                    rounds.known = false;
                    return;
                }
            }
        }
        let Some(key_expr) = &parts.key else {
            let value = self.eval(&parts.value, scope);
            rounds.items.push(value);
            return;
        };
        let name = self.object_key(key_expr, scope, &FOR_KEY);
        let value = self.eval(&parts.value, scope);
        let Some(name) = name else {
            rounds.known = false;
            return;
        };
        if parts.group {
            let group = rounds.groups.entry(name).or_insert_with(|| Value::Tuple(Vec::new()));
            if let Value::Tuple(items) = group {
                items.push(value);
            }
        } else if rounds.members.contains_key(&name) {
            let detail = format!(
                "Two different items produced the key {name:?} in this 'for' expression. If duplicates are expected, use the ellipsis (...) after the value expression to enable grouping by key."
            );
            self.report("Duplicate object key", detail, key_expr.span);
        } else {
            rounds.members.insert(name, value);
        }
    }

    /// What a `for` goes through: keys and values, those of objects in the order of their names.
    fn entries(&mut self, collection: &Value, span: Span) -> Option<Vec<(Value, Value)>> {
        if !self.spend(0, collection.weight(), span) {
            return None;
        }
        match collection {
            Value::Unknown => None,
            Value::Null => {
                self.report(
                    "Iteration over null value",
                    "A null value cannot be used as the collection in a 'for' expression.",
                    span,
                );
                None
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let detail = format!(
                    "A value of type {} cannot be used as the collection in a 'for' expression.",
                    collection.friendly_type()
                );
                self.report("Iteration over non-iterable value", detail, span);
                None
            }
            _ => Some(entries_of(collection)),
        }
    }
}
