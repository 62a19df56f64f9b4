//! Rules of blocks that stand in several places: constraints, affinities, spreads, policies, paths.

use super::Errors;
use crate::duration::format as duration;
use crate::object::{self, Object};

const SECOND: i64 = 1_000_000_000;
/// Below this, a restart policy counts nothing.
const RESTART_INTERVAL_MIN: i64 = 5 * SECOND;
/// Below this, a failing job would turn the scheduler in circles.
const RESCHEDULE_DELAY_MIN: i64 = 5 * SECOND;
/// Below this, a reschedule policy counts nothing.
const RESCHEDULE_INTERVAL_MIN: i64 = 15 * SECOND;
/// Attempts followed when a policy is checked; more fit no sensible interval.
const ATTEMPTS_FOLLOWED_MAX: i64 = 10_000;

/// Checks `Constraints` of a job, group or device.
pub(super) fn constraints(holder: &Object, errors: &mut Errors) {
    for (index, constraint) in object::children(holder, "Constraints").enumerate() {
        errors.nest(|| format!("Constraint {} validation failed", index + 1), check_constraint(constraint));
    }
}

pub(super) fn check_constraint(constraint: &Object) -> Errors {
    let mut errors = Errors::default();
    let (operand, right) = (object::text(constraint, "Operand"), object::text(constraint, "RTarget"));
    let mut needs_left = true;
    match operand {
        "" => errors.push("Missing constraint operand"),
        "distinct_hosts" => needs_left = false,
        "distinct_property" => {
            match right.parse::<u64>() {
                _ if right.is_empty() => {}
                Ok(0) => errors.push("Distinct Property must have an allowed count of 1 or greater: 0 < 1"),
                Ok(_) => {}
                Err(_) => errors.push(format!(
                    "Failed to convert RTarget {right:?} to uint64: strconv.ParseUint: parsing {right:?}: invalid syntax"
                )),
            }
        }
        "is_set" | "is_not_set" => {
            errors.when(!right.is_empty(), || format!("Operator {operand:?} does not support an RTarget"));
        }
        _ => check_comparison(operand, right, "constraint", &mut errors),
    }
    let left = object::text(constraint, "LTarget");
    errors.when(needs_left && left.is_empty(), || "No LTarget provided but is required by constraint".into());
    errors
}

/// What constraints and affinities have in common.
fn check_comparison(operand: &str, right: &str, what: &str, errors: &mut Errors) {
    match operand {
        "set_contains" | "set_contains_all" | "set_contains_any" => {
            errors.when(right.is_empty(), || format!("Set contains {what} requires an RTarget"));
        }
        "regexp" => {
            if let Err(error) = regex::Regex::new(right) {
                let reason = error.to_string().replace('\n', " ");
                errors.push(format!("Regular expression failed to compile: {reason}"));
            }
        }
        "version" | "semver" => {
            let bad = right.split(',').find(|part| !is_version_rule(part, operand == "semver"));
            let name = if operand == "semver" { "Semver" } else { "Version" };
            if let Some(bad) = bad {
                errors.push(format!("{name} {what} is invalid: Malformed constraint: {bad}"));
            }
        }
        "=" | "==" | "is" | "!=" | "not" | "<" | "<=" | ">" | ">=" => {
            errors.when(right.is_empty(), || format!("Operator {operand:?} requires an RTarget"));
        }
        other => errors.push(format!("Unknown {what} type {other:?}")),
    }
}

/// One rule such as `>= 1.4.0`, `~> 2.1` or `3`.
fn is_version_rule(rule: &str, strict: bool) -> bool {
    let rule = rule.trim();
    let operators = ["!=", ">=", "<=", "~>", "=", ">", "<"];
    let stripped = operators.iter().find_map(|operator| rule.strip_prefix(operator));
    if strict && rule.starts_with("~>") {
        return false;
    }
    let version = stripped.unwrap_or(rule).trim();
    let version = version.strip_prefix('v').unwrap_or(version);
    let core = version.split(['-', '+', '~']).next().unwrap_or_default();
    let tail = &version[core.len()..];
    let numeric =
        |part: &str| !part.is_empty() && part.len() <= 19 && part.bytes().all(|byte| byte.is_ascii_digit());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-+.~".contains(&byte);
    // A letter may follow a number at once: `1.2beta`.
    let core = core.trim_end_matches(|c: char| c.is_ascii_alphanumeric() && !strict && !c.is_ascii_digit());
    core.split('.').all(numeric) && tail.bytes().all(plain)
}

/// Checks `Affinities` and `Spreads` of a job or group.
pub(super) fn affinities_and_spreads(holder: &Object, job_kind: &str, errors: &mut Errors) {
    affinities(holder, job_kind, errors);
    spreads(holder, job_kind, errors);
}

pub(super) fn affinities(holder: &Object, job_kind: &str, errors: &mut Errors) {
    if job_kind == "system" && !object::list(holder, "Affinities").is_empty() {
        errors.push("System jobs may not have an affinity block");
        return;
    }
    for (index, affinity) in object::children(holder, "Affinities").enumerate() {
        errors.nest(|| format!("Affinity {} validation failed", index + 1), check_affinity(affinity));
    }
}

