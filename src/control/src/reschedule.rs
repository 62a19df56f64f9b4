use model::{Allocation, TaskState};

/// Tells whether the policy of an allocation's group lets a replacement be made for it, once it failed: at once or later.
/// `tasks` are its tasks as they ended.
pub fn may_be_replaced(alloc: &Allocation, tasks: &[TaskState]) -> bool {
    let Some(policy) = &alloc.task_group().reschedule else { return false };
    let ended = tasks.iter().map(|task| task.finished_at).max().unwrap_or_default();
    let ended = if ended.is_zero() { alloc.modify_time } else { ended };
    let within = |time| policy.interval.is_zero() || ended.since(time) < policy.interval;
    let spent = alloc.extra().reschedules.iter().filter(|event| within(event.time)).count();
    policy.unlimited || spent < policy.attempts as usize
}
