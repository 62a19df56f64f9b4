//! How well we are ourselves.

/// Past this, being more careful helps nobody: everything takes nine times as long.
const UNWELL_MAX: u32 = 8;

/// Counts signs that the trouble is ours: steps that came late, helpers that do not answer, others who do not hear us.
/// The worse, the longer we wait before we say anything about others.
#[derive(Debug, Default)]
pub(crate) struct Health {
    unwell: u32,
}

impl Health {
    pub(crate) fn worsen(&mut self, by: u32) {
        self.unwell = (self.unwell + by).min(UNWELL_MAX);
    }

    pub(crate) fn improve(&mut self) {
        self.unwell = self.unwell.saturating_sub(1);
    }

    pub(crate) fn unwell(&self) -> u32 {
        self.unwell
    }

    /// By what periods and patience are stretched.
    pub(crate) fn factor(&self) -> u32 {
        1 + self.unwell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_recovers() {
        let mut health = Health::default();
        health.worsen(100);
        assert_eq!(health.factor(), 1 + UNWELL_MAX);
        for _ in 0..100 {
            health.improve();
        }
        assert_eq!(health.factor(), 1);
    }
}
