//! Any audio as 16-bit PCM in a WAV file, all channels or one.

use std::io::{BufWriter, Seek, SeekFrom, Write};

use super::AudioError;
use super::decode::Decoding;
use super::source::Source;

const HEADER_BYTES: u32 = 44;
const BUFFER: usize = 64 * 1024;

/// Decodes audio into a WAV file (16 bit, little-endian) that begins where `out` stands: all channels, or the one
/// of that number, counted from 0. Memory is constant. Of damaged audio, what can be decoded is written.
///
/// # Errors
/// [`AudioError::NotAudio`] and [`AudioError::NoSuchChannel`] before anything is written; [`AudioError::TooLong`]
/// over 4 GiB and [`AudioError::Io`] when `out` holds a part of it.
pub fn decode_wav(source: impl Source, channel: Option<u16>, mut out: impl Write + Seek) -> Result<(), AudioError> {
    let mut decoding = Decoding::open(source)?;
    let channels = decoding.channels();
    if let Some(number) = channel.filter(|number| *number >= channels) {
        return Err(AudioError::NoSuchChannel(number));
    }
    let written = if channel.is_some() { 1 } else { channels };
    let rate = decoding.sample_rate();
    let start = out.stream_position()?;
    let mut file = BufWriter::with_capacity(BUFFER, &mut out);
    file.write_all(&header(written, rate, 0))?;
    let (mut bytes, mut block) = (0u32, Vec::new());
    while let Some(samples) = decoding.next()? {
        block.clear();
        match channel {
            None => block.extend(samples.iter().flat_map(|sample| sample.to_le_bytes())),
            Some(number) => {
                let one = samples.iter().skip(usize::from(number)).step_by(usize::from(channels));
                block.extend(one.flat_map(|sample| sample.to_le_bytes()));
            }
        }
        let sum = u32::try_from(block.len()).ok().and_then(|length| bytes.checked_add(length));
        bytes = sum.filter(|sum| sum.checked_add(HEADER_BYTES).is_some()).ok_or(AudioError::TooLong)?;
        file.write_all(&block)?;
    }
    file.seek(SeekFrom::Start(start))?;
    file.write_all(&header(written, rate, bytes))?;
    file.seek(SeekFrom::Start(start + u64::from(HEADER_BYTES) + u64::from(bytes)))?;
    file.flush()?;
    Ok(())
}

fn header(channels: u16, rate: u32, data: u32) -> Vec<u8> {
    let frame = channels * 2;
    let mut header = Vec::with_capacity(HEADER_BYTES as usize);
    header.extend_from_slice(b"RIFF");
    header.extend_from_slice(&(data + HEADER_BYTES - 8).to_le_bytes());
    header.extend_from_slice(b"WAVEfmt ");
    header.extend_from_slice(&16u32.to_le_bytes());
    header.extend_from_slice(&1u16.to_le_bytes());
    header.extend_from_slice(&channels.to_le_bytes());
    header.extend_from_slice(&rate.to_le_bytes());
    header.extend_from_slice(&rate.saturating_mul(u32::from(frame)).to_le_bytes());
    header.extend_from_slice(&frame.to_le_bytes());
    header.extend_from_slice(&16u16.to_le_bytes());
    header.extend_from_slice(b"data");
    header.extend_from_slice(&data.to_le_bytes());
    header
}
