//! Histograms of durations that add up: percentiles of any sum of them are exact to the width of a bin.

use std::collections::BTreeMap;

/// Milliseconds of a bin.
pub(crate) const BIN_MS: i64 = 100;

/// How often durations fell into each tenth of a second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Bins that are not empty, in order, each with how often.
    bins: Vec<(i64, u64)>,
    count: u64,
    sum: i64,
}

impl Histogram {
    /// Adds a duration in milliseconds.
    pub fn add(&mut self, ms: i64) {
        let bin = ms.div_euclid(BIN_MS);
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => self.bins[at].1 += 1,
            Err(at) => self.bins.insert(at, (bin, 1)),
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(ms);
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        if self.bins.is_empty() {
            return self.bins.clone_from(&other.bins);
        }
        let mut merged = Vec::with_capacity(self.bins.len() + other.bins.len());
        let mut own = self.bins.iter().copied().peekable();
        for (bin, count) in &other.bins {
            while let Some(before) = own.next_if(|(own, _)| own < bin) {
                merged.push(before);
            }
            let same = own.next_if(|(own, _)| own == bin);
            merged.push((*bin, count + same.map_or(0, |(_, count)| count)));
        }
        merged.extend(own);
        self.bins = merged;
    }

    /// Durations in it.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their average in milliseconds, of the durations themselves.
    pub fn average(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The percentile by nearest rank, the `ceil(p·n)`-th smallest: the lower end of its bin in milliseconds.
    pub fn percentile(&self, percent: u64) -> Option<i64> {
        let rank = (percent * self.count).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.bins.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        found.map(|(bin, _)| bin * BIN_MS)
    }

    /// The lower ends of its first and its last bin.
    pub fn ends(&self) -> Option<(i64, i64)> {
        let ((first, _), (last, _)) = (self.bins.first()?, self.bins.last()?);
        Some((first * BIN_MS, last * BIN_MS))
    }

    /// Wider bins of so many milliseconds, each with how often: those that are not empty.
    pub fn wider(&self, width_ms: i64) -> BTreeMap<i64, u64> {
        let mut wider = BTreeMap::new();
        for (bin, count) in &self.bins {
            *wider.entry((bin * BIN_MS).div_euclid(width_ms) * width_ms).or_default() += count;
        }
        wider
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.bins.capacity() * size_of::<(i64, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut values: Vec<i64> = (0..1000).map(|number| (number * 7919) % 60_000).collect();
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        for (index, value) in values.iter().enumerate() {
            if index % 3 == 0 { one.add(*value) } else { other.add(*value) }
        }
        one.merge(&other);
        values.sort_unstable();
        for percent in [1, 50, 90, 95, 99, 100] {
            let rank = (percent * values.len()).div_ceil(100);
            let exact = values[rank - 1] / BIN_MS * BIN_MS;
            assert_eq!(one.percentile(percent as u64), Some(exact), "p{percent}");
        }
        assert_eq!(Histogram::default().percentile(50), None);
        assert_eq!(one.wider(1000).values().sum::<u64>(), one.count());
    }
}
