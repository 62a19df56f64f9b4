//! The rules that a stored job must keep, beyond its shape.
//!
//! The texts are those that clients and scripts know: they match on them.

mod group;
mod rules;
mod service;
mod task;
mod warnings;

use crate::cron;
use crate::object::{self, Object};
use serde_json::Value;
use std::collections::{BTreeMap, btree_map::Entry};

/// What a server sets for all jobs.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `job_max_priority`.
    pub priority_max: i64,
    /// `job_max_count`: the most allocations of one job; 0 is no limit.
    pub count_max: i64,
    /// Memory may be oversubscribed, so that `memory_max` has an effect.
    pub memory_oversubscription: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { priority_max: 100, count_max: 50_000, memory_oversubscription: false }
    }
}

/// What is wrong with a job, and what is questionable.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Validation {
    /// Reasons to refuse it.
    pub errors: Vec<String>,
    /// Things its author should know.
    pub warnings: Vec<String>,
}

impl Validation {
    /// All errors as one text, empty when there are none.
    pub fn error_text(&self) -> String {
        if self.errors.is_empty() { String::new() } else { Errors(self.errors.clone()).render() }
    }

    /// All warnings as one text, empty when there are none.
    pub fn warning_text(&self) -> String {
        let count = self.warnings.len();
        if count == 0 {
            return String::new();
        }
        let lines: Vec<_> = self.warnings.iter().map(|warning| format!("* {}", warning.trim_end())).collect();
        format!("{count} warning{}:\n\n{}", if count == 1 { "" } else { "s" }, lines.join("\n"))
    }
}

/// Names, and where each stood first.
#[derive(Debug, Default)]
pub(crate) struct Seen<'n>(BTreeMap<&'n str, usize>);

impl<'n> Seen<'n> {
    /// Where the name stood before, if it did.
    pub(crate) fn first(&mut self, name: &'n str, index: usize) -> Option<usize> {
        match self.0.entry(name) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(place) => {
                place.insert(index);
                None
            }
        }
    }
}

/// Errors in the order found; several together are told as a list.
#[derive(Debug, Default)]
pub(crate) struct Errors(pub(crate) Vec<String>);

impl Errors {
    pub(crate) fn push(&mut self, error: impl Into<String>) {
        self.0.push(error.into());
    }

    /// Adds `error` if `wrong`.
    pub(crate) fn when(&mut self, wrong: bool, error: impl FnOnce() -> String) {
        if wrong {
            self.0.push(error());
        }
    }

    /// Adds the errors of a part as one, under a heading.
    pub(crate) fn nest(&mut self, heading: impl FnOnce() -> String, part: Errors) {
        if !part.0.is_empty() {
            self.0.push(format!("{}: {}", heading(), part.render()));
        }
    }

    /// Adds the errors of a part as one.
    pub(crate) fn group(&mut self, part: Errors) {
        if !part.0.is_empty() {
            self.0.push(part.render());
        }
    }

    /// Adds the errors of a part one by one.
    pub(crate) fn extend(&mut self, part: Errors) {
        self.0.extend(part.0);
    }

    pub(crate) fn render(&self) -> String {
        let count = self.0.len();
        let plural = if count == 1 { "error" } else { "errors" };
        let lines: Vec<_> = self.0.iter().map(|error| format!("* {error}")).collect();
        format!("{count} {plural} occurred:\n\t{}\n\n", lines.join("\n\t"))
    }
}

/// Checks a job that [`crate::admit`] made. It changes nothing and never panics, whatever the job.
pub fn validate(job: &Value, limits: &Limits) -> Validation {
    let Some(job) = job.as_object() else {
        return Validation { errors: vec!["Missing job".into()], warnings: Vec::new() };
    };
    let mut errors = Errors::default();
    check_names(job, &mut errors);
    let kind = object::text(job, "Type");
    match kind {
        "service" | "batch" | "system" | "sysbatch" => {}
        "" => errors.push("Missing job type"),
        other => errors.push(format!("Invalid job type: {other:?}")),
    }
    let datacenters = object::list(job, "Datacenters");
    errors.when(datacenters.is_empty(), || "Missing job datacenters".into());
    errors.when(datacenters.iter().any(|name| name.as_str().is_none_or(str::is_empty)), || {
        "Job datacenter must be non-empty string".into()
    });
    errors.when(object::list(job, "TaskGroups").is_empty(), || "Missing job task groups".into());
    rules::constraints(job, &mut errors);
    rules::affinities_and_spreads(job, kind, &mut errors);
    check_groups(job, kind, &mut errors);
    check_launches(job, kind, &mut errors);
    if let Some(ui) = object::child(job, "UI") {
        let length = object::text(ui, "Description").chars().count();
        errors.when(length > UI_DESCRIPTION_MAX, || {
            format!("UI description must be at most {UI_DESCRIPTION_MAX} characters; got {length}")
        });
    }
    check_limits(job, limits, &mut errors);
    Validation { errors: errors.0, warnings: warnings::collect(job, limits) }
}

/// The most characters of a job's description on the web page.
const UI_DESCRIPTION_MAX: usize = 1_000;

