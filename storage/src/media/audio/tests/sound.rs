//! Sound audio: what it is, how it sounds, how it looks.

use std::io::{Cursor, Seek, Write};

use super::super::AudioError;
use super::*;

/// Container, codec, channels, rate, bit rate, length.
type Seen<'a> = (&'a str, &'a str, i64, i64, i64, i64);

fn check(bytes: &[u8], expected: Seen<'_>) {
    let probe = probed(bytes);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (container, codec) = (text(&probe.container), text(&probe.codec));
    let number = |number: Option<i64>| number.unwrap_or(-1);
    let seen = (
        container.as_str(),
        codec.as_str(),
        number(probe.channels),
        number(probe.sample_rate_hz),
        number(probe.bit_rate),
        number(probe.duration_ms),
    );
    assert_eq!(seen, expected);
    assert_eq!(probe.error, None);
}

/// The MP3s were made from the WAVs: they last as long as those do to the millisecond.
#[test]
fn shared_recordings_are_what_they_are() {
    check(&fixture("support-stereo.wav"), ("wav", "pcm_s16le", 2, 8000, 256_000, 22_225));
    check(&fixture("support-stereo.mp3"), ("mp3", "mp3", 2, 8000, 64_000, 22_225));
    check(&fixture("support-mono.mp3"), ("mp3", "mp3", 1, 8000, 32_000, 22_225));
    check(&fixture("voicemail-ulaw.wav"), ("wav", "pcm_mulaw", 1, 8000, 64_000, 6871));
    let vbr = probed(&fixture("voicemail-vbr.mp3"));
    check(&fixture("voicemail-vbr.mp3"), ("mp3", "mp3", 1, 8000, vbr.bit_rate.unwrap(), 6871));
    assert!((30_000..36_000).contains(&vbr.bit_rate.unwrap()), "{vbr:?}");
}

#[test]
fn an_mp3_without_its_tag_frame_lasts_as_long_as_its_frames() {
    let mono = fixture("support-mono.mp3");
    check(&mono[288..], ("mp3", "mp3", 1, 8000, 32_000, 311 * 72));
    assert_eq!(decoded(&mono[288..], None).len(), 311 * 576);
}

#[test]
fn tags_around_an_mp3_are_no_damage() {
    let mut tagged = b"ID3\x04\0\0\0\0\x01\x00".to_vec();
    tagged.extend([0; 128]);
    tagged.extend(fixture("support-mono.mp3"));
    tagged.extend(b"TAG");
    tagged.extend([b' '; 125]);
    check(&tagged, ("mp3", "mp3", 1, 8000, 32_000, 22_225));
    assert_eq!(decoded(&tagged, None).len(), 177_803);
}

/// Two MP3s one after the other: the first one's tag counts neither for the length nor as damage.
#[test]
fn joined_mp3s_last_as_long_as_both() {
    let joined = [fixture("support-mono.mp3"), fixture("support-mono.mp3")].concat();
    check(&joined, ("mp3", "mp3", 1, 8000, 32_000, 2 * 311 * 72));
    assert_eq!(decoded(&joined, None).len(), 2 * 311 * 576);
}

