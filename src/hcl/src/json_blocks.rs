//! Blocks in HCL's JSON syntax: objects and lists of objects, below as many names as the blocks have labels. What is a
//! block and what an argument, only a schema can tell; names are taken as they stand, and not evaluated.

use std::collections::BTreeMap;

use crate::diagnostics::Diagnostic;
use crate::json::{Json, Member, Node};
use crate::json_syntax::{inside, to_expr};
use crate::parse::{Dialect, parse_expression};
use crate::range::{Source, Span};
use crate::syntax::{AttributeSyntax, BlockSyntax, BodySyntax, Expr, ExprKind, Item};
use crate::value::Value;

/// What a body may hold, for the JSON syntax.
pub trait Schema: Sync {
    /// Whether this is an argument.
    fn has_argument(&self, name: &str) -> bool;

    /// The blocks of this name, if there may be any.
    fn block(&self, name: &str) -> Option<Form>;
}

/// How blocks of a name look.
#[derive(Clone, Copy)]
pub struct Form {
    /// What their label is called, if they have one.
    pub label: Option<&'static str>,
    /// What stands between their braces.
    pub inside: Inside,
}

/// What stands between the braces of a block.
#[derive(Clone, Copy)]
pub enum Inside {
    /// Arguments of any name.
    Arguments,
    /// Arguments and blocks.
    Body(&'static dyn Schema),
}

const WRONG_TYPE: &str = "Incorrect JSON value type";

/// A block whose labels are known and whose body is not read yet.
pub(crate) struct Unread<'n> {
    kind: &'n Member,
    labels: Vec<(&'n str, Span)>,
    /// The bracket of the object, or of the list that the object is in.
    head: Span,
    body: &'n Node,
}

/// Reads blocks of a JSON text as native syntax would have them.
pub(crate) struct Blocks<'s> {
    pub source: &'s Source,
    pub problems: Vec<Diagnostic>,
}

