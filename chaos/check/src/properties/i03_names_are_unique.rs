use std::collections::{BTreeMap, BTreeSet};

use model::{AllocId, JobKey, JobType, Text};

use crate::{AllocRow, History, Observation, Property};

/// After the last fault no two allocations of one version of a job have one name: what runs tells itself from the others
/// of its group by that number.
///
/// What is or was a canary has the number of one that it may take over from, and what a deployment that failed left keeps its
/// own.
#[derive(Default)]
pub struct NamesAreUnique;

impl Property for NamesAreUnique {
    fn name(&self) -> &'static str {
        "I3 names are unique"
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        let mut names: BTreeMap<(&JobKey, &Text, u32), AllocId> = BTreeMap::new();
        let groups = rows.deployments.values().flat_map(|deployment| deployment.groups.values());
        let canaries: BTreeSet<AllocId> = groups.flat_map(|group| &group.placed_canaries).copied().collect();
        let named = |id: &AllocId, row: &AllocRow| match row.kind {
            JobType::Service | JobType::Batch => row.wanted() && !row.canary && !canaries.contains(id),
            JobType::System | JobType::Sysbatch => false,
        };
        for (id, row) in &rows.allocs {
            let Some(job) = rows.jobs.get(&row.job).filter(|job| !job.rollout_failed) else { continue };
            if !named(id, row) || job.version != row.version {
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
    fn two_of_one_name_are_seen_unless_one_is_a_canary() {
        assert_eq!(end::<NamesAreUnique>(&calm(rows())), Ok(()));
        let mut seen = calm(rows());
        change(&mut seen, |rows| rows.allocs.get_mut(&alloc_id(2)).expect("it is there").number = 0);
        end::<NamesAreUnique>(&seen).expect_err("two are called 0");
        change(&mut seen, |rows| rows.allocs.get_mut(&alloc_id(2)).expect("it is there").canary = true);
        assert_eq!(end::<NamesAreUnique>(&seen), Ok(()));
    }
}
