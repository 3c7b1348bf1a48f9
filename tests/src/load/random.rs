//! Chance by seed and stream: SplitMix64, so that each call has a stream of its own and every machine draws the same.

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

/// Spreads every bit over all others (the finisher of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Random {
    /// The stream of this number under this seed.
    pub fn of(seed: u64, stream: u64) -> Random {
        Random { state: mix(mix(seed.wrapping_add(STEP)) ^ mix(stream.wrapping_mul(STEP).wrapping_add(1))) }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// From 0 (included) to 1 (excluded).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A whole number from 0 to, not including, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Exponentially distributed with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.uniform()).ln()
    }

    /// Log-normal with this median and sigma.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
        median * (sigma * normal).exp()
    }

    /// Uniform in the logarithm between two bounds.
    pub fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
        (low.ln() + self.uniform() * (high.ln() - low.ln())).exp()
    }

    /// A rank from 0 to, not including, `count`, by Zipf's law with exponent `s`: the inverse of its continuous form.
    pub fn zipf(&mut self, count: u64, s: f64) -> u64 {
        let (uniform, size) = (self.uniform(), count as f64);
        let rank = if s == 1.0 {
            size.powf(uniform)
        } else {
            ((size.powf(1.0 - s) - 1.0) * uniform + 1.0).powf(1.0 / (1.0 - s))
        };
        (rank as u64).clamp(1, count) - 1
    }

    /// One of these, by weight.
    pub fn weighted<T: Copy, const N: usize>(&mut self, choices: &[(T, f64); N]) -> T {
        let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
        let mut left = self.uniform() * total;
        for (choice, weight) in choices {
            left -= weight;
            if left < 0.0 {
                return *choice;
            }
        }
        // Only rounding leads here.
        choices[N - 1].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let drawn = |seed, stream| {
            let mut random = Random::of(seed, stream);
            [random.bits(), random.bits()]
        };
        assert_eq!(drawn(1, 7), drawn(1, 7));
        assert_ne!(drawn(1, 7), drawn(1, 8));
        assert_ne!(drawn(1, 7), drawn(2, 7));
    }

    #[test]
    fn distributions_have_their_means() {
        let mut random = Random::of(1, 1);
        let count = 200_000;
        let mean = |draw: &mut dyn FnMut() -> f64| (0..count).map(|_| draw()).sum::<f64>() / f64::from(count);
        assert!((mean(&mut || random.exponential(20.0)) - 20.0).abs() < 0.3);
        let mut random = Random::of(1, 2);
        // Of a log-normal distribution it is median · e^(σ²/2).
        assert!((mean(&mut || random.log_normal(8.0, 0.6)) - 8.0 * 0.18_f64.exp()).abs() < 0.1);
        let mut random = Random::of(1, 3);
        let first = (0..count).filter(|_| random.zipf(1000, 1.0) == 0).count() as f64 / f64::from(count);
        assert!((first - 2.0_f64.ln() / 1000.0_f64.ln()).abs() < 0.01, "{first}");
    }
}
