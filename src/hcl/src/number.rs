//! Numbers as HCL has them: binary fractions of up to 512 bits, printed with as few decimal digits as name them.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::BigUint;

/// Bits of a number read from text, and of results of such numbers.
const PRECISION: u32 = 512;

/// Largest power of two before a number counts as infinite (or, below, as zero). 65,536 bits print as 20,000 digits:
/// far beyond any use, and short enough to print.
const EXPONENT_MAX: i64 = 65_536;

/// A number. Arithmetic rounds to the larger precision of its operands, ties to even.
#[derive(Clone, Debug)]
pub struct Number(Repr);

/// In `Finite` the mantissa is odd or zero; the value is `mantissa * 2^exponent`.
#[derive(Clone, Debug)]
enum Repr {
    Finite { negative: bool, mantissa: BigUint, exponent: i64, precision: u32 },
    Infinite { negative: bool },
}

impl Number {
    /// Steps that it takes to compute with it or to write it: the square of its length.
    pub(crate) fn own_steps(&self) -> u64 {
        /// Pairs of words that take as long as a step.
        const STEP: u64 = 256;
        match &self.0 {
            Repr::Finite { mantissa, exponent, .. } => {
                let words = (exponent.unsigned_abs() + mantissa.bits()) / 64;
                words.saturating_mul(words) / STEP
            }
            Repr::Infinite { .. } => 0,
        }
    }

    /// Zero.
    pub fn zero() -> Number {
        Number::from(0i64)
    }

    /// Infinity of the given sign.
    pub fn infinity(negative: bool) -> Number {
        Number(Repr::Infinite { negative })
    }

    /// Reads decimal text with an optional sign, fraction and exponent.
    pub fn parse(text: &str) -> Option<Number> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (digits, exponent) = match rest.find(['e', 'E']) {
            Some(at) => {
                (&rest[..at], rest[at + 1..].parse::<i64>().ok().or_else(|| huge_exponent(&rest[at + 1..]))?)
            }
            None => (rest, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) || all.len() > EXPONENT_MAX as usize {
            return None;
        }
        let mantissa = BigUint::parse_bytes(all.as_bytes(), 10)?;
        let scale = exponent.saturating_sub(fraction.len() as i64);
        Some(from_decimal(negative, mantissa, scale))
    }

    /// The nearest number to a machine float; `None` for not-a-number.
    pub fn from_f64(value: f64) -> Option<Number> {
        if value.is_nan() {
            return None;
        }
        if value.is_infinite() {
            return Some(Number::infinity(value < 0.0));
        }
        let bits = value.abs().to_bits();
        let (raw_exponent, fraction) = ((bits >> 52) as i64, bits & ((1 << 52) - 1));
        let (mantissa, exponent) =
            if raw_exponent == 0 { (fraction, -1074) } else { (fraction | (1 << 52), raw_exponent - 1075) };
        Some(round(value < 0.0, mantissa.into(), exponent, 53))
    }

    /// A whole number.
    pub fn from_integer(negative: bool, magnitude: BigUint) -> Number {
        let precision = (magnitude.bits() as u32).max(64);
        round(negative, magnitude, 0, precision)
    }

    /// Whether it is plus or minus infinity.
    pub fn is_infinite(&self) -> bool {
        matches!(self.0, Repr::Infinite { .. })
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        matches!(&self.0, Repr::Finite { mantissa, .. } if *mantissa == BigUint::ZERO)
    }

    /// Whether it is less than zero.
    pub fn is_negative(&self) -> bool {
        match &self.0 {
            Repr::Infinite { negative } => *negative,
            Repr::Finite { negative, mantissa, .. } => *negative && *mantissa != BigUint::ZERO,
        }
    }

    /// Whether it has no fraction.
    pub fn is_integer(&self) -> bool {
        matches!(self.0, Repr::Finite { exponent, .. } if exponent >= 0)
    }

    /// Its whole value, when it has no fraction and fits.
    pub fn as_i64(&self) -> Option<i64> {
        let (negative, magnitude) = self.as_integer()?;
        let magnitude = i128::from(u64::try_from(magnitude).ok()?);
        i64::try_from(if negative { -magnitude } else { magnitude }).ok()
    }

