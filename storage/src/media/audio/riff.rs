//! The structure of a RIFF WAVE file, also of RF64 and BW64, and of files whose writer never finished the header.

use std::io;
use std::ops::Range;

use super::AudioError;
use super::mpeg::{self, Mpeg};
use super::source::{Source, Window};

/// Chunks that are looked at before `data` is given up.
const MAX_CHUNKS: usize = 1000;

const PCM: u16 = 0x0001;
const ADPCM_MS: u16 = 0x0002;
const FLOAT: u16 = 0x0003;
const A_LAW: u16 = 0x0006;
const MU_LAW: u16 = 0x0007;
const ADPCM_IMA: u16 = 0x0011;
const GSM: u16 = 0x0031;
const MP3: u16 = 0x0055;
const EXTENSIBLE: u16 = 0xfffe;

/// What the header says, and where the audio is.
#[derive(Default)]
pub struct Wav {
    /// Format tag; of an extensible format that of its sub-format.
    tag: u16,
    pub channels: u16,
    pub sample_rate: u32,
    bytes_per_second: u32,
    block_bytes: u16,
    bits: u16,
    /// What follows the common fields, its length not included.
    extra: Vec<u8>,
    /// Samples a channel, where the writer said so.
    fact: Option<u32>,
    /// The audio that is there.
    pub data: Range<u64>,
    /// MP3 frames inside.
    pub stream: Option<Mpeg>,
    /// Why the file is not whole.
    pub damage: Option<String>,
}

/// Whether a file that begins so is a WAVE file.
pub fn is_wave(head: &[u8]) -> bool {
    matches!(head.get(..4), Some(b"RIFF" | b"RF64" | b"BW64")) && head.get(8..12) == Some(b"WAVE")
}

