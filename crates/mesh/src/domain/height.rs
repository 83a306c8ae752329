//! Load to price: a height with hysteresis, so that quotes hold for a while.

use std::time::Duration;

/// How load is smoothed.
const TAU: Duration = Duration::from_secs(5);
/// Between two steps up, and two steps down.
const UP_MS: i64 = 2_000;
const DOWN_MS: i64 = 10_000;
/// How far the load has to be past a height.
const BEYOND: f64 = 0.6;

/// The present height and the load behind it.
#[derive(Clone, Debug)]
pub(crate) struct Height {
    least: u8,
    most: u8,
    now: u8,
    cpu: f64,
    mem: f64,
    sampled_ms: Option<i64>,
    stepped_ms: Option<i64>,
}

impl Height {
    /// Idle.
    pub(crate) fn new(least: u8, most: u8) -> Self {
        let (cpu, mem) = (0.0, 0.0);
        Self { least, most, now: least, cpu, mem, sampled_ms: None, stepped_ms: None }
    }

    /// The height in force.
    #[cfg(test)]
    fn now(&self) -> u8 {
        self.now
    }

    /// Smoothed use of processors and memory, 0 to 1 each.
    pub(crate) fn load(&self) -> (f64, f64) {
        (self.cpu, self.mem)
    }

    /// Takes a sample; the height when it changed. `others` is the load of the busiest replica
    /// besides this one: a node has one price.
    pub(crate) fn sample(&mut self, cpu: f64, mem: f64, others: f64, now_ms: i64) -> Option<u8> {
        let share = match self.sampled_ms {
            None => 1.0,
            Some(before) => {
                #[expect(clippy::cast_precision_loss, reason = "samples are seconds apart")]
                let passed_s = (now_ms - before).max(0) as f64 / 1000.0;
                1.0 - (-passed_s / TAU.as_secs_f64()).exp()
            }
        };
        self.sampled_ms = Some(now_ms);
        self.cpu += (cpu.clamp(0.0, 1.0) - self.cpu) * share;
        self.mem += (mem.clamp(0.0, 1.0) - self.mem) * share;
        // 16 at rest and 26 when full, on the public network.
        let span = f64::from(self.most.saturating_sub(self.least));
        let wanted = f64::from(self.least) + span * self.cpu.max(self.mem).max(others);
        let waited = self.stepped_ms.map_or(i64::MAX, |stepped| now_ms - stepped);
        let now = f64::from(self.now);
        if wanted > now + BEYOND && waited >= UP_MS && self.now < self.most {
            self.now += 1;
        } else if wanted < now - BEYOND && waited >= DOWN_MS && self.now > self.least {
            self.now -= 1;
        } else {
            return None;
        }
        self.stepped_ms = Some(now_ms);
        Some(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        height: &mut Height,
        from_s: i64,
        seconds: i64,
        load: impl Fn(i64) -> f64,
    ) -> Vec<(i64, u8)> {
        let sample = |at: i64| height.sample(load(at), 0.0, 0.0, at * 1000).map(|now| (at, now));
        (from_s..from_s + seconds).filter_map(sample).collect()
    }

    #[test]
    fn a_rush_raises_the_price_within_twenty_seconds_and_peace_lowers_it_slowly() {
        let mut height = Height::new(16, 26);
        run(&mut height, 0, 60, |_| 0.1);
        let up = run(&mut height, 60, 20, |_| 0.8);
        assert_eq!(height.now(), 24);
        assert!(up.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 2), "{up:?}");
        let down = run(&mut height, 80, 200, |_| 0.1);
        assert_eq!(height.now(), 17);
        assert!(down.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 10), "{down:?}");
    }

    #[test]
    fn noise_moves_nothing() {
        let mut height = Height::new(16, 26);
        run(&mut height, 0, 60, |_| 0.5);
        let steps = run(&mut height, 60, 60, |at| if at % 2 == 0 { 0.45 } else { 0.55 });
        assert_eq!((steps, height.now()), (vec![], 21));
    }
}