    /// Its whole value, when it has no fraction, fits and is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        let (negative, magnitude) = self.as_integer()?;
        let magnitude = u64::try_from(magnitude).ok()?;
        (!negative || magnitude == 0).then_some(magnitude)
    }

    /// Sign and magnitude, when it has no fraction.
    pub fn as_integer(&self) -> Option<(bool, BigUint)> {
        match &self.0 {
            Repr::Finite { negative, mantissa, exponent, .. } if *exponent >= 0 => {
                Some((*negative, mantissa << *exponent as u64))
            }
            Repr::Finite { .. } | Repr::Infinite { .. } => None,
        }
    }

    /// The nearest machine float.
    pub fn as_f64(&self) -> f64 {
        match &self.0 {
            Repr::Infinite { negative: true } => f64::NEG_INFINITY,
            Repr::Infinite { negative: false } => f64::INFINITY,
            Repr::Finite { .. } => self.to_exponent(None).parse().unwrap_or(f64::NAN),
        }
    }

    /// Without its sign.
    pub fn abs(&self) -> Number {
        if self.is_negative() { self.negate() } else { self.clone() }
    }

    /// With the other sign.
    pub fn negate(&self) -> Number {
        match self.0.clone() {
            Repr::Infinite { negative } => Number::infinity(!negative),
            Repr::Finite { negative, mantissa, exponent, precision } => {
                let negative = !negative && mantissa != BigUint::ZERO;
                Number(Repr::Finite { negative, mantissa, exponent, precision })
            }
        }
    }

    /// Without its fraction, towards zero.
    pub fn truncate(&self) -> Number {
        match &self.0 {
            Repr::Finite { negative, mantissa, exponent, precision } if *exponent < 0 => {
                round(*negative, mantissa >> exponent.unsigned_abs(), 0, *precision)
            }
            Repr::Finite { .. } | Repr::Infinite { .. } => self.clone(),
        }
    }

    /// The largest whole number that is not larger.
    pub fn floor(&self) -> Number {
        let whole = self.truncate();
        if self.is_negative() && !self.is_integer() {
            whole.add(&Number::from(-1i64)).unwrap_or(whole)
        } else {
            whole
        }
    }

    /// The smallest whole number that is not smaller.
    pub fn ceil(&self) -> Number {
        self.negate().floor().negate()
    }

    /// Sum; `None` for infinity minus infinity.
    pub fn add(&self, other: &Number) -> Option<Number> {
        let (a, b) = match (&self.0, &other.0) {
            (Repr::Infinite { negative: a }, Repr::Infinite { negative: b }) => {
                return (a == b).then(|| self.clone());
            }
            (Repr::Infinite { .. }, Repr::Finite { .. }) => return Some(self.clone()),
            (Repr::Finite { .. }, Repr::Infinite { .. }) => return Some(other.clone()),
            (Repr::Finite { .. }, Repr::Finite { .. }) => (self.parts(), other.parts()),
        };
        let exponent = a.2.min(b.2);
        let left = a.1 << (a.2 - exponent) as u64;
        let right = b.1 << (b.2 - exponent) as u64;
        let (negative, magnitude) = match (a.0 == b.0, left.cmp(&right)) {
            (true, _) => (a.0, left + right),
            (false, Ordering::Less) => (b.0, right - left),
            (false, Ordering::Equal) => (false, BigUint::ZERO),
            (false, Ordering::Greater) => (a.0, left - right),
        };
        Some(round(negative, magnitude, exponent, a.3.max(b.3)))
    }

    /// Difference; `None` for infinity minus infinity.
    pub fn subtract(&self, other: &Number) -> Option<Number> {
        self.add(&other.negate())
    }

    /// Product; `None` for zero times infinity.
    pub fn multiply(&self, other: &Number) -> Option<Number> {
        let negative = self.is_negative() != other.is_negative();
        if self.is_infinite() || other.is_infinite() {
            return (!self.is_zero() && !other.is_zero()).then(|| Number::infinity(negative));
        }
        let (a, b) = (self.parts(), other.parts());
        let product = round(negative, a.1 * b.1, a.2 + b.2, PRECISION);
        Some(match product.0 {
            // As precise as the factors, or as the product needs.
            Repr::Finite { negative, mantissa, exponent, .. } => {
                let precision = a.3.max(b.3).max(mantissa.bits() as u32);
                Number(Repr::Finite { negative, mantissa, exponent, precision })
            }
            Repr::Infinite { negative } => Number::infinity(negative),
        })
    }

    /// Quotient; `None` for zero by zero and infinity by infinity. By zero it is infinite.
    pub fn divide(&self, other: &Number) -> Option<Number> {
        let negative = self.is_negative() != other.is_negative();
        match (self.is_infinite(), other.is_infinite()) {
            (true, true) => return None,
            (true, false) => return Some(Number::infinity(negative)),
            (false, true) => return Some(Number::zero()),
            (false, false) => {}
        }
        if other.is_zero() {
            return (!self.is_zero()).then(|| Number::infinity(negative));
        }
        let (a, b) = (self.parts(), other.parts());
        Some(quotient(negative, a.1, b.1, a.2 - b.2, a.3.max(b.3)))
    }

    /// What is left of a division that goes towards zero; by zero, the number itself.
    pub fn modulo(&self, other: &Number) -> Option<Number> {
        if other.is_zero() || other.is_infinite() {
            return Some(self.clone());
        }
        if self.is_infinite() {
            return None;
        }
        let whole = self.divide(other)?.truncate();
        self.subtract(&other.multiply(&whole)?)
    }

    /// With exactly `places` digits after the point.
    pub fn to_fixed(&self, places: usize) -> String {
        if self.is_infinite() {
            return self.to_string();
        }
        let (negative, mantissa, exponent, _) = self.parts();
        let scaled = mantissa * BigUint::from(10u8).pow(places as u32);
        let whole = match round(false, scaled, exponent, u32::MAX).0 {
            Repr::Finite { mantissa, exponent, .. } => round_to_integer(mantissa, exponent),
            Repr::Infinite { .. } => BigUint::ZERO,
        };
        let digits = format!("{:0>width$}", whole.to_string(), width = places + 1);
        let (before, after) = digits.split_at(digits.len() - places);
        let sign = if negative { "-" } else { "" };
        if places == 0 { format!("{sign}{before}") } else { format!("{sign}{before}.{after}") }
    }

    /// With an exponent of at least two digits; `places` digits after the point, or as many as name it.
    pub fn to_exponent(&self, places: Option<usize>) -> String {
        if self.is_infinite() {
            return self.to_string();
        }
        let (mut digits, mut point) = match places {
            None => self.shortest(),
            Some(_) => self.exact(),
        };
        if let Some(places) = places {
            round_digits(&mut digits, &mut point, places + 1);
            digits.resize(places + 1, b'0');
        }
        let exponent = if self.is_zero() { 0 } else { point - 1 };
        let mut out = String::from(if self.is_negative() { "-" } else { "" });
        out.push(char::from(digits.first().copied().unwrap_or(b'0')));
        if digits.len() > 1 {
            out.push('.');
            out.extend(digits[1..].iter().map(|d| char::from(*d)));
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        out.push_str(&format!("e{sign}{:02}", exponent.unsigned_abs()));
        out
    }

    /// The shorter of plain and exponent form, as `%g` has it.
    pub fn to_general(&self, places: Option<usize>) -> String {
        if self.is_infinite() {
            return self.to_string();
        }
        let (mut digits, mut point) = if places.is_some() { self.exact() } else { self.shortest() };
        let mut limit = 6;
        if let Some(places) = places {
            round_digits(&mut digits, &mut point, places.max(1));
            limit = places.max(1) as i64;
            if limit > digits.len() as i64 && digits.len() as i64 >= point {
                limit = digits.len() as i64;
            }
        }
        let exponent = if self.is_zero() { 0 } else { point - 1 };
        if exponent < -4 || exponent >= limit {
            return self.to_exponent(Some(digits.len().saturating_sub(1)));
        }
        plain(self.is_negative(), &digits, point)
    }

    fn parts(&self) -> (bool, BigUint, i64, u32) {
        match &self.0 {
            Repr::Finite { negative, mantissa, exponent, precision } => {
                (*negative, mantissa.clone(), *exponent, *precision)
            }
            // Callers have dealt with infinity.
            Repr::Infinite { negative } => (*negative, BigUint::ZERO, 0, PRECISION),
        }
    }

    /// All decimal digits, and how many of them stand before the point.
    fn exact(&self) -> (Vec<u8>, i64) {
        let (_, mantissa, exponent, _) = self.parts();
        let (scaled, after) = decimal(mantissa, exponent);
        let mut digits = scaled.to_string().into_bytes();
        let point = digits.len() as i64 - after;
        trim_zeros(&mut digits);
        (digits, point)
    }

    /// The fewest digits that lie closer to this number than to any other of its precision.
    fn shortest(&self) -> (Vec<u8>, i64) {
        let (_, mantissa, exponent, precision) = self.parts();
        let bits = mantissa.bits() as i64;
        if mantissa == BigUint::ZERO || (exponent >= 0 && bits + exponent <= i64::from(precision)) {
            return self.exact();
        }
        let shift = i64::from(precision) + 1 - bits;
        let even = shift >= 2;
        let middle = mantissa << shift as u64;
        let one = BigUint::from(1u8);
        let scale = exponent - shift;
        let (low, _) = decimal(&middle - &one, scale);
        let (high, _) = decimal(&middle + &one, scale);
        let (exact, after) = decimal(middle, scale);
        let high = high.to_string().into_bytes();
        let pad = |n: BigUint| format!("{:0>width$}", n.to_string(), width = high.len()).into_bytes();
        let (mut digits, low) = (pad(exact), pad(low));
        let mut point = high.len() as i64 - after;
        shorten(&mut digits, &mut point, &low, &high, even);
        trim_zeros(&mut digits);
        let leading = digits.iter().take_while(|d| **d == b'0').count().min(digits.len() - 1);
        digits.drain(..leading);
        (digits, point - leading as i64)
    }
}

