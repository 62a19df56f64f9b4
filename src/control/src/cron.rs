//! Cron expressions as Nomad reads them.
//!
//! Five fields (minute, hour, day of month, month, day of week), six (year last) or seven (seconds first); names of
//! months and days; `L`, `W`, `#`, `?`, lists, ranges and steps; `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`,
//! `@hourly`. Where both a day of the month and a day of the week are given, either will do.

use jiff::{
    civil::{Date, DateTime, Weekday},
    tz::TimeZone,
};
use model::Timestamp;

/// The last year that an expression reaches.
const LAST_YEAR: i16 = 2099;
/// The first year that an expression may name.
const FIRST_YEAR: i16 = 1970;

/// A text is not a cron expression. The words are those that programs match on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CronError {
    /// Fewer than five fields.
    #[error("missing field(s)")]
    MissingFields,
    /// More than seven fields.
    #[error("too many fields")]
    TooManyFields,
    /// A part of a field can not be read.
    #[error("syntax error in {field} field: '{part}'")]
    Syntax {
        /// The field.
        field: &'static str,
        /// The part.
        part: String,
    },
    /// A step of zero, or none at all.
    #[error("invalid interval {part}")]
    Interval {
        /// The part.
        part: String,
    },
}

/// The time zone's name is not in the database.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown time zone {name}")]
pub struct UnknownZone {
    /// The name.
    pub name: String,
}

/// Finds a time zone by name; none given is UTC.
///
/// # Errors
///
/// When the database does not have it.
pub fn zone(name: &str) -> Result<TimeZone, UnknownZone> {
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| UnknownZone { name: name.to_owned() })
}

/// A cron expression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cron {
    seconds: Set,
    minutes: Set,
    hours: Set,
    months: Set,
    years: Option<Vec<u16>>,
    month_days: Option<MonthDays>,
    week_days: Option<WeekDays>,
}

/// Numbers from 0 to 63.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Set(u64);

/// Days of the month; none of these for "any".
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct MonthDays {
    days: Set,
    last: bool,
    last_workday: bool,
    /// The workday nearest to these.
    workdays: Set,
}

/// Days of the week, Sunday is 0.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct WeekDays {
    days: Set,
    /// The last of these in the month.
    last: Set,
    /// The nth of this in the month.
    nth: Vec<(u8, u8)>,
}

struct Field {
    name: &'static str,
    first: u16,
    last: u16,
    names: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", first: 0, last: 59, names: &[] };
const MINUTE: Field = Field { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: Field = Field { name: "hour", first: 0, last: 23, names: &[] };
const MONTH_DAY: Field = Field { name: "day-of-month", first: 1, last: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEK_DAY: Field = Field {
    name: "day-of-week",
    first: 0,
    last: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};
const YEAR: Field = Field { name: "year", first: FIRST_YEAR as u16, last: LAST_YEAR as u16, names: &[] };

impl Set {
    fn has(self, value: u16) -> bool {
        value < 64 && self.0 >> value & 1 == 1
    }

    fn of(values: impl IntoIterator<Item = u16>) -> Self {
        Self(values.into_iter().fold(0, |bits, value| bits | 1 << value))
    }

    /// Returns the smallest number that is at least `from`.
    fn next(self, from: u16) -> Option<u16> {
        (from..64).find(|value| self.has(*value))
    }
}

impl std::str::FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 0 1 1 * *",
            "@monthly" => "0 0 0 1 * * *",
            "@weekly" => "0 0 0 * * 0 *",
            "@daily" => "0 0 0 * * * *",
            "@hourly" => "0 0 * * * * *",
            other => other,
        };
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        let (second, rest, year) = match fields.len() {
            0..5 => return Err(CronError::MissingFields),
            5 => ("0", &fields[..], "*"),
            6 => ("0", &fields[..5], fields[5]),
            7 => (fields[0], &fields[1..6], fields[6]),
            _ => return Err(CronError::TooManyFields),
        };
        Ok(Self {
            minutes: set(&MINUTE, rest[0])?,
            hours: set(&HOUR, rest[1])?,
            month_days: month_days(rest[2])?,
            months: set(&MONTH, rest[3])?,
            week_days: week_days(rest[4])?,
            seconds: set(&SECOND, second)?,
            years: years(year)?,
        })
    }
}

