//! Chance that comes back: the same seed makes the same frames.

/// xorshift64*
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The seed is not 0.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`, which is at least 1.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == 0
    }

    pub fn byte(&mut self) -> u8 {
        self.roll(256) as u8
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }

    /// The first most of the time.
    pub fn mostly<T: Copy>(&mut self, from: &[T]) -> T {
        if self.roll(3) > 0 { from[0] } else { self.pick(from) }
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    /// A few bytes of the frame changed; sometimes it is cut off, or longer than it says.
    pub fn mutate(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut mutant = frame.to_vec();
        for _ in 0..self.roll(4) {
            let at = self.roll(mutant.len());
            // Small values and single bits find more borders than any value would.
            mutant[at] = match self.roll(3) {
                0 => self.byte(),
                1 => mutant[at] ^ 1 << self.roll(8),
                _ => self.roll(8) as u8,
            };
        }
        match self.roll(8) {
            0 => mutant.truncate(14 + self.roll(mutant.len())),
            1 => mutant.resize(mutant.len() + self.roll(64), 0),
            _ => {}
        }
        mutant
    }
}