#[test]
fn wav_codecs_are_told_apart() {
    let second = |format: (u16, u16, u32, u16, u16), extra: &[u8], bytes: usize| wav(format, extra, &vec![0x55; bytes]);
    check(&second((1, 1, 11_025, 1, 8), &[], 11_025), ("wav", "pcm_u8", 1, 11_025, 88_200, 1000));
    check(&second((1, 2, 44_100, 6, 24), &[], 44_100 * 6), ("wav", "pcm_s24le", 2, 44_100, 2_116_800, 1000));
    check(&second((3, 1, 8000, 4, 32), &[], 32_000), ("wav", "pcm_f32le", 1, 8000, 256_000, 1000));
    check(&second((6, 2, 8000, 2, 8), &[0, 0], 8000), ("wav", "pcm_alaw", 2, 8000, 128_000, 500));
    check(&second((0x11, 1, 8000, 256, 4), &[2, 0, 0xf9, 1], 2560), ("wav", "adpcm_ima_wav", 1, 8000, 32_444, 631));
    check(&second((0x31, 1, 8000, 65, 0), &[2, 0, 0x40, 1], 6500), ("wav", "gsm_ms", 1, 8000, 13_000, 4000));
    let guid = [22, 0, 16, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
    let extensible = second((0xfffe, 1, 8000, 2, 16), &guid, 16_000);
    check(&extensible, ("wav", "pcm_s16le", 1, 8000, 128_000, 1000));
    assert_eq!(decoded(&extensible, None), vec![0x5555; 8000]);
}

/// Writers to a pipe do not know the length.
#[test]
fn a_wav_of_unknown_length_lasts_to_its_end() {
    let mut file = pcm(&[7; 8000], 1, 8000);
    file[4..8].fill(0xff);
    file[40..44].fill(0xff);
    check(&file, ("wav", "pcm_s16le", 1, 8000, 128_000, 1000));
    assert_eq!(decoded(&file, None), vec![7; 8000]);
}

#[test]
fn mp3_in_wav_is_walked_over() {
    let file = wav((0x55, 1, 8000, 1, 0), &[0, 0], &fixture("support-mono.mp3"));
    check(&file, ("wav", "mp3", 1, 8000, 32_000, 22_225));
    assert_eq!(decoded(&file, None).len(), 177_803);
}

#[test]
fn pcm_comes_back_as_it_was() {
    let stereo: Vec<i16> = (0..20_000).map(|n| (n * 37 % 65_536 - 32_768) as i16).collect();
    let file = pcm(&stereo, 2, 16_000);
    assert_eq!(decoded(&file, None), stereo);
    let left: Vec<i16> = stereo.iter().step_by(2).copied().collect();
    let right: Vec<i16> = stereo.iter().skip(1).step_by(2).copied().collect();
    assert_eq!((decoded(&file, Some(0)), decoded(&file, Some(1))), (left, right));
    let refused = decode_wav(Cursor::new(file), Some(2), Cursor::new(Vec::new()));
    assert!(matches!(refused, Err(AudioError::NoSuchChannel(2))));
    assert_eq!(decoded(&fixture("voicemail-ulaw.wav"), None).len(), 54_966);
}

#[test]
fn flac_is_walked_over_and_comes_back() {
    let samples: Vec<i16> = (0..8000).map(|n| (n * 31 % 20_000 - 10_000) as i16).collect();
    let file = made::flac(&samples);
    assert_eq!(probed(&file).error, None);
    let bit_rate = probed(&file).bit_rate.unwrap();
    check(&file, ("flac", "flac", 1, 8000, bit_rate, 1000));
    assert!((128_000..131_000).contains(&bit_rate), "{bit_rate}");
    assert_eq!(decoded(&file, None), samples);
    let cut = &file[..file.len() / 2];
    assert!(probed(cut).error.unwrap().starts_with("truncated"));
    assert!(probed(cut).duration_ms.unwrap() > 400);
}

#[test]
fn mp4_is_walked_over_and_comes_back() {
    let samples: Vec<i16> = (0..8000).map(|n| (n * 31 % 20_000 - 10_000) as i16).collect();
    let file = made::mp4(&samples);
    check(&file, ("mp4", "pcm_s16le", 1, 8000, 128_000, 1000));
    assert_eq!(decoded(&file, None), samples);
    let cut = &file[..file.len() - 4000];
    assert_eq!(probed(cut).error.unwrap(), "truncated: 12008 of the 16008 bytes of the last box");
    assert_eq!(probed(cut).duration_ms, Some(750));
    assert_eq!(decoded(cut, None), samples[..6000]);
}

/// There is no decoder for it, but what it is can be told.
#[test]
fn opus_is_told_but_not_decoded() {
    let file = made::opus(50);
    check(&file, ("ogg", "opus", 1, 48_000, 24_000, 1000));
    let refused = decode_wav(Cursor::new(file), None, Cursor::new(Vec::new()));
    assert!(matches!(refused, Err(AudioError::NotAudio(_))));
}

/// What the encoder added is left out, so that the MP3 lines up with the WAV that it was made from.
#[test]
fn a_decoded_mp3_lines_up_with_its_wav() {
    let (wav, mp3) = (decoded(&fixture("support-stereo.wav"), None), decoded(&fixture("support-stereo.mp3"), None));
    assert_eq!(wav.len(), mp3.len());
    let likeness = |shift: usize, is_late: bool| -> i64 {
        let (early, late) = if is_late { (&mp3, &wav) } else { (&wav, &mp3) };
        early.iter().skip(2 * shift).zip(late.iter()).map(|(one, other)| i64::from(*one) * i64::from(*other)).sum()
    };
    let best = likeness(0, true);
    for shift in 1..1200 {
        assert!(likeness(shift, true) < best && likeness(shift, false) < best, "better when shifted by {shift}");
    }
    let one = decoded(&fixture("support-stereo.mp3"), Some(1));
    assert_eq!(one, mp3.iter().skip(1).step_by(2).copied().collect::<Vec<_>>());
}

#[test]
fn a_wav_is_written_where_the_file_stands() {
    let mut out = Cursor::new(Vec::new());
    out.write_all(b"before").unwrap();
    decode_wav(Cursor::new(pcm(&[1, 2, 3], 1, 8000)), None, &mut out).unwrap();
    assert_eq!(out.stream_position().unwrap(), 6 + 44 + 6);
    let written = out.into_inner();
    assert_eq!(&written[..10], b"beforeRIFF");
    assert_eq!(&written[6..], &pcm(&[1, 2, 3], 1, 8000)[..]);
}

#[test]
fn peaks_are_the_least_and_the_greatest() {
    let stereo: Vec<i16> = (0..600).flat_map(|n: i16| [n * 50, -n * 50]).collect();
    let peaks = Peaks::compute(Cursor::new(pcm(&stereo, 2, 8000)), 256).unwrap();
    assert_eq!((peaks.channels(), peaks.sample_rate(), peaks.length()), (2, 8000, 3));
    let data = "0,49,-49,0,50,99,-99,-50,100,116,-116,-100";
    let head = r#""version":2,"channels":2,"sample_rate":8000,"samples_per_pixel":256,"bits":8,"length":3"#;
    assert_eq!(peaks.to_json(), format!("{{{head},\"data\":[{data}]}}"));
    let whole = peaks.zoom(1024).unwrap();
    assert!(whole.to_json().ends_with(r#""length":1,"data":[0,116,-116,0]}"#), "{}", whole.to_json());
    assert_eq!(peaks.zoom(512).unwrap().length(), 2);
    assert_eq!((peaks.zoom(256), peaks.zoom(300), peaks.zoom(0)), (Some(peaks.clone()), None, None));
}

#[test]
fn zooming_is_the_same_as_drawing_anew() {
    for name in ["support-stereo.mp3", "voicemail-ulaw.wav"] {
        let base = Peaks::compute(Cursor::new(fixture(name)), 256).unwrap();
        let anew = Peaks::compute(Cursor::new(fixture(name)), 2048).unwrap();
        assert_eq!(base.zoom(2048), Some(anew));
    }
}

#[test]
fn binary_peaks_come_back() {
    let peaks = Peaks::compute(Cursor::new(fixture("support-stereo.wav")), 256).unwrap();
    let binary = peaks.to_binary();
    assert_eq!(peaks.length(), 177_803_usize.div_ceil(256));
    assert_eq!(&binary[..8], [2, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(binary.len(), 24 + peaks.length() * 4);
    assert_eq!(Peaks::from_binary(&binary), Some(peaks));
    for broken in [&binary[..20], &binary[..binary.len() - 1], &[0; 24]] {
        assert_eq!(Peaks::from_binary(broken), None);
    }
}
