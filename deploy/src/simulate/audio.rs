//! Recorded conversations: two voices of two tones each, taking turns, as WAV files of telephone quality.
//!
//! The bytes are a function of the seed and the number of the recording alone, and computed in whole numbers, so that
//! they are the same on every machine. They are made only when they are needed: a run's audio does not fit in memory.

use bytes::Bytes;
use rand::Rng;
use sha2::{Digest, Sha256};
use trunklog_storage::event::hex;

use super::model::{Random, random};

/// Samples per second and channel.
const RATE: u32 = 8_000;
/// Streams of chance that no call has: they are counted from the end, below that of the schedule.
const LAST_STREAM: u64 = u64::MAX - 1;
/// Parts of a call are numbered below this.
pub const PARTS: u64 = 4;

/// How samples are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// 16-bit linear PCM.
    Linear,
    /// G.711 µ-law.
    MuLaw,
}

impl Coding {
    fn bytes(self) -> u32 {
        match self {
            Coding::Linear => 2,
            Coding::MuLaw => 1,
        }
    }

    /// WAVE's number for it.
    fn tag(self) -> u16 {
        match self {
            Coding::Linear => 1,
            Coding::MuLaw => 7,
        }
    }
}

/// One recording, before it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audio {
    /// The run's seed.
    pub seed: u64,
    /// Number of the call.
    pub call: u64,
    /// Which of its recordings, below [`PARTS`].
    pub part: u64,
    /// How samples are written.
    pub coding: Coding,
    /// 1 for both voices in one, 2 for one voice each.
    pub channels: u16,
    /// Length.
    pub seconds: u32,
}

impl Audio {
    /// Length in milliseconds.
    pub fn duration_ms(&self) -> i64 {
        i64::from(self.seconds) * 1000
    }

    /// The whole file.
    pub fn file(&self) -> Bytes {
        let frames = self.seconds * RATE;
        let data = frames * u32::from(self.channels) * self.coding.bytes();
        let mut file = self.header(frames, data);
        file.reserve_exact(data as usize);
        let number = self.call.wrapping_mul(PARTS).wrapping_add(self.part);
        let mut conversation = Conversation::new(random(self.seed, LAST_STREAM.wrapping_sub(number)));
        for _ in 0..frames {
            let [first, second] = conversation.sample();
            if self.channels == 2 {
                self.write(first, &mut file);
                self.write(second, &mut file);
            } else {
                self.write(first.saturating_add(second), &mut file);
            }
        }
        file.into()
    }

    /// SHA-256 of the file in hex, and its size in bytes.
    pub fn identity(&self) -> (String, usize) {
        let file = self.file();
        (hex(&Sha256::digest(&file)), file.len())
    }

    /// All that comes before the samples.
    fn header(&self, frames: u32, data: u32) -> Vec<u8> {
        let block = u32::from(self.channels) * self.coding.bytes();
        let mut format = [self.coding.tag().to_le_bytes(), self.channels.to_le_bytes()].concat();
        let bits = self.coding.bytes() * 8;
        format.extend([RATE, RATE * block, block | (bits << 16)].map(u32::to_le_bytes).concat());
        let mut chunks = b"WAVE".to_vec();
        if self.coding == Coding::Linear {
            chunk(b"fmt ", &format, &mut chunks);
        } else {
            // Any other format ends with the size of what follows it, here nothing, and counts its frames.
            format.extend([0_u8, 0]);
            chunk(b"fmt ", &format, &mut chunks);
            chunk(b"fact", &frames.to_le_bytes(), &mut chunks);
        }
        chunks.extend_from_slice(b"data");
        chunks.extend_from_slice(&data.to_le_bytes());
        let length = chunks.len() as u32 + data;
        [&b"RIFF"[..], &length.to_le_bytes()[..], &chunks[..]].concat()
    }

    fn write(&self, sample: i16, file: &mut Vec<u8>) {
        match self.coding {
            Coding::Linear => file.extend_from_slice(&sample.to_le_bytes()),
            Coding::MuLaw => file.push(mu_law(sample)),
        }
    }
}

fn chunk(name: &[u8; 4], content: &[u8], chunks: &mut Vec<u8>) {
    chunks.extend_from_slice(name);
    chunks.extend_from_slice(&(content.len() as u32).to_le_bytes());
    chunks.extend_from_slice(content);
}

/// G.711: sign, exponent and mantissa, all inverted.
fn mu_law(sample: i16) -> u8 {
    const BIAS: i32 = 132;
    const LOUDEST: i32 = 32_635;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(LOUDEST) + BIAS;
    // The bias makes it at least 2^7, and the limit less than 2^15.
    let exponent = 24 - magnitude.leading_zeros();
    let mantissa = ((magnitude >> (exponent + 3)) & 0x0f) as u32;
    !((sign | (exponent << 4) | mantissa) as u8)
}

/// Turns a full circle in 2^32 steps.
struct Oscillator {
    phase: u32,
    step: u32,
}

