//! Functions that see their arguments before these are evaluated, and types as expressions.

use std::collections::BTreeMap;

use super::{Evaluator, Scope};
use crate::syntax::{Call, Expr, ExprKind, Key};
use crate::types::{Field, Type, TypeUse};
use crate::value::Value;

impl Evaluator<'_> {
    pub(super) fn call_try(&mut self, call: &Call, scope: &Scope<'_>) -> Value {
        if call.arguments.is_empty() {
            return self.fail_call(call, "at least one argument is required");
        }
        let before = self.problems.len();
        let mut reasons = String::new();
        for argument in &call.arguments {
            let value = self.eval(argument, scope);
            let problems = self.problems.split_off(before);
            if problems.is_empty() {
                return value;
            }
            if self.budget.told {
                self.problems.extend(problems);
                return Value::Unknown;
            }
            for problem in problems {
                reasons.push_str(&format!(
                    "\n- {} (at {})\n  {}",
                    problem.summary,
                    place(&problem),
                    problem.detail
                ));
            }
        }
        let last = call.arguments.last().map_or(call.close, Expr::start);
        let detail = format!(
            "Invalid value for \"expressions\" parameter: no expression succeeded:{reasons}\n\nAt least one expression must produce a successful result."
        );
        self.report("Invalid function argument", detail, last)
    }

    pub(super) fn call_can(&mut self, call: &Call, scope: &Scope<'_>) -> Value {
        let Some(argument) = self.exactly(call, &["expression"]).map(|a| &a[0]) else {
            return Value::Unknown;
        };
        let before = self.problems.len();
        self.eval(argument, scope);
        let failed = self.problems.split_off(before);
        if self.budget.told {
            self.problems.extend(failed);
            return Value::Unknown;
        }
        Value::Bool(failed.is_empty())
    }

    pub(super) fn call_convert(&mut self, call: &Call, scope: &Scope<'_>) -> Value {
        let Some(arguments) = self.exactly(call, &["value", "type"]) else { return Value::Unknown };
        let value = self.eval(&arguments[0], scope);
        let Some(kind) = self.type_of(&arguments[1], TypeUse::Constraint) else { return Value::Unknown };
        match value.convert(&kind) {
            Ok(value) => value,
            Err(e) => {
                let detail = format!("Invalid value for \"value\" parameter: {e}.");
                self.report("Invalid function argument", detail, arguments[0].start())
            }
        }
    }

    fn fail_call(&mut self, call: &Call, reason: &str) -> Value {
        self.report(
            "Error in function call",
            format!("Call to function {:?} failed: {reason}.", call.name),
            call.open,
        )
    }

    fn exactly<'c>(&mut self, call: &'c Call, names: &[&str]) -> Option<&'c [Expr]> {
        let (given, needed) = (call.arguments.len(), names.len());
        if given < needed {
            let detail = format!(
                "Function {:?} expects {needed} argument(s). Missing value for {:?}.",
                call.name, names[given]
            );
            self.report("Not enough function arguments", detail, call.close);
            return None;
        }
        if given > needed {
            let detail = format!("Function {:?} expects only {needed} argument(s).", call.name);
            self.report("Too many function arguments", detail, call.arguments[needed].start());
            return None;
        }
        Some(&call.arguments)
    }

    /// Reads an expression as a type: `list(string)`.
    pub fn type_of(&mut self, expr: &Expr, usage: TypeUse) -> Option<Type> {
        match &expr.kind {
            ExprKind::Traversal { root, steps, .. } if steps.is_empty() => match root.as_str() {
                "bool" => Some(Type::Bool),
                "string" => Some(Type::String),
                "number" => Some(Type::Number),
                "any" => match usage {
                    TypeUse::Constraint => Some(Type::Any),
                    TypeUse::Exact => self.bad_type("The keyword \"any\" cannot be used in this type specification: an exact type is required.".to_string(), expr),
                },
                "list" | "set" | "map" => {
                    let detail = format!("The {root} type constructor requires one argument specifying the element type.");
                    self.bad_type(detail, expr)
                }
                "object" => self.bad_type("The object type constructor requires one argument specifying the attribute types and values as a map.".to_string(), expr),
                "tuple" => self.bad_type("The tuple type constructor requires one argument specifying the element types as a list.".to_string(), expr),
                other => self.bad_type(format!("The keyword {other:?} is not a valid type specification."), expr),
            },
            ExprKind::Call(call) => self.type_call(call, expr, usage),
            ExprKind::Parens(inner) => self.type_of(inner, usage),
            // `type = "string"`, as older files have it.
            ExprKind::Template(parts) => match parts.as_slice() {
                [Expr { kind: ExprKind::Literal(Value::String(word)), .. }] => match word.as_str() {
                    "bool" => Some(Type::Bool),
                    "string" => Some(Type::String),
                    "number" => Some(Type::Number),
                    _ => self.not_a_type(expr),
                },
                _ => self.not_a_type(expr),
            },
            _ => self.not_a_type(expr),
        }
    }

    fn not_a_type(&mut self, expr: &Expr) -> Option<Type> {
        self.bad_type("A type specification is either a primitive type keyword (bool, number, string) or a complex type constructor call, like list(string).".to_string(), expr)
    }

    fn bad_type(&mut self, detail: String, expr: &Expr) -> Option<Type> {
        self.report("Invalid type specification", detail, expr.span);
        None
    }

    fn type_call(&mut self, call: &Call, expr: &Expr, usage: TypeUse) -> Option<Type> {
        let [argument] = call.arguments.as_slice() else {
            return match call.name.as_str() {
                "bool" | "string" | "number" | "any" => self.bad_type(
                    format!("Primitive type keyword {:?} does not expect arguments.", call.name),
                    expr,
                ),
                name => self.bad_type(format!("The {name} type constructor requires one argument."), expr),
            };
        };
        match call.name.as_str() {
            "list" => self.type_of(argument, usage).map(|t| Type::List(Box::new(t))),
            "set" => self.type_of(argument, usage).map(|t| Type::Set(Box::new(t))),
            "map" => self.type_of(argument, usage).map(|t| Type::Map(Box::new(t))),
            "tuple" => match &argument.kind {
                ExprKind::Tuple(items) => {
                    items.iter().map(|i| self.type_of(i, usage)).collect::<Option<Vec<_>>>().map(Type::Tuple)
                }
                _ => self.bad_type(
                    "Tuple type constructor requires a list of element types.".to_string(),
                    argument,
                ),
            },
            "object" => self.object_type(argument, usage),
            "optional" => self.bad_type(
                "Keyword \"optional\" is valid only as a modifier for object type attributes.".to_string(),
                expr,
            ),
            "bool" | "string" | "number" | "any" => self
                .bad_type(format!("Primitive type keyword {:?} does not expect arguments.", call.name), expr),
            name => self.bad_type(format!("Keyword {name:?} is not a valid type constructor."), expr),
        }
    }

    fn object_type(&mut self, argument: &Expr, usage: TypeUse) -> Option<Type> {
        let ExprKind::Object(members) = &argument.kind else {
            return self.bad_type("Object type constructor requires a map whose keys are attribute names and whose values are the corresponding attribute types.".to_string(), argument);
        };
        let mut fields = BTreeMap::new();
        for (key, expr) in members {
            let name = match key {
                Key::Name(name) => name.clone(),
                Key::Computed(Expr { kind: ExprKind::Template(parts), .. }) => match parts.as_slice() {
                    [Expr { kind: ExprKind::Literal(Value::String(name)), .. }] => name.clone(),
                    _ => {
                        return self.bad_type(
                            "Object constructor map keys must be attribute names.".to_string(),
                            argument,
                        );
                    }
                },
                Key::Ambiguous(_) => {
                    return self.bad_type(
                        "Object constructor map keys must be attribute names.".to_string(),
                        argument,
                    );
                }
                Key::Computed(key) => {
                    return self
                        .bad_type("Object constructor map keys must be attribute names.".to_string(), key);
                }
            };
            fields.insert(name, self.field(expr, usage)?);
        }
        Some(Type::Object(fields))
    }

    fn field(&mut self, expr: &Expr, usage: TypeUse) -> Option<Field> {
        let ExprKind::Call(call) = &expr.kind else {
            return self.type_of(expr, usage).map(|kind| Field { kind, optional: false });
        };
        if call.name != "optional" {
            return self.type_of(expr, usage).map(|kind| Field { kind, optional: false });
        }
        let detail = match (call.arguments.as_slice(), usage) {
            ([], _) => "Optional attribute modifier requires the attribute type as its argument.",
            (_, TypeUse::Exact) => {
                "Optional attribute modifier is only for type constraints, not for exact types."
            }
            ([kind], TypeUse::Constraint) => {
                return self.type_of(kind, usage).map(|kind| Field { kind, optional: true });
            }
            (_, TypeUse::Constraint) => {
                "Optional attribute modifier expects only one argument: the attribute type."
            }
        };
        self.bad_type(detail.to_string(), expr).map(|kind| Field { kind, optional: false })
    }
}

fn place(problem: &crate::diagnostics::Diagnostic) -> String {
    problem.range.as_ref().map_or_else(|| "<nil>".to_string(), ToString::to_string)
}
