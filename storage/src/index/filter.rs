//! A split-block bloom filter: "this key is certainly not here" at the price of one cache line. No I/O.
//!
//! A key sets eight bits, one in each word of the line that its upper half chooses. Lines ascend with keys, so a run,
//! which is written in order, fills its filter from front to back. Keys must be hashes: their bits are used as they are.

/// Sixteen bits a key let about one key in a thousand through that is not there: a look-up asks a dozen runs.
const BITS_PER_ENTRY: u64 = 16;
/// Bytes of a line; half of a cache line, never across two.
pub(super) const LINE_BYTES: usize = 32;
const LINE_BITS: u64 = LINE_BYTES as u64 * 8;

/// The odd multipliers of the Parquet format's filter.
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Line([u32; 8]);

/// The filter of one run.
pub(super) struct Filter {
    lines: Vec<Line>,
}

/// One bit for each word of a line.
fn mask(key: u128) -> Line {
    let low = key as u32;
    Line(SALTS.map(|salt| 1 << (low.wrapping_mul(salt) >> 27)))
}

impl Filter {
    /// Lines that a filter for so many entries has.
    pub fn lines_for(entries: u64) -> u64 {
        entries.saturating_mul(BITS_PER_ENTRY).div_ceil(LINE_BITS).max(1)
    }

    /// An empty filter for up to so many entries.
    pub fn for_entries(entries: u64) -> Filter {
        let lines = usize::try_from(Self::lines_for(entries)).unwrap_or(usize::MAX);
        Filter { lines: vec![Line::default(); lines] }
    }

    /// A filter of so many lines that [`Filter::load`] is to fill.
    pub fn to_load(lines: usize) -> Filter {
        Filter { lines: Vec::with_capacity(lines) }
    }

    /// Takes the next lines, as [`Filter::store`] gave them.
    pub fn load(&mut self, bytes: &[u8]) {
        for line in bytes.as_chunks::<LINE_BYTES>().0 {
            let mut words = [0; 8];
            for (word, bytes) in words.iter_mut().zip(line.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            self.lines.push(Line(words));
        }
    }

    /// Gives all lines as bytes, in pieces of some 64 KiB.
    pub fn store<E>(&self, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut bytes = Vec::with_capacity(64 << 10);
        for lines in self.lines.chunks((64 << 10) / LINE_BYTES) {
            bytes.clear();
            bytes.extend(lines.iter().flat_map(|line| line.0).flat_map(u32::to_le_bytes));
            write(&bytes)?;
        }
        Ok(())
    }

    fn line_of(&self, key: u128) -> usize {
        let upper = key >> 64;
        ((upper * self.lines.len() as u128) >> 64) as usize
    }

    pub fn insert(&mut self, key: u128) {
        let at = self.line_of(key);
        for (word, bit) in self.lines[at].0.iter_mut().zip(mask(key).0) {
            *word |= bit;
        }
    }

    /// Whether the key may have been inserted; `false` is certain.
    pub fn may_contain(&self, key: u128) -> bool {
        let line = &self.lines[self.line_of(key)].0;
        // All eight words without a branch between them: the compiler makes vector instructions of it.
        let missing = line.iter().zip(mask(key).0).fold(0, |missing, (word, bit)| missing | (bit & !word));
        missing == 0
    }

    /// A word of the key's line: asking for it brings the line near.
    pub fn fetch(&self, key: u128) -> u32 {
        self.lines[self.line_of(key)].0[0]
    }

    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    pub fn memory_bytes(&self) -> u64 {
        (self.lines.capacity() * LINE_BYTES) as u64
    }
}
