//! Which nodes a group may be placed on, whatever room they have: decided once a class, kept until a node changes.

use std::{collections::BTreeMap, sync::Arc};

use model::{AllocMetric, Constraint, Job, Node, TaskGroup, Text, VolumeRequest};

use crate::{
    ask::Ask,
    condition::Condition,
    exclusive,
    table::{NodeTable, Slot},
};

/// Requirement sets that are kept. Each holds four bytes a node, and most regions run far fewer kinds of jobs; the one
/// that was not used for longest makes room.
const SETS_MAX: usize = 128;

/// Operators that look at other allocations, not at the node alone.
const PLACEMENT_OPERATORS: [&str; 2] = ["distinct_hosts", "distinct_property"];

/// What a group demands of nodes, beside room.
pub(crate) struct Requirements {
    key: String,
    datacenters: Vec<Text>,
    pool: Text,
    /// Asked once a class.
    of_class: Vec<Condition>,
    /// Asked of each node.
    of_node: Vec<Condition>,
    drivers: Vec<Text>,
    volumes: Vec<VolumeRequest>,
    /// A volume of a storage plugin, which no region here has.
    claim: Option<Text>,
    network_mode: Text,
    ask: Ask,
}

/// The nodes that meet a set of requirements.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// In order.
    pub(crate) slots: Vec<Slot>,
    /// The class of each, beside them: passes read it for all.
    pub(crate) class_of: Vec<u32>,
    /// One node of each class among them.
    pub(crate) examples: Vec<(u32, Slot)>,
    /// What is known before room is looked at; the start of every metric.
    pub(crate) metric: AllocMetric,
    /// By the class that nodes computed: whether some node of it would do.
    pub(crate) classes: BTreeMap<Text, bool>,
    /// Some condition looks at single nodes.
    pub(crate) escaped: bool,
    epoch: u64,
}

/// Sets of requirements that were asked for lately.
#[derive(Default)]
pub(crate) struct Feasibility {
    sets: BTreeMap<String, Set>,
    clock: u64,
}

struct Set {
    requirements: Requirements,
    /// By class: nothing when it was not looked at.
    verdicts: Vec<Option<Verdict>>,
    candidates: Arc<Candidates>,
    used: u64,
}

/// None when a class will do, else why not.
type Verdict = Option<Text>;

impl Feasibility {
    /// Finds the nodes that a group may be placed on.
    pub(crate) fn candidates(
        &mut self,
        table: &NodeTable,
        job: &Job,
        group: &TaskGroup,
        ask: &Ask,
    ) -> Arc<Candidates> {
        self.clock += 1;
        let key = key(job, group, ask);
        if !self.sets.contains_key(&key) {
            self.make_room();
            let requirements = Requirements::new(key.clone(), job, group, ask);
            let mut verdicts = Vec::new();
            let candidates = Arc::new(requirements.find(table, &mut verdicts));
            self.sets.insert(key.clone(), Set { requirements, verdicts, candidates, used: 0 });
        }
        let set = self.sets.get_mut(&key).expect("it was put in if it was not there");
        set.used = self.clock;
        if set.candidates.epoch != table.epoch() {
            set.candidates = Arc::new(set.requirements.find(table, &mut set.verdicts));
        }
        set.candidates.clone()
    }

    /// Tells whether a node meets a group's demands, be it ready or not.
    pub(crate) fn meets(
        &mut self,
        table: &NodeTable,
        slot: Slot,
        job: &Job,
        group: &TaskGroup,
        ask: &Ask,
    ) -> bool {
        self.candidates(table, job, group, ask);
        let set = self.sets.get(&key(job, group, ask)).expect("it was asked for just now");
        set.requirements.met_by(table.node(slot))
    }

    fn make_room(&mut self) {
        if self.sets.len() < SETS_MAX {
            return;
        }
        let oldest = self.sets.values().min_by_key(|set| set.used).map(|set| set.requirements.key.clone());
        if let Some(key) = oldest {
            self.sets.remove(&key);
        }
    }

    /// Forgets everything; class numbers begin anew.
    pub(crate) fn clear(&mut self) {
        self.sets.clear();
    }
}