impl Oscillator {
    /// At so many thousandths of a hertz, beginning anywhere.
    fn new(random: &mut Random, millihertz: std::ops::Range<u64>) -> Oscillator {
        let millihertz = random.random_range(millihertz);
        let step = (millihertz << 32) / (u64::from(RATE) * 1000);
        Oscillator { phase: random.random(), step: step as u32 }
    }

    /// Nearly a sine, from -32,768 to 32,768: two parabolas.
    fn sample(&mut self) -> i32 {
        self.phase = self.phase.wrapping_add(self.step);
        let angle = (self.phase as i32) >> 16;
        (angle * (32_768 - angle.abs())) >> 13
    }
}

/// A pitch and a formant, in syllables.
struct Voice {
    low: Oscillator,
    high: Oscillator,
    syllables: Oscillator,
}

impl Voice {
    fn new(random: &mut Random) -> Voice {
        Voice {
            low: Oscillator::new(random, 110_000..260_000),
            high: Oscillator::new(random, 600_000..1_900_000),
            syllables: Oscillator::new(random, 1_500..2_500),
        }
    }

    fn sample(&mut self) -> i32 {
        let tones = (self.low.sample() * 3 + self.high.sample()) / 4;
        let loudness = self.syllables.sample().abs();
        // Half as loud as can be, so that both voices and the noise fit together.
        (tones / 2 * (loudness / 2)) >> 14
    }
}

/// Two who take turns, and the noise of the line.
struct Conversation {
    voices: [Voice; 2],
    turns: Oscillator,
    random: Random,
}

impl Conversation {
    fn new(mut random: Random) -> Conversation {
        let voices = [Voice::new(&mut random), Voice::new(&mut random)];
        Conversation { voices, turns: Oscillator::new(&mut random, 200..600), random }
    }

    /// The next sample of each.
    fn sample(&mut self) -> [i16; 2] {
        let first_speaks = self.turns.sample() >= 0;
        let noise = i32::from(self.random.random::<i8>());
        let [first, second] = &mut self.voices;
        let (first, second) = (first.sample(), second.sample());
        let (first, second) = if first_speaks { (first, second / 64) } else { (first / 64, second) };
        [first + noise, second - noise].map(|sample| sample.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Coding, u16); 4] = [(Coding::Linear, 1), (Coding::Linear, 2), (Coding::MuLaw, 1), (Coding::MuLaw, 2)];

    fn audio(call: u64, (coding, channels): (Coding, u16)) -> Audio {
        Audio { seed: 7, call, part: 0, coding, channels, seconds: 2 }
    }

    #[test]
    fn files_say_what_they_hold() {
        for kind in ALL {
            let (audio, file) = (audio(3, kind), audio(3, kind).file());
            let number = |at: usize| u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
            let block = u32::from(kind.1) * kind.0.bytes();
            let data = 16_000 * block;
            assert_eq!((&file[..4], &file[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
            assert_eq!(number(4) as usize, file.len() - 8);
            assert_eq!(number(20), u32::from(kind.0.tag()) | (u32::from(kind.1) << 16));
            assert_eq!((number(24), number(28)), (8_000, 8_000 * block));
            assert_eq!(number(32), block | ((8 * kind.0.bytes()) << 16));
            let begin = file.len() - data as usize;
            assert_eq!((&file[begin - 8..begin - 4], number(begin - 4)), (&b"data"[..], data));
            assert_eq!(begin, if kind.0 == Coding::Linear { 44 } else { 58 });
            assert_eq!(audio.duration_ms(), 2_000);
        }
    }

    #[test]
    fn each_recording_has_its_own_bytes_and_always_the_same() {
        let mut seen = std::collections::HashSet::new();
        for call in 0..50 {
            for kind in ALL {
                assert!(seen.insert(audio(call, kind).identity()));
                assert_eq!(audio(call, kind).file(), audio(call, kind).file());
            }
            assert!(seen.insert(Audio { part: 1, ..audio(call, ALL[0]) }.identity()));
            assert!(seen.insert(Audio { seed: 8, ..audio(call, ALL[0]) }.identity()));
        }
    }

    #[test]
    fn voices_are_loud_but_not_clipped() {
        let samples: Vec<i16> = {
            let mut conversation = Conversation::new(random(1, 1));
            (0..80_000).flat_map(|_| conversation.sample()).collect()
        };
        let loudest = samples.iter().map(|sample| sample.unsigned_abs()).max();
        assert!(loudest.is_some_and(|loudest| (8_000..32_000).contains(&loudest)), "{loudest:?}");
    }

    #[test]
    fn mu_law_is_that_of_the_standard() {
        for (sample, code) in [(0, 0xff), (-1, 0x7f), (8, 0xfe), (1_000, 0xce), (-1_000, 0x4e), (i16::MAX, 0x80)] {
            assert_eq!(mu_law(sample), code, "{sample}");
        }
        assert_eq!(mu_law(i16::MIN), 0x00);
    }
}
