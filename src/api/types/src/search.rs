use std::collections::BTreeMap;

use serde_json::Value;

shape! {
    /// Finds things whose id begins so.
    SearchRequest {
        context "Context": String,
        prefix "Prefix": String,
    }
    /// What was found, by kind.
    SearchResponse {
        index "Index": u64,
        known_leader "KnownLeader": bool,
        last_contact "LastContact": u64,
        matches "Matches": BTreeMap<String, Option<Vec<String>>>,
        next_token "NextToken": String,
        truncations "Truncations": BTreeMap<String, bool>,
    }
    /// Finds things whose name contains a text.
    FuzzySearchRequest {
        context "Context": String,
        text "Text": String,
    }
    /// What was found, by kind.
    FuzzySearchResponse {
        index "Index": u64,
        known_leader "KnownLeader": bool,
        last_contact "LastContact": u64,
        matches "Matches": BTreeMap<String, Vec<FuzzyMatch>>,
        next_token "NextToken": String,
        truncations "Truncations": BTreeMap<String, bool>,
    }
    /// One thing that was found.
    FuzzyMatch {
        id "ID": String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        scope "Scope": Vec<String>,
    }
    /// One line of a list of scaling policies.
    ScalingPolicyStub {
        create_index "CreateIndex": u64,
        enabled "Enabled": bool,
        id "ID": String,
        modify_index "ModifyIndex": u64,
        target "Target": BTreeMap<String, String>,
        kind "Type": String,
    }
    /// The bounds and rules of a group's count.
    ScalingPolicy {
        create_index "CreateIndex": u64,
        enabled "Enabled": bool,
        id "ID": String,
        max "Max": i64,
        min "Min": i64,
        modify_index "ModifyIndex": u64,
        policy "Policy": Option<Value>,
        target "Target": BTreeMap<String, String>,
        kind "Type": String,
    }
}
