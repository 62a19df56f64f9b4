//! Tables, times, sizes.

use jiff::{Timestamp, tz::TimeZone};

/// What stands for nothing.
pub const NONE: &str = "<none>";

/// Returns the text, or what stands for nothing.
pub fn or_none(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

/// Aligns rows of cells, two spaces between columns. An empty cell shows as `<none>`.
pub fn table<R: AsRef<[String]>>(header: &[&str], rows: &[R]) -> String {
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let mut all = Vec::with_capacity(rows.len() + 1);
    all.push(header.as_slice());
    all.extend(rows.iter().map(AsRef::as_ref));
    align(&all, true)
}

/// Aligns rows of cells and shows empty ones as they are.
pub fn plain_table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let mut all = vec![header.as_slice()];
    all.extend(rows.iter().map(Vec::as_slice));
    align(&all, false)
}

/// Aligns rows of cells that have no header.
pub fn lines<R: AsRef<[String]>>(rows: &[R]) -> String {
    let all: Vec<_> = rows.iter().map(AsRef::as_ref).collect();
    align(&all, false)
}

fn align(rows: &[&[String]], mark_empty: bool) -> String {
    fn cell(text: &str, mark_empty: bool) -> &str {
        if text.is_empty() && mark_empty { NONE } else { text }
    }
    let columns = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in rows {
        for (width, text) in widths.iter_mut().zip(*row) {
            *width = cell(text, mark_empty).chars().count().max(*width);
        }
    }
    let mut table = String::with_capacity(rows.len() * (widths.iter().sum::<usize>() + 2 * columns));
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            table.push('\n');
        }
        for (at, text) in row.iter().enumerate() {
            let text = cell(text, mark_empty);
            table.push_str(text);
            if at + 1 < row.len() {
                table.extend(std::iter::repeat_n(' ', widths[at] - text.chars().count() + 2));
            }
        }
    }
    table
}

/// Aligns `name = value` lines. An empty value shows as `<none>`.
pub fn pairs<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.as_ref().chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(N, V)| {
        let (name, value) = (name.as_ref(), or_none(value.as_ref()));
        format!("{name}{} = {value}", " ".repeat(width - name.chars().count()))
    };
    pairs.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns the wall clock's time in nanoseconds. Commands are not part of any simulation.
pub fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Writes a time in the local zone, to the second; `N/A` for none.
pub fn time(nanos: i64) -> String {
    if nanos == 0 {
        return "N/A".to_owned();
    }
    let Ok(at) = Timestamp::from_nanosecond(i128::from(nanos)) else { return "N/A".to_owned() };
    let zoned = at.to_zoned(TimeZone::system());
    if zoned.offset().seconds() == 0 {
        zoned.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

/// Writes how long ago a time was, in its two largest units: `1m25s ago`.
pub fn ago(nanos: i64) -> String {
    if nanos == 0 { String::new() } else { format!("{} ago", span(now().saturating_sub(nanos))) }
}

/// Writes a span in its two largest units.
pub fn span(nanos: i64) -> String {
    let seconds = nanos.max(0) / 1_000_000_000;
    const UNITS: [(i64, &str); 6] =
        [(31_536_000, "y"), (2_592_000, "mo"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    for (at, (size, name)) in UNITS.iter().enumerate() {
        if seconds >= *size {
            let rest = seconds % size;
            return match UNITS.get(at + 1) {
                Some((next, next_name)) if rest >= *next => {
                    format!("{}{name}{}{next_name}", seconds / size, rest / next)
                }
                _ => format!("{}{name}", seconds / size),
            };
        }
    }
    "0s".to_owned()
}

/// Writes a duration as Go does: `1h0m0s`, `1.5s`, `60.82µs`.
pub fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let decimal = |whole: u64, unit: u64, name: &str| {
        let fraction = format!("{:0width$}", whole % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        format!("{}{dot}{fraction}{name}", whole / unit)
    };
    let text = match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => decimal(total, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(total, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
            let seconds = if rest == 0 { "0s".to_owned() } else { decimal(rest, 1_000_000_000, "s") };
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

/// Reads a duration such as `1h30m`, `-5s` or `0`; `None` when it is none.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let end = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| digits + at);
        total += number
            * match &rest[digits..end] {
                "h" => 3.6e12,
                "m" => 6e10,
                "s" => 1e9,
                "ms" => 1e6,
                "us" | "µs" => 1e3,
                "ns" => 1.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    // Spans past 292 years do not fit and are not meant.
    (total < 9.2e18).then_some((sign * total) as i64)
}

/// Writes a size in bytes with a binary unit: `1.5 MiB`, `24 GiB`, `278 B`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 10 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let rounded = (value * 10.0 + 0.5).floor() / 10.0;
    if rounded < 10.0 && unit > 0 {
        format!("{rounded:.1} {}", UNITS[unit])
    } else {
        format!("{rounded:.0} {}", UNITS[unit])
    }
}

/// Writes a size given in MiB.
pub fn mib(count: i64) -> String {
    bytes(u64::try_from(count).unwrap_or(0) << 20)
}

/// Quotes a text as Go's `%q` does, for the characters that occur in names.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_cells_marked() {
        let rows = [
            vec!["ca44fc8d".to_owned(), String::new(), "ready".to_owned()],
            vec!["9".to_owned(), "c".to_owned(), "down".to_owned()],
        ];
        assert_eq!(
            table(&["ID", "Class", "Status"], &rows),
            "ID        Class   Status\nca44fc8d  <none>  ready\n9         c       down"
        );
        assert_eq!(pairs(&[("ID", "x"), ("Status", "")]), "ID     = x\nStatus = <none>");
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        let second = 1_000_000_000;
        assert_eq!(span(3 * second), "3s");
        assert_eq!(span(85 * second), "1m25s");
        assert_eq!(span(3_600 * second), "1h");
        assert_eq!(span(90_061 * second), "1d1h");
        assert_eq!(span(-5), "0s");
    }

    #[test]
    fn durations_read_and_write_like_gos() {
        for text in ["1h0m0s", "1m30s", "1.5s", "60.82µs", "250ms", "0s", "-5s", "24h0m0s", "1ns"] {
            assert_eq!(go_duration(parse_duration(text).expect(text)), text);
        }
        for bad in ["", "5", "x", "1q", "s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_have_one_decimal_below_ten() {
        assert_eq!(bytes(1_564_672), "1.5 MiB");
        assert_eq!(bytes(4096), "4.0 KiB");
        assert_eq!(bytes(278), "278 B");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(mib(24_105), "24 GiB");
        assert_eq!(mib(300), "300 MiB");
    }
}
