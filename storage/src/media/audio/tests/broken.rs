//! Broken audio, and what is none: never a panic, always a reason, and what can be decoded is.

use std::io::Cursor;
use std::time::{Duration, Instant};

use super::super::AudioError;
use super::*;

fn damage(bytes: &[u8]) -> String {
    probed(bytes).error.expect("is damaged")
}

#[test]
fn what_is_no_audio_is_nothing() {
    for bytes in
        [fixture("not-audio.mp3"), Vec::new(), vec![0; 5000], noise(1, 1), noise(3_000_000, 7), vec![0xff; 9000]]
    {
        let probe = probed(&bytes);
        assert!(probe.error.is_some());
        assert_eq!(Probe { error: None, ..probe }, Probe::default());
        let refused = decode_wav(Cursor::new(bytes.clone()), None, Cursor::new(Vec::new()));
        assert!(matches!(refused, Err(AudioError::NotAudio(_))), "{refused:?}");
        assert!(matches!(Peaks::compute(Cursor::new(bytes), 256), Err(AudioError::NotAudio(_))));
    }
}

#[test]
fn a_truncated_mp3_says_so_and_plays_as_far_as_it_goes() {
    let bytes = fixture("truncated.mp3");
    let probe = probed(&bytes);
    assert_eq!(probe.error.as_deref(), Some("truncated: 30 of 311 frames; the last frame is cut off"));
    assert_eq!((probe.container.as_deref(), probe.codec.as_deref()), (Some("mp3"), Some("mp3")));
    assert_eq!((probe.channels, probe.sample_rate_hz), (Some(1), Some(8000)));
    assert_eq!((probe.bit_rate, probe.duration_ms), (Some(32_000), Some(30 * 72)));
    assert_eq!(decoded(&bytes, None).len(), 30 * 576);
}

/// Wherever it is cut off: at a frame's end the tag tells, without a tag the frame does.
#[test]
fn every_cut_of_an_mp3_is_seen() {
    let whole = fixture("voicemail-vbr.mp3");
    for length in (4..whole.len() - 400).step_by(97) {
        let probe = probed(&whole[..length]);
        assert!(probe.error.is_some(), "{length}");
    }
    let untagged = &fixture("support-mono.mp3")[288..];
    assert_eq!(probed(&untagged[..288 * 20]).error, None);
    assert_eq!(damage(&untagged[..288 * 20 + 100]), "the last frame is cut off");
}

#[test]
fn damage_in_the_middle_of_an_mp3_is_seen() {
    let whole = fixture("support-mono.mp3");
    let overwritten = [&whole[..30_000], &noise(700, 3)[..], &whole[30_700..]].concat();
    assert!(damage(&overwritten).contains("are no frame"), "{}", damage(&overwritten));
    let lost = [&whole[..30_000], &whole[31_000..]].concat();
    assert!(damage(&lost).contains("frame"), "{}", damage(&lost));
    let led = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &whole].concat();
    assert_eq!(damage(&led), "19 bytes are no frame, from byte 0 on");
    assert_eq!(probed(&led).duration_ms, Some(22_225));
    let zeroed = [&whole[..30_000], &[0; 59_856][..]].concat();
    assert!(damage(&zeroed).starts_with("truncated"), "{}", damage(&zeroed));
    for bytes in [overwritten, lost, led, zeroed] {
        assert!(decoded(&bytes, None).len() > 50_000);
    }
}

#[test]
fn a_truncated_wav_says_so() {
    let whole = fixture("support-stereo.wav");
    let cut = &whole[..44 + 32_000];
    assert_eq!(damage(cut), "truncated: 32000 of 711212 bytes of audio");
    assert_eq!((probed(cut).duration_ms, probed(cut).bit_rate), (Some(1000), Some(256_000)));
    assert_eq!(decoded(cut, None).len(), 16_000);
    let (head, formatless) = (probed(&whole[..30]), [&whole[..12], &whole[36..]].concat());
    assert_eq!((head.container.as_deref(), head.codec), (Some("wav"), None));
    assert_eq!(damage(&formatless), "the WAV file does not say what its audio is");
}

/// The writer died: both lengths in the header are still zero.
#[test]
fn an_unfinished_wav_is_damaged_but_plays() {
    let mut file = pcm(&[-3; 8000], 1, 8000);
    file[4..8].fill(0);
    file[40..44].fill(0);
    assert_eq!(damage(&file), "the WAV header was never finished");
    assert_eq!(probed(&file).duration_ms, Some(1000));
    assert_eq!(decoded(&file, None), vec![-3; 8000]);
}

#[test]
fn hostile_headers_are_survived() {
    let zero = wav((1, 0, 0, 0, 0), &[], &[0; 100]);
    assert!(probed(&zero).error.is_some());
    for format in [(0x11, 60_000, 8000, 1, 4), (2, 3, u32::MAX / 9, 9, 4), (1, 40, 8000, 80, 16), (1, 1, 1, 3, 24)] {
        let file = wav(format, &[32, 0], &noise(5000, 5));
        let _ = (probed(&file), decode_wav(Cursor::new(file), None, Cursor::new(Vec::new())));
    }
    // A table of four billion entries in a box of 24 bytes.
    let table = [&24u32.to_be_bytes()[..], b"stco\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0"].concat();
    let parent = [&32u32.to_be_bytes()[..], b"moov", &table].concat();
    let file = [&16u32.to_be_bytes()[..], b"ftypisom\0\0\0\0", &parent].concat();
    assert_eq!(damage(&file), "a table is longer than its box");
    assert_eq!(probed(&file).container.as_deref(), Some("mp4"));
    assert!(Peaks::compute(Cursor::new(file), 256).is_err());
}

/// Every fixture with bytes turned over and cut anywhere, and noise behind every magic: no panic, and in time.
#[test]
fn nothing_panics() {
    let begun = Instant::now();
    let magics: [&[u8]; 6] = [
        b"OggS",
        b"fLaC",
        b"\0\0\0\x18ftypisom",
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0",
        b"ID3\x04\0\0\0\0\0\0",
        b"\xff\xe3\x48\xc4",
    ];
    for (number, magic) in magics.iter().enumerate() {
        for seed in 1..20 {
            let file = [magic, &noise(20_000, seed * 31 + number as u64)[..]].concat();
            let _ = (probed(&file), Peaks::compute(Cursor::new(file), 256));
        }
    }
    for name in ["voicemail-vbr.mp3", "voicemail-ulaw.wav", "truncated.mp3"] {
        let whole = fixture(name);
        for seed in 1..40u64 {
            let mut file = whole.clone();
            for pair in noise(200, seed).chunks_exact(4) {
                let at = (usize::from(pair[0]) << 8 | usize::from(pair[1])) % file.len();
                file[at] = pair[2];
            }
            file.truncate(whole.len() - usize::from(seed as u8) * 50);
            let _ = (probed(&file), Peaks::compute(Cursor::new(file), 256));
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(120));
}
