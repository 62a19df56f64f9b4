//! Sets and products.

use super::Accepts::{Any, Set};
use super::{Arguments, Fault, Functions, Outcome, Spec, open, param};
use crate::types::{Type, unify};
use crate::value::Value;

pub(super) const SPECS: &[Spec] = &[
    open("setintersection", &[param("first_set", Set)], param("other_sets", Set), intersection),
    open("setproduct", &[], param("sets", Any), product),
    open("setunion", &[param("first_set", Set)], param("other_sets", Set), union),
];

/// Combinations that a product may have. The limits on memory would stop it too, but later.
const PRODUCT_MAX: usize = 100_000;

/// The sets with their items converted to what they have in common.
fn alike(values: Vec<Value>) -> Result<(Type, Vec<Vec<Value>>), Fault> {
    let types: Vec<Type> = values
        .iter()
        .filter_map(|v| {
            if let Value::Set(item, items) = v
                && !items.is_empty()
            {
                Some(item.clone())
            } else {
                None
            }
        })
        .collect();
    let item =
        unify(&types).ok_or_else(|| Fault::call("given sets must all have compatible element types"))?;
    let wanted = Type::Set(Box::new(item.clone()));
    let mut sets = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        let set = value.convert(&wanted).map_err(|e| Fault::argument(i, e.to_string()))?;
        sets.push(Arguments::new(vec![set]).items());
    }
    Ok((item, sets))
}

fn union(values: Vec<Value>, _: &Functions) -> Outcome {
    let (item, sets) = alike(values)?;
    Ok(Value::set(item, sets.concat()))
}

fn intersection(values: Vec<Value>, _: &Functions) -> Outcome {
    let (item, sets) = alike(values)?;
    let Some((first, rest)) = sets.split_first() else { return Ok(Value::set(item, Vec::new())) };
    let kept =
        first.iter().filter(|v| rest.iter().all(|set| set.binary_search_by(|w| Value::order(w, v)).is_ok()));
    let kept = kept.cloned().collect();
    Ok(Value::set(item, kept))
}

fn product(values: Vec<Value>, _: &Functions) -> Outcome {
    if values.len() < 2 {
        return Err(Fault::call("at least two arguments are required"));
    }
    let mut kinds = Vec::new();
    let mut all_sets = true;
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for (i, value) in values.iter().enumerate() {
        all_sets &= matches!(value, Value::Set(..));
        let Some(items) = value.as_sequence() else {
            return Err(Fault::argument(i, "a set or a list is required"));
        };
        let item = unify(&items.iter().map(Type::of).collect::<Vec<_>>())
            .ok_or_else(|| Fault::argument(i, "all elements must be of the same type"))?;
        if rows.len().saturating_mul(items.len()) > PRODUCT_MAX {
            return Err(Fault::call(format!("the product has more than {PRODUCT_MAX} elements")));
        }
        let mut next = Vec::with_capacity(rows.len() * items.len());
        for row in &rows {
            for value in items {
                let value = value.clone().convert(&item).map_err(|e| Fault::argument(i, e.to_string()))?;
                next.push(row.iter().cloned().chain([value]).collect());
            }
        }
        kinds.push(item);
        rows = next;
    }
    let (item, rows) = (Type::Tuple(kinds), rows.into_iter().map(Value::Tuple).collect());
    Ok(if all_sets { Value::set(item, rows) } else { Value::List(item, rows) })
}
