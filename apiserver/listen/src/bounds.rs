//! How many connections a listener keeps.

use crate::descriptors;

/// What a process may have if the system does not say.
const USUAL: u64 = 1024;

/// Most connections of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub total: usize,
    /// From one source other than this machine.
    pub per_source: usize,
}

impl Bounds {
    /// A share of the process's descriptors, one in `parts`, of which a source may have a quarter.
    pub fn share(parts: u64) -> Self {
        let limit = descriptors::current().map_or(USUAL, |limit| limit.soft);
        Self::of(limit, parts)
    }

    /// A share of `limit` descriptors.
    fn of(limit: u64, parts: u64) -> Self {
        // No listener needs more; what a connection holds beside its descriptor is not free.
        let total = (limit / parts.max(1)).clamp(16, 1 << 16);
        let total = usize::try_from(total).unwrap_or(1 << 16);
        Self {
            total,
            per_source: total / 4,
        }
    }

    /// At most this many from one source.
    #[must_use]
    pub fn each(self, most: usize) -> Self {
        Self {
            per_source: self.per_source.min(most).max(1),
            ..self
        }
    }

    /// At most this many in all.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        let total = self.total.min(most).max(1);
        Self {
            total,
            per_source: self.per_source.min(total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_listeners_together_leave_descriptors_for_the_rest() {
        for limit in [1024, 4096, 1 << 16, 1 << 20] {
            let of = |parts| u64::try_from(Bounds::of(limit, parts).total).unwrap();
            // The API's, the relay's (two descriptors each, and one of the API's), the node's, those of names and images.
            let all = of(2) + 2 * of(8) + of(16) + of(32) + of(64);
            assert!(all <= limit * 9 / 10, "{limit}: {all}");
        }
        let small = Bounds::of(10, 2);
        assert_eq!((small.total, small.per_source), (16, 4));
        assert_eq!(small.each(2).per_source, 2);
        assert_eq!(small.at_most(3).per_source, 3);
    }
}
