use std::collections::BTreeMap;

use crate::{
    NodeResources, ReservedResources, Time,
    shape::{nanos, or_null, text_map},
};

shape! {
    /// A node with everything that is known of it.
    Node {
        attributes "Attributes": BTreeMap<String, String>,
        csi_controller_plugins "CSIControllerPlugins": BTreeMap<String, serde_json::Value>,
        csi_node_plugins "CSINodePlugins": BTreeMap<String, serde_json::Value>,
        cgroup_parent "CgroupParent": String,
        computed_class "ComputedClass": String,
        create_index "CreateIndex": u64,
        datacenter "Datacenter": String,
        drain "Drain": bool,
        drain_strategy "DrainStrategy": Option<DrainStrategy>,
        drivers "Drivers": BTreeMap<String, DriverInfo>,
        #[serde(serialize_with = "or_null")]
        events "Events": Vec<NodeEvent>,
        gc_volumes_on_node_gc "GCVolumesOnNodeGC": bool,
        http_addr "HTTPAddr": String,
        #[serde(serialize_with = "or_null")]
        host_networks "HostNetworks": BTreeMap<String, HostNetwork>,
        host_volumes "HostVolumes": BTreeMap<String, HostVolume>,
        id "ID": String,
        identity_signing_key_id "IdentitySigningKeyID": String,
        last_alloc_update_index "LastAllocUpdateIndex": u64,
        last_drain "LastDrain": Option<DrainMetadata>,
        last_missed_heartbeat_index "LastMissedHeartbeatIndex": u64,
        links "Links": BTreeMap<String, String>,
        #[serde(serialize_with = "or_null")]
        meta "Meta": BTreeMap<String, String>,
        modify_index "ModifyIndex": u64,
        name "Name": String,
        node_class "NodeClass": String,
        node_max_allocs "NodeMaxAllocs": u64,
        node_pool "NodePool": String,
        node_resources "NodeResources": Option<NodeResources>,
        reserved_resources "ReservedResources": Option<ReservedResources>,
        scheduling_eligibility "SchedulingEligibility": String,
        secret_id "SecretID": String,
        status "Status": String,
        status_description "StatusDescription": String,
        status_updated_at "StatusUpdatedAt": i64,
        tls_enabled "TLSEnabled": bool,
    }
    /// One line of a list of nodes.
    NodeStub {
        address "Address": String,
        #[serde(skip_serializing_if = "Option::is_none")]
        attributes "Attributes": Option<BTreeMap<String, String>>,
        create_index "CreateIndex": u64,
        datacenter "Datacenter": String,
        drain "Drain": bool,
        drivers "Drivers": BTreeMap<String, DriverInfo>,
        host_volumes "HostVolumes": BTreeMap<String, HostVolume>,
        id "ID": String,
        last_drain "LastDrain": Option<DrainMetadata>,
        modify_index "ModifyIndex": u64,
        name "Name": String,
        node_class "NodeClass": String,
        node_pool "NodePool": String,
        #[serde(skip_serializing_if = "Option::is_none")]
        node_resources "NodeResources": Option<NodeResources>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reserved_resources "ReservedResources": Option<ReservedResources>,
        scheduling_eligibility "SchedulingEligibility": String,
        status "Status": String,
        status_description "StatusDescription": String,
        version "Version": String,
    }
    /// A driver on a node.
    DriverInfo {
        attributes "Attributes": BTreeMap<String, String>,
        detected "Detected": bool,
        health_description "HealthDescription": String,
        healthy "Healthy": bool,
        update_time "UpdateTime": Time,
    }
    /// A directory that a node offers to jobs.
    HostVolume {
        id "ID": String,
        name "Name": String,
        path "Path": String,
        read_only "ReadOnly": bool,
    }
    /// A named network of a node.
    HostNetwork {
        cidr "CIDR": String,
        interface "Interface": String,
        name "Name": String,
        reserved_ports "ReservedPorts": String,
    }
    /// How a node is being emptied.
    DrainStrategy {
        deadline "Deadline": i64,
        force_deadline "ForceDeadline": Time,
        ignore_system_jobs "IgnoreSystemJobs": bool,
        started_at "StartedAt": Time,
    }
    /// The last time that a node was emptied.
    DrainMetadata {
        accessor_id "AccessorID": String,
        #[serde(serialize_with = "or_null")]
        meta "Meta": BTreeMap<String, String>,
        started_at "StartedAt": Time,
        status "Status": String,
        updated_at "UpdatedAt": Time,
    }
    /// Something that happened to a node.
    NodeEvent {
        create_index "CreateIndex": u64,
        #[serde(serialize_with = "or_null")]
        details "Details": BTreeMap<String, String>,
        message "Message": String,
        subsystem "Subsystem": String,
        timestamp "Timestamp": Time,
    }
    /// Empties a node, or stops doing so.
    NodeDrainRequest {
        drain_spec "DrainSpec": Option<DrainSpec>,
        mark_eligible "MarkEligible": bool,
        #[serde(serialize_with = "or_null")]
        meta "Meta": BTreeMap<String, String>,
        node_id "NodeID": String,
    }
    /// How a node shall be emptied; a negative deadline is "at once".
    DrainSpec {
        deadline "Deadline": i64,
        ignore_system_jobs "IgnoreSystemJobs": bool,
    }
    /// Says whether a node takes new allocations.
    NodeEligibilityRequest {
        eligibility "Eligibility": String,
        node_id "NodeID": String,
    }
    /// What changing a node answers.
    NodeUpdateResponse {
        eval_create_index "EvalCreateIndex": u64,
        #[serde(serialize_with = "or_null")]
        eval_ids "EvalIDs": Vec<String>,
        index "Index": u64,
        node_modify_index "NodeModifyIndex": u64,
    }
    /// Changes a node's dynamic metadata; `null` removes a key.
    NodeMetaRequest {
        meta "Meta": BTreeMap<String, Option<String>>,
        node_id "NodeID": String,
    }
    /// A node's metadata.
    NodeMetaResponse {
        dynamic "Dynamic": BTreeMap<String, Option<String>>,
        meta "Meta": BTreeMap<String, String>,
        fixed "Static": BTreeMap<String, String>,
    }
}

