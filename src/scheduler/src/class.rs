//! Classes of nodes: nodes that answer every condition alike, save those on what is unique to a node.

use std::collections::BTreeMap;

use model::{Node, Text};

/// Interned classes. A class is never forgotten: there are few, and what was decided for one stays true.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    by_key: BTreeMap<Key, u32>,
    computed: Vec<Text>,
    given: Vec<Text>,
}

/// What makes a class. The computed class covers attributes and meta; the rest is kept apart from it, because it
/// changes without the node's registering anew, or is not an attribute.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key {
    computed: Text,
    datacenter: Text,
    pool: Text,
    class: Text,
    drivers: Vec<Text>,
    volumes: Vec<(Text, bool)>,
    networks: Vec<(Text, Text)>,
    devices: Vec<(Text, Text, Text, usize)>,
}

impl Classes {
    /// Returns the number of classes.
    pub(crate) fn len(&self) -> usize {
        self.computed.len()
    }

    /// Returns the class that a node's client computed.
    pub(crate) fn computed(&self, class: u32) -> &Text {
        &self.computed[class as usize]
    }

    /// Returns the class that a node's owner gave it.
    pub(crate) fn given(&self, class: u32) -> &Text {
        &self.given[class as usize]
    }

    /// Finds the class of a node, or makes one.
    pub(crate) fn intern(&mut self, node: &Node) -> u32 {
        let key = Key::of(node);
        if let Some(&class) = self.by_key.get(&key) {
            return class;
        }
        let class = u32::try_from(self.computed.len()).expect("there are fewer classes than nodes ever were");
        self.computed.push(key.computed.clone());
        self.given.push(key.class.clone());
        self.by_key.insert(key, class);
        class
    }
}

impl Key {
    fn of(node: &Node) -> Self {
        // Without a computed class nothing says which nodes are alike: each is one of its own.
        let computed = if node.computed_class.is_empty() {
            Text::from(node.id.to_string())
        } else {
            node.computed_class.clone()
        };
        let networks = node.resources.networks.iter().flat_map(|network| {
            let aliases = network.addresses.iter().map(|address| address.alias.clone());
            aliases
                .chain(network.addresses.is_empty().then(Text::default))
                .map(|alias| (network.mode.clone(), alias))
        });
        Self {
            computed,
            datacenter: node.datacenter.clone(),
            pool: node.node_pool.clone(),
            class: node.node_class.clone(),
            drivers: node.drivers.keys().filter(|name| node.has_driver(name)).cloned().collect(),
            volumes: node
                .host_volumes
                .iter()
                .map(|(name, volume)| (name.clone(), volume.read_only))
                .collect(),
            networks: networks.collect(),
            devices: node
                .resources
                .devices
                .iter()
                .map(|device| {
                    (device.vendor.clone(), device.kind.clone(), device.name.clone(), device.instances.len())
                })
                .collect(),
        }
    }
}
