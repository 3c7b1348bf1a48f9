//! What stored audio is and how it sounds: nothing here knows names, calls or HTTP, only bytes.
//!
//! The map: [`source`] (bytes to read, seen through a window) → [`survey()`] (which container, from the first bytes)
//! → [`riff`], [`mpeg`], [`mp4`] (the structure, walked by ourselves, because a damaged file must be told from a
//! sound one and symphonia skips damage in silence) → [`probe()`] (what it is) and [`decode`] (symphonia's samples)
//! → [`wav`] (as PCM) and [`peaks`] (as a waveform).
//!
//! The laws: the type is read from the bytes, never from a name; no input makes it panic, and memory is constant.

mod decode;
mod mp4;
mod mpeg;
mod peaks;
mod probe;
mod riff;
mod source;
#[cfg(test)]
mod tests;
mod wav;

use std::io;

use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::default::formats::{FlacReader, IsoMp4Reader, MpaReader, OggReader, WavReader};

pub use peaks::Peaks;
pub use probe::probe;
use source::{Excerpt, Source, Window};
pub use wav::decode_wav;

/// Why audio cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// The bytes are no audio, or of a kind that is not decoded.
    #[error("not audio that can be decoded: {0}")]
    NotAudio(String),
    /// It has fewer channels than were asked for.
    #[error("there is no channel {0}")]
    NoSuchChannel(u16),
    /// Decoded, it is larger than a WAV file can be (4 GiB).
    #[error("too long for a WAV file")]
    TooLong,
    /// Reading the bytes or writing the result failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a look at the structure found.
enum Survey {
    /// A RIFF WAVE file.
    Wav(riff::Wav),
    /// A bare MPEG audio stream (MP3), with tags around it or not.
    Mpeg(mpeg::Mpeg),
    /// A container that symphonia walks.
    Other(Container),
}

/// A container that symphonia walks: where it begins, and why it is not sound as far as its outline tells.
struct Container {
    name: &'static str,
    start: u64,
    damage: Option<String>,
    /// Its tables lie about their size: reading them could ask for any amount of memory.
    is_unsafe: bool,
    /// The end of its sound is cut off: it can only be read from front to back.
    is_cut: bool,
}

/// Finds out the container from the bytes.
fn survey(source: &mut dyn Source, bytes: u64) -> Result<Survey, AudioError> {
    let mut window = Window::new(source, 0..bytes);
    let head = window.peek(12)?;
    let (is_riff, is_mp4) = (riff::is_wave(head), head.get(4..8) == Some(b"ftyp"));
    if is_riff {
        return Ok(Survey::Wav(riff::read(source, bytes)?));
    }
    if is_mp4 {
        return Ok(Survey::Other(mp4::outline(source, bytes)?));
    }
    mpeg::skip_tags(&mut window)?;
    let start = window.position();
    let name = match window.peek(4)?.get(..4) {
        Some(b"OggS") => "ogg",
        Some(b"fLaC") => "flac",
        _ => {
            return match mpeg::read(source, start..bytes)? {
                Some(stream) => Ok(Survey::Mpeg(stream)),
                None => Err(AudioError::NotAudio("neither WAV, MP3, Ogg, FLAC nor MP4".to_owned())),
            };
        }
    };
    Ok(Survey::Other(Container { name, start, damage: None, is_unsafe: false, is_cut: false }))
}

/// Opens what was found with symphonia.
fn open(found: &Survey, source: Box<dyn Source>, bytes: u64) -> Result<Box<dyn FormatReader>, AudioError> {
    let (name, excerpt) = match found {
        Survey::Wav(wave) if wave.stream.is_some() => ("mp3", Excerpt::new(Vec::new(), source, wave.data.clone())),
        Survey::Wav(wave) => ("wav", Excerpt::new(wave.plain_header()?, source, wave.data.clone())),
        Survey::Mpeg(stream) => ("mp3", Excerpt::new(Vec::new(), source, stream.range.clone())),
        Survey::Other(container) if container.is_unsafe => {
            return Err(AudioError::NotAudio(container.damage.clone().unwrap_or_default()));
        }
        Survey::Other(container) => {
            let excerpt = Excerpt::new(Vec::new(), source, container.start..bytes);
            (container.name, if container.is_cut { excerpt.forward_only() } else { excerpt })
        }
    };
    let stream = MediaSourceStream::new(Box::new(excerpt), MediaSourceStreamOptions::default());
    // Trimming is done in `decode`: symphonia would trust a frame count that contradicts the bytes.
    let options = FormatOptions::default();
    let opened: symphonia::core::errors::Result<Box<dyn FormatReader>> = match name {
        "wav" => WavReader::try_new(stream, &options).map(|reader| Box::new(reader) as _),
        "mp3" => MpaReader::try_new(stream, &options).map(|reader| Box::new(reader) as _),
        "ogg" => OggReader::try_new(stream, &options).map(|reader| Box::new(reader) as _),
        "flac" => FlacReader::try_new(stream, &options).map(|reader| Box::new(reader) as _),
        _ => IsoMp4Reader::try_new(stream, &options).map(|reader| Box::new(reader) as _),
    };
    opened.map_err(|error| AudioError::NotAudio(error.to_string()))
}
