//! The evaluated file: what a decoder reads.

use std::collections::BTreeMap;

use crate::eval::{Budget, Evaluator, Scope, Undeclared};
use crate::functions::Functions;
use crate::range::{Range, Source};
use crate::syntax::{AttributeSyntax, BlockSyntax, BodySyntax, Expr, ExprKind, Item};
use crate::types::Type;
use crate::value::Value;

/// Arguments and blocks, in the order they are written. Those of `dynamic` blocks stand where these stood.
#[derive(Clone, Debug)]
pub struct Body {
    /// `name = value`; in JSON syntax, every member.
    pub attributes: Vec<Attribute>,
    /// `kind "label" { ... }`; in JSON syntax none: a decoder finds them in the attributes of that name.
    pub blocks: Vec<Block>,
    /// The whole file, or from the opening brace to the closing one.
    pub range: Range,
    /// Whether the text is JSON.
    pub json: bool,
}

impl Body {
    /// The attribute of that name; the first, where HCL1 text has several.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// The blocks of a kind.
    pub fn blocks_of<'b>(&'b self, kind: &'b str) -> impl Iterator<Item = &'b Block> {
        self.blocks.iter().filter(move |b| b.kind == kind)
    }
}

/// One argument.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub name_range: Range,
    /// What was assigned. [`Value::Unknown`] where an error about it has been reported.
    pub value: Value,
    /// The part of the expression that an error about the value points at: where it begins.
    pub value_range: Range,
    /// The whole expression.
    pub range: Range,
    /// Whether it is written as an object, `{ ... }`, and not computed.
    pub is_object: bool,
    /// In JSON syntax, where each part of the value stands.
    pub places: Places,
}

/// Where the parts of a JSON value stand, by their path: `/web/task/main/driver`.
#[derive(Clone, Debug, Default)]
pub struct Places(pub(crate) BTreeMap<String, Range>);

impl Places {
    /// Where the member at the end of this path of names and indexes stands.
    pub fn find<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> Option<&Range> {
        let key: String = path.into_iter().flat_map(|step| ["/", step]).collect();
        self.0.get(&key)
    }
}

/// One block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The word it begins with.
    pub kind: String,
    /// Where that word stands.
    pub kind_range: Range,
    /// The labels behind it and where they stand, with their quotes.
    pub labels: Vec<(String, Range)>,
    /// What is between the braces.
    pub body: Body,
    /// Kind and labels: what an error about the block points at.
    pub range: Range,
    /// The opening brace: what an error about a missing label points at.
    pub open_range: Range,
}

/// Blocks that one `dynamic` block may give. A job with more tasks than this is one that went wrong.
const EXPANSIONS_MAX: usize = 10_000;

/// What an empty generated block is counted as, in bytes: its places, and what its decoder makes of it. Some sixty
/// thousand of them use the limit up.
const BLOCK_WEIGHT: u64 = 2048;

