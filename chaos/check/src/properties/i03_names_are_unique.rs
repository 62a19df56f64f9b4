use std::collections::BTreeMap;

use model::{AllocId, JobKey, JobType, Text};

use crate::{AllocRow, History, Observation, Property};

/// After the last fault no two allocations of one version of a job have one name: what runs tells itself from the others
/// of its group by that number.
///
/// A canary has the number of one that it may take over from, and so have all that come after it: groups with canaries are
/// passed over. What a deployment that failed left keeps its own.
#[derive(Default)]
pub struct NamesAreUnique;

impl Property for NamesAreUnique {
    fn name(&self) -> &'static str {
        "I3 names are unique"
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        let mut names: BTreeMap<(&JobKey, &Text, u32), AllocId> = BTreeMap::new();
        let named = |row: &AllocRow| match row.kind {
            JobType::Service | JobType::Batch => row.wanted(),
            JobType::System | JobType::Sysbatch => false,
        };
        for (id, row) in &rows.allocs {
            let Some(job) = rows.jobs.get(&row.job).filter(|job| !job.rollout_failed) else { continue };
            let with_canaries = job.groups.get(&row.group).is_none_or(|group| group.canaries > 0);
            if !named(row) || with_canaries || job.version != row.version {
                continue;
            }
            if let Some(other) = names.insert((&row.job, &row.group, row.number), *id) {
                return Err(format!("both {other} and {id} are {}.{}[{}]", row.job, row.group, row.number));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{alloc_id, calm, change, end, rows};

    #[test]
    fn two_of_one_name_are_seen_unless_their_group_has_canaries() {
        assert_eq!(end::<NamesAreUnique>(&calm(rows())), Ok(()));
        let mut seen = calm(rows());
        change(&mut seen, |rows| rows.allocs.get_mut(&alloc_id(2)).expect("it is there").number = 0);
        end::<NamesAreUnique>(&seen).expect_err("two are called 0");
        change(&mut seen, |rows| {
            let job = rows.jobs.values_mut().next().expect("there is one");
            job.groups.values_mut().for_each(|group| group.canaries = 1);
        });
        assert_eq!(end::<NamesAreUnique>(&seen), Ok(()));
    }
}
