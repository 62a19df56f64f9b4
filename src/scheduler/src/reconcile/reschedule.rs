//! When a failed allocation is replaced.

use std::time::Duration;

use model::{Allocation, RescheduleEvent, ReschedulePolicy, Timestamp};

/// A replacement that is due within this time is made at once: another evaluation would cost more than the wait.
const DUE_WITHIN: Duration = Duration::from_secs(1);

/// Past replacements that an allocation of an unlimited policy remembers: delay functions look two back, users a little
/// further.
const UNLIMITED_EVENTS_MAX: usize = 5;

/// When a failed allocation is replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Due {
    /// Not by itself.
    Never,
    /// At once.
    Now,
    /// At this time.
    At(Timestamp),
}

/// Decides when a failed allocation is replaced, by its policy alone.
pub(crate) fn due(alloc: &Allocation, policy: Option<&ReschedulePolicy>, now: Timestamp) -> Due {
    if alloc.extra().transition.force_reschedule == Some(true) {
        return Due::Now;
    }
    let Some(policy) = policy else { return Due::Never };
    let failed_at = failed_at(alloc);
    if !policy.unlimited
        && !mutants::on!("reschedule-for-ever")
        && attempts_within(alloc, policy, failed_at) >= policy.attempts
    {
        return Due::Never;
    }
    let at = failed_at.after(delay(alloc, policy));
    if at.since(now) <= DUE_WITHIN || mutants::on!("reschedule-at-once") { Due::Now } else { Due::At(at) }
}

/// Returns when the last task of an allocation ended.
pub(crate) fn failed_at(alloc: &Allocation) -> Timestamp {
    let ended = alloc.task_states.iter().map(|state| state.finished_at).max().unwrap_or_default();
    if ended.is_zero() { alloc.modify_time } else { ended }
}

/// Returns how long the replacement waits after the failure.
pub(crate) fn delay(alloc: &Allocation, policy: &ReschedulePolicy) -> Duration {
    let events = &alloc.extra().reschedules;
    let nanos = |event: &RescheduleEvent| Duration::from_nanos(u64::try_from(event.delay_ns).unwrap_or(0));
    let wanted = match (policy.delay_function.as_str(), events.as_slice()) {
        ("exponential", [.., last]) => nanos(last).saturating_mul(2),
        ("fibonacci", [.., before, last]) => nanos(before).saturating_add(nanos(last)),
        ("fibonacci", [only]) => nanos(only),
        _ => policy.delay,
    };
    if policy.delay_function == "constant" || policy.max_delay.is_zero() || wanted < policy.max_delay {
        return wanted.max(policy.delay);
    }
    // It ran for longer than the longest wait: what failed before is forgiven.
    let stable = events.last().is_some_and(|last| failed_at(alloc).since(last.time) > policy.max_delay);
    if stable { policy.delay } else { policy.max_delay }
}

/// Returns the replacements on the line of a new allocation, the one of `alloc` included.
pub(crate) fn events_after(
    alloc: &Allocation,
    policy: Option<&ReschedulePolicy>,
    now: Timestamp,
) -> Vec<RescheduleEvent> {
    let mut events = alloc.extra().reschedules.clone();
    match policy {
        Some(policy) if !policy.unlimited && !policy.interval.is_zero() => {
            events.retain(|event| now.since(event.time) < policy.interval);
        }
        _ => {
            let surplus = events.len().saturating_sub(UNLIMITED_EVENTS_MAX - 1);
            events.drain(..surplus);
        }
    }
    let delay = policy.map(|policy| delay(alloc, policy)).unwrap_or_default();
    events.push(RescheduleEvent {
        time: now,
        previous: alloc.id,
        previous_node: alloc.node_id,
        delay_ns: i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX),
    });
    events
}

fn attempts_within(alloc: &Allocation, policy: &ReschedulePolicy, failed_at: Timestamp) -> u32 {
    let within =
        |event: &&RescheduleEvent| policy.interval.is_zero() || failed_at.since(event.time) < policy.interval;
    u32::try_from(alloc.extra().reschedules.iter().filter(within).count()).unwrap_or(u32::MAX)
}
