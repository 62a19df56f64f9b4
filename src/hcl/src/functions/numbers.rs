//! Arithmetic.

use num_bigint::BigUint;

use super::Accepts::{Any, Number as Num};
use super::{Arguments, Fault, Functions, Outcome, Spec, open, param, spec};
use crate::number::Number;
use crate::types::Type;
use crate::value::Value;

pub(super) const SPECS: &[Spec] = &[
    spec("abs", &[param("num", Num)], |v, _| Ok(Arguments::new(v).number().abs().into())),
    spec("ceil", &[param("num", Num)], |v, _| Ok(Arguments::new(v).number().ceil().into())),
    spec("floor", &[param("num", Num)], |v, _| Ok(Arguments::new(v).number().floor().into())),
    spec("log", &[param("num", Num), param("base", Num)], log),
    open("max", &[], param("numbers", Num), |v, f| extreme(v, f, true)),
    open("min", &[], param("numbers", Num), |v, f| extreme(v, f, false)),
    spec("parseint", &[param("number", Any), param("base", Num)], parseint),
    spec("pow", &[param("num", Num), param("power", Num)], pow),
    open("range", &[], param("params", Num), range),
    spec("signum", &[param("num", Num)], signum),
];

/// Numbers that `range` gives at most.
const RANGE_MAX: usize = 1024;

fn float(result: f64) -> Outcome {
    match Number::from_f64(result) {
        Some(number) => Ok(number.into()),
        None => Err(Fault::call("the result is not a number")),
    }
}

fn log(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (number, base) = (arguments.number().as_f64(), arguments.number().as_f64());
    float(number.ln() / base.ln())
}

fn pow(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (number, power) = (arguments.number().as_f64(), arguments.number().as_f64());
    float(number.powf(power))
}

fn signum(values: Vec<Value>, _: &Functions) -> Outcome {
    let number = Arguments::new(values).number();
    Ok(Value::from(if number.is_negative() { -1 } else { i64::from(!number.is_zero()) }))
}

fn extreme(values: Vec<Value>, _: &Functions, largest: bool) -> Outcome {
    let numbers = values.into_iter().filter_map(|v| if let Value::Number(n) = v { Some(n) } else { None });
    let found = if largest { numbers.max() } else { numbers.min() };
    found.map(Value::Number).ok_or_else(|| Fault::call("must pass at least one number"))
}

fn parseint(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let given = arguments.value();
    let Value::String(text) = given else {
        return Err(Fault::argument(
            0,
            format!("first argument must be a string, not {}", given.friendly_type()),
        ));
    };
    let base = arguments.whole(1)?;
    if !(2..=62).contains(&base) {
        return Err(Fault::argument(1, "base must be a whole number between 2 and 62 inclusive"));
    }
    let wrong = || Fault::argument(0, format!("cannot parse {text:?} as a base {base} integer"));
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let mut magnitude = BigUint::ZERO;
    if digits.is_empty() || digits.len() > 4096 {
        return Err(wrong());
    }
    for c in digits.bytes() {
        // Up to base 36 both cases are the same digit; above, upper case follows lower case.
        let digit = match c {
            b'0'..=b'9' => c - b'0',
            b'a'..=b'z' => c - b'a' + 10,
            b'A'..=b'Z' if base <= 36 => c - b'A' + 10,
            b'A'..=b'Z' => c - b'A' + 36,
            _ => return Err(wrong()),
        };
        if i64::from(digit) >= base {
            return Err(wrong());
        }
        magnitude = magnitude * BigUint::from(base as u64) + BigUint::from(digit);
    }
    Ok(Number::from_integer(negative, magnitude).into())
}

fn range(values: Vec<Value>, _: &Functions) -> Outcome {
    let count = values.len();
    let mut arguments = Arguments::new(values);
    let one = Number::from(1i64);
    let (start, end, step) = match count {
        1 => {
            let end = arguments.number();
            let step = if end.is_negative() { one.negate() } else { one };
            (Number::zero(), end, step)
        }
        2 => {
            let (start, end) = (arguments.number(), arguments.number());
            let step = if end < start { one.negate() } else { one };
            (start, end, step)
        }
        3 => (arguments.number(), arguments.number(), arguments.number()),
        _ => return Err(Fault::call("must have one, two, or three arguments")),
    };
    let down = step.is_negative();
    if step.is_zero() {
        return Err(Fault::argument(2, "step must not be zero"));
    }
    if down && end > start {
        return Err(Fault::argument(1, "end must be less than start when step is negative"));
    }
    if !down && end < start {
        return Err(Fault::argument(1, "end must be greater than start when step is positive"));
    }
    let mut numbers = Vec::new();
    let mut next = start;
    while if down { next > end } else { next < end } {
        if numbers.len() >= RANGE_MAX {
            return Err(Fault::call(format!(
                "more than {RANGE_MAX} values were generated; either decrease the difference between start and end or use a smaller step"
            )));
        }
        numbers.push(Value::Number(next.clone()));
        next = next.add(&step).unwrap_or_else(|| end.clone());
    }
    Ok(Value::List(Type::Number, numbers))
}