fn huge_exponent(text: &str) -> Option<i64> {
    let digits = text.trim_start_matches(['-', '+']);
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then_some(if text.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 })
}

fn from_decimal(negative: bool, mantissa: BigUint, scale: i64) -> Number {
    if mantissa == BigUint::ZERO || scale < -EXPONENT_MAX {
        return Number(Repr::Finite {
            negative: false,
            mantissa: BigUint::ZERO,
            exponent: 0,
            precision: PRECISION,
        });
    }
    if scale > EXPONENT_MAX {
        return Number::infinity(negative);
    }
    let power = BigUint::from(10u8).pow(scale.unsigned_abs() as u32);
    if scale >= 0 {
        round(negative, mantissa * power, 0, PRECISION)
    } else {
        quotient(negative, mantissa, power, 0, PRECISION)
    }
}

fn quotient(negative: bool, left: BigUint, right: BigUint, exponent: i64, precision: u32) -> Number {
    // Two bits more than are kept, and one that stands for all further ones, so that ties are told from near ties.
    let shift = (i64::from(precision) + 2 + right.bits() as i64 - left.bits() as i64).max(0);
    let scaled = left << shift as u64;
    let whole = &scaled / &right;
    let rest = scaled - &whole * &right;
    let sticky = BigUint::from(u8::from(rest != BigUint::ZERO));
    round(negative, (whole << 1u8) + sticky, exponent - shift - 1, precision)
}

