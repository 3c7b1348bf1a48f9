//! The structure of an MPEG audio stream (MP3): every frame header is walked over, no sample is decoded.
//!
//! A frame header says how long its frame is, so a sound stream is a gapless chain; the tag in the first frame
//! (`Xing`, `Info`, `VBRI`) says how many frames there ought to be, and LAME's part of it how many samples at both
//! ends are no sound.

mod header;

use std::io;
use std::ops::Range;

use super::source::{Source, Window};
use header::{Header, Tag};

/// How far into the bytes a first frame is looked for.
const MAX_LEAD: u64 = 64 * 1024;
/// The longest frame, in bytes.
const MAX_FRAME: usize = 2881;
/// Bytes that are looked at to believe a first frame.
const LOOK_AHEAD: usize = 3 * MAX_FRAME + 4;
/// Samples by which every decoder is late.
const DECODER_DELAY: u64 = 529;

/// Samples a channel that are sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audible {
    /// Samples at the start that are none.
    pub skip: u64,
    /// Samples after those.
    pub keep: u64,
}

/// A stream, walked over to its end.
#[derive(Clone, Debug)]
pub struct Mpeg {
    /// Of the first frame.
    pub header: Header,
    /// From the first frame to the end of the last.
    pub range: Range<u64>,
    /// Bytes in frames of sound.
    pub frame_bytes: u64,
    frames: u64,
    samples: u64,
    tag: Tag,
    /// Bytes between frames that are none, and where the first of them is.
    stray: u64,
    broken_at: Option<u64>,
    /// The last frame is not whole.
    is_cut: bool,
}

impl Mpeg {
    /// All samples a channel in the frames that are there.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Which samples are sound: the encoder's additions are left out when the stream is as long as its tag says.
    pub fn audible(&self) -> Audible {
        let all = Audible { skip: 0, keep: self.samples };
        let Some((before, after)) = self.tag.added.filter(|_| self.tag.frames == Some(self.frames)) else { return all };
        let (skip, keep) = (before + DECODER_DELAY, self.samples.saturating_sub(before + after));
        if keep == 0 { all } else { Audible { skip, keep: keep.min(self.samples - skip.min(self.samples)) } }
    }

    /// The codec, named as ffmpeg does.
    pub fn codec(&self) -> String {
        format!("mp{}", self.header.layer)
    }

