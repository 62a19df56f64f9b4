//! Texts that users and programs match on.

/// An allocation that its job does not want any more.
pub(crate) const NOT_NEEDED: &str = "alloc not needed due to job update";
/// One that moves to another node.
pub(crate) const MIGRATING: &str = "alloc is being migrated";
/// One that another version of its job takes over from.
pub(crate) const UPDATING: &str = "alloc is being updated due to job update";
/// One whose node is down.
pub(crate) const LOST: &str = "alloc is lost since its node is down";
/// One whose node is out of reach.
pub(crate) const UNKNOWN: &str = "alloc is unknown since its node is disconnected";
/// One that came back, or the one that replaced it meanwhile.
pub(crate) const RECONNECTED: &str = "alloc not needed due to disconnected client reconnect";
/// A system job's, on a node that is being emptied.
pub(crate) const NODE_TAINTED: &str = "alloc not needed as node is tainted";
/// A delayed evaluation for failed allocations.
pub(crate) const DELAYED_RESCHEDULE: &str = "created for delayed rescheduling";
/// A delayed evaluation for allocations out of reach.
pub(crate) const DISCONNECT_TIMEOUT: &str = "created for delayed disconnect timeout";
/// An evaluation that waits for room.
pub(crate) const BLOCKED: &str = "created to place remaining allocations";
/// A deployment under way.
pub(crate) const RUNNING: &str = "Deployment is running";
/// A deployment with canaries that a user takes over.
pub(crate) const NEEDS_PROMOTION: &str = "Deployment is running but requires manual promotion";
/// A deployment with canaries that take over by themselves.
pub(crate) const AWAITS_PROMOTION: &str = "Deployment is running pending automatic promotion";
/// A deployment whose allocations are all healthy.
pub(crate) const SUCCESSFUL: &str = "Deployment completed successfully";
/// A deployment whose job a user stopped.
pub(crate) const JOB_STOPPED: &str = "Cancelled because job is stopped";
/// A deployment that a later version of its job ended.
pub(crate) const NEWER_VERSION: &str = "Cancelled due to newer version of job";
/// A failed allocation for whose replacement there was no room.
pub(crate) const NO_PLACEMENT: &str = "no placement";