impl Cron {
    /// Returns the first time after `after` that the expression names; none when there is none up to the year 2099.
    ///
    /// A time that a change of clocks leaves out counts as the one that comes in its place.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_nanosecond(i128::from(after.0)).ok()?;
        let local = zone.to_datetime(after);
        let mut date = local.date();
        let mut from = Some((local.hour() as u16, local.minute() as u16, local.second() as u16 + 1));
        while date.year() <= LAST_YEAR {
            if !self.month_may(date) {
                date = date.first_of_month().checked_add(jiff::Span::new().months(1)).ok()?;
                from = None;
                continue;
            }
            if self.day_matches(date) {
                let mut at = self.time_from(from.unwrap_or((0, 0, 0)));
                while let Some((hour, minute, second)) = at {
                    let time = date.at(hour as i8, minute as i8, second as i8, 0);
                    if let Some(found) = to_timestamp(time, zone).filter(|found| *found > after) {
                        return i64::try_from(found.as_nanosecond()).ok().map(Timestamp);
                    }
                    at = self.time_from((hour, minute, second + 1));
                }
            }
            date = date.tomorrow().ok()?;
            from = None;
        }
        None
    }

    /// Tells whether any day of the date's month and year could match.
    fn month_may(&self, date: Date) -> bool {
        let year = u16::try_from(date.year()).unwrap_or(0);
        self.months.has(date.month() as u16) && self.years.as_ref().is_none_or(|years| years.contains(&year))
    }

    fn day_matches(&self, date: Date) -> bool {
        match (&self.month_days, &self.week_days) {
            (None, None) => true,
            (Some(month), None) => month.matches(date),
            (None, Some(week)) => week.matches(date),
            (Some(month), Some(week)) => month.matches(date) || week.matches(date),
        }
    }

    /// Returns the first time of a day that is at least (hour, minute, second); each may be one past its range.
    fn time_from(&self, (hour, minute, second): (u16, u16, u16)) -> Option<(u16, u16, u16)> {
        let first = (self.minutes.next(0)?, self.seconds.next(0)?);
        if self.hours.has(hour) {
            if self.minutes.has(minute)
                && let Some(second) = self.seconds.next(second)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = self.minutes.next(minute + 1) {
                return Some((hour, minute, first.1));
            }
        }
        self.hours.next(hour + 1).map(|hour| (hour, first.0, first.1))
    }
}

fn to_timestamp(time: DateTime, zone: &TimeZone) -> Option<jiff::Timestamp> {
    zone.to_timestamp(time).ok()
}

impl MonthDays {
    fn matches(&self, date: Date) -> bool {
        let (day, last) = (date.day() as u16, date.days_in_month() as u16);
        self.days.has(day)
            || self.last && day == last
            || self.last_workday && Some(date) == nearest_workday(date, last)
            || (1..=31).any(|wanted| self.workdays.has(wanted) && Some(date) == nearest_workday(date, wanted))
    }
}

/// Returns the workday of the date's month that is nearest to a day of it; none when the month has no such day.
fn nearest_workday(date: Date, day: u16) -> Option<Date> {
    let day = i8::try_from(day).ok().filter(|day| *day <= date.days_in_month())?;
    let shift = match (Date::new(date.year(), date.month(), day).ok()?.weekday(), day) {
        (Weekday::Saturday, 1) => 2,
        (Weekday::Saturday, _) => -1,
        (Weekday::Sunday, day) if day == date.days_in_month() => -2,
        (Weekday::Sunday, _) => 1,
        _ => 0,
    };
    Date::new(date.year(), date.month(), day + shift).ok()
}

impl WeekDays {
    fn matches(&self, date: Date) -> bool {
        let week_day = date.weekday().to_sunday_zero_offset() as u16;
        let (day, last) = (date.day(), date.days_in_month());
        self.days.has(week_day)
            || self.last.has(week_day) && day > last - 7
            || self
                .nth
                .iter()
                .any(|(wanted, nth)| u16::from(*wanted) == week_day && (day as u8 - 1) / 7 + 1 == *nth)
    }
}

