//! The whole way from texts to an evaluated body.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::body::{Block, Body, constants};
use crate::diagnostics::{Diagnostic, Diagnostics, similar_name};
use crate::eval::{Budget, Evaluator, Scope, Undeclared};
use crate::functions::Functions;
use crate::json::Member;
use crate::json_blocks::{Blocks, Inside};
use crate::json_syntax::{self, BlockForm};
use crate::parse::{Dialect, parse_body};
use crate::range::{Position, Range, Source, Span};
use crate::syntax::{AttributeSyntax, BlockSyntax, BodySyntax};
use crate::value::Value;
use crate::variables::{Assignments, Variables, locals};

/// Largest text that is read: the largest job files that people write have a hundredth of it, and reading it takes less
/// than a second.
pub const SOURCE_BYTES_MAX: usize = 4 << 20;

/// A block that stands at the top of a file and makes up the result.
#[derive(Clone, Copy, Debug)]
pub struct RootBlock {
    /// Its word: `job`.
    pub kind: &'static str,
    /// What its labels are called.
    pub labels: &'static [&'static str],
    /// How many of them there are.
    pub count: Count,
    /// Blocks within it whose content only their reader understands; `dynamic` is a word like any other in them.
    pub opaque: &'static [&'static str],
    /// What stands in it, for the JSON syntax.
    pub inside: fn() -> Inside,
}

/// How often a block may stand in a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    /// Once, neither more nor less.
    One,
    /// As often as needed.
    Any,
}

/// Everything that decides what a file evaluates to.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Name and text of each file, all of the same kind; usually the one job file.
    pub files: Vec<(String, String)>,
    /// Name and text of each file of assignments, as `-var-file` gives them; later ones win.
    pub var_files: Vec<(String, String)>,
    /// A text of assignments that came along with the job.
    pub var_content: String,
    /// Names and texts, as `-var` gives them; they win over all others.
    pub vars: Vec<(String, String)>,
    /// The environment; `NOMAD_VAR_x` sets the variable `x`. Files and flags win over it.
    pub env: BTreeMap<String, String>,
    /// Whether values of variables that nobody declared are errors, or only warnings.
    pub strict: bool,
    /// What functions may see.
    pub functions: Functions,
    /// The blocks that are evaluated.
    pub root_blocks: Vec<RootBlock>,
}

impl Inputs {
    /// A single file and nothing else; strict, without access to files.
    pub fn of_file(
        name: &str,
        text: &str,
        root_blocks: &[RootBlock],
        random: crate::functions::Random,
    ) -> Inputs {
        Inputs {
            files: vec![(name.to_string(), text.to_string())],
            var_files: Vec::new(),
            var_content: String::new(),
            vars: Vec::new(),
            env: BTreeMap::new(),
            strict: true,
            functions: Functions { files: None, random },
            root_blocks: root_blocks.to_vec(),
        }
    }
}

/// What came out of an evaluation, as far as it got.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The root blocks. Absent when the text could not be read, or its variables have no values. Where an expression
    /// failed, there is [`Value::Unknown`].
    pub body: Option<Body>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// Evaluates the root blocks of a file with its variables and locals.
///
/// # Errors
/// All errors that were found.
pub fn evaluate(inputs: &Inputs) -> Result<Body, Diagnostics> {
    let evaluation = evaluate_partly(inputs);
    match evaluation.body {
        Some(body) if !evaluation.diagnostics.has_errors() => Ok(body),
        Some(_) | None => Err(evaluation.diagnostics),
    }
}

