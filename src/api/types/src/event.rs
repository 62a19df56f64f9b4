use serde_json::Value;

use crate::shape::or_null;

sparse! {
    /// One line of the event stream: what happened at one index. The empty one is a heartbeat.
    EventBatch {
        events "Events": Vec<Event>,
        index "Index": u64,
    }
}

shape! {
    /// Something that happened.
    Event {
        #[serde(serialize_with = "or_null")]
        filter_keys "FilterKeys": Vec<String>,
        index "Index": u64,
        key "Key": String,
        namespace "Namespace": String,
        payload "Payload": Value,
        topic "Topic": String,
        kind "Type": String,
    }
}
