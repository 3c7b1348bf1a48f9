//! A waveform: the least and the greatest sample of each pixel, in the form of BBC's audiowaveform, version 2, 8 bit.
//!
//! The form: <https://github.com/bbc/audiowaveform/blob/master/doc/DataFormat.md>. As there, a sample of 16 bits is
//! divided by 256 towards zero, and a last pixel of fewer samples counts.

use std::fmt::Write;

use super::AudioError;
use super::decode::Decoding;
use super::source::Source;

const VERSION: u32 = 2;
const EIGHT_BIT: u32 = 1;
const HEADER_BYTES: usize = 24;

/// The waveform of one recording at one zoom level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peaks {
    channels: u32,
    sample_rate: u32,
    samples_per_pixel: u32,
    /// Pixel by pixel, channel by channel: least, greatest.
    data: Vec<i8>,
}

impl Peaks {
    /// Decodes the audio: mono and stereo as they are, more channels mixed to one. At 0 samples a pixel, as at 1.
    ///
    /// # Errors
    /// [`AudioError::NotAudio`] when no sample can be decoded, [`AudioError::Io`] when the bytes cannot be read. Of
    /// damaged audio, what can be decoded is shown.
    pub fn compute(source: impl Source, samples_per_pixel: u32) -> Result<Peaks, AudioError> {
        let mut decoding = Decoding::open(source)?;
        let decoded = usize::from(decoding.channels());
        let channels = if decoded == 2 { 2 } else { 1 };
        let mut drawing = Drawing::new(channels, samples_per_pixel.max(1));
        while let Some(samples) = decoding.next()? {
            for frame in samples.chunks_exact(decoded) {
                match decoded {
                    1 | 2 => drawing.add(frame),
                    _ => drawing.add(&[mixed(frame)]),
                }
            }
        }
        Ok(Peaks {
            channels: channels as u32,
            sample_rate: decoding.sample_rate(),
            samples_per_pixel: samples_per_pixel.max(1),
            data: drawing.finish(),
        })
    }

    /// Channels: 1 or 2.
    pub fn channels(&self) -> u32 {
        self.channels
    }

    /// Samples a second and channel of the audio.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Samples a channel that one pixel stands for; of the last it may be fewer.
    pub fn samples_per_pixel(&self) -> u32 {
        self.samples_per_pixel
    }

    /// Pixels.
    pub fn length(&self) -> usize {
        self.data.len() / (2 * self.channels as usize)
    }

    /// The same waveform at that zoom level; `None` unless it is a multiple of this one.
    pub fn zoom(&self, samples_per_pixel: u32) -> Option<Peaks> {
        if samples_per_pixel == 0 || !samples_per_pixel.is_multiple_of(self.samples_per_pixel) {
            return None;
        }
        let pixel = 2 * self.channels as usize;
        let together = (samples_per_pixel / self.samples_per_pixel) as usize;
        let mut data = Vec::with_capacity(self.data.len() / together + pixel);
        for group in self.data.chunks(pixel.saturating_mul(together)) {
            for at in (0..pixel).step_by(2) {
                let of = |offset: usize| group.iter().skip(at + offset).step_by(pixel).copied();
                data.extend([of(0).min().unwrap_or_default(), of(1).max().unwrap_or_default()]);
            }
        }
        Some(Peaks { samples_per_pixel, data, ..*self })
    }

    /// The JSON form.
    pub fn to_json(&self) -> String {
        let mut json = String::with_capacity(120 + self.data.len() * 4);
        let (channels, rate, length) = (self.channels, self.sample_rate, self.length());
        let zoom = self.samples_per_pixel;
        let _ = write!(
            json,
            r#"{{"version":{VERSION},"channels":{channels},"sample_rate":{rate},"samples_per_pixel":{zoom},"bits":8,"length":{length},"data":["#
        );
        for (number, value) in self.data.iter().enumerate() {
            let _ = write!(json, "{}{value}", if number == 0 { "" } else { "," });
        }
        json.push_str("]}");
        json
    }

    /// The binary form (`.dat`).
    pub fn to_binary(&self) -> Vec<u8> {
        let length = self.length() as u32;
        let mut binary = Vec::with_capacity(HEADER_BYTES + self.data.len());
        for field in [VERSION, EIGHT_BIT, self.sample_rate, self.samples_per_pixel, length, self.channels] {
            binary.extend_from_slice(&field.to_le_bytes());
        }
        binary.extend(self.data.iter().map(|value| value.cast_unsigned()));
        binary
    }

    /// Reads the binary form, of version 2 and 8 bit; `None` if it is not that, or not whole.
    pub fn from_binary(binary: &[u8]) -> Option<Peaks> {
        let (header, data) = binary.split_at_checked(HEADER_BYTES)?;
        let mut fields =
            header.chunks_exact(4).map(|field| u32::from_le_bytes([field[0], field[1], field[2], field[3]]));
        let (version, flags) = (fields.next()?, fields.next()?);
        let (sample_rate, samples_per_pixel) = (fields.next()?, fields.next()?);
        let (length, channels) = (fields.next()?, fields.next()?);
        let is_known = version == VERSION && flags == EIGHT_BIT && samples_per_pixel > 0 && matches!(channels, 1 | 2);
        if !is_known || data.len() as u64 != u64::from(length) * u64::from(channels) * 2 {
            return None;
        }
        let data = data.iter().map(|value| value.cast_signed()).collect();
        Some(Peaks { channels, sample_rate, samples_per_pixel, data })
    }
}

fn mixed(frame: &[i16]) -> i16 {
    let sum: i64 = frame.iter().map(|sample| i64::from(*sample)).sum();
    (sum / frame.len().max(1) as i64) as i16
}

/// Peaks on the way.
struct Drawing {
    samples_per_pixel: u32,
    /// Samples a channel in the pixel that is being drawn.
    count: u32,
    /// Least and greatest, by channel.
    pixel: Vec<(i16, i16)>,
    data: Vec<i8>,
}

impl Drawing {
    fn new(channels: usize, samples_per_pixel: u32) -> Drawing {
        Drawing { samples_per_pixel, count: 0, pixel: vec![(i16::MAX, i16::MIN); channels], data: Vec::new() }
    }

    fn add(&mut self, frame: &[i16]) {
        for ((least, greatest), sample) in self.pixel.iter_mut().zip(frame) {
            *least = (*least).min(*sample);
            *greatest = (*greatest).max(*sample);
        }
        self.count += 1;
        if self.count == self.samples_per_pixel {
            self.end_pixel();
        }
    }

    fn end_pixel(&mut self) {
        for peaks in &mut self.pixel {
            self.data.extend([(peaks.0 / 256) as i8, (peaks.1 / 256) as i8]);
            *peaks = (i16::MAX, i16::MIN);
        }
        self.count = 0;
    }

    fn finish(mut self) -> Vec<i8> {
        if self.count > 0 {
            self.end_pixel();
        }
        self.data
    }
}