/// Which of the larger parts a line of a node list has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NodeStubFields {
    /// `NodeResources` and `ReservedResources` are there.
    pub resources: bool,
    /// `Attributes` holds what is known of the operating system.
    pub os: bool,
}

fn eligibility(node: &model::Node) -> String {
    if node.eligible { "eligible" } else { "ineligible" }.to_owned()
}

fn drivers(node: &model::Node) -> BTreeMap<String, DriverInfo> {
    node.drivers.iter().map(|(name, driver)| (name.to_string(), DriverInfo::of(driver))).collect()
}

fn host_volumes(node: &model::Node) -> BTreeMap<String, HostVolume> {
    let shape = |(name, volume): (&model::Text, &model::HostVolume)| {
        let shape = HostVolume {
            id: volume.id.to_string(),
            name: name.to_string(),
            path: volume.path.clone(),
            read_only: volume.read_only,
        };
        (name.to_string(), shape)
    };
    node.host_volumes.iter().map(shape).collect()
}

impl Node {
    /// Makes the full shape of a node; its secret is never in it.
    pub fn of(node: &model::Node) -> Self {
        let network = |(name, network): (&model::Text, &model::HostNetwork)| {
            let shape = HostNetwork {
                cidr: network.cidr.to_string(),
                interface: network.interface.to_string(),
                name: name.to_string(),
                reserved_ports: network.reserved_ports.to_string(),
            };
            (name.to_string(), shape)
        };
        Self {
            attributes: text_map(&node.attributes),
            csi_controller_plugins: BTreeMap::new(),
            csi_node_plugins: BTreeMap::new(),
            cgroup_parent: node.cgroup_parent.to_string(),
            computed_class: node.computed_class.to_string(),
            create_index: node.create_index,
            datacenter: node.datacenter.to_string(),
            drain: node.drain.is_some(),
            drain_strategy: node.drain.as_ref().map(DrainStrategy::of),
            drivers: drivers(node),
            events: node.events.iter().map(NodeEvent::of).collect(),
            gc_volumes_on_node_gc: false,
            http_addr: node.http_addr.to_string(),
            host_networks: node.host_networks.iter().map(network).collect(),
            host_volumes: host_volumes(node),
            id: node.id.to_string(),
            identity_signing_key_id: String::new(),
            last_alloc_update_index: node.last_alloc_update_index,
            last_drain: node.last_drain.as_ref().map(DrainMetadata::of),
            last_missed_heartbeat_index: node.last_missed_heartbeat_index,
            links: text_map(&node.links),
            meta: text_map(&node.meta),
            modify_index: node.modify_index,
            name: node.name.to_string(),
            node_class: node.node_class.to_string(),
            node_max_allocs: node.max_allocs.into(),
            node_pool: node.node_pool.to_string(),
            node_resources: Some(NodeResources::of(node)),
            reserved_resources: Some(ReservedResources::of(node)),
            scheduling_eligibility: eligibility(node),
            secret_id: String::new(),
            status: node.status.to_string(),
            status_description: node.status_description.to_string(),
            status_updated_at: node.status_updated_at.seconds(),
            tls_enabled: node.tls_enabled,
        }
    }
}

