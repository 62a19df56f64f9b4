//! Timestamps as RFC 3339 has them.

use super::Accepts::String as Text;
use super::{Arguments, Fault, Functions, Outcome, Spec, param, spec};
use crate::value::Value;

pub(super) const SPECS: &[Spec] = &[
    spec("formatdate", &[param("format", Text), param("time", Text)], formatdate),
    spec("timeadd", &[param("timestamp", Text), param("duration", Text)], timeadd),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A time of day in a zone; `seconds` are since 1970 there, on local clocks.
struct Stamp {
    seconds: i64,
    nanos: u32,
    offset_minutes: i64,
}

struct Civil {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Stamp {
    fn civil(&self) -> Civil {
        let (days, rest) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        // Years begin in March here, so that the leap day is the last.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Civil {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: month as usize,
            day,
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    fn zone(&self, colon: &str) -> String {
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.abs();
        format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60)
    }

    fn rfc3339(&self) -> String {
        let c = self.civil();
        let fraction = if self.nanos == 0 {
            String::new()
        } else {
            format!(".{:09}", self.nanos).trim_end_matches('0').to_string()
        };
        let zone = if self.offset_minutes == 0 { "Z".to_string() } else { self.zone(":") };
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}{zone}",
            c.year, c.month, c.day, c.hour, c.minute, c.second
        )
    }
}

fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn parse(text: &str) -> Result<Stamp, String> {
    parse_parts(text).map_err(|why| format!("not a valid RFC3339 timestamp: {why}"))
}

/// Takes a number of as many digits, and what must stand after it.
fn part(rest: &mut &str, digits: usize, name: &str, after: &str) -> Result<i64, String> {
    if rest.is_empty() {
        return Err(format!("end of string before {name}"));
    }
    let wrong = || {
        let end = rest.find(['-', ':', 'T', '.', 'Z']).filter(|e| *e > 0).unwrap_or(rest.len());
        format!("cannot use {:?} as {name}", &rest[..end])
    };
    let taken = rest.get(..digits).filter(|t| t.bytes().all(|b| b.is_ascii_digit())).ok_or_else(wrong)?;
    let number = taken.parse().map_err(|_| wrong())?;
    let follows = &rest[digits..];
    let Some(next) = follows.strip_prefix(after) else {
        return Err(if follows.is_empty() || after != "T" {
            format!("missing required {after:?} after {name}")
        } else {
            "missing required time introducer 'T'".to_string()
        });
    };
    *rest = next;
    Ok(number)
}

fn parse_parts(text: &str) -> Result<Stamp, String> {
    let mut rest = text;
    let year = part(&mut rest, 4, "year", "-")?;
    let month = part(&mut rest, 2, "month", "-")?;
    let day = part(&mut rest, 2, "day of month", "T")?;
    let hour = part(&mut rest, 2, "hour", ":")?;
    let minute = part(&mut rest, 2, "minute", ":")?;
    let second = part(&mut rest, 2, "second", "")?;
    let mut nanos = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let kept = &after[..digits.min(9)];
        nanos =
            format!("{kept:0<9}").parse().map_err(|_| "cannot use the fraction of a second".to_string())?;
        rest = &after[digits..];
    }
    let offset_minutes = match rest {
        "" => return Err("missing UTC offset".to_string()),
        "Z" => 0,
        zone => {
            let sign = match zone.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return Err(format!("cannot use {zone:?} as UTC offset")),
            };
            let mut zone = &zone[1..];
            let hours = part(&mut zone, 2, "UTC offset", ":")?;
            let minutes = part(&mut zone, 2, "UTC offset", "")?;
            if !zone.is_empty() || hours > 23 || minutes > 59 {
                return Err(format!("cannot use {rest:?} as UTC offset"));
            }
            sign * (hours * 60 + minutes)
        }
    };
    for (name, value, low, high) in [
        ("month", month, 1, 12),
        ("day of month", day, 1, days_in(year, month)),
        ("hour", hour, 0, 23),
        ("minute", minute, 0, 59),
        ("second", second, 0, 59),
    ] {
        if value < low || value > high {
            return Err(format!("{name} out of range"));
        }
    }
    let seconds = days_before(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Ok(Stamp { seconds, nanos, offset_minutes })
}

