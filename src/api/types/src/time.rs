use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A point in time in its RFC 3339 form, `null` when it is "never".
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Time(pub i64);

/// A text is not a time in RFC 3339 form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseTimeError(pub String);

impl fmt::Display for ParseTimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a time such as 2026-01-31T12:00:00Z", self.0)
    }
}

impl std::error::Error for ParseTimeError {}

/// The zero time of Go's library, which some senders write instead of `null`.
const GO_ZERO: &str = "0001-01-01T00:00:00Z";

impl Time {
    /// Returns the time as nanoseconds since the epoch; 0 for "never".
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// Tells whether this is "never".
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Reads the RFC 3339 form.
    ///
    /// # Errors
    ///
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, ParseTimeError> {
        if text.is_empty() || text == GO_ZERO {
            return Ok(Self(0));
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| ParseTimeError(text.to_owned()))?;
        i64::try_from(time.as_nanosecond()).map(Self).map_err(|_| ParseTimeError(text.to_owned()))
    }

    /// Appends the RFC 3339 form in UTC, with as many decimals as it takes.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let seconds = self.0.div_euclid(1_000_000_000);
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        put(out, year, 4);
        out.push(b'-');
        put(out, month, 2);
        out.push(b'-');
        put(out, day, 2);
        out.push(b'T');
        put(out, of_day / 3600, 2);
        out.push(b':');
        put(out, of_day / 60 % 60, 2);
        out.push(b':');
        put(out, of_day % 60, 2);
        let fraction = self.0.rem_euclid(1_000_000_000);
        if fraction != 0 {
            out.push(b'.');
            put(out, fraction, 9);
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        out.push(b'Z');
    }
}

/// Appends a number with leading zeros.
fn put(out: &mut Vec<u8>, value: i64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = value;
    for at in (start..start + width).rev() {
        out[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

/// Turns days since the epoch into year, month and day, by counting in eras of 400 years that begin on a first of March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

impl From<model::Timestamp> for Time {
    fn from(time: model::Timestamp) -> Self {
        Self(time.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(30);
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if self.is_zero() { out.serialize_none() } else { out.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(from)? {
            None => Ok(Self(0)),
            Some(text) => Self::parse(&text).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_they_were_written() {
        for text in [
            "2026-11-22T14:59:45.197084508Z",
            "1970-01-01T00:00:01Z",
            "2024-02-29T23:59:59.5Z",
            "1999-12-31T00:00:00.000000001Z",
        ] {
            assert_eq!(Time::parse(text).expect("a time").to_string(), text);
        }
    }

    #[test]
    fn never_is_null() {
        assert_eq!(serde_json::to_string(&Time(0)).expect("serialises"), "null");
        assert_eq!(serde_json::from_str::<Time>("null").expect("reads"), Time(0));
        assert_eq!(Time::parse(GO_ZERO), Ok(Time(0)));
    }
}
