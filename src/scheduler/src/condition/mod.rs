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
        Self {
            left: Target::parse(left, region),
            operator: Operator::parse(operator, right),
            right: Target::parse(right, region),
            text: text.into(),
        }
    }

    /// Tells whether nodes of one class may answer differently.
    pub(crate) fn is_unique(&self) -> bool {
        self.left.is_unique() || self.right.is_unique()
    }

    /// Asks a node.
    pub(crate) fn holds_on(&self, node: &Node) -> bool {
        self.operator.holds(self.left.on_node(node).as_deref(), self.right.on_node(node).as_deref())
    }

    /// Asks a device.
    pub(crate) fn holds_on_device(&self, device: &NodeDevice) -> bool {
        self.operator.holds(self.left.on_device(device).as_deref(), self.right.on_device(device).as_deref())
    }
}