/// Why a registration is refused as malformed (status 400) before any validation, if it is.
pub fn refusal(job: &Value) -> Option<String> {
    let job = job.as_object()?;
    let kind = object::text(job, "Type");
    let scales = |group: &Object| object::child(group, "Scaling").is_some();
    let refused = matches!(kind, "system" | "sysbatch") && object::children(job, "TaskGroups").any(scales);
    refused.then(|| format!("Task groups with job type {kind} do not support scaling blocks"))
}

fn check_names(job: &Object, errors: &mut Errors) {
    let (id, name) = (object::text(job, "ID"), object::text(job, "Name"));
    errors.when(object::text(job, "Region").is_empty(), || "Missing job region".into());
    errors.when(id.is_empty(), || "Missing job ID".into());
    errors.when(id.contains(' '), || "Job ID contains a space".into());
    errors.when(id.contains('\0'), || "Job ID contains a null character".into());
    errors.when(name.is_empty(), || "Missing job name".into());
    errors.when(name.contains('\0'), || "Job Name contains a null character".into());
    errors.when(object::text(job, "Namespace").is_empty(), || "Job must be in a namespace".into());
}

fn check_groups(job: &Object, kind: &str, errors: &mut Errors) {
    let mut seen = Seen::default();
    for (index, group) in object::children(job, "TaskGroups").enumerate() {
        let name = object::text(group, "Name");
        let first = seen.first(name, index);
        if name.is_empty() {
            errors.push(format!("Job task group {} missing name", index + 1));
        } else if let Some(first) = first {
            errors.push(format!("Job task group {} redefines '{name}' from group {}", index + 1, first + 1));
        }
        errors.when(object::int(group, "ShutdownDelay") < 0, || {
            "ShutdownDelay must be a positive value".into()
        });
        let count = object::int(group, "Count");
        errors.when(kind == "system" && count > 1, || {
            format!("Job task group {name} has count {count}. Count cannot exceed 1 with system scheduler")
        });
    }
    for group in object::children(job, "TaskGroups") {
        let heading = || format!("Task group {} validation failed", object::text(group, "Name"));
        errors.nest(heading, group::check(group, kind));
    }
}

fn check_launches(job: &Object, kind: &str, errors: &mut Errors) {
    let launchable = matches!(kind, "batch" | "sysbatch");
    if let Some(periodic) = object::child(job, "Periodic") {
        errors
            .when(!launchable, || r#"Periodic can only be used with "batch" or "sysbatch" scheduler"#.into());
        errors.group(check_periodic(periodic));
    }
    if let Some(parameterized) = object::child(job, "ParameterizedJob") {
        errors.when(!launchable, || {
            r#"Parameterized job can only be used with "batch" or "sysbatch" scheduler"#.into()
        });
        errors.group(check_parameterized(parameterized));
    }
}

fn check_periodic(periodic: &Object) -> Errors {
    let mut errors = Errors::default();
    if !object::truth(periodic, "Enabled") {
        return errors;
    }
    let zone = object::text(periodic, "TimeZone");
    let known = zone.is_empty() || zone == "Local" || jiff::tz::TimeZone::get(zone).is_ok();
    errors.when(!known, || format!("Invalid time zone {zone:?}: unknown time zone {zone}"));
    let one = object::text(periodic, "Spec");
    let many: Vec<_> = object::texts(periodic, "Specs").collect();
    errors.when(one.is_empty() && many.is_empty(), || "Must specify a spec".into());
    errors.when(!one.is_empty() && !many.is_empty(), || "Only cron or crons may be used".into());
    match object::text(periodic, "SpecType") {
        "cron" => {
            for spec in many.into_iter().chain(Some(one).filter(|one| !one.is_empty())) {
                if let Err(reason) = cron::check(spec) {
                    errors.push(format!("Invalid cron spec {spec:?}: {reason}"));
                }
            }
        }
        // The type that only tests of the real agent use.
        "_internal_test" => {}
        other => errors.push(format!("Unknown periodic specification type {other:?}")),
    }
    errors
}

fn check_parameterized(parameterized: &Object) -> Errors {
    let mut errors = Errors::default();
    let payload = object::text(parameterized, "Payload");
    errors.when(!matches!(payload, "optional" | "required" | "forbidden"), || {
        format!("Unknown payload requirement: {payload:?}")
    });
    let optional: Vec<_> = object::texts(parameterized, "MetaOptional").collect();
    let both: Vec<_> =
        object::texts(parameterized, "MetaRequired").filter(|name| optional.contains(name)).collect();
    errors.when(!both.is_empty(), || {
        let both = both.join(" ");
        format!("Required and optional meta keys should be disjoint. Following keys exist in both: [{both}]")
    });
    errors
}

fn check_limits(job: &Object, limits: &Limits, errors: &mut Errors) {
    let (priority, max) = (object::int(job, "Priority"), limits.priority_max);
    errors.when(!(1..=max).contains(&priority), || format!("job priority must be between [1, {max}]"));
    let counts = object::children(job, "TaskGroups").map(|group| object::int(group, "Count").max(0));
    let total = counts.fold(0_i64, i64::saturating_add);
    errors.when(limits.count_max > 0 && total > limits.count_max, || {
        format!("total count of {total} is greater than job_max_count of {}", limits.count_max)
    });
}