    /// Why the stream is not whole.
    pub fn damage(&self) -> Option<String> {
        let frames = self.frames;
        let mut reasons = Vec::new();
        match (self.tag.frames, self.tag.bytes) {
            // Some encoders count the frame of the tag as well.
            (Some(announced), _) if announced > frames + 1 => {
                reasons.push(format!("truncated: {frames} of {announced} frames"));
            }
            (None, Some(announced)) if announced > self.range.end - self.range.start + MAX_FRAME as u64 => {
                reasons.push(format!("truncated: shorter than the {announced} bytes that its header names"));
            }
            _ => {}
        }
        if self.is_cut {
            reasons.push("the last frame is cut off".to_owned());
        }
        if let Some(at) = self.broken_at {
            reasons.push(format!("{} bytes are no frame, from byte {at} on", self.stray));
        }
        if frames == 0 && reasons.is_empty() {
            reasons.push("there is no frame of sound".to_owned());
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Passes ID3v2 tags.
pub fn skip_tags(window: &mut Window<'_>) -> io::Result<()> {
    while let Some(length) = id3_length(window.peek(10)?) {
        window.skip(length);
    }
    Ok(())
}

fn id3_length(head: &[u8]) -> Option<u64> {
    let size = head.get(6..10).filter(|size| head.starts_with(b"ID3") && size.iter().all(|byte| *byte < 0x80))?;
    let length = size.iter().fold(0u64, |length, byte| length << 7 | u64::from(*byte));
    let footer = if head[5] & 0x10 == 0 { 0 } else { 10 };
    Some(10 + length + footer)
}

/// Walks over an MPEG stream; `None` if there is none.
pub fn read(source: &mut dyn Source, range: Range<u64>) -> io::Result<Option<Mpeg>> {
    let mut window = Window::new(source, range.clone());
    let Some(header) = find_first(&mut window)? else { return Ok(None) };
    let start = window.position();
    let mut stream = Mpeg {
        header,
        range: start..start,
        frame_bytes: 0,
        frames: 0,
        samples: 0,
        tag: Tag::default(),
        stray: 0,
        broken_at: None,
        is_cut: false,
    };
    let is_padded = Window::new(source, range.start..start).peek(MAX_LEAD as usize)?.iter().all(|byte| *byte == 0);
    if !is_padded {
        (stream.stray, stream.broken_at) = (start - range.start, Some(range.start));
    }
    stream.walk(&mut Window::new(source, start..range.end))?;
    Ok(Some(stream))
}

/// Stands at the first frame afterwards. At the very start a header is believed that the next does not contradict;
/// further on three in a row must agree, because random bytes look like a header now and then.
fn find_first(window: &mut Window<'_>) -> io::Result<Option<Header>> {
    let start = window.position();
    while window.left() >= 4 && window.position() - start <= MAX_LEAD {
        let (left, is_start) = (window.left(), window.position() == start);
        let ahead = window.peek(LOOK_AHEAD)?;
        if let Some(header) = Header::parse(ahead)
            && leads_on(&header, ahead, left, if is_start { 1 } else { 2 }, is_start)
        {
            return Ok(Some(header));
        }
        let step = 1 + ahead.iter().skip(1).position(|byte| *byte == 0xff).unwrap_or(ahead.len());
        window.skip(step as u64);
    }
    Ok(None)
}

/// Whether so many more frames follow this one, or the end does; a frame that the end cuts off counts if it may.
fn leads_on(header: &Header, ahead: &[u8], left: u64, more: usize, may_be_cut: bool) -> bool {
    let mut at = header.bytes;
    for _ in 0..more {
        if at as u64 >= left {
            return at as u64 == left || may_be_cut;
        }
        let following = ahead.get(at..).unwrap_or_default();
        match Header::parse(following) {
            Some(next) if next.fits(header) => at += next.bytes,
            _ => return left - (at as u64) < 4 && may_be_cut || is_trailer(following, left - at as u64),
        }
    }
    at as u64 <= left || may_be_cut
}

/// Whether these bytes begin the tags at the end of a file: ID3v1, APE or Lyrics3.
fn is_trailer(bytes: &[u8], left: u64) -> bool {
    let is_id3 = bytes.starts_with(b"TAG") && (left == 128 || bytes.starts_with(b"TAG+"));
    is_id3 || bytes.starts_with(b"APETAGEX") || bytes.starts_with(b"LYRICSBEGIN")
}

impl Mpeg {
    fn walk(&mut self, window: &mut Window<'_>) -> io::Result<()> {
        let mut is_first = true;
        while window.left() > 0 {
            let left = window.left();
            let ahead = window.peek(MAX_FRAME)?;
            let Some(header) = Header::parse(ahead).filter(|header| header.fits(&self.header)) else {
                if is_trailer(ahead, left) {
                    break;
                }
                self.pass_stray(window)?;
                continue;
            };
            let Some(frame) = ahead.get(..header.bytes) else {
                self.is_cut = true;
                break;
            };
            let tag = Tag::parse(&header, frame);
            if tag.is_none() {
                self.frames += 1;
                self.samples += header.samples;
                self.frame_bytes += header.bytes as u64;
            }
            if std::mem::take(&mut is_first) {
                self.tag = tag.unwrap_or_default();
            }
            window.skip(header.bytes as u64);
            self.range.end = window.position();
        }
        Ok(())
    }

    /// Passes bytes that are no frame, up to the next two frames that agree or to the end.
    fn pass_stray(&mut self, window: &mut Window<'_>) -> io::Result<()> {
        if let Some(length) = id3_length(window.peek(10)?) {
            window.skip(length);
            return Ok(());
        }
        self.broken_at.get_or_insert(window.position());
        loop {
            let ahead = window.peek(LOOK_AHEAD)?;
            let step = 1 + ahead.iter().skip(1).position(|byte| *byte == 0xff).unwrap_or(ahead.len());
            let step = (step as u64).min(window.left());
            window.skip(step);
            self.stray += step;
            let left = window.left();
            if left == 0 {
                return Ok(());
            }
            let ahead = window.peek(LOOK_AHEAD)?;
            let header = Header::parse(ahead).filter(|header| header.fits(&self.header));
            if is_trailer(ahead, left) || header.is_some_and(|header| leads_on(&header, ahead, left, 1, false)) {
                return Ok(());
            }
        }
    }
}
