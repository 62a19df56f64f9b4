//! HCL in JSON syntax: strings are templates, `dynamic` members stand for blocks, and `//` members are comments.

use std::collections::BTreeMap;

use crate::body::{Attribute, BLOCK_WEIGHT, BRACKET_STEP, Body, NAME_STEP, Places};
use crate::diagnostics::Diagnostic;
use crate::eval::{Evaluator, Scope};
use crate::json::{self, Json, Member, Node};
use crate::number::Number;
use crate::parse::{Dialect, parse_template};
use crate::range::{Position, Range, Source, Span};
use crate::syntax::{AttributeSyntax, BlockSyntax, BodySyntax, Expr, ExprKind, Item, Key};
use crate::value::{Members, Value};

/// Reads the text; its root must be an object.
pub(crate) fn parse_root(source: &Source) -> Result<(Vec<Member>, Span), Vec<Diagnostic>> {
    let fail = |summary: &str, detail: String, span: Span| {
        vec![Diagnostic::error(summary, detail, source.range(span))]
    };
    let node = json::parse(&source.text).map_err(|e| {
        fail("Invalid JSON", format!("The text can not be read as JSON: {}.", e.reason), e.span)
    })?;
    match node.kind {
        Json::Object(members) => Ok((members, node.span)),
        _ => Err(fail(
            "Root value must be object",
            "The root value in a JSON-based configuration must be an object.".to_string(),
            node.span,
        )),
    }
}

/// Whether a text is JSON: its first character that is not blank is a brace.
pub(crate) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The value as the expression it would be in native syntax.
pub(crate) fn to_expr(source: &Source, node: &Node, dialect: Dialect) -> Result<Expr, Vec<Diagnostic>> {
    let kind = match &node.kind {
        Json::Null => ExprKind::Literal(Value::Null),
        Json::Bool(b) => ExprKind::Literal(Value::Bool(*b)),
        Json::Number(text) => {
            ExprKind::Literal(Value::Number(Number::parse(text).unwrap_or_else(Number::zero)))
        }
        Json::String(text) if dialect == Dialect::Plain || !(text.contains("${") || text.contains("%{")) => {
            // As a template of one part, so that it serves wherever a constant text is asked for.
            let literal = Expr::new(node.span, ExprKind::Literal(Value::string(text.as_str())));
            ExprKind::Template(vec![literal])
        }
        Json::String(text) => {
            let start = inside(node.span);
            return parse_template(source, text, start);
        }
        Json::Array(items) => {
            let items: Result<Vec<Expr>, _> =
                items.iter().map(|item| to_expr(source, item, dialect)).collect();
            ExprKind::Tuple(items?)
        }
        Json::Object(members) => {
            let mut pairs = Vec::new();
            for member in members {
                let key = Node { span: member.name_span, kind: Json::String(member.name.clone()) };
                pairs.push((
                    Key::Computed(to_expr(source, &key, dialect)?),
                    to_expr(source, &member.value, dialect)?,
                ));
            }
            ExprKind::Object(pairs)
        }
    };
    Ok(Expr::new(node.span, kind))
}

/// Behind the opening quote.
fn inside(span: Span) -> Position {
    let mut start = span.start;
    start.byte += 1;
    start.column += 1;
    start
}

/// How the blocks of a kind are read from JSON.
#[derive(Clone, Copy)]
pub(crate) struct BlockForm {
    /// How many labels they have.
    pub labels: usize,
    /// Whether texts in them are templates.
    pub dialect: Dialect,
    /// The members that are blocks and not attributes. Texts in these are templates.
    pub blocks: &'static [&'static str],
}

/// Blocks of a kind, as native syntax would have them.
pub(crate) fn to_blocks(
    source: &Source,
    member: &Member,
    form: BlockForm,
) -> Result<Vec<BlockSyntax>, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let mut labels = Vec::new();
    collect(source, member, &member.value, form, &mut labels, &mut found)?;
    if form.labels > 0 && found.is_empty() && !matches!(member.value.kind, Json::Null) {
        let kind = &member.name;
        let detail = format!(
            "At least one object property is required, whose name represents the {kind} block's name."
        );
        let start = Span { start: member.value.span.start, end: inside(member.value.span) };
        return Err(vec![Diagnostic::error("Missing block label", detail, source.range(start))]);
    }
    Ok(found)
}

