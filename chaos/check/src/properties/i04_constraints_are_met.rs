use std::{collections::BTreeMap, sync::Arc};

use model::{AllocId, Constraint, JobKey, NodeId, Text};

use crate::{AllocRow, NodeRow, Observation, Property, Rows};

/// Allocations are on nodes that meet their constraints, and where a job asks for it no two of them are on one node.
///
/// Looked at are `=`, `!=` and `version` on attributes, and `distinct_hosts`; other constraints are passed over.
#[derive(Default)]
pub struct ConstraintsAreMet;

impl Property for ConstraintsAreMet {
    fn name(&self) -> &'static str {
        "I4 constraints are met"
    }

    fn changed(&mut self, _seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        let mut apart: BTreeMap<(&JobKey, &Text, NodeId), AllocId> = BTreeMap::new();
        for (id, row) in rows.allocs.iter().filter(|(_, row)| row.wanted() && !row.was_unknown) {
            check(rows, *id, row)?;
            if !constraints(row).any(|constraint| constraint.operator == "distinct_hosts") {
                continue;
            }
            if let Some(other) = apart.insert((&row.job, &row.group, row.node), *id) {
                return Err(format!("{other} and {id} of {} are both on node {}", row.job, row.node));
            }
        }
        Ok(())
    }
}

fn constraints(row: &AllocRow) -> impl Iterator<Item = &Constraint> {
    let of_job = row.spec.iter().flat_map(|job| &job.spec.constraints);
    of_job.chain(row.terms().into_iter().flat_map(|group| &group.constraints))
}

fn check(rows: &Rows, id: AllocId, row: &AllocRow) -> Result<(), String> {
    let Some(node) = rows.nodes.get(&row.node) else { return Ok(()) };
    for constraint in constraints(row) {
        if meets(node, constraint) == Some(false) {
            return Err(format!(
                "{id} of {} is on node {}, which does not meet {} {} {}",
                row.job, row.node, constraint.left, constraint.operator, constraint.right
            ));
        }
    }
    Ok(())
}

/// Tells whether a node meets a constraint; none when that is not known here.
pub(super) fn meets(node: &NodeRow, constraint: &Constraint) -> Option<bool> {
    let name = constraint.left.strip_prefix("${attr.")?.strip_suffix('}')?;
    let value = node.attributes.get(name);
    match constraint.operator.as_str() {
        "=" => Some(value == Some(&constraint.right)),
        "!=" => Some(value != Some(&constraint.right)),
        "version" => {
            let Some(value) = value else { return Some(false) };
            let met: Option<Vec<bool>> =
                constraint.right.split(',').map(|part| in_range(value, part.trim())).collect();
            Some(met?.into_iter().all(|met| met))
        }
        _ => None,
    }
}

/// Compares versions of numbers and dots alone.
fn in_range(version: &str, part: &str) -> Option<bool> {
    let signs = part.len() - part.trim_start_matches(['<', '>', '=']).len();
    let (operator, bound) = part.split_at(signs);
    let (version, bound) = (numbers(version)?, numbers(bound.trim())?);
    Some(match operator {
        "=" | "" => version == bound,
        ">" => version > bound,
        ">=" => version >= bound,
        "<" => version < bound,
        "<=" => version <= bound,
        _ => return None,
    })
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    let mut numbers: Vec<u64> = version.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::{alloc_id, breaks, calm, change, holds, node_id, rows_of};

    fn with(constraint: &serde_json::Value) -> Observation {
        let mut seen = calm(rows_of(&json!({"Constraints": [constraint]})));
        change(&mut seen, |rows| {
            rows.allocs.remove(&alloc_id(2));
            for (number, version) in [(1, "1.9.0"), (2, "1.10")] {
                let node = rows.nodes.get_mut(&node_id(number)).expect("it is there");
                node.attributes.insert("kernel.version".into(), version.into());
            }
        });
        seen
    }

    fn version(range: &str) -> Observation {
        with(&json!({"LTarget": "${attr.kernel.version}", "Operand": "version", "RTarget": range}))
    }

    #[test]
    fn a_node_outside_the_range_is_seen() {
        holds::<ConstraintsAreMet>(&[version(">= 1.9, < 2"), version("> 1.8"), version("<= 1.10.0")]);
        breaks::<ConstraintsAreMet>(&[version("> 1.9")]);
        breaks::<ConstraintsAreMet>(&[version("< 1.10")]);
        holds::<ConstraintsAreMet>(&[version("~> 1.9")]);
    }

    #[test]
    fn a_value_that_is_another_one_is_seen() {
        let rule = |operator: &str, value: &str| {
            with(&json!({"LTarget": "${attr.kernel.version}", "Operand": operator, "RTarget": value}))
        };
        breaks::<ConstraintsAreMet>(&[rule("=", "1.10")]);
        breaks::<ConstraintsAreMet>(&[rule("!=", "1.10")]);
        holds::<ConstraintsAreMet>(&[rule("!=", "2")]);
    }

    #[test]
    fn two_on_a_node_that_have_to_be_apart_are_seen() {
        let apart = with(&json!({"Operand": "distinct_hosts"}));
        holds::<ConstraintsAreMet>(std::slice::from_ref(&apart));
        let mut together = apart;
        change(&mut together, |rows| {
            rows.index += 1;
            rows.allocs.get_mut(&alloc_id(3)).expect("it is there").node = node_id(1);
        });
        breaks::<ConstraintsAreMet>(&[together]);
    }
}
