use model::{EvalId, EvalStatus, Evaluation, JobKey, Text};

use super::Writer;

impl Writer<'_> {
    /// Puts in evaluations, those that are there already in the place of the old ones.
    pub(super) fn put_evals<'e>(&mut self, evals: impl IntoIterator<Item = &'e Evaluation>) {
        let mut evals: Vec<_> = evals.into_iter().collect();
        // Rows of one commit are listed in the order of their ids.
        evals.sort_by_key(|eval| eval.id);
        evals.into_iter().for_each(|eval| self.put_eval(eval));
    }

    /// Puts in an evaluation, counts what it left queued, and ends those that it made needless.
    pub(super) fn put_eval(&mut self, eval: &Evaluation) {
        let mut eval = eval.clone();
        let before = self.state.eval(eval.id);
        // An evaluation that is over stays so: whoever still worked on it was late.
        if before.is_some_and(|before| before.status.is_terminal() && before.status != eval.status) {
            return;
        }
        eval.create_index = before.map_or(self.index, |before| before.create_index);
        eval.modify_index = self.index;
        self.summarise_queued(&eval);
        if eval.status == EvalStatus::Complete && eval.failed_groups.is_empty() {
            self.cancel_blocked(&eval.job, eval.id);
        }
        self.put_eval_row(eval);
    }

    fn summarise_queued(&mut self, eval: &Evaluation) {
        let Some(summary) = self.state.summary(&eval.job) else { return };
        let differs = |(name, count): (&Text, &u32)| {
            summary.groups.get(name).is_some_and(|group| group.queued != *count)
        };
        if !eval.queued.iter().any(differs) {
            return;
        }
        self.edit_summary(&eval.job, |summary| {
            for (name, count) in &eval.queued {
                if let Some(group) = summary.groups.get_mut(name) {
                    group.queued = *count;
                }
            }
        });
    }

    /// Ends the blocked evaluations of a job: one of its evaluations placed everything.
    fn cancel_blocked(&mut self, job: &JobKey, successful: EvalId) {
        if self.state.jobs.counts(job).open_evals == 0 {
            return;
        }
        let blocked: Vec<_> = self
            .state
            .evals_by_job(job)
            .filter(|eval| eval.status == EvalStatus::Blocked && eval.id != successful)
            .cloned()
            .collect();
        for row in blocked {
            let mut eval = Evaluation::clone(&row);
            eval.status = EvalStatus::Canceled;
            eval.status_description = format!("evaluation {:?} successful", successful.to_string()).into();
            eval.modify_index = self.index;
            self.put_eval_row(eval);
        }
    }
}
