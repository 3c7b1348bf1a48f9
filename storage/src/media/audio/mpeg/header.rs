//! MPEG audio frame headers, and the tag that encoders put into the first frame.
//!
//! Layout of the tag: <http://gabriel.mp3-tech.org/mp3infotag.html>.

/// Kilobits a second by index: MPEG-1 layers I, II, III, then MPEG-2 layer I, and its layers II and III.
const BIT_RATES: [[u32; 15]; 5] = [
    [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// What a frame header says.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Bits 19 and 20: 3 is MPEG-1, 2 MPEG-2, 0 MPEG-2.5.
    version: u8,
    /// 1, 2 or 3.
    pub layer: u8,
    pub sample_rate: u32,
    pub channels: u16,
    /// Length of the frame, header included.
    pub bytes: usize,
    /// Samples a channel.
    pub samples: u64,
}

impl Header {
    /// Reads the first four bytes of a frame; `None` if they are no header, or of a stream without a bit rate.
    pub fn parse(word: &[u8]) -> Option<Header> {
        let &[first, second, third, fourth, ..] = word else { return None };
        if first != 0xff || second & 0xe0 != 0xe0 {
            return None;
        }
        let (version, layer) = (second >> 3 & 3, 4 - (second >> 1 & 3));
        let (rate_index, speed_index) = (usize::from(third >> 4), usize::from(third >> 2 & 3));
        if version == 1 || layer == 4 || rate_index == 0 || rate_index == 15 || speed_index == 3 {
            return None;
        }
        let row = if version == 3 { layer - 1 } else { 3 + u8::from(layer > 1) };
        let bit_rate = BIT_RATES[usize::from(row)][rate_index] * 1000;
        let halvings = match version {
            3 => 0,
            2 => 1,
            _ => 2,
        };
        let sample_rate = [44_100, 48_000, 32_000][speed_index] >> halvings;
        let samples = match layer {
            1 => 384,
            3 if version != 3 => 576,
            _ => 1152,
        };
        let padding = u32::from(third >> 1 & 1);
        let bytes = match layer {
            1 => (12 * bit_rate / sample_rate + padding) * 4,
            _ => samples as u32 / 8 * bit_rate / sample_rate + padding,
        };
        let channels = if fourth >> 6 == 3 { 1 } else { 2 };
        Some(Header { version, layer, sample_rate, channels, bytes: bytes as usize, samples })
    }

    /// Whether both are frames of one stream; stereo may become mono.
    pub fn fits(&self, other: &Header) -> bool {
        (self.version, self.layer, self.sample_rate) == (other.version, other.layer, other.sample_rate)
    }

    fn side_information(&self) -> usize {
        match (self.version == 3, self.channels) {
            (true, 2) => 32,
            (false, 1) => 9,
            _ => 17,
        }
    }
}

/// What the tag in the first frame says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tag {
    /// Frames of sound.
    pub frames: Option<u64>,
    /// Bytes in all frames.
    pub bytes: Option<u64>,
    /// Samples before and after the sound that the encoder added.
    pub added: Option<(u64, u64)>,
}

impl Tag {
    /// Looks for a tag in a whole frame.
    pub fn parse(header: &Header, frame: &[u8]) -> Option<Tag> {
        if header.layer != 3 {
            return None;
        }
        let at = 4 + header.side_information();
        match frame.get(at..at + 4) {
            Some(b"Xing" | b"Info") => Some(Tag::xing(frame.get(at + 4..)?)),
            _ if frame.get(36..40) == Some(b"VBRI") => {
                Some(Tag { bytes: number(frame, 46), frames: number(frame, 50), added: None })
            }
            _ => None,
        }
    }

    fn xing(fields: &[u8]) -> Tag {
        let flags = number(fields, 0).unwrap_or_default();
        let mut at = 4;
        let mut field = |bit: u64, length: usize| {
            let here = (flags & bit != 0).then_some(at);
            at += if here.is_some() { length } else { 0 };
            here
        };
        let (frames, bytes) = (field(1, 4), field(2, 4));
        field(4, 100);
        field(8, 4);
        let encoder = fields.get(at..).unwrap_or_default();
        let is_known = [b"LAME".as_slice(), b"Lavf", b"Lavc", b"L3.9"].iter().any(|name| encoder.starts_with(name));
        let added = encoder.get(21..24).filter(|_| is_known).map(|packed| {
            let (first, middle, last) = (u64::from(packed[0]), u64::from(packed[1]), u64::from(packed[2]));
            (first << 4 | middle >> 4, (middle & 15) << 8 | last)
        });
        let read = |at: Option<usize>| at.and_then(|at| number(fields, at));
        Tag { frames: read(frames), bytes: read(bytes), added }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
}
