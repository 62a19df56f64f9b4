//! Ends an allocation: in which order its tasks are told to stop, and when its time is over.

use std::time::Duration;

use model::{TaskEventKind as Kind, TaskRunState, TaskState, Timestamp};

use super::Runner;
use crate::{events, lifecycle, task_runner::Wish};

/// Leaders, main tasks, sidecars.
pub(super) const STAGES: usize = 3;

/// How far a stop is: leaders, then main tasks, then sidecars.
pub(super) struct Stopping {
    pub(super) stage: usize,
    pub(super) at_once: bool,
}

impl Runner {
    pub(super) fn begin_stop(&mut self, at_once: bool) {
        if self.stopping.is_none() {
            // Where everything is over, nobody is told to stop.
            let stage = if self.is_over() { STAGES } else { 0 };
            self.stopping = Some(Stopping { stage, at_once });
            self.stop_stage();
        }
    }

    /// Stops the tasks because nobody could say whether they should go on.
    pub(super) fn stop_alone(&mut self, limit: Duration) {
        if self.stopping.is_some() {
            return;
        }
        tracing::warn!(alloc_id = %self.id(), ?limit, "no server was reachable for as long as the job allows; stopping the allocation");
        let now = self.context.now();
        for at in 0..self.states.len() {
            if self.states[at].state != TaskRunState::Dead && !self.is_poststop(at) {
                self.wish(at, Wish::Note(events::stopped_alone(limit, now)));
            }
        }
        self.begin_stop(false);
    }

    /// Returns when the allocation has run for as long as its group lets it. What its tasks do meanwhile does not matter.
    pub(super) fn run_ends_at(&self) -> Option<Timestamp> {
        let assigned = self.view.assigned.load();
        let limit = assigned.group().max_run_duration?;
        let first = |state: &TaskState| {
            state.events.first().filter(|event| event.kind == Kind::Received).map(|event| event.time)
        };
        // Long histories lose their beginning; then the time of its placement has to do.
        let begun = self.states.iter().filter_map(first).min().unwrap_or(assigned.alloc.create_time);
        Some(begun.after(limit))
    }

    /// Stops the tasks once their group's longest run is over. It ends well all the same.
    pub(super) fn stop_what_overran(&mut self, now: Timestamp) {
        let Some(ends_at) = self.run_ends_at() else { return };
        if now < ends_at || self.stopping.is_some() || self.is_over() {
            return;
        }
        self.overran = true;
        let assigned = self.view.assigned.load_full();
        let limit = assigned.group().max_run_duration.unwrap_or_default();
        for at in 0..self.states.len() {
            if self.states[at].state != TaskRunState::Dead && !self.is_poststop(at) {
                self.wish(at, Wish::Note(events::ran_too_long(limit, now)));
            }
        }
        self.begin_stop(false);
    }

    /// Tells the tasks of the current stage to stop. Those that are over note it, too: it is part of their history.
    pub(super) fn stop_stage(&mut self) {
        let assigned = self.view.assigned.load_full();
        let order = lifecycle::stop_order(&assigned.group().tasks);
        while let Some(stopping) = &mut self.stopping
            && let Some(stage) = order.get(stopping.stage)
        {
            let at_once = stopping.at_once;
            let over = stage.iter().all(|at| self.states[*at].state == TaskRunState::Dead);
            if over {
                stopping.stage += 1;
            }
            for at in stage {
                self.wish(*at, Wish::Kill { event: None, at_once });
            }
            if !over {
                return;
            }
        }
    }

    pub(super) fn advance_stop(&mut self) {
        let assigned = self.view.assigned.load_full();
        let order = lifecycle::stop_order(&assigned.group().tasks);
        let Some(stopping) = &mut self.stopping else { return };
        let Some(stage) = order.get(stopping.stage) else { return };
        if stage.iter().all(|at| self.states[*at].state == TaskRunState::Dead) {
            stopping.stage += 1;
            self.stop_stage();
        }
    }

    /// A poststop task of an allocation that never got to run has nothing to do when everything is removed, and one of an
    /// allocation that ran for too long gets no more time.
    pub(super) fn finish_poststop(&mut self, tasks: usize) {
        let needless = self.destroyed.is_some() || (self.overran && self.is_over());
        if !needless || self.poststop_told {
            return;
        }
        let waits = |at: &usize| self.is_poststop(*at) && self.states[*at].state != TaskRunState::Dead;
        let mut queues = (0..tasks).filter(waits).filter_map(|at| self.wishes.get(at));
        let told = queues.all(|queue| queue.try_send(Wish::Kill { event: None, at_once: true }).is_ok());
        // A queue that is full has room again with the next look.
        self.poststop_told = told;
    }
}
