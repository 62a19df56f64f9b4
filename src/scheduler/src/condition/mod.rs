//! Conditions on a node: `${attr.kernel.name} = linux` and the like, compiled once and asked often.

mod operator;
mod target;
mod version;

use model::{Affinity, Constraint, Node, NodeDevice, Text};

pub(crate) use operator::Operator;
pub(crate) use target::Target;

/// A condition that is ready to be asked of nodes.
pub(crate) struct Condition {
    left: Target,
    operator: Operator,
    right: Target,
    /// The operator's name, where its right side is looked up on each node and compiled there.
    late: Option<Text>,
    /// How users see it when it rules a node out.
    pub(crate) text: Text,
}

impl Condition {
    /// Compiles a constraint; `region` is the answer to `${node.region}`, which is the same for all nodes here.
    pub(crate) fn of_constraint(constraint: &Constraint, region: &str) -> Self {
        Self::new(&constraint.left, &constraint.operator, &constraint.right, region)
    }

    /// Compiles an affinity.
    pub(crate) fn of_affinity(affinity: &Affinity, region: &str) -> Self {
        Self::new(&affinity.left, &affinity.operator, &affinity.right, region)
    }

    fn new(left: &Text, operator: &Text, right: &Text, region: &str) -> Self {
        let shown = [left.as_str(), operator.as_str(), right.as_str()];
        let text = shown.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ");
        let (compiled, target) = (Operator::parse(operator, right), Target::parse(right, region));
        let fixed = matches!(target, Target::Literal(_)) || !compiled.is_compiled();
        Self {
            left: Target::parse(left, region),
            operator: compiled,
            right: target,
            late: (!fixed).then(|| operator.clone()),
            text: text.into(),
        }
    }

    /// Tells whether nodes of one class may answer differently.
    pub(crate) fn is_unique(&self) -> bool {
        self.left.is_unique() || self.right.is_unique()
    }

    /// Asks a node.
    pub(crate) fn holds_on(&self, node: &Node) -> bool {
        self.holds(self.left.on_node(node).as_deref(), self.right.on_node(node).as_deref())
    }

    /// Asks a device.
    pub(crate) fn holds_on_device(&self, device: &NodeDevice) -> bool {
        self.holds(self.left.on_device(device).as_deref(), self.right.on_device(device).as_deref())
    }

    fn holds(&self, left: Option<&str>, right: Option<&str>) -> bool {
        match (&self.late, right) {
            (Some(name), Some(pattern)) => Operator::parse(name, pattern).holds(left, right),
            _ => self.operator.holds(left, right),
        }
    }
}

/// Reads a truth value as users may write it.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
