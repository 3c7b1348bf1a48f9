//! Latencies in buckets that are at most 1/128 wide: constant memory, any number of values, percentiles to 0.8 %.

/// Buckets of each power of two.
const FINE: u32 = 7;

/// Counts of microseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    highest: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; ((64 - FINE as usize) + 1) << FINE], total: 0, highest: 0 }
    }
}

fn bucket(value: u64) -> usize {
    let shift = (64 - value.leading_zeros()).saturating_sub(FINE + 1);
    ((shift as usize) << FINE) + (value >> shift) as usize
}

/// The highest value of a bucket.
fn top(bucket: usize) -> u64 {
    let row = 1 << FINE;
    if bucket < 2 * row {
        return bucket as u64;
    }
    let shift = (bucket / row - 1) as u32;
    let leading = (bucket - ((shift as usize) << FINE)) as u64;
    (leading << shift) | ((1 << shift) - 1)
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.highest = self.highest.max(value);
    }

    /// Takes up another's counts.
    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
        self.highest = self.highest.max(other.highest);
    }

    /// How many values.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The highest value.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// The value that this share of all (0 to 1) does not exceed; 0 without values.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return top(bucket).min(self.highest);
            }
        }
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_meet_and_hold_their_values() {
        for value in (0..100_000).chain([u64::MAX / 3, u64::MAX - 1, u64::MAX]) {
            let top = top(bucket(value));
            assert!(top >= value && top - value <= value / 128, "{value} {top}");
            assert!(top == u64::MAX || bucket(top + 1) == bucket(value) + 1, "{value}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|value| histogram.record(value));
        for (share, value) in [(0.5, 5_000_u64), (0.99, 9_900), (0.999, 9_990), (1.0, 10_000)] {
            let found = histogram.quantile(share);
            assert!(found >= value && found - value <= value / 100, "{share}: {found}");
        }
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!((twice.total(), twice.quantile(0.5), twice.highest()), (20_000, histogram.quantile(0.5), 10_000));
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
