//! Arithmetic, comparison and logic.

use super::{Evaluator, Scope};
use crate::number::Number;
use crate::range::Span;
use crate::syntax::{Expr, Operator};
use crate::types::Type;
use crate::value::Value;

impl Evaluator<'_> {
    pub(super) fn binary(
        &mut self,
        operator: Operator,
        left: &Expr,
        right: &Expr,
        span: Span,
        scope: &Scope<'_>,
    ) -> Value {
        let a = self.eval(left, scope);
        let b = self.eval(right, scope);
        if matches!(operator, Operator::Equal | Operator::NotEqual) {
            if !a.is_wholly_known() || !b.is_wholly_known() {
                return Value::Unknown;
            }
            return Value::Bool((a == b) == (operator == Operator::Equal));
        }
        let wanted = if matches!(operator, Operator::And | Operator::Or) { Type::Bool } else { Type::Number };
        let a = self.operand(a, &wanted, "left operand", left.span);
        let b = self.operand(b, &wanted, "right operand", right.span);
        match (a, b) {
            (Some(Value::Unknown), _) | (_, Some(Value::Unknown)) | (None, _) | (_, None) => Value::Unknown,
            (Some(Value::Null), _) | (_, Some(Value::Null)) => self.failed("argument must not be null", span),
            (Some(Value::Bool(a)), Some(Value::Bool(b))) => {
                Value::Bool(if operator == Operator::And { a && b } else { a || b })
            }
            (Some(Value::Number(a)), Some(Value::Number(b))) => self.compute(operator, &a, &b, span),
            (Some(_), Some(_)) => Value::Unknown,
        }
    }

    fn compute(&mut self, operator: Operator, a: &Number, b: &Number, span: Span) -> Value {
        let result = match operator {
            Operator::Less => return Value::Bool(a < b),
            Operator::LessEqual => return Value::Bool(a <= b),
            Operator::Greater => return Value::Bool(a > b),
            Operator::GreaterEqual => return Value::Bool(a >= b),
            Operator::Add => a.add(b).ok_or("can't compute sum of opposing infinities"),
            Operator::Subtract => a.subtract(b).ok_or("can't subtract infinity from itself"),
            Operator::Multiply => a.multiply(b).ok_or("can't multiply zero by infinity"),
            Operator::Divide => a.divide(b).ok_or("can't divide zero by zero or infinity by infinity"),
            Operator::Modulo => a.modulo(b).ok_or("can't use modulo with zero and infinity"),
            Operator::Or | Operator::And | Operator::Equal | Operator::NotEqual => return Value::Unknown,
        };
        match result {
            Ok(number) => Value::Number(number),
            Err(reason) => self.failed(reason, span),
        }
    }

    fn failed(&mut self, reason: &str, span: Span) -> Value {
        self.report("Operation failed", format!("Error during operation: {reason}."), span)
    }

    fn operand(&mut self, value: Value, wanted: &Type, which: &str, span: Span) -> Option<Value> {
        match value.convert(wanted) {
            Ok(value) => Some(value),
            Err(e) => {
                self.report("Invalid operand", format!("Unsuitable value for {which}: {e}."), span);
                None
            }
        }
    }

    pub(super) fn negate(&mut self, operand: &Expr, span: Span, scope: &Scope<'_>) -> Value {
        let value = self.eval(operand, scope);
        match self.operand(value, &Type::Number, "unary operand", operand.span) {
            Some(Value::Number(n)) => Value::Number(n.negate()),
            Some(Value::Null) => self.failed("argument must not be null", span),
            Some(_) | None => Value::Unknown,
        }
    }

    pub(super) fn not(&mut self, operand: &Expr, span: Span, scope: &Scope<'_>) -> Value {
        let value = self.eval(operand, scope);
        match self.operand(value, &Type::Bool, "unary operand", operand.span) {
            Some(Value::Bool(b)) => Value::Bool(!b),
            Some(Value::Null) => self.failed("argument must not be null", span),
            Some(_) | None => Value::Unknown,
        }
    }
}