/// The same, for a decoder that goes on to look for mistakes where expressions failed.
pub fn evaluate_partly(inputs: &Inputs) -> Evaluation {
    let mut problems = Vec::new();
    let mut roots = Vec::new();
    for (name, text) in &inputs.files {
        match read(name, text) {
            Ok(root) => roots.push(root),
            Err(found) => problems.extend(found),
        }
    }
    let mut assignments = Vec::new();
    let content = (!inputs.var_content.trim().is_empty())
        .then(|| ("<variables>".to_string(), inputs.var_content.clone()));
    for (name, text) in inputs.var_files.iter().chain(&content) {
        match Assignments::parse(name, text) {
            Ok(file) => assignments.push(file),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Evaluation { body: None, diagnostics: Diagnostics::syntax(problems) };
    }
    let mut run = Run { inputs, budget: Budget::default(), problems };
    let body = run.evaluate(&roots, &assignments);
    Evaluation { body, diagnostics: Diagnostics::evaluation(run.problems) }
}

/// Reads a file of constants, native or JSON: agent configuration, policies, namespaces, node pools.
///
/// Native text may be HCL1: names in quotes, several items on a line, repeated names, and no meaning in `${...}`.
///
/// # Errors
/// All errors that were found.
pub fn parse_plain(name: &str, text: &str) -> Result<Body, Diagnostics> {
    let source = Source::new(name, text);
    check_size(&source).map_err(Diagnostics::syntax)?;
    let (body, problems) = if json_syntax::is_json(text) {
        let (members, span) = json_syntax::parse_root(&source).map_err(Diagnostics::syntax)?;
        let functions =
            Functions { files: None, random: std::sync::Arc::new(|bytes: &mut [u8]| bytes.fill(0)) };
        let mut budget = Budget::default();
        let mut evaluator = Evaluator::new(&source, &functions, Undeclared::Refused, &mut budget);
        let body = json_syntax::constants(&mut evaluator, members.iter(), span);
        (body, evaluator.problems)
    } else {
        let syntax = parse_body(&source, Dialect::Plain).map_err(Diagnostics::syntax)?;
        constants(&source, &syntax)
    };
    if problems.is_empty() { Ok(body) } else { Err(Diagnostics::evaluation(problems)) }
}

fn check_size(source: &Source) -> Result<(), Vec<Diagnostic>> {
    if source.text.len() <= SOURCE_BYTES_MAX {
        return Ok(());
    }
    let detail =
        format!("{} has {} bytes; at most {SOURCE_BYTES_MAX} are read.", source.name, source.text.len());
    Err(vec![Diagnostic::general("File too large", detail)])
}

/// A file that was read, in either syntax.
struct Root {
    source: Source,
    syntax: BodySyntax,
    /// Root blocks in JSON syntax.
    members: Vec<Member>,
    json: bool,
}

/// Values of variables are constants: a text in them is no template.
const VARIABLE: BlockForm = BlockForm { labels: 1, dialect: Dialect::Plain, blocks: &["validation"] };
const VARIABLES: BlockForm = BlockForm { labels: 0, dialect: Dialect::Plain, blocks: &[] };
const LOCALS: BlockForm = BlockForm { labels: 0, dialect: Dialect::Native, blocks: &[] };

fn read(name: &str, text: &str) -> Result<Root, Vec<Diagnostic>> {
    let source = Source::new(name, text);
    check_size(&source)?;
    if !json_syntax::is_json(text) {
        let syntax = parse_body(&source, Dialect::Native)?;
        return Ok(Root { source, syntax, members: Vec::new(), json: false });
    }
    let (members, span) = json_syntax::parse_root(&source)?;
    let mut items = Vec::new();
    let mut rest = Vec::new();
    for member in members {
        let blocks = match member.name.as_str() {
            "//" => continue,
            "variable" => json_syntax::to_blocks(&source, &member, VARIABLE)?,
            "variables" => json_syntax::to_blocks(&source, &member, VARIABLES)?,
            "locals" => json_syntax::to_blocks(&source, &member, LOCALS)?,
            _ => {
                rest.push(member);
                continue;
            }
        };
        items.extend(blocks.into_iter().map(crate::syntax::Item::Block));
    }
    Ok(Root { source, syntax: BodySyntax { items, span, json: true }, members: rest, json: true })
}

struct Run<'i> {
    inputs: &'i Inputs,
    budget: Budget,
    problems: Vec<Diagnostic>,
}

