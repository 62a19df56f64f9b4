//! Whether a cron expression can be read: five fields, six with a year, seven with seconds too, or one of the short names.

/// The short names, which stand alone.
const NAMED: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Shape {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const fn shape(name: &'static str, min: u32, max: u32, names: &'static [&'static str]) -> Shape {
    Shape { name, min, max, names }
}

const SHAPES: [Shape; 7] = [
    shape("second", 0, 59, &[]),
    shape("minute", 0, 59, &[]),
    shape("hour", 0, 23, &[]),
    shape("day-of-month", 1, 31, &[]),
    shape("month", 1, 12, &MONTHS),
    shape("day-of-week", 0, 7, &DAYS),
    shape("year", 1970, 2099, &[]),
];

/// Says what is wrong with an expression, in the words that clients know.
pub fn check(expression: &str) -> Result<(), String> {
    let expression = expression.trim();
    if NAMED.contains(&expression) {
        return Ok(());
    }
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let shapes = match fields.len() {
        0..5 => return Err("missing field(s)".into()),
        5 => &SHAPES[1..6],
        6 => &SHAPES[1..],
        7 => &SHAPES[..],
        _ => return Err("too many fields".into()),
    };
    shapes.iter().zip(fields).try_for_each(|(shape, field)| check_field(shape, field))
}

fn check_field(shape: &Shape, field: &str) -> Result<(), String> {
    for entry in field.split(',') {
        let (range, step) = entry.split_once('/').map_or((entry, None), |(range, step)| (range, Some(step)));
        if let Some(step) = step {
            let number: Option<u32> = step.parse().ok();
            match number {
                None => return Err(unreadable(shape, entry)),
                Some(number) if number < 1 || number > shape.max => {
                    return Err(format!("invalid interval {entry}"));
                }
                Some(_) => {}
            }
        }
        let readable = match range {
            "*" | "?" => true,
            _ if step.is_none() && is_special(shape, range) => true,
            _ => match range.split_once('-') {
                Some((from, to)) => {
                    matches!((value(shape, from), value(shape, to)), (Some(from), Some(to)) if from <= to)
                }
                None => value(shape, range).is_some(),
            },
        };
        if !readable {
            return Err(unreadable(shape, entry));
        }
    }
    Ok(())
}

fn unreadable(shape: &Shape, entry: &str) -> String {
    format!("syntax error in {} field: '{entry}'", shape.name)
}

/// The last day, the workday nearest to a day, the last or the n-th weekday of a month.
fn is_special(shape: &Shape, entry: &str) -> bool {
    match shape.name {
        "day-of-month" => {
            matches!(entry, "L" | "LW" | "l" | "lw")
                || entry.strip_suffix(['W', 'w']).is_some_and(|day| value(shape, day).is_some())
        }
        "day-of-week" => {
            entry.strip_suffix(['L', 'l']).is_some_and(|day| value(shape, day).is_some())
                || entry.split_once('#').is_some_and(|(day, nth)| {
                    value(shape, day).is_some() && nth.parse::<u32>().is_ok_and(|nth| (1..=5).contains(&nth))
                })
        }
        _ => false,
    }
}

fn value(shape: &Shape, text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (shape.min..=shape.max).contains(number));
    }
    let short = text.to_ascii_lowercase();
    let index = shape.names.iter().position(|name| *name == short)?;
    u32::try_from(index).ok().map(|index| index + shape.min)
}