fn set(field: &Field, text: &str) -> Result<Set, CronError> {
    let mut values = Vec::new();
    for part in parts(field, text)? {
        values.extend(numbers(field, part)?);
    }
    Ok(Set::of(values))
}

fn years(text: &str) -> Result<Option<Vec<u16>>, CronError> {
    if matches!(text, "*" | "?") {
        return Ok(None);
    }
    let mut years = Vec::new();
    for part in parts(&YEAR, text)? {
        years.extend(numbers(&YEAR, part)?);
    }
    Ok(Some(years))
}

fn month_days(text: &str) -> Result<Option<MonthDays>, CronError> {
    if matches!(text, "*" | "?") {
        return Ok(None);
    }
    let (mut found, mut days) = (MonthDays::default(), Vec::new());
    for part in parts(&MONTH_DAY, text)? {
        match part.to_ascii_lowercase().as_str() {
            "l" => found.last = true,
            "lw" | "wl" => found.last_workday = true,
            lower => match lower.strip_suffix('w') {
                Some(day) => found.workdays.0 |= Set::of([number(&MONTH_DAY, day, part)?]).0,
                None => days.extend(numbers(&MONTH_DAY, part)?),
            },
        }
    }
    found.days = Set::of(days);
    Ok(Some(found))
}

fn week_days(text: &str) -> Result<Option<WeekDays>, CronError> {
    if matches!(text, "*" | "?") {
        return Ok(None);
    }
    let (mut found, mut days) = (WeekDays::default(), Vec::new());
    for part in parts(&WEEK_DAY, text)? {
        let lower = part.to_ascii_lowercase();
        if let Some((day, nth)) = lower.split_once('#') {
            let nth = nth.parse().ok().filter(|nth| (1..=5).contains(nth));
            let nth = nth.ok_or_else(|| syntax(&WEEK_DAY, part))?;
            found.nth.push(((number(&WEEK_DAY, day, part)? % 7) as u8, nth));
        } else if let Some(day) = lower.strip_suffix('l').filter(|day| !day.is_empty()) {
            found.last.0 |= Set::of([number(&WEEK_DAY, day, part)? % 7]).0;
        } else if lower == "l" {
            days.push(6);
        } else {
            days.extend(numbers(&WEEK_DAY, part)?.into_iter().map(|day| day % 7));
        }
    }
    found.days = Set::of(days);
    Ok(Some(found))
}

fn parts<'a>(field: &'a Field, text: &'a str) -> Result<Vec<&'a str>, CronError> {
    let parts: Vec<_> = text.split(',').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(syntax(field, text));
    }
    Ok(parts)
}

/// Reads `*`, `5`, `5-10` and any of these with a step.
fn numbers(field: &Field, part: &str) -> Result<Vec<u16>, CronError> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let (first, last) = match range.split_once('-') {
        _ if matches!(range, "*" | "?") => (field.first, field.last),
        Some((first, last)) => (number(field, first, part)?, number(field, last, part)?),
        None => {
            let first = number(field, range, part)?;
            // A single number with a step goes on to the end of the range.
            (first, if step.is_some() { field.last } else { first })
        }
    };
    if first > last {
        return Err(syntax(field, part));
    }
    let step = match step {
        None => 1,
        Some(step) => {
            let step = step.parse::<u16>().ok().filter(|step| (1..=field.last).contains(step));
            step.ok_or_else(|| CronError::Interval { part: part.to_owned() })?
        }
    };
    Ok((first..=last).step_by(step.into()).collect())
}

fn number(field: &Field, text: &str, part: &str) -> Result<u16, CronError> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = field.names.iter().position(|name| lower.len() >= 3 && lower == *name) {
        return Ok(field.first + u16::try_from(at).unwrap_or(0));
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse::<u16>().ok().filter(|value| digits && (field.first..=field.last).contains(value));
    value.ok_or_else(|| syntax(field, part))
}