impl Run<'_> {
    fn failed(&self) -> bool {
        self.problems.iter().any(|p| p.severity == crate::diagnostics::Severity::Error)
    }

    fn evaluate(&mut self, roots: &[Root], assignments: &[Assignments]) -> Option<Body> {
        roots.iter().for_each(|root| self.check_root(root));
        if self.failed() {
            return None;
        }
        let mut names = self.variables(roots, assignments);
        if self.failed() {
            return None;
        }
        let mut all: Vec<(Source, AttributeSyntax)> = Vec::new();
        for root in roots {
            for block in root.syntax.blocks().filter(|b| b.kind == "locals") {
                all.extend(block.body.attributes().map(|a| (root.source.clone(), a.clone())));
            }
        }
        let found = locals(all, &mut names, &self.inputs.functions, &mut self.budget);
        self.problems.extend(found);
        if self.failed() {
            return None;
        }
        let mut body: Option<Body> = None;
        for root in roots {
            let next = self.root_body(root, &names);
            match &mut body {
                None => body = Some(next),
                Some(body) => {
                    body.attributes.extend(next.attributes);
                    body.blocks.extend(next.blocks);
                }
            }
        }
        let body = body.unwrap_or_else(empty);
        self.check_counts(&body);
        Some(body)
    }

    fn variables(&mut self, roots: &[Root], assignments: &[Assignments]) -> BTreeMap<String, Value> {
        let (functions, strict) = (&self.inputs.functions, self.inputs.strict);
        let mut variables = Variables::default();
        for root in roots {
            for block in root.syntax.blocks() {
                match block.kind.as_str() {
                    "variable" => variables.declare(&root.source, block, functions, &mut self.budget),
                    "variables" => variables.declare_all(&root.source, block, functions, &mut self.budget),
                    _ => {}
                }
            }
        }
        variables.set_env(&self.inputs.env, functions, &mut self.budget);
        for file in assignments {
            variables.set_file(file, strict, functions, &mut self.budget);
        }
        variables.set_flags(&self.inputs.vars, strict, functions, &mut self.budget);
        let var = if variables.problems.iter().any(|p| p.severity == crate::diagnostics::Severity::Error) {
            Value::object([])
        } else {
            variables.resolve(functions, &mut self.budget)
        };
        self.problems.append(&mut variables.problems);
        BTreeMap::from([("var".to_string(), var)])
    }

    /// Checks which arguments and blocks stand at the top, and how many labels these have.
    fn check_root(&mut self, root: &Root) {
        let source = &root.source;
        let known = || {
            ["variable", "variables", "locals"]
                .into_iter()
                .chain(self.inputs.root_blocks.iter().map(|b| b.kind))
        };
        let mut found = Vec::new();
        for attribute in root.syntax.attributes() {
            let mut detail = format!("An argument named {:?} is not expected here.", attribute.name);
            if let Some(kind) = known().find(|k| *k == attribute.name) {
                detail.push_str(&format!(" Did you mean to define a block of type {kind:?}?"));
            }
            found.push(Diagnostic::error("Unsupported argument", detail, source.range(attribute.name_span)));
        }
        for block in root.syntax.blocks() {
            let labels = match block.kind.as_str() {
                "variable" => &["name"][..],
                "variables" | "locals" => &[],
                kind => match self.inputs.root_blocks.iter().find(|b| b.kind == kind) {
                    Some(root) => root.labels,
                    None => {
                        found.push(unknown_block(kind, known(), source.range(block.kind_span)));
                        continue;
                    }
                },
            };
            found.extend(check_labels(source, block, labels));
            if matches!(block.kind.as_str(), "variables" | "locals")
                && let Some(inner) = block.body.blocks().next()
            {
                let summary = format!("Unexpected {:?} block", inner.kind);
                let place = source.range(inner.kind_span);
                found.push(Diagnostic::error(summary, "Blocks are not allowed here.", place));
            }
        }
        let mut blocks = Blocks { source, problems: Vec::new() };
        for member in &root.members {
            match self.inputs.root_blocks.iter().find(|b| b.kind == member.name) {
                Some(root) => drop(blocks.unpack(member, root.labels.first().copied())),
                None => found.push(unknown_member(&member.name, known(), source.range(member.name_span))),
            }
        }
        found.append(&mut blocks.problems);
        self.problems.extend(found);
    }

    fn root_body(&mut self, root: &Root, names: &BTreeMap<String, Value>) -> Body {
        let wanted = |kind: &str| self.inputs.root_blocks.iter().find(|b| b.kind == kind);
        let mut items: Vec<Cow<'_, BlockSyntax>> =
            root.syntax.blocks().filter(|b| wanted(&b.kind).is_some()).map(Cow::Borrowed).collect();
        let mut blocks = Blocks { source: &root.source, problems: Vec::new() };
        for member in &root.members {
            let Some(root) = wanted(&member.name) else { continue };
            for unread in blocks.unpack(member, root.labels.first().copied()) {
                items.push(Cow::Owned(blocks.block(&unread, (root.inside)())));
            }
        }
        self.problems.append(&mut blocks.problems);
        let scope = Scope::root(names);
        let mut evaluator =
            Evaluator::new(&root.source, &self.inputs.functions, Undeclared::Runtime, &mut self.budget);
        evaluator.opaque = self.inputs.root_blocks.iter().flat_map(|b| b.opaque).copied().collect();
        let mut body = Body {
            attributes: Vec::new(),
            blocks: Vec::new(),
            range: root.source.range(root.syntax.span),
            json: root.json,
        };
        for item in &items {
            body.blocks.push(evaluator.block(item, &scope, true));
        }
        self.problems.append(&mut evaluator.problems);
        body
    }

    fn check_counts(&mut self, body: &Body) {
        for root in self.inputs.root_blocks.iter().filter(|b| b.count == Count::One) {
            let kind = root.kind;
            let blocks: Vec<&Block> = body.blocks_of(kind).collect();
            if blocks.is_empty() {
                let detail = format!("A {kind} block is required");
                self.problems.push(Diagnostic::general(format!("Missing {kind} block"), detail));
            }
            for block in blocks.iter().skip(1) {
                let detail = format!(
                    "Only one block of type {kind:?} is allowed. Previous definition was at {}.",
                    blocks[0].range
                );
                self.problems.push(Diagnostic::error(
                    format!("Duplicate {kind} block"),
                    detail,
                    block.range.clone(),
                ));
            }
        }
    }
}

