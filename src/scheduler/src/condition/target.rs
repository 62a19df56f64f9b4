use std::borrow::Cow;

use model::{Node, NodeDevice, Text};

/// What a condition looks at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// The same everywhere.
    Literal(Text),
    /// `${attr.NAME}`.
    Attribute(Text),
    /// `${meta.NAME}`.
    Meta(Text),
    /// `${node.unique.id}`.
    NodeId,
    /// `${node.unique.name}`.
    NodeName,
    /// `${node.datacenter}`.
    Datacenter,
    /// `${node.class}`.
    NodeClass,
    /// `${node.pool}`.
    NodePool,
    /// `${device.NAME}`.
    Device(Text),
    /// An interpolation of something that does not exist: never found.
    Unknown,
}

impl Target {
    /// Reads one side of a condition.
    pub(crate) fn parse(text: &str, region: &str) -> Self {
        let Some(inner) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
            return Self::Literal(text.into());
        };
        match inner.trim() {
            "node.unique.id" => Self::NodeId,
            "node.unique.name" => Self::NodeName,
            "node.datacenter" => Self::Datacenter,
            "node.region" => Self::Literal(region.into()),
            "node.class" => Self::NodeClass,
            "node.pool" => Self::NodePool,
            name => match name.split_once('.') {
                Some(("attr", name)) => Self::Attribute(name.into()),
                Some(("meta", name)) => Self::Meta(name.into()),
                Some(("device", name)) => Self::Device(name.into()),
                _ => Self::Unknown,
            },
        }
    }

    /// Tells whether nodes of one class may differ in it.
    pub(crate) fn is_unique(&self) -> bool {
        match self {
            Self::NodeId | Self::NodeName => true,
            Self::Attribute(name) | Self::Meta(name) => name.starts_with("unique."),
            Self::Literal(_)
            | Self::Datacenter
            | Self::NodeClass
            | Self::NodePool
            | Self::Device(_)
            | Self::Unknown => false,
        }
    }

    /// Looks on a node.
    pub(crate) fn on_node<'a>(&'a self, node: &'a Node) -> Option<Cow<'a, str>> {
        match self {
            Self::Literal(text) => Some(text.as_str().into()),
            Self::Attribute(name) => node.attributes.get(name).map(|value| value.as_str().into()),
            Self::Meta(name) => node.meta.get(name).map(|value| value.as_str().into()),
            Self::NodeId => Some(node.id.to_string().into()),
            Self::NodeName => Some(node.name.as_str().into()),
            Self::Datacenter => Some(node.datacenter.as_str().into()),
            Self::NodeClass => Some(node.node_class.as_str().into()),
            Self::NodePool => Some(node.node_pool.as_str().into()),
            Self::Device(_) | Self::Unknown => None,
        }
    }

    /// Looks on a device.
    pub(crate) fn on_device<'a>(&'a self, device: &'a NodeDevice) -> Option<Cow<'a, str>> {
        match self {
            Self::Literal(text) => Some(text.as_str().into()),
            Self::Device(name) => match name.as_str() {
                "model" => Some(device.name.as_str().into()),
                "vendor" => Some(device.vendor.as_str().into()),
                "type" => Some(device.kind.as_str().into()),
                "ids" => Some(
                    device.instances.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(",").into(),
                ),
                other => device
                    .attributes
                    .get(other.strip_prefix("attr.").unwrap_or(other))
                    .map(|value| value.as_str().into()),
            },
            Self::Attribute(_)
            | Self::Meta(_)
            | Self::NodeId
            | Self::NodeName
            | Self::Datacenter
            | Self::NodeClass
            | Self::NodePool
            | Self::Unknown => None,
        }
    }
}