fn check_affinity(affinity: &Object) -> Errors {
    let mut errors = Errors::default();
    match object::text(affinity, "Operand") {
        "" => errors.push("Missing affinity operand"),
        operand => check_comparison(operand, object::text(affinity, "RTarget"), "affinity", &mut errors),
    }
    errors
        .when(object::text(affinity, "LTarget").is_empty(), || "No LTarget provided but is required".into());
    let weight = object::int(affinity, "Weight");
    errors.when(!(-100..=100).contains(&weight), || {
        "Affinity weight must be within the range [-100,100]".into()
    });
    errors.when(weight == 0, || "Affinity weight cannot be zero".into());
    errors
}

pub(super) fn spreads(holder: &Object, job_kind: &str, errors: &mut Errors) {
    if job_kind == "system" && !object::list(holder, "Spreads").is_empty() {
        errors.push("System jobs may not have a spread block");
        return;
    }
    for (index, spread) in object::children(holder, "Spreads").enumerate() {
        errors.nest(|| format!("Spread {} validation failed", index + 1), check_spread(spread));
    }
}

fn check_spread(spread: &Object) -> Errors {
    let mut errors = Errors::default();
    errors.when(object::text(spread, "Attribute").is_empty(), || "Missing spread attribute".into());
    errors.when(!(1..=100).contains(&object::int(spread, "Weight")), || {
        "Spread block must have a positive weight from 0 to 100".into()
    });
    let mut seen = Vec::new();
    let mut sum: i64 = 0;
    for target in object::children(spread, "SpreadTarget") {
        let (value, percent) = (object::text(target, "Value"), object::int(target, "Percent"));
        errors.when(seen.contains(&value), || format!("Spread target value {value:?} already defined"));
        errors.when(!(0..=100).contains(&percent), || {
            format!("Spread target percentage for value {value:?} must be between 0 and 100")
        });
        seen.push(value);
        sum = sum.saturating_add(percent);
    }
    errors.when(sum > 100, || {
        format!("Sum of spread target percentages must not be greater than 100%; got {sum}%")
    });
    errors
}

pub(super) fn check_restart(policy: &Object) -> Errors {
    let mut errors = Errors::default();
    let mode = object::text(policy, "Mode");
    let attempts = object::int(policy, "Attempts");
    errors.when(!matches!(mode, "fail" | "delay"), || format!("Unsupported restart mode: {mode:?}"));
    errors.when(attempts == 0 && mode != "fail", || {
        format!("Restart policy {mode:?} with {attempts} attempts is ambiguous")
    });
    let (interval, delay) = (object::int(policy, "Interval"), object::int(policy, "Delay"));
    errors.when(interval < RESTART_INTERVAL_MIN, || {
        format!(
            "Interval can not be less than {} (got {})",
            duration(RESTART_INTERVAL_MIN),
            duration(interval)
        )
    });
    errors.when(attempts.saturating_mul(delay) > interval, || {
        let (interval, delay) = (duration(interval), duration(delay));
        format!("Nomad can't restart the TaskGroup {attempts} times in an interval of {interval} with a delay of {delay}")
    });
    errors
}

pub(super) fn check_reschedule(policy: &Object) -> Errors {
    let mut errors = Errors::default();
    let (attempts, unlimited) = (object::int(policy, "Attempts"), object::truth(policy, "Unlimited"));
    if attempts <= 0 && !unlimited {
        return errors;
    }
    let (interval, delay) = (object::int(policy, "Interval"), object::int(policy, "Delay"));
    let (function, ceiling) = (object::text(policy, "DelayFunction"), object::int(policy, "MaxDelay"));
    if attempts > 0 {
        errors.when(interval <= 0, || "Interval must be a non zero value if Attempts > 0".into());
        if unlimited {
            let interval = duration(interval);
            errors.push(format!(
                "Reschedule Policy with Attempts = {attempts}, Interval = {interval}, and Unlimited = true is ambiguous"
            ));
            errors.push("If Attempts >0, Unlimited cannot also be set to true");
        }
    }
    let before = errors.0.len();
    let least = duration(RESCHEDULE_DELAY_MIN);
    errors.when(delay < RESCHEDULE_DELAY_MIN, || {
        format!("Delay cannot be less than {least} (got {})", duration(delay))
    });
    errors.when(!matches!(function, "constant" | "exponential" | "fibonacci"), || {
        let known = r#"["constant" "exponential" "fibonacci"]"#;
        format!("Invalid delay function {function:?}, must be one of {known}")
    });
    if function != "constant" {
        errors.when(ceiling < RESCHEDULE_DELAY_MIN, || {
            format!("Max Delay cannot be less than {least} (got {})", duration(ceiling))
        });
        errors.when(ceiling < delay, || {
            format!("Max Delay cannot be less than Delay {} (got {})", duration(delay), duration(ceiling))
        });
    }
    if !unlimited {
        errors.when(interval < RESCHEDULE_INTERVAL_MIN, || {
            let least = duration(RESCHEDULE_INTERVAL_MIN);
            format!("Interval cannot be less than {least} (got {})", duration(interval))
        });
        if errors.0.len() == before {
            errors.extend(check_attempts_fit(&Attempts { attempts, interval, delay, function, ceiling }));
        }
    }
    errors
}