fn empty() -> Body {
    let span = Span { start: Position::START, end: Position::START };
    let range = Source::new("", "").range(span);
    Body { attributes: Vec::new(), blocks: Vec::new(), range, json: false }
}

fn unknown_block<'k>(kind: &str, known: impl Iterator<Item = &'k str>, range: Range) -> Diagnostic {
    let detail = format!("Blocks of type {kind:?} are not expected here.");
    match similar_name(kind, known) {
        Some(similar) => {
            Diagnostic::error("Unsupported block type", format!("{detail} Did you mean {similar:?}?"), range)
                .suggest(format!("write {similar:?}"))
        }
        None => Diagnostic::error("Unsupported block type", detail, range),
    }
}

/// The same in the JSON syntax, which does not tell arguments and blocks apart.
fn unknown_member<'k>(name: &str, known: impl Iterator<Item = &'k str>, range: Range) -> Diagnostic {
    let hint = similar_name(name, known).map(|known| format!(" Did you mean {known:?}?")).unwrap_or_default();
    let detail = format!("No argument or block type is named {name:?}.{hint}");
    Diagnostic::error("Extraneous JSON object property", detail, range)
}

fn check_labels(source: &Source, block: &BlockSyntax, wanted: &[&str]) -> Option<Diagnostic> {
    let (kind, count) = (&block.kind, wanted.len());
    if let Some(missing) = wanted.get(block.labels.len()) {
        let names = wanted.join(", ");
        let detail = format!("All {kind} blocks must have {count} labels ({names}).");
        return Some(Diagnostic::error(
            format!("Missing {missing} for {kind}"),
            detail,
            source.range(block.open),
        ));
    }
    let (_, extra) = block.labels.get(count)?;
    let detail = match count {
        0 => format!("No labels are expected for {kind} blocks."),
        _ => format!("Only {count} labels ({}) are expected for {kind} blocks.", wanted.join(", ")),
    };
    Some(Diagnostic::error(format!("Extraneous label for {kind}"), detail, source.range(*extra)))
}
