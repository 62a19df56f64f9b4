//! `variable`, `variables` and `locals` blocks, and the values that come from outside.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use crate::diagnostics::{Diagnostic, similar_name};
use crate::eval::{Budget, Evaluator, Scope, Undeclared};
use crate::functions::Functions;
use crate::json_syntax;
use crate::parse::{Dialect, parse_body, parse_expression};
use crate::range::{Range, Source, Span};
use crate::references::{Reference, references};
use crate::syntax::{AttributeSyntax, BlockSyntax, Expr, ExprKind};
use crate::types::{Type, TypeUse};
use crate::value::Value;

/// Environment variables with this prefix set variables.
const ENV_PREFIX: &str = "NOMAD_VAR_";

/// Where a value came from, as messages name it.
const DEFAULT: &str = "default";

#[derive(Debug)]
struct Rule {
    condition: Expr,
    message: String,
    range: Range,
}

#[derive(Debug)]
struct Variable {
    kind: Option<Type>,
    /// The value, where it came from, and its text.
    value: Option<(Value, &'static str, Option<Range>)>,
    rules: Vec<Rule>,
    source: Source,
}

/// Declared variables and what they were set to.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    declared: IndexMap<String, Variable>,
    pub problems: Vec<Diagnostic>,
}

impl Variables {
    fn problem(&mut self, summary: impl Into<String>, detail: impl Into<String>, range: Range) {
        self.problems.push(Diagnostic::error(summary, detail, range));
    }

    fn constant(
        &mut self,
        source: &Source,
        expr: &Expr,
        functions: &Functions,
        budget: &mut Budget,
    ) -> Option<Value> {
        let mut evaluator = Evaluator::new(source, functions, Undeclared::Refused, budget);
        let value = evaluator.eval(expr, &Scope::root(&BTreeMap::new()));
        let failed = !evaluator.problems.is_empty();
        self.problems.append(&mut evaluator.problems);
        (!failed).then_some(value)
    }

    fn duplicate(&mut self, name: &str) -> bool {
        let found = self.declared.contains_key(name);
        if found {
            let detail = format!("Duplicate {name} variable definition found.");
            self.problems.push(Diagnostic::general("Duplicate variable", detail));
        }
        found
    }

    /// Takes a `variables` block: names and defaults.
    pub fn declare_all(
        &mut self,
        source: &Source,
        block: &BlockSyntax,
        functions: &Functions,
        budget: &mut Budget,
    ) {
        for attribute in block.body.attributes() {
            if self.duplicate(&attribute.name) {
                continue;
            }
            let Some(value) = self.constant(source, &attribute.expr, functions, budget) else { continue };
            let range = source.range(attribute.expr.span);
            let kind = Some(Type::of(&value));
            let value = Some((value, DEFAULT, Some(range)));
            let variable = Variable { kind, value, rules: Vec::new(), source: source.clone() };
            self.declared.insert(attribute.name.clone(), variable);
        }
    }

