//! Commands; speaks to sdk only.