struct Attempts<'a> {
    attempts: i64,
    interval: i64,
    delay: i64,
    function: &'a str,
    ceiling: i64,
}

/// Whether the attempts fit into the interval.
fn check_attempts_fit(policy: &Attempts) -> Errors {
    let mut errors = Errors::default();
    let (mut total, mut possible) = (0_i64, 0_i64);
    let (mut delay, mut before) = (policy.delay, policy.delay);
    for _ in 0..policy.attempts.min(ATTEMPTS_FOLLOWED_MAX) {
        total = total.saturating_add(delay);
        if total <= policy.interval {
            possible += 1;
        }
        let next = match policy.function {
            "exponential" => delay.saturating_mul(2),
            "fibonacci" => delay.saturating_add(before),
            _ => delay,
        };
        before = delay;
        delay = if policy.function == "constant" { next } else { next.min(policy.ceiling) };
    }
    if possible >= policy.attempts.min(ATTEMPTS_FOLLOWED_MAX) {
        return errors;
    }
    let (interval, first, function) = (duration(policy.interval), duration(policy.delay), policy.function);
    let start = format!("Nomad can only make {possible} attempts in {interval} with initial delay {first}");
    if function == "constant" {
        errors.push(format!("{start} and delay function {function:?}"));
    } else {
        let ceiling = duration(policy.ceiling);
        errors.push(format!("{start}, delay function {function:?}, and delay ceiling {ceiling}"));
    }
    let minute = 60 * SECOND;
    let enough = total.checked_add(minute - 1).map_or(total, |total| total / minute * minute);
    errors.push(format!(
        "Set the interval to at least {} to accommodate {} attempts",
        duration(enough),
        policy.attempts
    ));
    errors
}

pub(super) fn check_update(update: &Object) -> Errors {
    let mut errors = Errors::default();
    let health = object::text(update, "HealthCheck");
    errors.when(!matches!(health, "checks" | "task_states" | "manual"), || {
        format!("Invalid health check given: {health:?}")
    });
    let (parallel, canary) = (object::int(update, "MaxParallel"), object::int(update, "Canary"));
    errors.when(parallel < 0, || format!("Max parallel can not be less than zero: {parallel} < 0"));
    errors.when(canary < 0, || format!("Canary count can not be less than zero: {canary} < 0"));
    errors.when(canary == 0 && object::truth(update, "AutoPromote"), || {
        "Auto Promote requires a Canary count greater than zero".into()
    });
    let time = |key| object::int(update, key);
    let (healthy, deadline, progress) =
        (time("MinHealthyTime"), time("HealthyDeadline"), time("ProgressDeadline"));
    errors.when(healthy < 0, || {
        format!("Minimum healthy time may not be less than zero: {}", duration(healthy))
    });
    errors.when(deadline <= 0, || {
        format!("Healthy deadline must be greater than zero: {}", duration(deadline))
    });
    errors
        .when(progress < 0, || format!("Progress deadline must be zero or greater: {}", duration(progress)));
    errors.when(healthy >= deadline, || {
        let (healthy, deadline) = (duration(healthy), duration(deadline));
        format!("Minimum healthy time must be less than healthy deadline: {healthy} > {deadline}")
    });
    errors.when(progress != 0 && deadline >= progress, || {
        let (deadline, progress) = (duration(deadline), duration(progress));
        format!("Healthy deadline must be less than progress deadline: {deadline} > {progress}")
    });
    let stagger = time("Stagger");
    errors.when(stagger <= 0, || format!("Stagger must be greater than zero: {}", duration(stagger)));
    errors
}

pub(super) fn check_migrate(migrate: &Object) -> Errors {
    let mut errors = Errors::default();
    let parallel = object::int(migrate, "MaxParallel");
    errors.when(parallel < 0, || format!("MaxParallel must be >= 0 but found {parallel}"));
    let health = object::text(migrate, "HealthCheck");
    errors.when(!matches!(health, "checks" | "task_states"), || format!("Invalid HealthCheck: {health:?}"));
    let (healthy, deadline) =
        (object::int(migrate, "MinHealthyTime"), object::int(migrate, "HealthyDeadline"));
    errors.when(healthy < 0, || format!("MinHealthyTime is {} and must be >= 0", duration(healthy)));
    errors.when(deadline < 0, || format!("HealthyDeadline is {} and must be >= 0", duration(deadline)));
    errors.when(healthy > deadline, || "MinHealthyTime must be less than HealthyDeadline".into());
    errors
}

/// Whether a path relative to the task's directory leads out of the allocation's directory, which is one above.
pub(super) fn escapes_allocation(path: &str) -> bool {
    let mut depth: i64 = 1;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}