impl Requirements {
    fn new(key: String, job: &Job, group: &TaskGroup, ask: &Ask) -> Self {
        let region = &job.spec.region;
        let conditions = constraints(job, group)
            .filter(|constraint| !PLACEMENT_OPERATORS.contains(&constraint.operator.as_str()))
            .map(|constraint| Condition::of_constraint(constraint, region));
        let (of_node, of_class) = conditions.partition(Condition::is_unique);
        Self {
            key,
            datacenters: job.spec.datacenters.clone(),
            pool: job.spec.node_pool.clone(),
            of_class,
            of_node,
            drivers: group.tasks.iter().map(|task| task.driver.clone()).collect(),
            volumes: group.volumes.values().filter(|volume| volume.kind == "host").cloned().collect(),
            claim: claims(group).next().cloned(),
            network_mode: group.networks.first().map(|network| network.mode.clone()).unwrap_or_default(),
            ask: ask.clone(),
        }
    }

    fn find(&self, table: &NodeTable, verdicts: &mut Vec<Option<Verdict>>) -> Candidates {
        verdicts.resize(table.class_count(), None);
        let mut found = Candidates {
            slots: Vec::new(),
            class_of: Vec::new(),
            examples: Vec::new(),
            metric: AllocMetric { node_pool: self.pool.clone(), ..AllocMetric::default() },
            classes: BTreeMap::new(),
            escaped: !self.of_node.is_empty(),
            epoch: table.epoch(),
        };
        let mut of_class: Vec<ClassCount> = vec![ClassCount::default(); table.class_count()];
        let mut filtered: BTreeMap<Text, u32> = BTreeMap::new();
        for (slot, node) in table.nodes() {
            if !node.schedulable()
                || !(self.pool == "all" || self.pool.is_empty() || node.node_pool == self.pool)
            {
                continue;
            }
            found.metric.nodes_in_pool += 1;
            let class = table.class_of(slot) as usize;
            let in_datacenters =
                *of_class[class].in_datacenters.get_or_insert_with(|| self.in_datacenters(node));
            if !in_datacenters {
                continue;
            }
            of_class[class].available += 1;
            let verdict = verdicts[class].get_or_insert_with(|| self.verdict_of_class(node));
            let reason = verdict
                .as_ref()
                .or_else(|| self.of_node.iter().find(|asked| !asked.holds_on(node)).map(|asked| &asked.text));
            match reason {
                None => {
                    found.slots.push(slot);
                    found.class_of.push(table.class_of(slot));
                    of_class[class].candidate.get_or_insert(slot);
                }
                Some(reason) => {
                    of_class[class].filtered += 1;
                    match filtered.get_mut(reason) {
                        Some(count) => *count += 1,
                        None => _ = filtered.insert(reason.clone(), 1),
                    }
                }
            }
            of_class[class].example = Some(slot);
        }
        found.metric.constraint_filtered = filtered;
        found.count_classes(table, &of_class, verdicts);
        found
    }

    fn met_by(&self, node: &Node) -> bool {
        let in_pool = self.pool == "all" || self.pool.is_empty() || node.node_pool == self.pool;
        in_pool
            && self.in_datacenters(node)
            && self.verdict_of_class(node).is_none()
            && self.of_node.iter().all(|condition| condition.holds_on(node))
    }

    fn in_datacenters(&self, node: &Node) -> bool {
        self.datacenters.is_empty() || self.datacenters.iter().any(|pattern| glob(pattern, &node.datacenter))
    }

    /// Decides for every node of a class; the reason when it will not do.
    fn verdict_of_class(&self, node: &Node) -> Verdict {
        if let Some(condition) = self.of_class.iter().find(|condition| !condition.holds_on(node)) {
            return Some(condition.text.clone());
        }
        if self.drivers.iter().any(|driver| !node.has_driver(driver)) {
            return Some("missing drivers".into());
        }
        if !self.volumes.iter().all(|volume| has_volume(node, volume)) {
            return Some("missing compatible host volumes".into());
        }
        if let Some(source) = &self.claim {
            return Some(format!("missing CSI Volume {source}").into());
        }
        if let Some(reason) = self.missing_network(node) {
            return Some(reason);
        }
        let requests = || self.ask.devices_by_task.iter().flatten();
        let has = |request: &model::DeviceRequest| {
            node.resources.devices.iter().any(|device| {
                exclusive::matches(device, request, &self.ask.region)
                    && device.instances.len() >= request.count.max(1) as usize
            })
        };
        (!requests().all(has)).then(|| "missing devices".into())
    }

    fn missing_network(&self, node: &Node) -> Option<Text> {
        let mode = self.network_mode.as_str();
        let needs_mode = mode == "bridge" || mode.starts_with("cni/");
        if needs_mode && !node.resources.networks.iter().any(|network| network.mode == mode) {
            return Some("missing network".into());
        }
        let aliases = || {
            node.resources.networks.iter().flat_map(|network| &network.addresses).map(|found| &found.alias)
        };
        let has = |wanted: &str| match wanted {
            "" | "default" => aliases().any(|alias| alias.is_empty() || alias == "default"),
            wanted => aliases().any(|alias| alias == wanted),
        };
        self.ask.ports.iter().find(|wish| !has(&wish.host_network)).map(exclusive::missing_network)
    }
}