/// Rounds to `precision` bits, ties to even, and brings into the form that `Repr` promises.
fn round(negative: bool, mantissa: BigUint, exponent: i64, precision: u32) -> Number {
    let (mut mantissa, mut exponent) = (mantissa, exponent);
    let bits = mantissa.bits();
    if bits > u64::from(precision) {
        let drop = bits - u64::from(precision);
        let half = mantissa.bit(drop - 1);
        let above_half = mantissa.trailing_zeros().is_some_and(|z| z < drop - 1);
        mantissa >>= drop;
        exponent += drop as i64;
        if half && (above_half || mantissa.bit(0)) {
            mantissa += 1u8;
        }
    }
    match mantissa.trailing_zeros() {
        None => exponent = 0,
        Some(zeros) => {
            mantissa >>= zeros;
            exponent += zeros as i64;
        }
    }
    let magnitude = exponent + mantissa.bits() as i64;
    if magnitude > EXPONENT_MAX {
        return Number::infinity(negative);
    }
    if magnitude < -EXPONENT_MAX {
        (mantissa, exponent) = (BigUint::ZERO, 0);
    }
    let negative = negative && mantissa != BigUint::ZERO;
    Number(Repr::Finite { negative, mantissa, exponent, precision: precision.min(1 << 20) })
}

