//! Chance that is the same for the same seed: SplitMix64, and the distributions that the world needs.

use contract::Millis;

/// A source of chance.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Chance for one purpose: the same for the same key, whatever else was drawn. Systems that are
    /// compared draw an agent's answer to the same offer from the same key.
    pub(crate) fn keyed(seed: u64, key: &[u64]) -> Self {
        let mut mixed = Self(seed);
        for part in key {
            mixed.0 = mixed.next() ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93);
        }
        mixed
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when there is none.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A number from `from` to just below `to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True in so many cases of a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = usize::try_from(self.below(from.len() as u64)).ok()?;
        from.get(at)
    }

    /// From 0 to just below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Half lie below the median; `sigma` is the spread of the logarithm.
    pub(crate) fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let (radius, angle) = ((-2.0 * (1.0 - self.unit()).ln()).sqrt(), std::f64::consts::TAU * self.unit());
        median * (sigma * radius * angle.cos()).exp()
    }
}

/// Seconds as whole milliseconds.
pub(crate) fn millis(seconds: f64) -> Millis {
    Millis(whole(seconds * 1000.0))
}

/// A number without its fraction, and never below 0.
#[expect(clippy::cast_possible_truncation, reason = "what is cut off is meant to be")]
pub(crate) fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}

/// FNV-1a.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_their_means() {
        let mut random = Random::keyed(1, &[]);
        let mean = (0..20_000).map(|_| random.exponential(60.0)).sum::<f64>() / 20_000.0;
        assert!((mean - 60.0).abs() < 2.0, "{mean}");
        let mut drawn: Vec<f64> = (0..20_001).map(|_| random.lognormal(100.0, 0.7)).collect();
        drawn.sort_by(f64::total_cmp);
        assert!((drawn[10_000] - 100.0).abs() < 4.0, "{}", drawn[10_000]);
    }

    #[test]
    fn a_key_draws_the_same_whatever_was_drawn_before() {
        assert_eq!(Random::keyed(3, &[1, 2]).next(), Random::keyed(3, &[1, 2]).next());
        assert_ne!(Random::keyed(3, &[1, 2]).next(), Random::keyed(3, &[2, 1]).next());
    }
}