/// Walks over the chunks up to the audio.
pub fn read(source: &mut dyn Source, bytes: u64) -> io::Result<Wav> {
    let mut wave = Wav::default();
    let mut window = Window::new(source, 0..bytes);
    window.skip(12);
    let mut long_data = None;
    for _ in 0..MAX_CHUNKS {
        let head = window.peek(8)?;
        let (Some(id), Some(size)) = (head.get(..4), number(head, 4)) else { break };
        let id = [id[0], id[1], id[2], id[3]];
        window.skip(8);
        match &id {
            b"data" => {
                wave.place_data(&mut window, size, long_data)?;
                if wave.tag == MP3 && wave.is_described() {
                    wave.stream = mpeg::read(source, wave.data.clone())?;
                }
                return Ok(wave);
            }
            b"fmt " => wave.describe(window.peek((size as usize).min(64))?, size),
            b"fact" => wave.fact = number(window.peek(4)?, 0),
            b"ds64" => {
                let sizes = window.peek(16)?;
                long_data =
                    number(sizes, 12).zip(number(sizes, 8)).map(|(high, low)| u64::from(high) << 32 | u64::from(low));
            }
            _ => {}
        }
        window.skip(u64::from(size) + u64::from(size % 2));
    }
    wave.damage = Some("the WAV file ends before its audio".to_owned());
    Ok(wave)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

impl Wav {
    fn describe(&mut self, format: &[u8], size: u32) {
        let format = &format[..format.len().min(size as usize)];
        self.tag = short(format, 0);
        self.channels = short(format, 2);
        self.sample_rate = number(format, 4).unwrap_or_default();
        self.bytes_per_second = number(format, 8).unwrap_or_default();
        self.block_bytes = short(format, 12);
        self.bits = short(format, 14);
        self.extra = format.get(18..).unwrap_or_default().to_vec();
        if self.tag == EXTENSIBLE {
            // The extension holds the valid bits, the loudspeakers, and a GUID that begins with the tag.
            self.tag = short(&self.extra, 6);
        }
    }

    fn is_described(&self) -> bool {
        self.channels > 0 && self.sample_rate > 0 && self.block_bytes > 0
    }

    /// Says where the audio is, and whether it is all there.
    fn place_data(&mut self, window: &mut Window<'_>, size: u32, long: Option<u64>) -> io::Result<()> {
        let (start, left) = (window.position(), window.left());
        let announced = match (size, long) {
            (u32::MAX, Some(long)) => Some(long),
            // A writer to a pipe cannot know: all that follows is audio.
            (u32::MAX, None) => None,
            (0, _) if left > 0 && !is_chunk(window.peek(8)?, left) => {
                self.damage = Some("the WAV header was never finished".to_owned());
                None
            }
            (size, _) => Some(u64::from(size)),
        };
        if let Some(announced) = announced.filter(|announced| *announced > left) {
            self.damage = Some(format!("truncated: {left} of {announced} bytes of audio"));
        }
        if !self.is_described() {
            self.damage = Some("the WAV file does not say what its audio is".to_owned());
        }
        self.data = start..start + announced.unwrap_or(left).min(left);
        Ok(())
    }

    /// Bytes of audio.
    pub fn data_bytes(&self) -> u64 {
        self.data.end - self.data.start
    }

    /// The codec, named as ffmpeg does; `None` if the header does not describe the audio.
    pub fn codec(&self) -> Option<String> {
        let name = match (self.tag, self.bits) {
            _ if !self.is_described() => return None,
            (PCM, 0..=8) => "pcm_u8",
            (PCM, 9..=16) => "pcm_s16le",
            (PCM, 17..=24) => "pcm_s24le",
            (PCM, _) => "pcm_s32le",
            (FLOAT, 64) => "pcm_f64le",
            (FLOAT, _) => "pcm_f32le",
            (A_LAW, _) => "pcm_alaw",
            (MU_LAW, _) => "pcm_mulaw",
            (ADPCM_MS, _) => "adpcm_ms",
            (ADPCM_IMA, _) => "adpcm_ima_wav",
            (GSM, _) => "gsm_ms",
            (MP3, _) => "mp3",
            (0x0014 | 0x0040 | 0x0045 | 0x0064, _) => "adpcm_g726",
            (0x0022, _) => "truespeech",
            (0x0042, _) => "g723_1",
            (0x0050, _) => "mp2",
            (0x0065 | 0x028f, _) => "adpcm_g722",
            (0x0083 | 0x0133, _) => "g729",
            (0x00ff, _) => "aac",
            (0x0160, _) => "wmav1",
            (0x0161, _) => "wmav2",
            (tag, _) => return Some(format!("wav_{tag:#06x}")),
        };
        Some(name.to_owned())
    }

    /// Samples a channel that are there, from the size of the audio; `None` if that does not tell.
    pub fn samples(&self) -> Option<u64> {
        if !self.is_described() {
            return None;
        }
        if let Some(stream) = &self.stream {
            return Some(stream.audible().keep);
        }
        let blocks = self.data_bytes() / u64::from(self.block_bytes);
        let channels = u64::from(self.channels);
        let in_block = match self.tag {
            PCM | FLOAT | A_LAW | MU_LAW => return Some(blocks),
            ADPCM_MS => u64::from(self.block_bytes).checked_sub(7 * channels)? * 2 / channels + 2,
            ADPCM_IMA => u64::from(self.block_bytes).checked_sub(4 * channels)? * 2 / channels + 1,
            GSM => 320,
            _ if self.bytes_per_second == 0 => return self.fact.map(u64::from),
            _ => {
                let whole = self.data_bytes() * u64::from(self.sample_rate) / u64::from(self.bytes_per_second);
                return Some(self.fact.map_or(whole, |fact| u64::from(fact).min(whole)));
            }
        };
        let coded = blocks * in_block;
        // The last block is padded; the writer said how many of its samples count.
        Some(
            self.fact
                .filter(|fact| (coded.saturating_sub(in_block)..coded).contains(&u64::from(*fact)))
                .map_or(coded, u64::from),
        )
    }

    /// A header in the one form that symphonia takes, for the audio that is there.
    ///
    /// # Errors
    /// [`AudioError::NotAudio`] for a codec that is not decoded.
    pub fn plain_header(&self) -> Result<Vec<u8>, AudioError> {
        let extra: &[u8] = match self.tag {
            _ if !self.is_described() => &[],
            PCM | FLOAT | A_LAW | MU_LAW => &[],
            ADPCM_IMA => &[0, 0],
            ADPCM_MS if self.extra.len() >= 32 => &self.extra[..32],
            _ => &[],
        };
        let is_decoded = matches!(self.tag, PCM | FLOAT | A_LAW | MU_LAW | ADPCM_IMA | ADPCM_MS);
        if !is_decoded || !self.is_described() || (self.tag == ADPCM_MS && extra.is_empty()) {
            let what = self.codec().unwrap_or_else(|| "an unfinished WAV header".to_owned());
            return Err(AudioError::NotAudio(what));
        }
        let is_extended = !matches!(self.tag, PCM | FLOAT);
        let format_bytes = if is_extended { 18 + extra.len() as u32 } else { 16 };
        let data = u32::try_from(self.data_bytes()).unwrap_or(u32::MAX).min(u32::MAX - 4096);
        let mut header = Vec::with_capacity(80);
        header.extend_from_slice(b"RIFF");
        header.extend_from_slice(&(4 + 8 + format_bytes + 8 + data).to_le_bytes());
        header.extend_from_slice(b"WAVEfmt ");
        header.extend_from_slice(&format_bytes.to_le_bytes());
        header.extend_from_slice(&self.tag.to_le_bytes());
        header.extend_from_slice(&self.channels.to_le_bytes());
        header.extend_from_slice(&self.sample_rate.to_le_bytes());
        header.extend_from_slice(&self.bytes_per_second.to_le_bytes());
        header.extend_from_slice(&self.block_bytes.to_le_bytes());
        header.extend_from_slice(&self.bits.to_le_bytes());
        if is_extended {
            header.extend_from_slice(&(extra.len() as u16).to_le_bytes());
            header.extend_from_slice(extra);
        }
        header.extend_from_slice(b"data");
        header.extend_from_slice(&data.to_le_bytes());
        Ok(header)
    }
}

/// Whether these bytes can be the next chunk of the file.
fn is_chunk(head: &[u8], left: u64) -> bool {
    let is_name = head.get(..4).is_some_and(|id| id.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b' '));
    is_name && number(head, 4).is_some_and(|size| u64::from(size) + 8 <= left)
}