impl Evaluator<'_> {
    pub(crate) fn body(&mut self, syntax: &BodySyntax, scope: &Scope<'_>, dynamic: bool) -> Body {
        let mut body = Body {
            attributes: Vec::new(),
            blocks: Vec::new(),
            range: self.source.range(syntax.span),
            json: false,
        };
        for item in &syntax.items {
            match item {
                Item::Attribute(attribute) => {
                    let value = self.eval(&attribute.expr, scope);
                    body.attributes.push(self.attribute_of(attribute, value));
                }
                Item::Block(block) if dynamic && block.kind == "dynamic" => {
                    let generated = self.expand(block, scope);
                    body.blocks.extend(generated);
                }
                Item::Block(block) => {
                    let known = dynamic && !self.opaque.contains(&block.kind.as_str());
                    let inner = self.body(&block.body, scope, known);
                    body.blocks.push(self.block_of(block, inner));
                }
            }
        }
        body
    }

    fn attribute_of(&self, syntax: &AttributeSyntax, value: Value) -> Attribute {
        Attribute {
            name: syntax.name.clone(),
            name_range: self.source.range(syntax.name_span),
            value,
            value_range: self.source.range(syntax.expr.start()),
            range: self.source.range(syntax.expr.span),
            is_object: matches!(syntax.expr.kind, ExprKind::Object(_)),
            places: Places::default(),
        }
    }

    fn block_of(&self, syntax: &BlockSyntax, body: Body) -> Block {
        Block {
            kind: syntax.kind.clone(),
            kind_range: self.source.range(syntax.kind_span),
            labels: syntax
                .labels
                .iter()
                .map(|(label, span)| (label.clone(), self.source.range(*span)))
                .collect(),
            body,
            range: self.source.range(syntax.head()),
            open_range: self.source.range(syntax.open),
        }
    }

    /// The blocks that a `dynamic` block stands for.
    fn expand(&mut self, block: &BlockSyntax, scope: &Scope<'_>) -> Vec<Block> {
        let [(kind, kind_span)] = block.labels.as_slice() else {
            let detail = "A dynamic block has one label: the kind of the blocks it generates.";
            self.report("Invalid dynamic block", detail, block.head());
            return Vec::new();
        };
        let Some(spec) = self.dynamic_spec(block) else { return Vec::new() };
        let collection = self.eval(&spec.for_each.expr, scope);
        let span = spec.for_each.expr.span;
        match &collection {
            Value::Unknown => return Vec::new(),
            Value::Null => {
                self.report("Invalid dynamic for_each value", "Cannot use a null value in for_each.", span);
                return Vec::new();
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let detail = format!(
                    "Cannot use a {} value in for_each. An iterable collection is required.",
                    collection.friendly_type()
                );
                self.report("Invalid dynamic for_each value", detail, span);
                return Vec::new();
            }
            _ => {}
        }
        let entries = crate::eval::entries_of(&collection);
        if entries.len() > EXPANSIONS_MAX {
            let detail = format!(
                "A dynamic block may generate {EXPANSIONS_MAX} blocks; this collection has {} elements.",
                entries.len()
            );
            self.report("Invalid dynamic for_each value", detail, span);
            return Vec::new();
        }
        let iterator = spec.iterator.clone().unwrap_or_else(|| kind.clone());
        let mut blocks = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if !self.spend(1, BLOCK_WEIGHT, span) {
                break;
            }
            let item = Value::object([("key".to_string(), key), ("value".to_string(), value)]);
            let names = BTreeMap::from([(iterator.clone(), item)]);
            let inner = scope.child(&names);
            let Some(labels) = self.dynamic_labels(spec.labels, &inner) else { continue };
            let body = self.body(&spec.content.body, &inner, true);
            blocks.push(Block {
                kind: kind.clone(),
                kind_range: self.source.range(*kind_span),
                labels,
                body,
                range: self.source.range(block.head()),
                open_range: self.source.range(spec.content.open),
            });
        }
        blocks
    }

    fn dynamic_spec<'s>(&mut self, block: &'s BlockSyntax) -> Option<DynamicSpec<'s>> {
        let (mut for_each, mut labels, mut iterator) = (None, None, None);
        let mut valid = true;
        for attribute in block.body.attributes() {
            match attribute.name.as_str() {
                "for_each" => for_each = Some(attribute),
                "labels" => labels = Some(&attribute.expr),
                "iterator" => match &attribute.expr.kind {
                    ExprKind::Traversal { root, steps, .. } if steps.is_empty() => {
                        iterator = Some(root.clone())
                    }
                    _ => {
                        let detail = "Dynamic iterator must be a single variable name.";
                        self.report("Invalid expression", detail, attribute.expr.span);
                        valid = false;
                    }
                },
                other => {
                    let detail = format!("An argument named {other:?} is not expected here.");
                    self.report("Unsupported argument", detail, attribute.name_span);
                    valid = false;
                }
            }
        }
        let mut content: Option<&BlockSyntax> = None;
        for inner in block.body.blocks() {
            match (inner.kind.as_str(), content) {
                ("content", None) => content = Some(inner),
                ("content", Some(_)) => {
                    let detail = "Only one nested content block is allowed for each dynamic block.";
                    self.report("Extraneous dynamic content block", detail, inner.head());
                    valid = false;
                }
                (other, _) => {
                    let detail = format!("Blocks of type {other:?} are not expected here.");
                    self.report("Unsupported block type", detail, inner.kind_span);
                    valid = false;
                }
            }
        }
        let place = block.body.span.at_start();
        if for_each.is_none() {
            let detail = "The argument \"for_each\" is required, but no definition was found.";
            self.report("Missing required argument", detail, place);
        }
        if content.is_none() {
            let detail = "A dynamic block must have a nested block of type \"content\" to describe the body of each generated block.";
            self.report("Missing dynamic content block", detail, place);
        }
        let spec = DynamicSpec { for_each: for_each?, labels, iterator, content: content? };
        valid.then_some(spec)
    }

    fn dynamic_labels(&mut self, labels: Option<&Expr>, scope: &Scope<'_>) -> Option<Vec<(String, Range)>> {
        let Some(expr) = labels else { return Some(Vec::new()) };
        let each: Vec<(Value, &Expr)> = match &expr.kind {
            ExprKind::Tuple(items) => items.iter().map(|item| (self.eval(item, scope), item)).collect(),
            _ => match self.eval(expr, scope) {
                Value::Tuple(items) | Value::List(_, items) => items.into_iter().map(|v| (v, expr)).collect(),
                Value::Unknown => return None,
                _ => {
                    self.report(
                        "Invalid dynamic block label",
                        "The labels must be a list of strings.",
                        expr.span,
                    );
                    return None;
                }
            },
        };
        let mut texts = Vec::new();
        for (value, expr) in each {
            match value.convert(&Type::String) {
                Ok(Value::String(text)) => texts.push((text, self.source.range(expr.span))),
                Ok(Value::Null) => {
                    self.report(
                        "Invalid dynamic block label",
                        "Cannot use a null value as a dynamic block label.",
                        expr.span,
                    );
                    return None;
                }
                Ok(_) => return None,
                Err(e) => {
                    self.report(
                        "Invalid dynamic block label",
                        format!("Cannot use this value as a dynamic block label: {e}."),
                        expr.span,
                    );
                    return None;
                }
            }
        }
        Some(texts)
    }
}

struct DynamicSpec<'s> {
    for_each: &'s AttributeSyntax,
    labels: Option<&'s Expr>,
    iterator: Option<String>,
    content: &'s BlockSyntax,
}

/// Evaluates a body of constants, as configuration files have them.
pub(crate) fn constants(source: &Source, syntax: &BodySyntax) -> (Body, Vec<crate::diagnostics::Diagnostic>) {
    let functions = Functions { files: None, random: std::sync::Arc::new(|bytes: &mut [u8]| bytes.fill(0)) };
    let mut budget = Budget::default();
    let mut evaluator = Evaluator::new(source, &functions, Undeclared::Refused, &mut budget);
    let names = BTreeMap::new();
    let body = evaluator.body(syntax, &Scope::root(&names), false);
    (body, evaluator.problems)
}