fn collect(
    source: &Source,
    member: &Member,
    node: &Node,
    form: BlockForm,
    labels: &mut Vec<(String, Span)>,
    found: &mut Vec<BlockSyntax>,
) -> Result<(), Vec<Diagnostic>> {
    match &node.kind {
        Json::Null => Ok(()),
        Json::Array(items) => {
            items.iter().try_for_each(|item| collect(source, member, item, form, labels, found))
        }
        Json::Object(members) if form.labels > labels.len() => {
            for inner in members {
                labels.push((inner.name.clone(), inner.name_span));
                collect(source, member, &inner.value, form, labels, found)?;
                labels.pop();
            }
            Ok(())
        }
        Json::Object(members) => {
            let mut items = Vec::new();
            for inner in members.iter().filter(|m| m.name != "//") {
                if form.blocks.contains(&inner.name.as_str()) {
                    let form = BlockForm { labels: 0, dialect: Dialect::Native, blocks: &[] };
                    items.extend(to_blocks(source, inner, form)?.into_iter().map(Item::Block));
                    continue;
                }
                let expr = to_expr(source, &inner.value, form.dialect)?;
                items.push(Item::Attribute(AttributeSyntax {
                    name: inner.name.clone(),
                    name_span: inner.name_span,
                    expr,
                }));
            }
            found.push(BlockSyntax {
                kind: member.name.clone(),
                kind_span: member.name_span,
                labels: labels.clone(),
                open: node.span.at_start(),
                body: BodySyntax { items, span: node.span },
            });
            Ok(())
        }
        Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            let detail = format!(
                "Either a JSON object or a JSON array is required, representing the contents of one or more {:?} blocks.",
                member.name
            );
            Err(vec![Diagnostic::error("Incorrect JSON value type", detail, source.range(node.span))])
        }
    }
}

/// Evaluates members as the attributes of a body.
pub(crate) fn body<'m>(
    evaluator: &mut Evaluator<'_>,
    members: impl Iterator<Item = &'m Member>,
    span: Span,
    scope: &Scope<'_>,
    dialect: Dialect,
) -> Body {
    let mut body =
        Body { attributes: Vec::new(), blocks: Vec::new(), range: evaluator.source.range(span), json: true };
    for member in members.filter(|m| m.name != "//") {
        let mut places = BTreeMap::new();
        let value = walk(evaluator, &member.value, scope, dialect, "", &mut places);
        let range = evaluator.source.range(member.value.span);
        body.attributes.push(Attribute {
            name: member.name.clone(),
            name_range: evaluator.source.range(member.name_span),
            value,
            value_range: range.clone(),
            range,
            is_object: false,
            places: Places(places),
        });
    }
    body
}

fn walk(
    evaluator: &mut Evaluator<'_>,
    node: &Node,
    scope: &Scope<'_>,
    dialect: Dialect,
    path: &str,
    places: &mut BTreeMap<String, Range>,
) -> Value {
    places.insert(path.to_string(), evaluator.source.range(node.span));
    if matches!(node.kind, Json::Array(_) | Json::Object(_)) {
        let bracket = Span { start: node.span.start, end: inside(node.span) };
        places.insert(format!("{path}/{BRACKET_STEP}"), evaluator.source.range(bracket));
    }
    match &node.kind {
        Json::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                values.push(walk(evaluator, item, scope, dialect, &format!("{path}/{i}"), places));
            }
            Value::Tuple(values)
        }
        Json::Object(members) => {
            let mut result = Members::new();
            // In an object that is a value, and no body, the comment's name is one like any other: the decoder knows.
            let comments = dialect == Dialect::Native;
            for member in members.iter().filter(|m| comments || m.name != "//") {
                if dialect == Dialect::Native && member.name == "dynamic" && is_dynamic(&member.value) {
                    expand(evaluator, &member.value, scope, path, places, &mut result);
                    continue;
                }
                let name = member_name(evaluator, member, scope, dialect);
                let path = format!("{path}/{name}");
                places.insert(format!("{path}/{NAME_STEP}"), evaluator.source.range(member.name_span));
                let told = evaluator.problems.len();
                let value = walk(evaluator, &member.value, scope, dialect, &path, places);
                if member.name == "//" {
                    evaluator.problems.truncate(told);
                }
                // Several blocks may have one name.
                let known = result.get(&name).is_some_and(|first| !is_blocks(first) || !is_blocks(&value));
                if known && dialect == Dialect::Native {
                    let detail = format!("The argument {name:?} was already set in this object.");
                    evaluator.report("Duplicate argument", detail, member.name_span);
                }
                add(&mut result, name, value);
            }
            Value::Object(result)
        }
        _ => leaf(evaluator, node, scope, dialect),
    }
}

fn leaf(evaluator: &mut Evaluator<'_>, node: &Node, scope: &Scope<'_>, dialect: Dialect) -> Value {
    match to_expr(evaluator.source, node, dialect) {
        Ok(expr) => evaluator.eval(&expr, scope),
        Err(problems) => {
            evaluator.problems.extend(problems);
            Value::Unknown
        }
    }
}

fn member_name(
    evaluator: &mut Evaluator<'_>,
    member: &Member,
    scope: &Scope<'_>,
    dialect: Dialect,
) -> String {
    if dialect == Dialect::Plain || !member.name.contains("${") {
        return member.name.clone();
    }
    let node = Node { span: member.name_span, kind: Json::String(member.name.clone()) };
    match leaf(evaluator, &node, scope, dialect) {
        Value::String(name) => name,
        _ => member.name.clone(),
    }
}

/// Whether a value may stand for blocks.
fn is_blocks(value: &Value) -> bool {
    match value {
        Value::Object(_) | Value::Unknown => true,
        // The ones before the last were looked at when they were added.
        Value::Tuple(items) => items.last().is_none_or(is_blocks),
        _ => false,
    }
}

