//! Durations as Go writes and reads them, in nanoseconds.

use std::fmt::Write as _;

const UNITS: [(&str, f64, i64); 8] = [
    ("ns", 1.0, 1),
    ("us", 1e3, 1_000),
    ("µs", 1e3, 1_000),
    ("μs", 1e3, 1_000),
    ("ms", 1e6, 1_000_000),
    ("s", 1e9, 1_000_000_000),
    ("m", 6e10, 60_000_000_000),
    ("h", 3.6e12, 3_600_000_000_000),
];

/// Reads `1h30m`, `1500ms`, `-2s`, `0`. The error is the text that Go's parser gives.
pub fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, mut after) = rest.split_at(digits);
        let mut fraction = "";
        if let Some(tail) = after.strip_prefix('.') {
            let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            (fraction, after) = tail.split_at(end);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, tail) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, float_scale, scale)) = UNITS.iter().find(|(name, ..)| *name == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let mut part = whole.checked_mul(*scale).ok_or_else(invalid)?;
        if !fraction.is_empty() {
            let fraction: f64 = format!("0.{fraction}").parse().map_err(|_| invalid())?;
            part = part.checked_add((fraction * float_scale) as i64).ok_or_else(invalid)?;
        }
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = tail;
    }
    Ok(if negative { -total } else { total })
}

/// Writes `1m30s`, `1.5s`, `20ms`, `0s`.
pub fn format(nanoseconds: i64) -> String {
    let total = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let fractional = |value: u64, scale: u64, unit: &str| {
        let mut text = format!("{sign}{}", value / scale);
        let rest = value % scale;
        if rest > 0 {
            let width = scale.ilog10() as usize;
            let digits = format!("{rest:0width$}");
            let _ = write!(text, ".{}", digits.trim_end_matches('0'));
        }
        text + unit
    };
    match total {
        0 => "0s".into(),
        1..1_000 => format!("{sign}{total}ns"),
        1_000..1_000_000 => fractional(total, 1_000, "µs"),
        1_000_000..1_000_000_000 => fractional(total, 1_000_000, "ms"),
        _ => {
            let (hours, minutes) = (total / 3_600_000_000_000, total / 60_000_000_000 % 60);
            let mut text = sign.to_owned();
            if hours > 0 {
                let _ = write!(text, "{hours}h");
            }
            if hours > 0 || minutes > 0 {
                let _ = write!(text, "{minutes}m");
            }
            let seconds = fractional(total % 60_000_000_000, 1_000_000_000, "s");
            text + seconds.trim_start_matches('-')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_texts_are_read_and_written() {
        let pairs = [("1h30m15s", 5_415_000_000_000), ("1.5s", 1_500_000_000), ("20m0s", 1_200_000_000_000)];
        for (text, value) in pairs {
            assert_eq!(parse(text), Ok(value));
            assert_eq!(format(value), text);
        }
        assert_eq!(parse("1500ms"), Ok(1_500_000_000));
        assert_eq!(parse("-1.5h"), Ok(-5_400_000_000_000));
        assert_eq!(format(-1_500_000), "-1.5ms");
        assert_eq!(format(2_500), "2.5µs");
        assert_eq!(format(3_600_000_000_000), "1h0m0s");
    }

    #[test]
    fn bad_texts_are_named_as_go_names_them() {
        let unknown = r#"time: unknown unit " seconds" in duration "10 seconds""#;
        assert_eq!(parse("10 seconds"), Err(unknown.into()));
        assert_eq!(parse("10"), Err(r#"time: missing unit in duration "10""#.into()));
        for text in ["", "-", "x", ".s", "99999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
