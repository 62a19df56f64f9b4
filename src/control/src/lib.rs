//! The leader's pure state machines: step(now, input) to outputs.
