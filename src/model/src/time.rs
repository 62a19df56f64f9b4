use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A point in wall time, in nanoseconds since the Unix epoch. Zero means "never".
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time that stands for "never".
    pub const ZERO: Self = Self(0);

    /// Tells whether this is the time that stands for "never".
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the time `duration` later, at most the last one that can be expressed.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Returns how much later this is than `earlier`; zero when it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns whole seconds since the Unix epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ns", self.0)
    }
}

/// Writes a duration the way the API's texts do: `1h0m0s`, `16.2s`, `350ms`, `0s`.
pub fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, size) = match nanos {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{}{unit}", decimal(nanos, size));
    }
    let seconds = nanos / 1_000_000_000;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let rest = decimal(nanos - (hours * 3_600 + minutes * 60) * 1_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// Writes `nanos / size` exactly, without trailing zeros.
fn decimal(nanos: u128, size: u128) -> String {
    let (whole, part) = (nanos / size, nanos % size);
    if part == 0 {
        return whole.to_string();
    }
    let digits = usize::try_from(size.ilog10()).expect("a power of ten up to a billion");
    let text = format!("{whole}.{part:0digits$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_the_api() {
        for (nanos, text) in [
            (0, "0s"),
            (5_000_000_000, "5s"),
            (17_525_579_137, "17.525579137s"),
            (86_400_000_000_000, "24h0m0s"),
            (1_800_000_000_000, "30m0s"),
            (350_000_000, "350ms"),
            (1_500_000, "1.5ms"),
            (90_500_000_000, "1m30.5s"),
        ] {
            assert_eq!(duration_text(Duration::from_nanos(nanos)), text);
        }
    }
}