fn timeadd(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (stamp, duration) = (arguments.text(), arguments.text());
    let stamp = parse(&stamp).map_err(Fault::call)?;
    let nanos = parse_duration(&duration).map_err(Fault::call)?;
    let total = i128::from(stamp.seconds) * 1_000_000_000 + i128::from(stamp.nanos) + i128::from(nanos);
    let seconds = i64::try_from(total.div_euclid(1_000_000_000))
        .map_err(|_| Fault::call("the result is out of range"))?;
    let nanos = total.rem_euclid(1_000_000_000) as u32;
    Ok(Value::string(Stamp { seconds, nanos, ..stamp }.rfc3339()))
}

/// Reads a duration such as `1h30m`, in nanoseconds.
fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let amount: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..letters] {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        total += amount * factor;
        rest = &rest[letters..];
    }
    if total >= i64::MAX as f64 { Err(invalid()) } else { Ok(sign * total as i64) }
}

fn formatdate(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (pattern, stamp) = (arguments.text(), arguments.text());
    let stamp = parse(&stamp).map_err(|why| Fault::argument(1, why))?;
    let civil = stamp.civil();
    let mut out = String::new();
    let mut rest = pattern.as_str();
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\'' => {
                let (text, length) = literal(rest)?;
                out.push_str(&text);
                length
            }
            c if c.is_ascii_alphabetic() => {
                let length = rest.chars().take_while(|d| *d == c).count();
                out.push_str(&verb(&rest[..length], &stamp, &civil).map_err(|why| Fault::argument(0, why))?);
                length
            }
            c => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Ok(Value::string(out))
}

/// Text in single quotes, in which two of them stand for one.
fn literal(text: &str) -> Result<(String, usize), Fault> {
    let mut out = String::new();
    let mut at = 1;
    loop {
        let Some(end) = text[at..].find('\'') else {
            return Err(Fault::argument(0, "unterminated literal '"));
        };
        out.push_str(&text[at..at + end]);
        at += end + 1;
        if !text[at..].starts_with('\'') {
            return Ok((out, at));
        }
        out.push('\'');
        at += 1;
    }
}

fn verb(verb: &str, stamp: &Stamp, c: &Civil) -> Result<String, String> {
    let hour12 = if c.hour % 12 == 0 { 12 } else { c.hour % 12 };
    let month = MONTHS[(c.month - 1).min(11)];
    let day = DAYS[c.weekday];
    let bad = |hint: &str| Err(format!("invalid date format verb {verb:?}: {hint}"));
    Ok(match verb {
        "YYYY" => format!("{:04}", c.year),
        "YY" => format!("{:02}", c.year % 100),
        "MMMM" => month.to_string(),
        "MMM" => month[..3].to_string(),
        "MM" => format!("{:02}", c.month),
        "M" => c.month.to_string(),
        "DD" => format!("{:02}", c.day),
        "D" => c.day.to_string(),
        "EEEE" => day.to_string(),
        "EEE" => day[..3].to_string(),
        "hh" => format!("{:02}", c.hour),
        "h" => c.hour.to_string(),
        "HH" => format!("{hour12:02}"),
        "H" => hour12.to_string(),
        "mm" => format!("{:02}", c.minute),
        "m" => c.minute.to_string(),
        "ss" => format!("{:02}", c.second),
        "s" => c.second.to_string(),
        "AA" => if c.hour < 12 { "AM" } else { "PM" }.to_string(),
        "aa" => if c.hour < 12 { "am" } else { "pm" }.to_string(),
        "ZZZZZ" => stamp.zone(":"),
        "ZZZZ" => stamp.zone(""),
        "ZZZ" if stamp.offset_minutes == 0 => "UTC".to_string(),
        "ZZZ" => stamp.zone(""),
        "Z" if stamp.offset_minutes == 0 => "Z".to_string(),
        "Z" => stamp.zone(":"),
        _ => {
            return match verb.as_bytes()[0] {
                b'Y' => bad("year must either be \"YY\" or \"YYYY\""),
                b'M' => bad("month must be \"M\", \"MM\", \"MMM\", or \"MMMM\""),
                b'D' => bad("day of month must either be \"D\" or \"DD\""),
                b'E' => bad("day of week must either be \"EEE\" or \"EEEE\""),
                b'h' | b'H' => bad("hour must either be one letter or two"),
                b'm' => bad("minute must either be \"m\" or \"mm\""),
                b's' => bad("second must either be \"s\" or \"ss\""),
                b'A' | b'a' => bad("must be \"AA\" or \"aa\""),
                b'Z' => bad("timezone must be Z, ZZZ, ZZZZ, or ZZZZZ"),
                _ => Err(format!("invalid date format verb {verb:?}")),
            };
        }
    })
}
