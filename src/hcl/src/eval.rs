//! Expressions to values.
//!
//! A failed expression is reported once and gives [`Value::Unknown`], which every operation passes on.

mod access;
mod operators;
mod rounds;
mod special;

pub(crate) use rounds::entries_of;

use std::collections::BTreeMap;

use crate::diagnostics::Diagnostic;
use crate::functions::{self, Fault, Functions, Spec};
use crate::range::{Source, Span};
use crate::syntax::{Call, Conditional, Expr, ExprKind, Key, StepKind};
use crate::types::{Type, unify};
use crate::value::{Members, Value};

/// Expressions evaluated for one file. A large job takes some ten thousand; this many take half a second.
const STEPS_MAX: u64 = 1_000_000;

/// Bytes of values built for one file. The largest job that a server accepts has a megabyte of text.
const BYTES_MAX: u64 = 128 << 20;

/// Errors reported of one file.
const ERRORS_MAX: usize = 100;

/// What is left of the limits on one evaluation.
#[derive(Debug)]
pub(crate) struct Budget {
    steps: u64,
    bytes: u64,
    told: bool,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { steps: STEPS_MAX, bytes: BYTES_MAX, told: false }
    }
}

/// What a name that nobody declared means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Undeclared {
    /// It is for the node to fill in when the task runs: the text `${...}` stays as it is.
    Runtime,
    /// Constants only: no name and no function is known here.
    Refused,
}

/// Names and their values, with those of the surrounding scopes.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub parent: Option<&'a Scope<'a>>,
    pub names: &'a BTreeMap<String, Value>,
    /// The item that the innermost splat is at.
    pub item: Option<&'a Value>,
}

impl<'a> Scope<'a> {
    pub fn root(names: &'a BTreeMap<String, Value>) -> Scope<'a> {
        Scope { parent: None, names, item: None }
    }

    pub fn child<'b>(&'b self, names: &'b BTreeMap<String, Value>) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { parent: Some(self), names, item: self.item }
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.names.get(name).or_else(|| self.parent.and_then(|p| p.find(name)))
    }
}

/// Evaluates the expressions of one text.
pub(crate) struct Evaluator<'a> {
    pub source: &'a Source,
    pub functions: &'a Functions,
    pub undeclared: Undeclared,
    pub budget: &'a mut Budget,
    pub problems: Vec<Diagnostic>,
    /// Blocks in which `dynamic` has no meaning.
    pub opaque: Vec<&'static str>,
    /// How many `dynamic` blocks generate what is being evaluated.
    pub generated: u32,
}

