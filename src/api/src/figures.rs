//! Counts and durations of requests, for `/v1/metrics`: what happened in the last interval, and in all.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use http::Method;
use parking_lot::Mutex;

/// Length of an interval, in nanoseconds: what Nomad's metrics are collected over.
pub(crate) const INTERVAL_NANOS: i64 = 10_000_000_000;

/// Values that quantiles are taken of, for each name; the oldest leaves.
const RECENT_MAX: usize = 256;

/// What is counted. There are as many names as [`sample_name`] knows, so nothing here grows.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// When the current interval began.
    began: i64,
    now: Interval,
    last: Interval,
    totals: BTreeMap<&'static str, Total>,
}

/// What happened in one interval.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interval {
    /// How often things happened, by name.
    pub counters: BTreeMap<&'static str, Tally>,
    /// How long things took in milliseconds, by name.
    pub samples: BTreeMap<&'static str, Tally>,
}

/// Values, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// How many.
    pub count: u32,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    squares: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// All values since the agent began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total {
    /// Whether values are durations; otherwise they are counts.
    pub is_sample: bool,
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    recent: VecDeque<f64>,
}

impl Tally {
    fn add(&mut self, value: f64) {
        let first = self.count == 0;
        self.min = if first { value } else { self.min.min(value) };
        self.max = if first { value } else { self.max.max(value) };
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// The mean; 0 without values.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / f64::from(self.count) }
    }

    /// The standard deviation of a sample; 0 below two values.
    pub fn deviation(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let count = f64::from(self.count);
        // Rounding can leave a difference of equal values a little below nothing.
        ((count * self.squares - self.sum * self.sum) / (count * (count - 1.0))).max(0.0).sqrt()
    }
}

impl Total {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        if self.is_sample {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(value);
        }
    }

    /// The value that this share of the recent ones is not above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut values: Vec<f64> = self.recent.iter().copied().collect();
        values.sort_by(f64::total_cmp);
        let place = (share * values.len() as f64).ceil() as usize;
        values.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

impl Figures {
    /// Notes that a user's request was answered.
    pub fn note_request(&self, method: &Method, path: &str, took: Duration, wall: i64) {
        let Some(rest) = path.strip_prefix("/v1/") else { return };
        // What an agent is asked about itself reaches no server.
        if rest.starts_with("agent/") || rest.starts_with("metrics") {
            return;
        }
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let counter = if is_read { "nomad.nomad.rpc.query" } else { "nomad.nomad.rpc.request" };
        let mut kept = self.0.lock();
        kept.turn(wall);
        kept.now.counters.entry(counter).or_default().add(1.0);
        kept.totals.entry(counter).or_default().add(1.0);
        if let Some(name) = sample_name(is_read, method == Method::DELETE, rest) {
            let millis = took.as_secs_f64() * 1_000.0;
            kept.now.samples.entry(name).or_default().add(millis);
            let total = kept.totals.entry(name).or_default();
            total.is_sample = true;
            total.add(millis);
        }
    }

    /// The last whole interval in which something happened; the current one before there is any.
    pub fn interval(&self, wall: i64) -> Interval {
        let mut kept = self.0.lock();
        kept.turn(wall);
        if kept.last.counters.is_empty() { kept.now.clone() } else { kept.last.clone() }
    }

    /// Everything since the agent began, by name.
    pub fn totals(&self) -> BTreeMap<&'static str, Total> {
        self.0.lock().totals.clone()
    }
}

impl Kept {
    /// Begins a new interval when it is time. One in which nothing happened takes no place.
    fn turn(&mut self, wall: i64) {
        let begins = wall - wall.rem_euclid(INTERVAL_NANOS);
        if begins != self.began {
            self.began = begins;
            if !self.now.counters.is_empty() {
                self.last = std::mem::take(&mut self.now);
            }
        }
    }
}

/// Names the duration of a request as Nomad's servers name that of the call behind it.
fn sample_name(is_read: bool, is_delete: bool, path: &str) -> Option<&'static str> {
    let (family, rest) = path.split_once('/').unwrap_or((path, ""));
    let verb = rest.rsplit_once('/').map_or("", |(_, verb)| verb);
    Some(match (family, is_read) {
        ("jobs", true) => "nomad.nomad.job.list",
        ("jobs", false) if rest == "parse" => "nomad.nomad.job.parse",
        ("jobs", false) => "nomad.nomad.job.register",
        ("validate", _) => "nomad.nomad.job.validate",
        ("job", _) => match verb {
            "plan" => "nomad.nomad.job.plan",
            "dispatch" => "nomad.nomad.job.dispatch",
            "evaluate" => "nomad.nomad.job.evaluate",
            "revert" => "nomad.nomad.job.revert",
            "stable" => "nomad.nomad.job.stable",
            "scale" if is_read => "nomad.nomad.job.scale_status",
            "scale" => "nomad.nomad.job.scale",
            "versions" => "nomad.nomad.job.get_job_versions",
            "allocations" => "nomad.nomad.job.allocations",
            "evaluations" => "nomad.nomad.job.evaluations",
            "deployments" => "nomad.nomad.job.deployments",
            "deployment" => "nomad.nomad.job.latest_deployment",
            "summary" => "nomad.nomad.job_summary.get_job_summary",
            _ if is_read => "nomad.nomad.job.get_job",
            _ if is_delete => "nomad.nomad.job.deregister",
            _ => "nomad.nomad.job.register",
        },
        ("nodes", _) => "nomad.nomad.client.list",
        ("node", true) if verb == "allocations" => "nomad.nomad.client.get_allocs",
        ("node", true) if !rest.starts_with("pool") => "nomad.nomad.client.get_node",
        ("node", false) if verb == "drain" => "nomad.nomad.client.update_drain",
        ("node", false) if verb == "eligibility" => "nomad.nomad.client.update_eligibility",
        ("allocations", _) => "nomad.nomad.alloc.list",
        ("allocation", true) => "nomad.nomad.alloc.get_alloc",
        ("allocation", false) => "nomad.nomad.alloc.stop",
        ("evaluations", true) => "nomad.nomad.eval.list",
        ("evaluation", true) => "nomad.nomad.eval.get_eval",
        ("deployments", true) => "nomad.nomad.deployment.list",
        ("deployment", true) => "nomad.nomad.deployment.get_deployment",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_shown_when_it_is_over_and_the_first_one_at_once() {
        let figures = Figures::default();
        let note = |millis, wall| {
            figures.note_request(&Method::GET, "/v1/jobs", Duration::from_millis(millis), wall);
        };
        assert!(figures.interval(0).samples.is_empty());
        note(2, 1);
        note(4, 2);
        let now = figures.interval(3).samples["nomad.nomad.job.list"];
        assert_eq!((now.count, now.min, now.max, now.mean()), (2, 2.0, 4.0, 3.0));
        assert!((now.deviation() - 2.0_f64.sqrt()).abs() < 1e-9);
        note(9, INTERVAL_NANOS);
        assert_eq!(figures.interval(INTERVAL_NANOS + 1).counters["nomad.nomad.rpc.query"].count, 2);
        let total = &figures.totals()["nomad.nomad.job.list"];
        assert_eq!((total.count, total.quantile(0.5), total.quantile(0.99)), (3, 4.0, 9.0));
    }

    #[test]
    fn what_an_agent_says_of_itself_is_not_counted() {
        let figures = Figures::default();
        figures.note_request(&Method::GET, "/v1/agent/self", Duration::ZERO, 0);
        figures.note_request(&Method::GET, "/v1/metrics", Duration::ZERO, 0);
        assert!(figures.totals().is_empty());
    }
}
