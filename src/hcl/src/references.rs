//! What an expression refers to.

use crate::range::Span;
use crate::syntax::{Expr, ExprKind, Key, StepKind};

/// A name that an expression takes from outside.
pub(crate) struct Reference {
    pub root: String,
    /// What is taken of it.
    pub attribute: Option<String>,
    pub span: Span,
}

/// All of them, names bound by `for` left out.
pub(crate) fn references(expr: &Expr) -> Vec<Reference> {
    let mut found = Vec::new();
    collect(expr, &mut Vec::new(), &mut found);
    found
}

fn collect(expr: &Expr, bound: &mut Vec<String>, found: &mut Vec<Reference>) {
    match &expr.kind {
        ExprKind::Literal(_) | ExprKind::SplatItem => {}
        ExprKind::Template(parts) | ExprKind::Tuple(parts) => {
            parts.iter().for_each(|p| collect(p, bound, found))
        }
        ExprKind::Wrap(inner)
        | ExprKind::Join(inner)
        | ExprKind::Negate(inner)
        | ExprKind::Not(inner)
        | ExprKind::Parens(inner) => {
            collect(inner, bound, found);
        }
        ExprKind::Traversal { root, steps, .. } => {
            if !bound.contains(root) {
                let attribute = steps.first().map(|step| match &step.kind {
                    StepKind::Attribute(name) => name.clone(),
                    StepKind::Index(key) => key.as_str().unwrap_or_default().to_string(),
                });
                found.push(Reference { root: root.clone(), attribute, span: expr.span });
            }
        }
        ExprKind::Relative { source, .. } => collect(source, bound, found),
        ExprKind::Index { source, key, .. } => {
            collect(source, bound, found);
            collect(key, bound, found);
        }
        ExprKind::Splat { source, each, .. } => {
            collect(source, bound, found);
            collect(each, bound, found);
        }
        // Types are names as well, but not of values.
        ExprKind::Call(call) if call.name == "convert" => {
            call.arguments.iter().take(1).for_each(|a| collect(a, bound, found));
        }
        ExprKind::Call(call) => call.arguments.iter().for_each(|a| collect(a, bound, found)),
        ExprKind::Conditional(c) => {
            [&c.condition, &c.yes, &c.no].into_iter().for_each(|e| collect(e, bound, found))
        }
        ExprKind::Binary { left, right, .. } => {
            collect(left, bound, found);
            collect(right, bound, found);
        }
        ExprKind::Object(members) => {
            for (key, value) in members {
                if let Key::Computed(key) = key {
                    collect(key, bound, found);
                }
                collect(value, bound, found);
            }
        }
        ExprKind::For(parts) => {
            collect(&parts.collection, bound, found);
            let before = bound.len();
            bound.extend(parts.key_name.clone());
            bound.push(parts.value_name.clone());
            for inner in
                [parts.key.as_ref(), Some(&parts.value), parts.condition.as_ref()].into_iter().flatten()
            {
                collect(inner, bound, found);
            }
            bound.truncate(before);
        }
    }
}
