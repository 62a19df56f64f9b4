use std::collections::BTreeSet;

/// The numbers in the names of a group's allocations.
#[derive(Debug, Default)]
pub(crate) struct Names {
    used: BTreeSet<u32>,
}

impl Names {
    /// Starts with the numbers that are in use.
    pub(crate) fn of(used: impl IntoIterator<Item = u32>) -> Self {
        Self { used: used.into_iter().collect() }
    }

    /// Takes the lowest free numbers.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u32> {
        let mut taken = Vec::with_capacity(count);
        let mut next = 0;
        let mut used = self.used.iter().copied().peekable();
        while taken.len() < count {
            match used.peek() {
                Some(&number) if number < next => _ = used.next(),
                Some(&number) if number == next => {
                    used.next();
                    next += 1;
                }
                Some(_) | None => {
                    taken.push(next);
                    next += 1;
                }
            }
        }
        self.used.extend(&taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn the_lowest_free_numbers_come_first() {
        let mut names = Names::of([0, 2, 5]);
        assert_eq!(names.take(3), [1, 3, 4]);
        assert_eq!(names.take(2), [6, 7]);
    }
}