/// What is counted for each class while nodes are looked at.
#[derive(Clone, Debug, Default)]
struct ClassCount {
    in_datacenters: Option<bool>,
    available: u32,
    filtered: u32,
    example: Option<Slot>,
    candidate: Option<Slot>,
}

impl Candidates {
    fn count_classes(&mut self, table: &NodeTable, counts: &[ClassCount], verdicts: &[Option<Verdict>]) {
        for (class, count) in counts.iter().enumerate() {
            let Some(example) = count.example else { continue };
            let node = table.node(example);
            *self.metric.nodes_available.entry(node.datacenter.clone()).or_default() += count.available;
            self.metric.nodes_evaluated += count.available;
            self.metric.nodes_filtered += count.filtered;
            if count.filtered > 0 && !node.node_class.is_empty() {
                *self.metric.class_filtered.entry(node.node_class.clone()).or_default() += count.filtered;
            }
            let feasible = matches!(&verdicts[class], Some(None));
            let class = u32::try_from(class).expect("class numbers are 32 bits wide");
            self.examples.extend(count.candidate.map(|slot| (class, slot)));
            let name = table.class_name(class);
            *self.classes.entry(name.clone()).or_default() |= feasible;
        }
    }
}

/// Lists what a group and those around and in it demand, the job's first.
pub(crate) fn constraints<'a>(job: &'a Job, group: &'a TaskGroup) -> impl Iterator<Item = &'a Constraint> {
    let tasks = group.tasks.iter().flat_map(|task| &task.constraints);
    job.spec.constraints.iter().chain(&group.constraints).chain(tasks)
}

/// Lists the volumes of storage plugins that a group claims.
fn claims(group: &TaskGroup) -> impl Iterator<Item = &Text> {
    group.volumes.values().filter(|volume| volume.kind == "csi").map(|volume| &volume.source)
}

fn has_volume(node: &Node, wanted: &VolumeRequest) -> bool {
    // A volume of its own for each allocation carries the allocation's index; any of them shows that the node has some.
    let found = node.host_volumes.get(&wanted.source).or_else(|| {
        let prefix = format!("{}[", wanted.source);
        let mut names = node.host_volumes.range(Text::from(prefix.as_str())..);
        names
            .next()
            .filter(|(name, _)| wanted.per_alloc && name.starts_with(&prefix))
            .map(|(_, volume)| volume)
    });
    found.is_some_and(|volume| wanted.read_only || !volume.read_only)
}

/// Names a set of requirements: equal keys demand the same.
fn key(job: &Job, group: &TaskGroup, ask: &Ask) -> String {
    use std::fmt::Write as _;
    let mut key = String::with_capacity(256);
    let mut add = |part: &str| {
        key.push_str(part);
        key.push('\u{1}');
    };
    add(&job.spec.node_pool);
    add(&job.spec.region);
    job.spec.datacenters.iter().for_each(|datacenter| add(datacenter));
    add("|");
    for constraint in constraints(job, group) {
        add(&constraint.left);
        add(&constraint.operator);
        add(&constraint.right);
    }
    add("|");
    group.tasks.iter().for_each(|task| add(&task.driver));
    add("|");
    group.networks.iter().take(1).for_each(|network| add(&network.mode));
    ask.ports.iter().for_each(|wish| add(&wish.host_network));
    add("|");
    for volume in group.volumes.values().filter(|volume| volume.kind == "host") {
        add(&volume.source);
        add(if volume.read_only { "ro" } else { "rw" });
        add(if volume.per_alloc { "each" } else { "" });
    }
    claims(group).for_each(|source| {
        add("csi");
        add(source);
    });
    if ask.has_devices() {
        // Rare, and deep: its debug form says all of it.
        write!(key, "{:?}", ask.devices_by_task).expect("writing to a string does not fail");
    }
    key
}

/// Matches a text against a pattern in which `*` stands for any characters.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs() {
        assert!(glob("*", "dc1"));
        assert!(glob("dc2-*", "dc2-east"));
        assert!(!glob("dc2-*", "dc1-east"));
        assert!(glob("a*c*e", "abcde"));
        assert!(!glob("a*c*e", "abde"));
        assert!(!glob("dc1", "dc10"));
        assert!(glob("*1", "dc11"));
    }
}