    /// Takes a `variable` block.
    pub fn declare(
        &mut self,
        source: &Source,
        block: &BlockSyntax,
        functions: &Functions,
        budget: &mut Budget,
    ) {
        let Some((name, name_span)) = block.labels.first().cloned() else { return };
        if self.duplicate(&name) {
            return;
        }
        if crate::scan::ident_length(&name) != name.len() {
            let detail = "A name must start with a letter or underscore and may contain only letters, digits, underscores, and dashes.";
            self.problem("Invalid variable name", detail, source.range(name_span));
        }
        let mut variable = Variable { kind: None, value: None, rules: Vec::new(), source: source.clone() };
        let find = |wanted: &str| block.body.attributes().find(|a| a.name == wanted);
        for attribute in block.body.attributes() {
            if !["default", "description", "type"].contains(&attribute.name.as_str()) {
                self.unsupported(source, attribute, &["default", "description", "type"]);
            }
        }
        if let Some(attribute) = find("type") {
            let Some(kind) = self.type_of(source, &attribute.expr, functions, budget) else { return };
            variable.kind = Some(kind);
        }
        if let Some(attribute) = find("default") {
            let Some(value) = self.constant(source, &attribute.expr, functions, budget) else { return };
            let range = source.range(attribute.expr.span);
            let value = match variable.kind.as_ref().map_or(Ok(value.clone()), |kind| value.convert(kind)) {
                Ok(value) => value,
                Err(e) => {
                    let detail = format!(
                        "This default value is not compatible with the variable's type constraint: {e}."
                    );
                    self.problem("Invalid default value for variable", detail, range.clone());
                    Value::Unknown
                }
            };
            variable.kind.get_or_insert_with(|| Type::of(&value));
            variable.value = Some((value, DEFAULT, Some(range)));
        }
        for inner in block.body.blocks() {
            if inner.kind == "validation" {
                variable.rules.extend(self.rule(source, &name, inner, functions, budget));
            } else {
                let detail = format!("Blocks of type {:?} are not expected here.", inner.kind);
                self.problem("Unsupported block type", detail, source.range(inner.kind_span));
            }
        }
        self.declared.insert(name, variable);
    }

    fn unsupported(&mut self, source: &Source, attribute: &AttributeSyntax, known: &[&str]) {
        let mut detail = format!("An argument named {:?} is not expected here.", attribute.name);
        if let Some(similar) = similar_name(&attribute.name, known.iter().copied()) {
            detail.push_str(&format!(" Did you mean {similar:?}?"));
        }
        self.problem("Unsupported argument", detail, source.range(attribute.name_span));
    }

