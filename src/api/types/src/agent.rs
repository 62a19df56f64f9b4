use std::collections::BTreeMap;

use serde_json::Value;

use crate::shape::or_null;

shape! {
    /// What an agent says of itself. `config` is free: it follows the agent's configuration.
    AgentSelf {
        config "config": Value,
        member "member": AgentMember,
        stats "stats": BTreeMap<String, BTreeMap<String, String>>,
    }
    /// A server as the others see it.
    AgentMember {
        #[serde(serialize_with = "or_null")]
        addr "Addr": String,
        delegate_cur "DelegateCur": u8,
        delegate_max "DelegateMax": u8,
        delegate_min "DelegateMin": u8,
        name "Name": String,
        port "Port": u16,
        protocol_cur "ProtocolCur": u8,
        protocol_max "ProtocolMax": u8,
        protocol_min "ProtocolMin": u8,
        status "Status": String,
        #[serde(serialize_with = "or_null")]
        tags "Tags": BTreeMap<String, String>,
    }
    /// The servers that an agent knows.
    Members {
        members "Members": Vec<AgentMember>,
        server_dc "ServerDC": String,
        server_name "ServerName": String,
        server_region "ServerRegion": String,
    }
    /// What joining answers.
    JoinResponse {
        error "error": String,
        num_joined "num_joined": u64,
        warning "warning": String,
    }
    /// Whether the parts of an agent are well.
    AgentHealth {
        #[serde(skip_serializing_if = "Option::is_none")]
        client "client": Option<PartHealth>,
        #[serde(skip_serializing_if = "Option::is_none")]
        server "server": Option<PartHealth>,
    }
    /// Whether one part of an agent is well.
    PartHealth {
        message "message": String,
        ok "ok": bool,
    }
    /// Metrics of an agent.
    Metrics {
        counters "Counters": Vec<MetricSample>,
        gauges "Gauges": Vec<MetricGauge>,
        points "Points": Vec<MetricPoint>,
        samples "Samples": Vec<MetricSample>,
        timestamp "Timestamp": String,
    }
    /// A value at one moment.
    MetricGauge {
        labels "Labels": BTreeMap<String, String>,
        name "Name": String,
        value "Value": f64,
    }
    /// Values one after the other.
    MetricPoint {
        name "Name": String,
        points "Points": Vec<f64>,
    }
    /// What is known of many values.
    MetricSample {
        count "Count": u64,
        labels "Labels": BTreeMap<String, String>,
        max "Max": f64,
        mean "Mean": f64,
        min "Min": f64,
        name "Name": String,
        rate "Rate": f64,
        stddev "Stddev": f64,
        sum "Sum": f64,
    }
    /// What a write that returns nothing else answers.
    IndexResponse { index "Index": u64, }
}
