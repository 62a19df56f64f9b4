//! HCL in JSON syntax: strings are templates, and `//` members are comments. Blocks are in `json_blocks`.

use std::collections::BTreeMap;

use crate::body::{Attribute, Body, Places};
use crate::diagnostics::Diagnostic;
use crate::eval::{Evaluator, Scope};
use crate::json::{Json, Member, Node};
use crate::json_reader;
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
    let node = json_reader::read(source)?;
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
            let template = parse_template(source, text, inside(node.span))?;
            return Ok(Expr::new(node.span, template.kind));
        }
        Json::Array(items) => {
            let items: Result<Vec<Expr>, _> =
                items.iter().map(|item| to_expr(source, item, dialect)).collect();
            ExprKind::Tuple(items?)
        }
        Json::Object(members) => {
            let mut pairs = Vec::with_capacity(members.len());
            let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
            for member in members {
                if let Some(first) =
                    seen.insert(&member.name, member.name_span).filter(|_| dialect == Dialect::Native)
                {
                    let detail = format!(
                        "An attribute named {:?} was already defined at {}.",
                        member.name,
                        source.range(first)
                    );
                    let place = source.range(member.name_span);
                    return Err(vec![Diagnostic::error("Duplicate object attribute", detail, place)]);
                }
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
pub(crate) fn inside(span: Span) -> Position {
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
                head: member.name_span,
                open: node.span.at_start(),
                body: BodySyntax { items, span: node.span, json: true },
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

/// A body of constants: all members are attributes, and texts are just texts.
pub(crate) fn constants<'m>(
    evaluator: &mut Evaluator<'_>,
    members: impl Iterator<Item = &'m Member>,
    span: Span,
) -> Body {
    let mut body =
        Body { attributes: Vec::new(), blocks: Vec::new(), range: evaluator.source.range(span), json: true };
    for member in members.filter(|m| m.name != "//") {
        let mut places = BTreeMap::new();
        let value = walk(evaluator, &member.value, "", &mut places);
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
    path: &str,
    places: &mut BTreeMap<String, Range>,
) -> Value {
    places.insert(path.to_string(), evaluator.source.range(node.span));
    match &node.kind {
        Json::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                values.push(walk(evaluator, item, &format!("{path}/{i}"), places));
            }
            Value::Tuple(values)
        }
        Json::Object(members) => {
            let mut result = Members::new();
            for member in members.iter().filter(|m| m.name != "//") {
                let path = format!("{path}/{}", member.name);
                let value = walk(evaluator, &member.value, &path, places);
                add(&mut result, member.name.clone(), value);
            }
            Value::Object(result)
        }
        _ => match to_expr(evaluator.source, node, Dialect::Plain) {
            Ok(expr) => evaluator.eval(&expr, &Scope::root(&BTreeMap::new())),
            Err(problems) => {
                evaluator.problems.extend(problems);
                Value::Unknown
            }
        },
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
