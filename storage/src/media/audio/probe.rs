//! What stored bytes are, read from the bytes: structure only, no sample is decoded.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::codecs::{CODEC_TYPE_OPUS, CodecParameters};
use symphonia::core::errors::Error;
use symphonia::core::formats::FormatReader;

use super::mpeg::Mpeg;
use super::riff::Wav;
use super::source::Source;
use super::{Container, Survey, decode, open, survey};
use crate::recording::Probe;

/// Finds out what these bytes are. Never panics and never fails: what is wrong stands in the answer's `error`. The
/// bytes are read once from front to back, in constant memory.
///
/// The duration of an MP3 leaves out the samples that its encoder says it added, as players do.
pub fn probe(source: impl Source, bytes: u64) -> Probe {
    let looked = catch_unwind(AssertUnwindSafe(|| look(Box::new(source), bytes)));
    looked.unwrap_or_else(|_| damaged("the bytes are more broken than their reader can bear"))
}

fn look(mut source: Box<dyn Source>, bytes: u64) -> Probe {
    let found = match survey(source.as_mut(), bytes) {
        Ok(found) => found,
        Err(error) => return damaged(error),
    };
    match &found {
        Survey::Wav(wave) => look_at_wav(wave),
        Survey::Mpeg(stream) => {
            let mut probe = Probe { container: Some("mp3".to_owned()), error: stream.damage(), ..Probe::default() };
            describe_mpeg(stream, &mut probe);
            probe
        }
        Survey::Other(container) => {
            let mut probe = Probe { container: Some(container.name.to_owned()), ..Probe::default() };
            let counted = match open(&found, source, bytes) {
                Ok(mut reader) => count(reader.as_mut(), &mut probe),
                Err(error) => Some(error.to_string()),
            };
            probe.error = outline_first(container, counted);
            probe
        }
    }
}

fn damaged(reason: impl ToString) -> Probe {
    Probe { error: Some(reason.to_string()), ..Probe::default() }
}

fn outline_first(container: &Container, counted: Option<String>) -> Option<String> {
    container.damage.clone().or(counted)
}

fn look_at_wav(wave: &Wav) -> Probe {
    let mut probe = Probe { container: Some("wav".to_owned()), ..Probe::default() };
    probe.error = wave.damage.clone().or_else(|| wave.stream.as_ref().and_then(Mpeg::damage));
    probe.codec = wave.codec();
    if probe.codec.is_none() {
        return probe;
    }
    probe.channels = Some(i64::from(wave.channels));
    probe.sample_rate_hz = Some(i64::from(wave.sample_rate));
    if let Some(stream) = &wave.stream {
        describe_mpeg(stream, &mut probe);
    } else if let Some(samples) = wave.samples() {
        describe_length(samples, samples, wave.data_bytes(), wave.sample_rate, &mut probe);
    }
    probe
}

fn describe_mpeg(stream: &Mpeg, probe: &mut Probe) {
    let rate = stream.header.sample_rate;
    probe.codec = Some(stream.codec());
    probe.channels = Some(i64::from(stream.header.channels));
    probe.sample_rate_hz = Some(i64::from(rate));
    describe_length(stream.audible().keep, stream.samples(), stream.frame_bytes, rate, probe);
}

/// The length by the samples that sound; the bit rate by those that the bytes hold.
fn describe_length(audible: u64, samples: u64, bytes: u64, rate: u32, probe: &mut Probe) {
    let rate = u128::from(rate);
    probe.duration_ms = rounded(u128::from(audible) * 1000, rate);
    probe.bit_rate = rounded(u128::from(bytes) * 8 * rate, u128::from(samples));
}

fn rounded(dividend: u128, divisor: u128) -> Option<i64> {
    (dividend + divisor / 2).checked_div(divisor).and_then(|value| i64::try_from(value).ok())
}

/// Goes through the packets of the first sound track; the answer is why they are not whole.
fn count(reader: &mut dyn FormatReader, probe: &mut Probe) -> Option<String> {
    let Some(track) = decode::sound_track(reader) else { return Some("there is no sound track".to_owned()) };
    let (id, parameters) = (track.id, track.codec_params.clone());
    let (mut units, mut bytes, mut refused) = (0u64, 0u64, 0u32);
    let failure = loop {
        match reader.next_packet() {
            Ok(packet) if packet.track_id() == id => {
                units = units.saturating_add(packet.dur());
                bytes += packet.buf().len() as u64;
                refused = 0;
            }
            Ok(_) => {}
            Err(Error::DecodeError(_)) if refused < decode::MAX_REFUSED => refused += 1,
            Err(Error::IoError(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break None,
            Err(Error::ResetRequired) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    probe.codec = codec_name(&parameters);
    describe(&parameters, units, bytes, probe);
    let announced = parameters.n_frames.unwrap_or_default();
    // An Ogg stream's count is of what is there, less what its last page says is no sound.
    let is_short = announced > units && probe.container.as_deref() != Some("ogg");
    failure.or_else(|| is_short.then(|| format!("truncated: {units} of {announced} samples")))
}

fn describe(parameters: &CodecParameters, units: u64, bytes: u64, probe: &mut Probe) {
    probe.channels = parameters.channels.map(|channels| channels.count() as i64);
    probe.sample_rate_hz = parameters.sample_rate.map(i64::from);
    let base = parameters.time_base.map(|base| (u128::from(base.numer), u128::from(base.denom)));
    let Some((number, unit)) = base.or(parameters.sample_rate.map(|rate| (1, u128::from(rate)))) else { return };
    let audible =
        parameters.n_frames.filter(|announced| *announced > 0).map_or(units, |announced| announced.min(units));
    probe.duration_ms = rounded(u128::from(audible) * number * 1000, unit);
    probe.bit_rate = rounded(u128::from(bytes) * 8 * unit, u128::from(units) * number);
}

fn codec_name(parameters: &CodecParameters) -> Option<String> {
    if parameters.codec == CODEC_TYPE_OPUS {
        return Some("opus".to_owned());
    }
    let known = symphonia::default::get_codecs().get_codec(parameters.codec)?;
    Some(known.short_name.to_owned())
}