impl<'a> Evaluator<'a> {
    pub fn new(
        source: &'a Source,
        functions: &'a Functions,
        undeclared: Undeclared,
        budget: &'a mut Budget,
    ) -> Evaluator<'a> {
        Evaluator {
            source,
            functions,
            undeclared,
            budget,
            problems: Vec::new(),
            opaque: Vec::new(),
            generated: 0,
        }
    }

    pub fn report(&mut self, summary: &str, detail: impl Into<String>, span: Span) -> Value {
        if self.problems.len() < ERRORS_MAX {
            self.problems.push(Diagnostic::error(summary, detail, self.source.range(span)));
        }
        Value::Unknown
    }

    /// Takes from the limits; once they are used up nothing is evaluated any more.
    pub(crate) fn spend(&mut self, steps: u64, bytes: u64, span: Span) -> bool {
        self.budget.steps = self.budget.steps.saturating_sub(steps);
        self.budget.bytes = self.budget.bytes.saturating_sub(bytes);
        if self.budget.steps > 0 && self.budget.bytes > 0 {
            return true;
        }
        if !self.budget.told {
            self.budget.told = true;
            let limits =
                format!("A file may take {STEPS_MAX} steps and {} MiB to evaluate.", BYTES_MAX >> 20);
            self.report("Evaluation limit reached", limits, span);
        }
        false
    }

    fn charged(&mut self, value: Value, span: Span) -> Value {
        if self.spend(0, value.weight(), span) { value } else { Value::Unknown }
    }

    pub fn eval(&mut self, expr: &Expr, scope: &Scope<'_>) -> Value {
        if !self.spend(1, 0, expr.span) {
            return Value::Unknown;
        }
        let value = self.eval_kind(expr, scope);
        match &value {
            Value::Number(number) if !self.spend(number.own_steps(), 0, expr.span) => Value::Unknown,
            _ => value,
        }
    }

    fn eval_kind(&mut self, expr: &Expr, scope: &Scope<'_>) -> Value {
        match &expr.kind {
            ExprKind::Literal(value) => value.clone(),
            ExprKind::Template(parts) => self.template(parts, expr.span, scope),
            ExprKind::Wrap(inner) | ExprKind::Parens(inner) => self.eval(inner, scope),
            ExprKind::Join(rounds) => self.join(rounds, scope),
            ExprKind::Traversal { root, steps, text } => self.traversal(root, steps, text, expr.span, scope),
            ExprKind::Relative { source, steps } => {
                let value = self.eval(source, scope);
                self.follow(value, steps)
            }
            ExprKind::Index { source, key, bracket } => {
                let value = self.eval(source, scope);
                let key = self.eval(key, scope);
                self.index(&value, key, *bracket)
            }
            ExprKind::Splat { source, each, .. } => self.splat(source, each, scope),
            ExprKind::SplatItem => scope.item.cloned().unwrap_or(Value::Unknown),
            ExprKind::Call(call) => self.call(call, expr.span, scope),
            ExprKind::Conditional(conditional) => self.conditional(conditional, scope),
            ExprKind::Binary { operator, left, right } => {
                self.binary(*operator, left, right, expr.span, scope)
            }
            ExprKind::Negate(operand) => self.negate(operand, expr.span, scope),
            ExprKind::Not(operand) => self.not(operand, expr.span, scope),
            ExprKind::Tuple(items) => Value::Tuple(items.iter().map(|item| self.eval(item, scope)).collect()),
            ExprKind::Object(members) => self.object(members, scope),
            ExprKind::For(for_expr) => self.for_expr(for_expr, scope),
        }
    }

    fn template(&mut self, parts: &[Expr], span: Span, scope: &Scope<'_>) -> Value {
        // Most texts have nothing to compute.
        if let [Expr { kind: ExprKind::Literal(text @ Value::String(_)), .. }] = parts {
            let paid = self.spend(1, text.weight(), span);
            return if paid { text.clone() } else { Value::Unknown };
        }
        let mut text = String::new();
        let mut known = true;
        for part in parts {
            match self.eval(part, scope) {
                Value::Unknown => known = false,
                Value::Null => {
                    self.report(
                        "Invalid template interpolation value",
                        "The expression result is null. Cannot include a null value in a string template.",
                        part.span,
                    );
                }
                value => match value.convert(&Type::String) {
                    Ok(Value::String(piece)) => text.push_str(&piece),
                    Ok(_) => known = false,
                    Err(e) => {
                        let detail = format!("Cannot include the given value in a string template: {e}.");
                        self.report("Invalid template interpolation value", detail, part.span);
                    }
                },
            }
        }
        let value = if known { Value::string(text) } else { Value::Unknown };
        if !self.spend(value.own_steps(), 0, span) {
            return Value::Unknown;
        }
        self.charged(value, span)
    }

    fn join(&mut self, rounds: &Expr, scope: &Scope<'_>) -> Value {
        let mut text = String::new();
        match self.eval(rounds, scope) {
            Value::Tuple(items) => {
                for item in items {
                    match item {
                        Value::String(piece) => text.push_str(&piece),
                        _ => return Value::Unknown,
                    }
                }
            }
            _ => return Value::Unknown,
        }
        self.charged(Value::string(text), rounds.span)
    }

    fn conditional(&mut self, parts: &Conditional, scope: &Scope<'_>) -> Value {
        // Both results are computed, since the type of the value depends on both; only the chosen one may complain.
        let before = self.problems.len();
        let yes = self.eval(&parts.yes, scope);
        let yes_problems = self.problems.split_off(before);
        let no = self.eval(&parts.no, scope);
        let no_problems = self.problems.split_off(before);
        let yes_failed = !yes_problems.is_empty();
        let no_failed = !no_problems.is_empty();
        let common =
            if yes_failed || no_failed { Some(Type::Any) } else { unify(&[Type::of(&yes), Type::of(&no)]) };
        let Some(common) = common else {
            let (a, b) = (yes.friendly_type(), no.friendly_type());
            let detail = format!(
                "The true and false result expressions must have consistent types. The 'true' value is {a}, but the 'false' value is {b}."
            );
            return self.report(
                "Inconsistent conditional result types",
                detail,
                parts.yes.span.to(parts.no.span),
            );
        };
        let condition = self.eval(&parts.condition, scope);
        let chosen = match condition {
            Value::Null => {
                return self.report(
                    "Null condition",
                    "The condition value is null. Conditions must either be true or false.",
                    parts.condition.span,
                );
            }
            value => match value.convert(&Type::Bool) {
                Ok(Value::Bool(b)) => b,
                Ok(_) => return Value::Unknown,
                Err(_) => {
                    return self.report(
                        "Incorrect condition type",
                        "The condition expression must be of type bool.",
                        parts.condition.span,
                    );
                }
            },
        };
        let (value, problems, expr) =
            if chosen { (yes, yes_problems, &parts.yes) } else { (no, no_problems, &parts.no) };
        self.problems.extend(problems);
        match value.convert(&common) {
            Ok(value) => value,
            Err(e) => {
                let detail =
                    format!("The true and false result expressions must have consistent types: {e}.");
                self.report("Inconsistent conditional result types", detail, expr.span)
            }
        }
    }

    fn object(&mut self, members: &[(Key, Expr)], scope: &Scope<'_>) -> Value {
        let mut result = Members::with_capacity(members.len());
        let mut known = true;
        for (key, expr) in members {
            let name = match key {
                Key::Name(name) => Some(name.clone()),
                Key::Computed(key) => self.object_key(key, scope, &MEMBER_KEY),
                Key::Ambiguous(span) => {
                    self.report("Ambiguous attribute key", "If this expression is intended to be a reference, wrap it in parentheses. If it's instead intended as a literal name containing periods, wrap it in quotes to create a string literal.", *span);
                    None
                }
            };
            let value = self.eval(expr, scope);
            match name {
                Some(name) => {
                    result.insert(name, value);
                }
                None => known = false,
            }
        }
        if known { Value::object(result) } else { Value::Unknown }
    }

    fn object_key(&mut self, key: &Expr, scope: &Scope<'_>, words: &KeyWords) -> Option<String> {
        match self.eval(key, scope) {
            Value::Null => {
                self.report(words.null.0, words.null.1, key.span);
                None
            }
            value => match value.convert(&Type::String) {
                Ok(Value::String(name)) => Some(name),
                Ok(_) => None,
                Err(e) => {
                    self.report(words.wrong.0, format!("{}: {e}.", words.wrong.1), key.span);
                    None
                }
            },
        }
    }

    fn call(&mut self, call: &Call, span: Span, scope: &Scope<'_>) -> Value {
        if self.undeclared != Undeclared::Runtime {
            return self.report("Function calls not allowed", "Functions may not be called here.", span);
        }
        match call.name.as_str() {
            "try" => return self.call_try(call, scope),
            "can" => return self.call_can(call, scope),
            "convert" => return self.call_convert(call, scope),
            _ => {}
        }
        let Some(spec) = functions::find(&call.name) else {
            let mut detail = format!("There is no function named {:?}.", call.name);
            let similar = crate::diagnostics::similar_name(&call.name, functions::names());
            if let Some(similar) = similar {
                detail.push_str(&format!(" Did you mean {similar:?}?"));
            }
            let value = self.report("Call to unknown function", detail, call.name_span);
            if let (Some(similar), Some(problem)) = (similar, self.problems.last_mut()) {
                problem.suggestion = Some(format!("call {similar:?}").into());
            }
            return value;
        };
        let before = self.problems.len();
        let Some(arguments) = self.arguments(call, scope) else { return Value::Unknown };
        if !self.check_count(call, spec, arguments.len()) || self.problems.len() > before {
            return Value::Unknown;
        }
        self.run(call, spec, arguments)
    }

    fn arguments(&mut self, call: &Call, scope: &Scope<'_>) -> Option<Vec<Value>> {
        let mut values: Vec<Value> = call.arguments.iter().map(|a| self.eval(a, scope)).collect();
        if !call.expand {
            return Some(values);
        }
        let (last, expr) = (values.pop()?, call.arguments.last()?);
        match last {
            Value::Unknown => return None,
            Value::Null => {
                self.report(
                    "Invalid expanding argument value",
                    "The expanding argument (indicated by ...) must not be null.",
                    expr.span,
                );
                return None;
            }
            Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => values.extend(items),
            _ => {
                self.report(
                    "Invalid expanding argument value",
                    "The expanding argument (indicated by ...) must be of a tuple, list, or set type.",
                    expr.span,
                );
                return None;
            }
        }
        Some(values)
    }

    fn check_count(&mut self, call: &Call, spec: &Spec, given: usize) -> bool {
        let needed = spec.params.len();
        if given < needed {
            let least = if spec.rest.is_some() { "at least " } else { "" };
            let missing = spec.params[given].name;
            let detail = format!(
                "Function {:?} expects {least}{needed} argument(s). Missing value for {missing:?}.",
                call.name
            );
            self.report("Not enough function arguments", detail, call.close);
            return false;
        }
        if given > needed && spec.rest.is_none() {
            let detail = format!("Function {:?} expects only {needed} argument(s).", call.name);
            let extra = call.arguments.get(needed).or(call.arguments.last());
            self.report("Too many function arguments", detail, extra.map_or(call.close, Expr::start));
            return false;
        }
        true
    }

    fn run(&mut self, call: &Call, spec: &Spec, arguments: Vec<Value>) -> Value {
        let mut converted = Vec::with_capacity(arguments.len());
        let hard: u64 = arguments.iter().map(Value::own_steps).sum();
        if !self.spend(hard, 0, call.open) {
            return Value::Unknown;
        }
        for (i, value) in arguments.into_iter().enumerate() {
            let Some(param) = spec.params.get(i).or(spec.rest.as_ref()) else { break };
            match param.accept(value) {
                Ok(value) => converted.push(value),
                Err(reason) => return self.bad_argument(call, spec, i, &reason),
            }
        }
        // Errors within arguments have been reported, and stop the call before; what is left unknown stays so.
        if converted.iter().any(|v| !v.is_wholly_known()) {
            return Value::Unknown;
        }
        let weight: u64 = converted.iter().map(Value::weight).sum();
        let steps = 1 + weight / 4096 + functions::own_steps(&call.name, &converted);
        if !self.spend(steps, weight, call.open) {
            return Value::Unknown;
        }
        match (spec.run)(converted, self.functions) {
            Ok(value) => self.charged(value, call.open),
            Err(Fault::Argument(i, reason)) => self.bad_argument(call, spec, i, &reason),
            Err(Fault::Call(reason)) => self.bad_call(call, &reason),
        }
    }

    fn bad_argument(&mut self, call: &Call, spec: &Spec, i: usize, reason: &str) -> Value {
        let name = spec.params.get(i).or(spec.rest.as_ref()).map_or("", |p| p.name);
        let detail = format!("Invalid value for {name:?} parameter: {reason}.");
        let place = call.arguments.get(i).or(call.arguments.last()).map_or(call.close, Expr::start);
        self.report("Invalid function argument", detail, place)
    }

    fn bad_call(&mut self, call: &Call, reason: &str) -> Value {
        let detail = format!("Call to function {:?} failed: {reason}.", call.name);
        self.report("Error in function call", detail, call.open)
    }

    fn splat(&mut self, source: &Expr, each: &Expr, scope: &Scope<'_>) -> Value {
        let value = self.eval(source, scope);
        let (items, list) = match value {
            Value::Unknown => return Value::Unknown,
            Value::Null => (Vec::new(), false),
            Value::Tuple(items) => (items, false),
            Value::List(_, items) | Value::Set(_, items) => (items, true),
            single => (vec![single], false),
        };
        let mut results = Vec::with_capacity(items.len());
        for item in &items {
            let inner = Scope { item: Some(item), ..*scope };
            results.push(self.eval(each, &inner));
        }
        if list && let Some(item) = unify(&results.iter().map(Type::of).collect::<Vec<_>>()) {
            return Value::List(item, results);
        }
        Value::Tuple(results)
    }
}

/// What is said of a key that is none: summary and detail of a null, and of a value that is no text.
struct KeyWords {
    null: (&'static str, &'static str),
    wrong: (&'static str, &'static str),
}

const MEMBER_KEY: KeyWords = KeyWords {
    null: ("Null value as key", "Can't use a null value as a key."),
    wrong: ("Incorrect key type", "Can't use this value as a key"),
};

/// The step as an index key.
fn step_key(kind: &StepKind) -> Value {
    match kind {
        StepKind::Attribute(name) => Value::String(name.clone()),
        StepKind::Index(key) => key.clone(),
    }
}
