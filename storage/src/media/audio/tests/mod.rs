//! Tests of probing and decoding, on the shared recordings and on files made here.

#![allow(clippy::unwrap_used, reason = "what panics here fails its test, which is what it is for")]

mod broken;
mod made;
mod sound;

use std::io::Cursor;

use super::{Peaks, decode_wav, probe};
use crate::recording::Probe;

/// A shared recording.
fn fixture(name: &str) -> Vec<u8> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/recordings/");
    std::fs::read(format!("{directory}{name}")).unwrap()
}

fn probed(bytes: &[u8]) -> Probe {
    probe(Cursor::new(bytes.to_vec()), bytes.len() as u64)
}

/// The decoded samples, after checking the header.
fn decoded(bytes: &[u8], channel: Option<u16>) -> Vec<i16> {
    let mut out = Cursor::new(Vec::new());
    decode_wav(Cursor::new(bytes.to_vec()), channel, &mut out).unwrap();
    let wav = out.into_inner();
    assert_eq!(&wav[36..40], b"data");
    assert_eq!(u32::from_le_bytes(wav[40..44].try_into().unwrap()) as usize, wav.len() - 44);
    assert_eq!(u32::from_le_bytes(wav[4..8].try_into().unwrap()) as usize, wav.len() - 8);
    wav[44..].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// A WAV file: its format chunk from tag, channels, rate, bytes of a block and bits, then `extra`.
fn wav(format: (u16, u16, u32, u16, u16), extra: &[u8], data: &[u8]) -> Vec<u8> {
    let (tag, channels, rate, block, bits) = format;
    let mut chunk = Vec::new();
    chunk.extend(tag.to_le_bytes());
    chunk.extend(channels.to_le_bytes());
    chunk.extend(rate.to_le_bytes());
    chunk.extend((rate * u32::from(block)).to_le_bytes());
    chunk.extend(block.to_le_bytes());
    chunk.extend(bits.to_le_bytes());
    chunk.extend(extra);
    let mut file = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
    file.extend((chunk.len() as u32).to_le_bytes());
    file.extend(chunk);
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    let riff = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&riff.to_le_bytes());
    file
}

fn pcm(samples: &[i16], channels: u16, rate: u32) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    wav((1, channels, rate, channels * 2, 16), &[], &data)
}

/// Bytes that repeat from run to run and look like nothing (xorshift).
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.max(1);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}
