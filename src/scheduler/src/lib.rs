//! (snapshot, evaluation) to plan. Pure.
