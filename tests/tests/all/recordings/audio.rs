//! What a recording is, how it is heard: the bytes and parts of them, decoded, one channel, as a picture.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trunklog_tests::Answer;

use super::{Bench, MONO_MP3, SMALL_MP3, STEREO_WAV, ULAW_WAV, noise, sample, sha256, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_kept_marked_and_listed() {
    let bench = Bench::start();
    let wav = sample(STEREO_WAV);
    let cases: [(&str, Vec<u8>); 6] = [
        ("not-audio.mp3", sample("not-audio.mp3")),
        ("truncated.mp3", sample("truncated.mp3")),
        ("cut.wav", wav[..wav.len() / 3].to_vec()),
        ("head.wav", wav[..20].to_vec()),
        ("noise.mp3", noise(40_000, 5)),
        ("one.wav", vec![0]),
    ];
    for (name, bytes) in &cases {
        let id = bench.stored(&format!("call_recording_{name}%40h.mp3"), bytes).await;
        let row = bench.probed(&id).await;
        assert_eq!(row["status"], json!("damaged"), "{name}: {row:?}");
        assert_eq!(bench.listen(&format!("{id}/audio")).await.expect(200).body, *bytes, "{name}");
        let call = bench.call("kazoo", &text(&row, "call_key")).await.unwrap();
        assert_eq!(call["recording_state"], json!("available"), "{name}");
        assert!(bench.listen(&format!("{id}/waveform")).await.status < 500, "{name}");
        assert!(bench.listen(&format!("{id}.wav")).await.status < 500, "{name}");
    }
    let sound = bench.stored("call_recording_sound%40h.mp3", &sample(SMALL_MP3)).await;
    assert_eq!(bench.probed(&sound).await["status"], json!("received"));
    let damaged = bench.server.get("/v1/recordings?status=damaged", &bench.query).await.expect(200).json();
    assert_eq!(damaged["items"].as_array().unwrap().len(), cases.len());
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_bytes_are_is_read_from_the_bytes() {
    let bench = Bench::start();
    let cases = [
        (STEREO_WAV, "wav", "pcm_s16le", 2, 22_225, 256_000),
        ("support-stereo.mp3", "mp3", "mp3", 2, 22_300, 64_000),
        (MONO_MP3, "mp3", "mp3", 1, 22_300, 32_000),
        (ULAW_WAV, "wav", "pcm_mulaw", 1, 6_870, 64_000),
        (SMALL_MP3, "mp3", "mp3", 1, 6_960, 33_300),
    ];
    for (number, (name, container, codec, channels, duration, bit_rate)) in cases.into_iter().enumerate() {
        // The name says nothing.
        let id = bench.stored(&format!("call_recording_plain{number}%40h.bin"), &sample(name)).await;
        let row = bench.probed(&id).await;
        let found = [&row["container"], &row["codec"], &row["channels"], &row["sample_rate_hz"], &row["status"]];
        let expected = [json!(container), json!(codec), json!(channels), json!(8_000), json!("received")];
        assert_eq!(found.map(Clone::clone), expected, "{name}: {row:?}");
        let milliseconds = row["duration_ms"].as_i64().unwrap_or_default();
        assert!((milliseconds - duration).abs() <= 200, "{name}: {milliseconds} ms and not {duration}");
        let rate = row["bit_rate"].as_i64().unwrap_or_default();
        assert!((rate - bit_rate).abs() * 20 <= bit_rate, "{name}: {rate} bits a second and not {bit_rate}");
    }
    let sql = "SELECT count(*) FROM system_events WHERE type = 'trunklog.probe'";
    assert_eq!(bench.server.sql(&bench.query, sql).await.number(), 5, "what was learnt is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_and_conditions_are_answered() {
    let bench = Bench::start();
    let bytes = sample(STEREO_WAV);
    let id = bench.stored("call_recording_range%40h.wav", &bytes).await;
    let audio = format!("{id}/audio");
    let get = async |headers: &[(&str, &str)]| bench.listen_with("GET", &audio, headers).await;
    let whole = get(&[]).await.expect(200);
    let etag = whole.header("etag").to_owned();
    assert_eq!(etag, format!("\"{}\"", sha256(&bytes)));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let digest = format!("sha-256=:{}:", BASE64.encode(Sha256::digest(&bytes)));
    assert_eq!(whole.header("repr-digest"), digest);
    let total = bytes.len();
    for (range, from, until) in [
        ("bytes=0-99".to_owned(), 0, 100),
        (format!("bytes={}-", total - 7), total - 7, total),
        ("bytes=-500".to_owned(), total - 500, total),
        ("bytes=65530-65545".to_owned(), 65_530, 65_546),
        (format!("bytes=100-{}", total * 2), 100, total),
    ] {
        let part = get(&[("range", range.as_str())]).await.expect(206);
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/{total}", until - 1), "{range}");
        assert!(part.body == bytes[from..until], "{range}");
        assert_eq!((part.header("etag"), part.header("repr-digest")), (etag.as_str(), digest.as_str()));
    }
    let beyond = get(&[("range", format!("bytes={total}-").as_str())]).await.expect(416);
    assert_eq!(beyond.header("content-range"), format!("bytes */{total}"));
    let several = get(&[("range", "bytes=0-1,10-19,-3")]).await.expect(206);
    assert_eq!(several.content_type(), "multipart/byteranges");
    assert_eq!(get(&[("range", "bytes=0-9"), ("if-range", etag.as_str())]).await.expect(206).body, bytes[..10]);
    assert_eq!(get(&[("range", "bytes=0-9"), ("if-range", "\"other\"")]).await.expect(200).body.len(), total);
    assert!(get(&[("if-none-match", etag.as_str())]).await.expect(304).body.is_empty());
    get(&[("if-match", "\"other\"")]).await.expect(412);
    let head = bench.listen_with("HEAD", &audio, &[]).await.expect(200);
    assert_eq!((head.header("content-length"), head.body.len()), (total.to_string().as_str(), 0));
}

/// The 16-bit samples of a PCM WAV, channels side by side, and how many channels.
fn samples(wav: &[u8]) -> (Vec<i16>, usize) {
    assert!(wav.starts_with(b"RIFF") && &wav[8..12] == b"WAVE", "no WAV: {:?}", &wav[..12]);
    let (mut at, mut channels) = (12, 0);
    loop {
        let length = u32::from_le_bytes(wav[at + 4..at + 8].try_into().unwrap()) as usize;
        let content = &wav[at + 8..(at + 8 + length).min(wav.len())];
        match &wav[at..at + 4] {
            b"fmt " => {
                channels = usize::from(u16::from_le_bytes(content[2..4].try_into().unwrap()));
                assert_eq!(u16::from_le_bytes(content[14..16].try_into().unwrap()), 16, "bits a sample");
                assert_eq!(u32::from_le_bytes(content[4..8].try_into().unwrap()), 8_000, "samples a second");
            }
            b"data" => {
                let pairs = content.chunks_exact(2).map(|pair| i16::from_le_bytes(pair.try_into().unwrap()));
                return (pairs.collect(), channels);
            }
            _ => {}
        }
        at += 8 + length + length % 2;
    }
}

/// G.711, by the formula.
fn from_ulaw(byte: u8) -> i16 {
    let value = !byte;
    let exponent = i32::from((value >> 4) & 7);
    let magnitude = (((i32::from(value & 15) << 3) + 0x84) << exponent) - 0x84;
    i16::try_from(if value & 0x80 == 0 { magnitude } else { -magnitude }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audio_is_decoded_on_request() {
    let bench = Bench::start();
    let (wav, ulaw) = (sample(STEREO_WAV), sample(ULAW_WAV));
    let stereo = bench.stored("call_recording_stereo%40h.wav", &wav).await;
    let mp3 = bench.stored("call_recording_mono%40h.mp3", &sample(MONO_MP3)).await;
    let law = bench.stored("call_recording_law%40h.wav", &ulaw).await;
    let (both, _) = samples(&wav);
    for channel in 0..2 {
        let one = bench.listen(&format!("{stereo}.wav?channel={channel}")).await.expect(200);
        let expected: Vec<i16> = both.iter().skip(channel).step_by(2).copied().collect();
        assert!(samples(&one.body) == (expected, 1), "channel {channel}");
        assert_ne!(one.header("etag"), format!("\"{}\"", sha256(&wav)), "other bytes, another ETag");
        let part = format!("{stereo}.wav?channel={channel}");
        let part = bench.listen_with("GET", &part, &[("range", "bytes=44-143")]).await;
        assert!(part.status == 200 || (part.status == 206 && part.body == one.body[44..144]), "{}", part.status);
    }
    let again = bench.listen(&format!("{stereo}.wav?channel=1")).await.expect(200);
    let first = bench.listen(&format!("{stereo}.wav?channel=0")).await.expect(200);
    assert_ne!((again.header("etag"), again.body.clone()), (first.header("etag"), first.body.clone()));
    for wrong in ["channel=2", "channel=x", "chanel=1"] {
        let answer = bench.listen(&format!("{stereo}.wav?{wrong}")).await;
        assert!((400..500).contains(&answer.status), "{wrong}: {}", answer.status);
    }
    let decoded = bench.listen(&format!("{law}.wav")).await.expect(200);
    let start = ulaw.windows(4).position(|window| window == b"data").unwrap() + 8;
    let expected: Vec<i16> = ulaw[start..start + 54_966].iter().map(|byte| from_ulaw(*byte)).collect();
    assert!(samples(&decoded.body) == (expected, 1), "µ-law is decoded sample by sample");
    expect_same_sound(&bench.listen(&format!("{mp3}.wav")).await.expect(200), &both);
    let accepted = bench.listen_with("GET", &format!("{mp3}/audio"), &[("accept", "audio/wav")]).await.expect(200);
    assert!(accepted.body.starts_with(b"RIFF"), "Accept picks the decoded form");
    bench.listen(&format!("{stereo}.mp3")).await.expect_problem(406);
    let kept = bench.listen(&format!("{mp3}.mp3")).await.expect(200);
    assert_eq!((kept.body, kept.headers["content-type"].as_bytes()), (sample(MONO_MP3), b"audio/mpeg".as_slice()));
}

/// The MP3 was made of both channels: about as long, and loud where they are loud.
fn expect_same_sound(answer: &Answer, both: &[i16]) {
    let (decoded, channels) = samples(&answer.body);
    assert_eq!(channels, 1);
    let expected = both.len() / 2;
    assert!(decoded.len().abs_diff(expected) < 8_000 / 4, "{} samples and not {expected}", decoded.len());
    let loudness = |samples: &[i16]| samples.iter().map(|sample| f64::from(*sample).abs()).sum::<f64>();
    let mixed: Vec<i16> = both.chunks_exact(2).map(|pair| i16::midpoint(pair[0], pair[1])).collect();
    let halves = |samples: &[i16]| loudness(&samples[..samples.len() / 2]) / loudness(samples);
    assert!((halves(&decoded) - halves(&mixed)).abs() < 0.1, "loud elsewhere");
}

/// Lowest and highest of each stretch of samples, as `audiowaveform` writes them with 8 bits.
fn peaks(samples: &[i16], channels: usize, drawn: usize, stretch: usize) -> Vec<i64> {
    let mut out = Vec::new();
    for frames in samples.chunks(stretch * channels) {
        for channel in 0..drawn {
            let one = |frame: &[i16]| {
                if drawn == channels {
                    i64::from(frame[channel])
                } else {
                    frame.iter().map(|sample| i64::from(*sample)).sum::<i64>() / i64::try_from(channels).unwrap()
                }
            };
            let values = || frames.chunks_exact(channels).map(one);
            out.extend([values().min().unwrap() >> 8, values().max().unwrap() >> 8]);
        }
    }
    out
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_waveform_is_that_of_the_audio_at_every_zoom() {
    let bench = Bench::start();
    let wav = sample(STEREO_WAV);
    let id = bench.stored("call_recording_wave%40h.wav", &wav).await;
    bench.probed(&id).await;
    let (both, channels) = samples(&wav);
    let finest = bench.listen(&format!("{id}/waveform")).await.expect(200).json();
    let stretch = number(&finest["samples_per_pixel"]);
    for stretch in [stretch, stretch * 2, stretch * 4] {
        let answer = bench.listen(&format!("{id}/waveform?samples_per_pixel={stretch}")).await.expect(200);
        assert_eq!(answer.content_type(), "application/json");
        let wave = answer.json();
        let head = [&wave["version"], &wave["sample_rate"], &wave["samples_per_pixel"], &wave["bits"]].map(number);
        assert_eq!(head, [2, 8_000, stretch, 8]);
        let (drawn, length) = (number(&wave["channels"]), number(&wave["length"]));
        let data: Vec<i64> = wave["data"].as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect();
        assert_eq!((length, data.len()), ((both.len() / channels).div_ceil(stretch), length * drawn * 2));
        let expected = peaks(&both, channels, drawn, stretch);
        let near = data.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() <= 1);
        assert!(near, "{stretch} samples a pixel: other peaks");
        let accept = [("accept", "application/octet-stream")];
        let rest = format!("{id}/waveform?samples_per_pixel={stretch}");
        let binary = bench.listen_with("GET", &rest, &accept).await.expect(200);
        assert_eq!(binary.content_type(), "application/octet-stream");
        assert_eq!(binary.body, binary_form(&wave, &data));
    }
    let mp3 = bench.stored("call_recording_wave%40h.mp3", &sample(SMALL_MP3)).await;
    let wave = bench.listen(&format!("{mp3}/waveform")).await.expect(200).json();
    assert!(wave["data"].as_array().unwrap().iter().any(|value| value.as_i64().unwrap() > 5), "silent");
    for wrong in ["samples_per_pixel=0", "samples_per_pixel=-1", "samples_per_pixel=many", "zoom=2"] {
        bench.listen(&format!("{id}/waveform?{wrong}")).await.expect_problem(400);
    }
}

/// The binary form, version 2, 8 bits.
fn binary_form(wave: &Value, data: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in [
        2,
        1,
        number(&wave["sample_rate"]),
        number(&wave["samples_per_pixel"]),
        number(&wave["length"]),
        number(&wave["channels"]),
    ] {
        out.extend_from_slice(&u32::try_from(field).unwrap().to_le_bytes());
    }
    out.extend(data.iter().map(|value| i8::try_from(*value).unwrap().cast_unsigned()));
    out
}