impl Blocks<'_> {
    fn report(&mut self, summary: &str, detail: impl Into<String>, span: Span) {
        /// After so many the reader mends the first ones and asks again.
        const PROBLEMS_MAX: usize = 1000;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Diagnostic::error(summary, detail, self.source.range(span)));
        }
    }

    /// Finds the blocks that a member stands for.
    pub fn unpack<'n>(&mut self, member: &'n Member, label: Option<&str>) -> Vec<Unread<'n>> {
        let mut found = Vec::new();
        let Some(label) = label else {
            self.unpack_body(member, &member.value, None, &mut found);
            return found;
        };
        let list = format!(
            "Either a JSON object or JSON array of objects is required here, to specify {label} labels for this block."
        );
        let item = format!("A JSON object is required here, to specify {label} labels for this block.");
        let names = self.members(&member.value, &list, &item);
        if names.is_empty() {
            let detail = format!(
                "At least one object property is required, whose name represents the {} block's {label}.",
                member.name
            );
            self.report("Missing block label", detail, member.value.start());
        }
        for named in names {
            self.unpack_body(member, &named.value, Some((named.name.as_str(), named.name_span)), &mut found);
        }
        found
    }

    fn unpack_body<'n>(
        &mut self,
        kind: &'n Member,
        value: &'n Node,
        label: Option<(&'n str, Span)>,
        found: &mut Vec<Unread<'n>>,
    ) {
        let head = value.start();
        let mut add = |body| found.push(Unread { kind, labels: label.into_iter().collect(), head, body });
        match &value.kind {
            Json::Null => {}
            Json::Object(_) => add(value),
            Json::Array(items) => items.iter().for_each(add),
            Json::Bool(_) | Json::Number(_) | Json::String(_) => {
                let detail = format!(
                    "Either a JSON object or a JSON array is required, representing the contents of one or more {:?} blocks.",
                    kind.name
                );
                self.report(WRONG_TYPE, detail, head);
            }
        }
    }

    /// The members of an object, or of all objects in a list.
    fn members<'n>(&mut self, node: &'n Node, no_list: &str, no_item: &str) -> Vec<&'n Member> {
        match &node.kind {
            Json::Null => Vec::new(),
            Json::Object(members) => members.iter().collect(),
            Json::Array(items) => {
                let mut all = Vec::new();
                for item in items {
                    match &item.kind {
                        Json::Object(members) => all.extend(members),
                        _ => self.report(WRONG_TYPE, no_item, item.start()),
                    }
                }
                all
            }
            Json::Bool(_) | Json::Number(_) | Json::String(_) => {
                self.report(WRONG_TYPE, no_list, node.start());
                Vec::new()
            }
        }
    }

    /// Reads what is inside of a block.
    pub fn block(&mut self, unread: &Unread<'_>, form: Inside) -> BlockSyntax {
        let node = unread.body;
        let items = match form {
            Inside::Arguments => self.arguments(node),
            Inside::Body(schema) => self.body(node, schema),
        };
        BlockSyntax {
            kind: unread.kind.name.clone(),
            kind_span: unread.kind.name_span,
            labels: unread.labels.iter().map(|(label, span)| ((*label).to_owned(), *span)).collect(),
            head: unread.head,
            open: node.missing_place(),
            body: BodySyntax { items, span: node.span, json: true },
        }
    }

    /// A body without blocks.
    fn arguments(&mut self, node: &Node) -> Vec<Item> {
        let Json::Object(members) = &node.kind else {
            let detail = "A JSON object is required here, setting the arguments for this block.";
            self.report(WRONG_TYPE, detail, node.start());
            return Vec::new();
        };
        let mut seen = BTreeMap::new();
        let mut items = Vec::new();
        for member in members.iter().filter(|member| member.name != "//") {
            if self.is_first(&mut seen, member, "Duplicate attribute definition") {
                items.push(self.argument(member));
            }
        }
        items
    }

    fn body(&mut self, node: &Node, schema: &'static dyn Schema) -> Vec<Item> {
        let mut seen = BTreeMap::new();
        let mut items = Vec::new();
        for member in
            self.members(node, NO_BODY.0, NO_BODY.1).into_iter().filter(|member| member.name != "//")
        {
            if let Some(form) = schema.block(&member.name) {
                for unread in self.unpack(member, form.label) {
                    items.push(Item::Block(self.block(&unread, form.inside)));
                }
            } else if member.name == "dynamic" {
                for unread in self.unpack(member, Some("type")) {
                    items.extend(self.dynamic(&unread, schema).map(Item::Block));
                }
            } else if !schema.has_argument(&member.name)
                || self.is_first(&mut seen, member, "Duplicate argument")
            {
                // Whoever reads the body says that it does not know an argument.
                items.push(self.argument(member));
            }
        }
        items
    }

    /// Whether an argument was not set before.
    fn is_first<'n>(
        &mut self,
        seen: &mut BTreeMap<&'n str, Span>,
        member: &'n Member,
        summary: &str,
    ) -> bool {
        let whole = member.name_span.to(member.value.span);
        match seen.get(member.name.as_str()) {
            None => {
                seen.insert(&member.name, whole);
                true
            }
            Some(first) => {
                let detail = format!(
                    "The argument {:?} was already set at {}.",
                    member.name,
                    self.source.range(*first)
                );
                self.report(summary, detail, member.name_span);
                false
            }
        }
    }

    fn argument(&mut self, member: &Member) -> Item {
        let expr = match to_expr(self.source, &member.value, Dialect::Native) {
            Ok(expr) => expr,
            Err(problems) => {
                self.problems.extend(problems);
                Expr::new(member.value.start(), ExprKind::Literal(Value::Unknown))
            }
        };
        Item::Attribute(AttributeSyntax { name: member.name.clone(), name_span: member.name_span, expr })
    }

    /// A `dynamic` block, as native syntax has it.
    fn dynamic(&mut self, unread: &Unread<'_>, schema: &'static dyn Schema) -> Option<BlockSyntax> {
        let (kind, kind_span) = *unread.labels.first()?;
        let Some(form) = schema.block(kind) else {
            let detail = format!("Blocks of type {kind:?} are not expected here.");
            self.report("Unsupported block type", detail, kind_span);
            return None;
        };
        let known =
            |name| matches!(name, "for_each" | "iterator") || (form.label.is_some() && name == "labels");
        let before = self.problems.len();
        let members = self.members(unread.body, NO_BODY.0, NO_BODY.1);
        let mut seen = BTreeMap::new();
        let mut items = Vec::new();
        for member in members.into_iter().filter(|member| member.name != "//") {
            match member.name.as_str() {
                "content" => {
                    for content in self.unpack(member, None) {
                        items.push(Item::Block(self.block(&content, form.inside)));
                    }
                }
                name if !known(name) => {
                    let detail = format!("No argument or block type is named {name:?}.");
                    self.report("Extraneous JSON object property", detail, member.name_span);
                }
                name if self.is_first(&mut seen, member, "Duplicate argument") => {
                    let mut item = self.argument(member);
                    if let (Item::Attribute(attribute), "iterator") = (&mut item, name) {
                        self.as_name(attribute, &member.value);
                    }
                    items.push(item);
                }
                _ => {}
            }
        }
        // A `dynamic` block with mistakes generates nothing, and nothing more is said of it.
        (self.problems.len() == before).then(|| BlockSyntax {
            kind: unread.kind.name.clone(),
            kind_span: unread.kind.name_span,
            labels: vec![(kind.to_owned(), kind_span)],
            head: unread.head,
            open: unread.body.missing_place(),
            body: BodySyntax { items, span: unread.body.span, json: true },
        })
    }

    /// A name is written as a text here.
    fn as_name(&self, attribute: &mut AttributeSyntax, node: &Node) {
        let Json::String(text) = &node.kind else { return };
        let named = Source { name: self.source.name.clone(), text: text.as_str().into() };
        if let Ok(expr) = parse_expression(&named) {
            let mut span = node.span;
            span.end.byte = span.start.byte + text.len();
            span.end.column = span.start.column + text.len() as u32;
            attribute.expr = Expr::new(span, expr.kind);
        }
    }
}

/// What is said of a value, and of an item in a list, that is no body.
const NO_BODY: (&str, &str) = (
    "Either a JSON object or JSON array of objects is required here, to define arguments and child blocks.",
    "A JSON object is required here, to define arguments and child blocks.",
);

impl Node {
    /// What messages point at that are about all of it: an opening bracket, or the whole of anything else.
    pub fn start(&self) -> Span {
        match self.kind {
            Json::Array(_) | Json::Object(_) => Span { start: self.span.start, end: inside(self.span) },
            _ => self.span,
        }
    }

    /// What messages point at when something is missing: the closing brace of an object, else where it begins.
    fn missing_place(&self) -> Span {
        if !matches!(self.kind, Json::Object(_)) {
            return self.start();
        }
        let mut start = self.span.end;
        start.byte = start.byte.saturating_sub(1);
        start.column = start.column.saturating_sub(1);
        Span { start, end: self.span.end }
    }
}