impl NodeStub {
    /// Makes a list line.
    pub fn of(node: &model::Node, fields: NodeStubFields) -> Self {
        let address = node.http_addr.rsplit_once(':').map_or(node.http_addr.as_str(), |(host, _)| host);
        let os = || node.attributes.iter().filter(|(name, _)| name.starts_with("os."));
        Self {
            address: address.trim_matches(['[', ']']).to_owned(),
            attributes: fields.os.then(|| text_map(os())),
            create_index: node.create_index,
            datacenter: node.datacenter.to_string(),
            drain: node.drain.is_some(),
            drivers: drivers(node),
            host_volumes: host_volumes(node),
            id: node.id.to_string(),
            last_drain: node.last_drain.as_ref().map(DrainMetadata::of),
            modify_index: node.modify_index,
            name: node.name.to_string(),
            node_class: node.node_class.to_string(),
            node_pool: node.node_pool.to_string(),
            node_resources: fields.resources.then(|| NodeResources::of(node)),
            reserved_resources: fields.resources.then(|| ReservedResources::of(node)),
            scheduling_eligibility: eligibility(node),
            status: node.status.to_string(),
            status_description: node.status_description.to_string(),
            version: node.attributes.get("nomad.version").map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl DriverInfo {
    fn of(driver: &model::DriverState) -> Self {
        Self {
            attributes: text_map(&driver.attributes),
            detected: driver.detected,
            health_description: driver.health_description.to_string(),
            healthy: driver.healthy,
            update_time: driver.update_time.into(),
        }
    }
}

impl DrainStrategy {
    fn of(drain: &model::DrainStrategy) -> Self {
        Self {
            deadline: if drain.force { -1 } else { nanos(drain.deadline) },
            force_deadline: drain.force_deadline.into(),
            ignore_system_jobs: drain.ignore_system_jobs,
            started_at: drain.started_at.into(),
        }
    }
}

impl DrainMetadata {
    fn of(drain: &model::DrainRecord) -> Self {
        Self {
            // What Nomad writes for everyone while nobody is asked who they are.
            accessor_id: match drain.accessor_id.as_str() {
                "" => "token:acls-disabled".to_owned(),
                known => known.to_owned(),
            },
            meta: text_map(&drain.meta),
            started_at: drain.started_at.into(),
            status: drain.status.to_string(),
            updated_at: drain.updated_at.into(),
        }
    }
}

impl NodeEvent {
    fn of(event: &model::NodeEvent) -> Self {
        Self {
            create_index: event.create_index,
            details: text_map(&event.details),
            message: event.message.to_string(),
            subsystem: event.subsystem.to_string(),
            timestamp: event.timestamp.into(),
        }
    }
}