fn syntax(field: &Field, part: &str) -> CronError {
    CronError::Syntax { field: field.name, part: part.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a real Nomad answered when it was asked at 2026-11-22T14:20:22Z.
    const RECORDED: &[(&str, &str)] = &[
        ("* * * * *", "2026-11-22T14:21:00Z"),
        ("*/15 * * * *", "2026-11-22T14:30:00Z"),
        ("0 0 1 1 *", "2027-01-01T00:00:00Z"),
        ("@daily", "2026-11-23T00:00:00Z"),
        ("@hourly", "2026-11-22T15:00:00Z"),
        ("@weekly", "2026-11-29T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
        ("@midnight", "missing field(s)"),
        ("@every 1h", "missing field(s)"),
        ("@reboot", "missing field(s)"),
        ("* * * * * *", "2026-11-22T14:21:00Z"),
        ("*/5 * * * * * *", "2026-11-22T14:20:25Z"),
        ("0 0 * * MON", "2026-11-23T00:00:00Z"),
        ("0 0 * * 7", "2026-11-29T00:00:00Z"),
        ("0 0 L * *", "2026-11-30T00:00:00Z"),
        ("0 0 LW * *", "2026-11-30T00:00:00Z"),
        ("0 0 15W * *", "2026-12-15T00:00:00Z"),
        ("0 0 * * 5L", "2026-11-27T00:00:00Z"),
        ("0 0 * * 1#2", "2026-12-14T00:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("0 0 31 2 *", "never"),
        ("60 * * * *", "syntax error in minute field: '60'"),
        ("* 24 * * *", "syntax error in hour field: '24'"),
        ("* * 0 * *", "syntax error in day-of-month field: '0'"),
        ("* * * JAN-MAR *", "2027-01-01T00:00:00Z"),
        ("1-59/2 * * * *", "2026-11-22T14:21:00Z"),
        ("*/0 * * * *", "invalid interval */0"),
        ("5,10,15 1 * * *", "2026-11-23T01:05:00Z"),
        ("0 0 ? * MON", "2026-11-23T00:00:00Z"),
        ("@Daily", "missing field(s)"),
        ("  @daily ", "2026-11-23T00:00:00Z"),
        ("0 0 * * sun", "2026-11-29T00:00:00Z"),
        ("0 0 * * 0-7", "2026-11-23T00:00:00Z"),
        ("0 0 1 1 * 2099", "2099-01-01T00:00:00Z"),
        ("0 0 1 1 * 1999", "never"),
        ("a b c d e", "syntax error in minute field: 'a'"),
        ("TZ=UTC 0 0 * * *", "syntax error in minute field: 'TZ=UTC'"),
    ];

    fn next(spec: &str, after: &str, zone_name: &str) -> String {
        let after: jiff::Timestamp = after.parse().expect("a time");
        let after = Timestamp(i64::try_from(after.as_nanosecond()).expect("in range"));
        match spec.parse::<Cron>() {
            Err(error) => error.to_string(),
            Ok(cron) => match cron.next_after(after, &zone(zone_name).expect("a zone")) {
                None => "never".to_owned(),
                Some(at) => jiff::Timestamp::from_nanosecond(at.0.into()).expect("in range").to_string(),
            },
        }
    }

    #[test]
    fn expressions_mean_what_was_recorded() {
        for (spec, answer) in RECORDED {
            assert_eq!(next(spec, "2026-11-22T14:20:22Z", "UTC"), *answer, "{spec:?}");
        }
    }

    #[test]
    fn time_zones_and_changes_of_clocks_count() {
        let berlin = |spec, after| next(spec, after, "Europe/Berlin");
        assert_eq!(berlin("0 9 * * *", "2026-07-01T00:00:00Z"), "2026-07-01T07:00:00Z");
        // The clock jumps from 2:00 to 3:00 on 29 March.
        assert_eq!(berlin("30 2 * * *", "2026-03-28T12:00:00Z"), "2026-03-29T01:30:00Z");
        assert_eq!(berlin("30 2 * * *", "2026-03-29T01:30:00Z"), "2026-03-30T00:30:00Z");
        // It is 2:30 twice on 25 October; the job is launched once.
        assert_eq!(berlin("30 2 * * *", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(berlin("30 2 * * *", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
        assert!(zone("Middle/Earth").is_err());
    }

    #[test]
    fn either_day_will_do_where_both_are_given() {
        assert_eq!(next("0 0 13 * FRI", "2026-11-22T00:00:00Z", ""), "2026-11-27T00:00:00Z");
        assert_eq!(next("0 0 13 * FRI", "2026-12-12T00:00:00Z", ""), "2026-12-13T00:00:00Z");
    }
}
