//! Jobs, nodes, allocations, evaluations, deployments: plain data and ids.