fn round_to_integer(mantissa: BigUint, exponent: i64) -> BigUint {
    if exponent >= 0 {
        return mantissa << exponent as u64;
    }
    let drop = exponent.unsigned_abs();
    let half = mantissa.bit(drop - 1);
    let above_half = mantissa.trailing_zeros().is_some_and(|z| z < drop - 1);
    let mut whole = mantissa >> drop;
    if half && (above_half || whole.bit(0)) {
        whole += 1u8;
    }
    whole
}

/// `mantissa * 2^exponent` as a whole number and how many of its decimal digits stand after the point.
fn decimal(mantissa: BigUint, exponent: i64) -> (BigUint, i64) {
    if exponent >= 0 {
        (mantissa << exponent as u64, 0)
    } else {
        let after = exponent.unsigned_abs();
        (mantissa * BigUint::from(5u8).pow(after as u32), after as i64)
    }
}

fn shorten(digits: &mut Vec<u8>, point: &mut i64, low: &[u8], high: &[u8], inclusive: bool) {
    let end_of = |d: &[u8]| d.iter().rposition(|d| *d != b'0').map_or(0, |i| i + 1);
    let (low_end, high_end) = (end_of(low), end_of(high));
    for i in 0..digits.len() {
        let (digit, below, above) = (digits[i], low[i], high[i]);
        let down = below != digit || (inclusive && i + 1 == low_end);
        let up = digit != above && (inclusive || digit + 1 < above || i + 1 < high_end);
        match (down, up) {
            (false, false) => {}
            (true, true) => return round_digits(digits, point, i + 1),
            (true, false) => return digits.truncate(i + 1),
            (false, true) => return increment(digits, point, i + 1),
        }
    }
}

/// Keeps `count` digits, rounding ties to even.
fn round_digits(digits: &mut Vec<u8>, point: &mut i64, count: usize) {
    if count >= digits.len() {
        return;
    }
    let rest = &digits[count..];
    let tie = rest[0] == b'5' && rest[1..].iter().all(|d| *d == b'0');
    let up = if tie { count > 0 && (digits[count - 1] - b'0') % 2 == 1 } else { rest[0] >= b'5' };
    if up { increment(digits, point, count) } else { digits.truncate(count) }
}

fn increment(digits: &mut Vec<u8>, point: &mut i64, count: usize) {
    digits.truncate(count);
    while let Some(last) = digits.pop() {
        if last < b'9' {
            digits.push(last + 1);
            return;
        }
    }
    digits.push(b'1');
    *point += 1;
}

fn trim_zeros(digits: &mut Vec<u8>) {
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
}

fn plain(negative: bool, digits: &[u8], point: i64) -> String {
    let mut out = String::from(if negative { "-" } else { "" });
    let zeros = |n: i64| "0".repeat(n.max(0) as usize);
    let text: String = digits.iter().map(|d| char::from(*d)).collect();
    if point <= 0 {
        if text == "0" {
            return "0".to_string();
        }
        out.push_str(&format!("0.{}{text}", zeros(-point)));
    } else if point as usize >= text.len() {
        out.push_str(&text);
        out.push_str(&zeros(point - text.len() as i64));
    } else {
        out.push_str(&format!("{}.{}", &text[..point as usize], &text[point as usize..]));
    }
    out
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Repr::Infinite { negative: true } => f.write_str("-Inf"),
            Repr::Infinite { negative: false } => f.write_str("+Inf"),
            Repr::Finite { .. } => {
                if let Some(whole) = self.as_i64().filter(|n| n.unsigned_abs() < 1 << 53) {
                    return write!(f, "{whole}");
                }
                let (digits, point) = self.shortest();
                f.write_str(&plain(self.is_negative(), &digits, point))
            }
        }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Number {
        Number::from_integer(value < 0, value.unsigned_abs().into())
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Number {
        Number::from_integer(false, value.into())
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (self.is_negative(), other.is_negative()) {
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (true, true) => return other.negate().cmp(&self.negate()),
            (false, false) => {}
        }
        match (self.is_infinite(), other.is_infinite()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        let (a, b) = (self.parts(), other.parts());
        let exponent = a.2.min(b.2);
        (a.1 << (a.2 - exponent) as u64).cmp(&(b.1 << (b.2 - exponent) as u64))
    }
}