/// Adds a member; one of the same name makes a tuple of both, as several blocks of a kind are written.
fn add(members: &mut Members, name: String, value: Value) {
    match members.shift_remove(&name) {
        None => {
            members.insert(name, value);
        }
        Some(Value::Tuple(mut items)) => {
            if let Value::Tuple(more) = value {
                items.extend(more)
            } else {
                items.push(value)
            }
            members.insert(name, Value::Tuple(items));
        }
        Some(first @ Value::Object(_)) => {
            let mut items = vec![first];
            if let Value::Tuple(more) = value {
                items.extend(more)
            } else {
                items.push(value)
            }
            members.insert(name, Value::Tuple(items));
        }
        // Of two plain values the later one counts.
        Some(_) => {
            members.insert(name, value);
        }
    }
}

fn objects(node: &Node) -> Vec<&Vec<Member>> {
    match &node.kind {
        Json::Object(members) => vec![members],
        Json::Array(items) => items.iter().flat_map(objects).collect(),
        _ => Vec::new(),
    }
}

fn part<'m>(members: &'m [Member], name: &str) -> Option<&'m Node> {
    members.iter().find(|m| m.name == name).map(|m| &m.value)
}

/// Tells `dynamic` blocks from a member that happens to have their name.
fn is_dynamic(node: &Node) -> bool {
    let kinds = objects(node);
    let mut specs = kinds.iter().flat_map(|kinds| kinds.iter()).flat_map(|m| objects(&m.value)).peekable();
    specs.peek().is_some()
        && specs.all(|spec| part(spec, "for_each").is_some() && part(spec, "content").is_some())
}

fn expand(
    evaluator: &mut Evaluator<'_>,
    node: &Node,
    scope: &Scope<'_>,
    path: &str,
    places: &mut BTreeMap<String, Range>,
    result: &mut Members,
) {
    let kinds: Vec<&Member> = objects(node).into_iter().flatten().collect();
    for kind in kinds {
        for spec in objects(&kind.value) {
            expand_one(evaluator, kind, spec, scope, path, places, result);
        }
    }
}

fn expand_one(
    evaluator: &mut Evaluator<'_>,
    kind: &Member,
    spec: &[Member],
    scope: &Scope<'_>,
    path: &str,
    places: &mut BTreeMap<String, Range>,
    result: &mut Members,
) {
    let (Some(for_each), Some(content)) = (part(spec, "for_each"), part(spec, "content")) else { return };
    let content_weight = node_weight(content);
    let collection = leaf_or_walk(evaluator, for_each, scope);
    if !matches!(collection, Value::Unknown)
        && collection.as_sequence().is_none()
        && collection.as_members().is_none()
    {
        let detail = format!(
            "Cannot use a {} value in for_each. An iterable collection is required.",
            collection.friendly_type()
        );
        evaluator.report("Invalid dynamic for_each value", detail, for_each.span);
        return;
    }
    let iterator = match part(spec, "iterator").map(|n| &n.kind) {
        Some(Json::String(name)) => name.clone(),
        _ => kind.name.clone(),
    };
    let entries = crate::eval::entries_of(&collection);
    if !evaluator.may_expand(entries.len(), for_each.span) {
        return;
    }
    for (key, value) in entries {
        if !evaluator.spend(1, content_weight, for_each.span) {
            return;
        }
        let item = Value::object([("key".to_string(), key), ("value".to_string(), value)]);
        let names = BTreeMap::from([(iterator.clone(), item)]);
        let inner = scope.child(&names);
        let labels = part(spec, "labels").map(|n| leaf_or_walk(evaluator, n, &inner));
        let labels: Vec<String> = labels
            .as_ref()
            .and_then(Value::as_sequence)
            .unwrap_or_default()
            .iter()
            .filter_map(|v| match v.clone().convert(&crate::types::Type::String) {
                Ok(Value::String(text)) => Some(text),
                _ => None,
            })
            .collect();
        let inner_path = labels.iter().fold(format!("{path}/{}", kind.name), |p, l| format!("{p}/{l}"));
        let body = walk(evaluator, content, &inner, Dialect::Native, &inner_path, places);
        let block =
            labels.into_iter().rev().fold(body, |body, label| Value::Object(Members::from([(label, body)])));
        match result.get_mut(&kind.name) {
            Some(Value::Tuple(blocks)) => blocks.push(block),
            _ => add(result, kind.name.clone(), Value::Tuple(vec![block])),
        }
    }
}

/// What each copy of a block's content takes of the limits.
fn node_weight(node: &Node) -> u64 {
    match &node.kind {
        Json::Array(items) => BLOCK_WEIGHT + items.iter().map(node_weight).sum::<u64>(),
        Json::Object(members) => {
            2 * BLOCK_WEIGHT + members.iter().map(|member| node_weight(&member.value)).sum::<u64>()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => BLOCK_WEIGHT / 8,
    }
}

fn leaf_or_walk(evaluator: &mut Evaluator<'_>, node: &Node, scope: &Scope<'_>) -> Value {
    walk(evaluator, node, scope, Dialect::Native, "", &mut BTreeMap::new())
}
