//! Samples of stored audio, block by block: 16 bit, interleaved, always the same number of channels.
//!
//! Damage is bridged: a packet that cannot be decoded becomes silence of its length, so that what follows stays where
//! it was; where the bytes end, or a decoder panics, the audio ends.

use std::io::{self, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::audio::{SampleBuffer, SignalSpec};
use symphonia::core::codecs::{CODEC_TYPE_NULL, Decoder, DecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatReader, Packet, Track};

use super::mpeg::Audible;
use super::source::Source;
use super::{AudioError, Survey, open, survey};

/// Packets in a row that may be refused before the audio counts as ended.
pub const MAX_REFUSED: u32 = 1000;
/// Silence for one packet, in samples a channel.
const MAX_SILENCE: u64 = 8192;

/// The first track that is sound.
pub fn sound_track(reader: &dyn FormatReader) -> Option<&Track> {
    let tracks = reader.tracks();
    tracks.iter().find(|track| track.codec_params.codec != CODEC_TYPE_NULL && is_sound(track))
}

fn is_sound(track: &Track) -> bool {
    track.codec_params.sample_rate.is_some() || track.codec_params.channels.is_some()
}

/// Audio being decoded.
pub struct Decoding {
    reader: Box<dyn FormatReader>,
    decoder: Box<dyn Decoder>,
    track: u32,
    buffer: Option<(SignalSpec, SampleBuffer<i16>)>,
    /// Interleaved.
    samples: Vec<i16>,
    channels: u16,
    sample_rate: u32,
    /// Samples a channel still to be left out, and still to come.
    audible: Audible,
    /// `samples` was decoded already, but not handed out.
    is_ahead: bool,
}

impl Decoding {
    /// Opens audio and decodes its first samples.
    ///
    /// # Errors
    /// [`AudioError::NotAudio`] when no sample can be decoded, [`AudioError::Io`] when the bytes cannot be read.
    pub fn open(source: impl Source) -> Result<Decoding, AudioError> {
        let mut source: Box<dyn Source> = Box::new(source);
        let bytes = source.seek(SeekFrom::End(0))?;
        let opened = catch_unwind(AssertUnwindSafe(|| Decoding::begin(source, bytes)));
        let mut decoding = opened.unwrap_or_else(|_| Err(AudioError::NotAudio("broken beyond reading".to_owned())))?;
        if decoding.next()?.is_none() {
            return Err(AudioError::NotAudio("no sample can be decoded".to_owned()));
        }
        decoding.is_ahead = true;
        Ok(decoding)
    }

    fn begin(mut source: Box<dyn Source>, bytes: u64) -> Result<Decoding, AudioError> {
        let found = survey(source.as_mut(), bytes)?;
        let everything = Audible { skip: 0, keep: u64::MAX };
        let audible = match &found {
            Survey::Mpeg(stream) => stream.audible(),
            Survey::Wav(wave) => wave.stream.as_ref().map_or(everything, |stream| stream.audible()),
            Survey::Other(_) => everything,
        };
        let reader = open(&found, source, bytes)?;
        let none = || AudioError::NotAudio("there is no sound track".to_owned());
        let track = sound_track(reader.as_ref()).ok_or_else(none)?;
        let (id, parameters) = (track.id, &track.codec_params);
        let made = symphonia::default::get_codecs().make(parameters, &DecoderOptions::default());
        let decoder = made.map_err(|error| AudioError::NotAudio(error.to_string()))?;
        Ok(Decoding {
            decoder,
            track: id,
            reader,
            buffer: None,
            samples: Vec::new(),
            channels: 0,
            sample_rate: 0,
            audible,
            is_ahead: false,
        })
    }

    /// Channels, at least one.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// Samples a second and channel.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// The next samples, interleaved, never none; `None` at the end.
    ///
    /// # Errors
    /// [`AudioError::Io`] when the bytes cannot be read.
    pub fn next(&mut self) -> Result<Option<&[i16]>, AudioError> {
        if std::mem::take(&mut self.is_ahead) {
            return Ok(Some(&self.samples));
        }
        let mut refused = 0;
        while self.audible.keep > 0 && refused < MAX_REFUSED {
            // A panic of a decoder ends the audio; what it had decoded is kept.
            let Ok(step) = catch_unwind(AssertUnwindSafe(|| self.step())) else { return Ok(None) };
            match step {
                Ok(true) => self.trim(),
                Ok(false) => refused += 1,
                Err(Error::IoError(error)) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
                Err(_) => return Ok(None),
            }
            if !self.samples.is_empty() {
                return Ok(Some(&self.samples));
            }
        }
        Ok(None)
    }

    /// Decodes a packet into `samples`; false if there was nothing in it.
    fn step(&mut self) -> Result<bool, Error> {
        self.samples.clear();
        let packet = match self.reader.next_packet() {
            Err(Error::DecodeError(_)) => return Ok(false),
            packet => packet?,
        };
        if packet.track_id() != self.track {
            return Ok(true);
        }
        match self.decoder.decode(&packet) {
            Ok(decoded) => {
                let (spec, frames) = (*decoded.spec(), decoded.frames());
                if spec.channels.count() == 0 || frames == 0 {
                    return Ok(true);
                }
                let capacity = decoded.capacity();
                if self
                    .buffer
                    .as_ref()
                    .is_none_or(|(known, held)| *known != spec || held.capacity() < frames * spec.channels.count())
                {
                    self.buffer = Some((spec, SampleBuffer::new(capacity as u64, spec)));
                }
                if let Some((_, buffer)) = &mut self.buffer {
                    buffer.copy_interleaved_ref(decoded);
                }
                self.take(spec);
                Ok(true)
            }
            Err(Error::DecodeError(_)) => {
                self.be_silent(&packet);
                Ok(!self.samples.is_empty())
            }
            // A decoder that runs over the end of its packet says so with an I/O error.
            Err(Error::IoError(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.be_silent(&packet);
                Ok(!self.samples.is_empty())
            }
            Err(error) => Err(error),
        }
    }

    /// Silence for a packet that is lost. Before the first sound nobody knows of how many channels: it is left out.
    fn be_silent(&mut self, packet: &Packet) {
        let frames = packet.dur().min(MAX_SILENCE) as usize;
        self.samples.resize(frames * usize::from(self.channels), 0);
        if self.channels == 0 {
            self.audible.skip = self.audible.skip.saturating_sub(packet.dur());
        }
    }

    fn take(&mut self, spec: SignalSpec) {
        let Some((_, buffer)) = &self.buffer else { return };
        let decoded = spec.channels.count();
        if self.channels == 0 {
            self.channels = decoded as u16;
            self.sample_rate = spec.rate;
        }
        let wanted = usize::from(self.channels);
        if decoded == wanted {
            self.samples.extend_from_slice(buffer.samples());
            return;
        }
        // The stream changed its channels on the way: the first ones stand in for those that are missing.
        for frame in buffer.samples().chunks_exact(decoded) {
            self.samples.extend((0..wanted).map(|channel| frame[channel.min(decoded - 1)]));
        }
    }

    /// Leaves out of `samples` what is not to be heard.
    fn trim(&mut self) {
        let channels = usize::from(self.channels.max(1));
        let frames = (self.samples.len() / channels) as u64;
        let skip = frames.min(self.audible.skip);
        let keep = (frames - skip).min(self.audible.keep);
        self.audible.skip -= skip;
        self.audible.keep -= keep;
        self.samples.truncate((skip + keep) as usize * channels);
        self.samples.drain(..skip as usize * channels);
    }
}