    fn type_of(
        &mut self,
        source: &Source,
        expr: &Expr,
        functions: &Functions,
        budget: &mut Budget,
    ) -> Option<Type> {
        // In JSON syntax a type is a string that holds the expression.
        let parsed = match &expr.kind {
            ExprKind::Template(parts) if json_syntax::is_json(&source.text) => match parts.as_slice() {
                [Expr { kind: ExprKind::Literal(Value::String(text)), .. }] => {
                    Some(Source::new(&source.name, text))
                }
                _ => None,
            },
            _ => None,
        };
        let (source, expr) = match &parsed {
            None => (source, Ok(expr.clone())),
            Some(text) => (text, parse_expression(text)),
        };
        match expr {
            Ok(expr) => {
                let mut evaluator = Evaluator::new(source, functions, Undeclared::Runtime, budget);
                let kind = evaluator.type_of(&expr, TypeUse::Exact);
                self.problems.append(&mut evaluator.problems);
                kind
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn rule(
        &mut self,
        source: &Source,
        name: &str,
        block: &BlockSyntax,
        functions: &Functions,
        budget: &mut Budget,
    ) -> Option<Rule> {
        let find = |wanted: &str| block.body.attributes().find(|a| a.name == wanted);
        for attribute in block.body.attributes() {
            if !["condition", "error_message"].contains(&attribute.name.as_str()) {
                self.unsupported(source, attribute, &["condition", "error_message"]);
            }
        }
        let (condition, message) = (find("condition"), find("error_message"));
        for (wanted, found) in [("condition", condition), ("error_message", message)] {
            if found.is_none() {
                let detail = format!("The argument {wanted:?} is required, but no definition was found.");
                self.problem("Missing required argument", detail, source.range(block.body.span.at_start()));
            }
        }
        let (condition, message) = (condition?, message?);
        let references = references(&condition.expr);
        let is_self = |r: &Reference| r.root == "var" && r.attribute.as_deref() == Some(name);
        for reference in references.iter().filter(|r| !is_self(r)) {
            let detail = format!(
                "The condition for variable {name:?} can only refer to the variable itself, using var.{name}."
            );
            self.problem("Invalid reference in variable validation", detail, source.range(reference.span));
        }
        if !references.iter().any(is_self) {
            let detail = format!(
                "The condition for variable {name:?} must refer to var.{name} in order to test incoming values."
            );
            self.problem("Invalid variable validation condition", detail, source.range(condition.expr.span));
        }
        let text = match self.constant(source, &message.expr, functions, budget)? {
            Value::String(text) => text,
            _ => String::new(),
        };
        if text.is_empty() {
            let detail = "The message is shown to whoever sets the variable, so it must not be empty.";
            self.problem("Invalid validation error message", detail, source.range(message.expr.span));
        }
        Some(Rule { condition: condition.expr.clone(), message: text, range: source.range(block.head) })
    }

    /// Sets variables from the environment: names that nobody declared are none of our business.
    pub fn set_env(&mut self, env: &BTreeMap<String, String>, functions: &Functions, budget: &mut Budget) {
        for (key, text) in env {
            if let Some(name) = key.strip_prefix(ENV_PREFIX).filter(|name| self.declared.contains_key(*name))
            {
                self.set_text(
                    name,
                    text,
                    &format!("<value for var.{name} from env>"),
                    "env",
                    functions,
                    budget,
                );
            }
        }
    }

    /// Sets variables from the command line.
    pub fn set_flags(
        &mut self,
        flags: &[(String, String)],
        strict: bool,
        functions: &Functions,
        budget: &mut Budget,
    ) {
        for (name, text) in flags {
            if !self.declared.contains_key(name) {
                let detail = format!(
                    "A {name:?} variable was passed in the command line but was not found in known variables."
                );
                self.undeclared("Undefined -var variable", detail, name, None, strict);
                continue;
            }
            self.set_text(
                name,
                text,
                &format!("<value for var.{name} from arguments>"),
                "cmd",
                functions,
                budget,
            );
        }
    }

    fn undeclared(&mut self, summary: &str, detail: String, name: &str, range: Option<Range>, strict: bool) {
        let mut problem = Diagnostic::general(summary, detail);
        problem.range = range;
        problem = match similar_name(name, self.declared.keys().map(String::as_str)) {
            Some(similar) => problem
                .suggest(format!("set {similar:?}, or declare it in the job file: variable {name:?} {{}}")),
            None => problem.suggest(format!("declare it in the job file: variable {name:?} {{}}")),
        };
        self.problems.push(if strict { problem } else { problem.as_warning() });
    }

    fn set_text(
        &mut self,
        name: &str,
        text: &str,
        file: &str,
        from: &'static str,
        functions: &Functions,
        budget: &mut Budget,
    ) {
        let kind = self.declared.get(name).and_then(|v| v.kind.clone());
        let source = Source::new(file, text);
        let (value, range) = match kind {
            // Texts and numbers need no quotes.
            None | Some(Type::String | Type::Number) => (Value::string(text), None),
            Some(_) => match parse_expression(&source) {
                Ok(expr) => {
                    let range = source.range(expr.span);
                    match self.constant(&source, &expr, functions, budget) {
                        Some(value) => (value, Some(range)),
                        None => return,
                    }
                }
                Err(problems) => {
                    self.problems.extend(problems);
                    return;
                }
            },
        };
        self.set(name, value, from, range);
    }

    fn set(&mut self, name: &str, value: Value, from: &'static str, range: Option<Range>) {
        let Some(variable) = self.declared.get_mut(name) else { return };
        let value = match &variable.kind {
            None => value,
            Some(kind) => match value.convert(kind) {
                Ok(value) => value,
                Err(e) => {
                    let summary = if from == "cmd" {
                        "Invalid argument value for -var variable"
                    } else {
                        "Invalid value for variable"
                    };
                    let detail = format!(
                        "The value for {name} is not compatible with the variable's type constraint: {e}."
                    );
                    let mut problem = Diagnostic::general(summary, detail);
                    problem.range = range.clone();
                    self.problems.push(problem);
                    Value::Unknown
                }
            },
        };
        variable.value = Some((value, from, range));
    }

    /// Sets variables from a file of assignments.
    pub fn set_file(&mut self, file: &Assignments, strict: bool, functions: &Functions, budget: &mut Budget) {
        let source = &file.source;
        for (name, span) in &file.declarations {
            let detail = format!(
                "Such a file sets variables that a job file has declared; it does not declare them. Write {name} = <value> here, and the declaration into the job file."
            );
            self.problem("Variable declaration in a .var file", detail, source.range(*span));
        }
        for (name, span, expr) in &file.values {
            if !self.declared.contains_key(name) {
                let detail = format!("A {name:?} variable was set but was not found in known variables.");
                self.undeclared("Undefined variable", detail, name, Some(source.range(*span)), strict);
                continue;
            }
            if let Some(value) = self.constant(source, expr, functions, budget) {
                self.set(name, value, "varfile", Some(source.range(expr.span)));
            }
        }
    }

    /// Checks that every variable has a value that its rules allow; gives them all as one object.
    pub fn resolve(&mut self, functions: &Functions, budget: &mut Budget) -> Value {
        let declared = std::mem::take(&mut self.declared);
        // Rules see no files, even where the job does.
        let functions = Functions { files: None, random: functions.random.clone() };
        let mut values = Vec::new();
        for (name, variable) in declared {
            let Some((value, from, range)) = variable.value else {
                let detail = format!(
                    "A used variable must be set or have a default value; set it with -var {name}=..., with -var-file, or in the environment as {ENV_PREFIX}{name}."
                );
                self.problems.push(Diagnostic::general(format!("Unset variable {name:?}"), detail));
                values.push((name, Value::Unknown));
                continue;
            };
            for rule in &variable.rules {
                let checked = Checked { name: &name, value: &value, from, range: range.as_ref() };
                self.check(rule, &checked, &variable.source, &functions, budget);
            }
            values.push((name, value));
        }
        Value::object(values)
    }

    fn check(
        &mut self,
        rule: &Rule,
        checked: &Checked<'_>,
        source: &Source,
        functions: &Functions,
        budget: &mut Budget,
    ) {
        let var = Value::object([(checked.name.to_string(), checked.value.clone())]);
        let names = BTreeMap::from([("var".to_string(), var)]);
        let mut evaluator = Evaluator::new(source, functions, Undeclared::Runtime, budget);
        let result = evaluator.eval(&rule.condition, &Scope::root(&names));
        self.problems.append(&mut evaluator.problems);
        let range = source.range(rule.condition.span);
        match result {
            Value::Unknown => {}
            Value::Null => {
                let detail = "Validation condition expression must return either true or false, not null.";
                self.problem("Invalid variable validation result", detail, range);
            }
            result => match result.convert(&Type::Bool) {
                Ok(Value::Bool(false)) => {
                    let detail = format!(
                        "{}\n\nThis was checked by the validation rule at {}.",
                        rule.message, rule.range
                    );
                    let place = checked.range.cloned().unwrap_or_else(|| rule.range.clone());
                    self.problem(format!("Invalid value for {} variable", checked.from), detail, place);
                }
                Ok(_) => {}
                Err(e) => {
                    let detail = format!("Invalid validation condition result value: {e}.");
                    self.problem("Invalid variable validation result", detail, range);
                }
            },
        }
    }
}

struct Checked<'v> {
    name: &'v str,
    value: &'v Value,
    from: &'static str,
    range: Option<&'v Range>,
}

/// A file of assignments, read.
#[derive(Debug)]
pub(crate) struct Assignments {
    source: Source,
    values: Vec<(String, Span, Expr)>,
    /// Variables that it declares, which it must not.
    declarations: Vec<(String, Span)>,
}

impl Assignments {
    pub fn parse(name: &str, text: &str) -> Result<Assignments, Vec<Diagnostic>> {
        let source = Source::new(name, text);
        let mut file = Assignments { source, values: Vec::new(), declarations: Vec::new() };
        if json_syntax::is_json(text) {
            let (members, _) = json_syntax::parse_root(&file.source)?;
            for member in members.into_iter().filter(|m| m.name != "//") {
                let expr = json_syntax::to_expr(&file.source, &member.value, Dialect::Plain)?;
                file.values.push((member.name, member.name_span, expr));
            }
            return Ok(file);
        }
        let body = parse_body(&file.source, Dialect::Native)?;
        let mut problems = Vec::new();
        for block in body.blocks() {
            match block.labels.first() {
                Some((label, _)) if block.kind == "variable" => {
                    file.declarations.push((label.clone(), block.kind_span))
                }
                _ => {
                    let detail = "Blocks are not allowed here.";
                    problems.push(Diagnostic::error(
                        format!("Unexpected {:?} block", block.kind),
                        detail,
                        file.source.range(block.kind_span),
                    ));
                }
            }
        }
        file.values = body.attributes().map(|a| (a.name.clone(), a.name_span, a.expr.clone())).collect();
        if problems.is_empty() { Ok(file) } else { Err(problems) }
    }
}

/// Things that need each other, in an order in which each comes after those that it needs.
struct Order {
    /// How many others each one still waits for.
    missing: Vec<usize>,
    /// Which ones wait for it.
    waiting: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    open: BTreeSet<usize>,
}

impl Order {
    fn new(needs: impl Iterator<Item = Vec<usize>>) -> Order {
        let needs: Vec<Vec<usize>> = needs.collect();
        let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
        for (index, needed) in needs.iter().enumerate() {
            needed.iter().for_each(|needed| waiting[*needed].push(index));
        }
        let missing: Vec<usize> = needs.iter().map(Vec::len).collect();
        let ready = (0..missing.len()).filter(|index| missing[*index] == 0).collect();
        Order { ready, open: (0..missing.len()).collect(), missing, waiting }
    }

    /// The next one, and whether it stands in a circle: then it comes although something that it needs did not.
    fn next(&mut self) -> Option<(usize, bool)> {
        let next = self.ready.pop_first();
        let index = next.or_else(|| self.open.first().copied())?;
        self.open.remove(&index);
        for dependent in std::mem::take(&mut self.waiting[index]) {
            self.missing[dependent] -= 1;
            if self.missing[dependent] == 0 && self.open.contains(&dependent) {
                self.ready.insert(dependent);
            }
        }
        Some((index, next.is_none()))
    }
}

/// Evaluates `locals` in an order in which each finds those that it refers to.
pub(crate) fn locals(
    all: Vec<(Source, AttributeSyntax)>,
    names: &mut BTreeMap<String, Value>,
    functions: &Functions,
    budget: &mut Budget,
) -> Vec<Diagnostic> {
    let mut pending: IndexMap<String, (Source, Expr, BTreeSet<String>)> = IndexMap::new();
    for (source, attribute) in all {
        let needs = references(&attribute.expr)
            .into_iter()
            .filter(|r| r.root == "local")
            .filter_map(|r| r.attribute)
            .collect();
        pending.insert(attribute.name, (source, attribute.expr, needs));
    }
    let mut problems = Vec::new();
    names.insert("local".to_string(), Value::object([]));
    let mut order = Order::new(
        pending
            .values()
            .map(|(_, _, needs)| needs.iter().filter_map(|name| pending.get_index_of(name)).collect()),
    );
    while let Some((index, circle)) = order.next() {
        let Some((name, (source, expr, _))) = pending.get_index(index) else { break };
        let mut evaluator = Evaluator::new(source, functions, Undeclared::Runtime, budget);
        let value = evaluator.eval(expr, &Scope::root(names));
        let mut found = std::mem::take(&mut evaluator.problems);
        if circle {
            // One of them says enough, and the others would only repeat it.
            order = Order::new(std::iter::empty());
            if let Some(problem) = found.first_mut() {
                problem.suggestion = Some(
                    format!("local.{name} needs itself, directly or through others: break the circle").into(),
                );
            }
        }
        problems.extend(found);
        if let Some(Value::Object(members)) = names.get_mut("local") {
            members.insert(name.clone(), value);
        }
    }
    problems
}
