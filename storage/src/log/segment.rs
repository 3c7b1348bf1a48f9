//! One segment file: header, frames, and how to tell a torn tail from corruption. Plain blocking code.
//!
//! ```text
//! 0      magic "TRUNKLG1" | identity 16 | base offset u64 | nonce 16 | size u64 | crc32c u32    (4096 bytes, zero padded)
//! 4096   frame | frame | … | zeros, or frames of a former life
//! frame  magic u32 | crc32c u32 | payload length u32 | record count u32 | first offset u64 | payload, padded to 8
//! ```
//!
//! Frame checksums are seeded with identity, base offset and nonce, so a frame of a former life never verifies.
//! A frame is one group and is written only after the sync of the one before returned: a frame that does not verify
//! and is followed by one that does is corruption; followed by none, it is a torn tail that nobody was told of. So
//! only the last frame of the log can be one that reads well and is not on disk; see [`Segment::settle`].

use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use uuid::Uuid;

use super::disk::{self, LogFile};
use crate::error::{Context, Error};
use crate::event::Offset;

const SEGMENT_MAGIC: &[u8; 8] = b"TRUNKLG1";
const FRAME_MAGIC: u32 = 0x4d52_4654;
const FRAME_HEADER: usize = 24;
/// Read at once where only the headers of frames are wanted.
const HOP_BYTES: u64 = 64 << 10;
/// Where frames begin.
pub(super) const HEADER_BYTES: u64 = 4096;
/// What file systems write in.
const BLOCK_BYTES: u64 = 4096;

/// Where a frame stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameAt {
    pub first: u64,
    pub count: u32,
    pub position: u64,
}

impl FrameAt {
    /// The offset after its last record.
    fn next(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub path: PathBuf,
    pub base: u64,
    file: LogFile,
    seed: u32,
    capacity: u64,
    pub end: u64,
    pub frames: Vec<FrameAt>,
}

/// What a scan found behind the last good frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Clean,
    Torn { position: u64 },
}

pub(super) fn file_name(base: u64) -> String {
    format!("{base:020}.seg")
}

/// The offset at which the segment of this name begins; of another name one that no log has.
pub(super) fn base_of(path: &Path) -> u64 {
    let base = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
    base.unwrap_or(u64::MAX)
}

/// Makes a spare of this size, filled with zeros and synced, so that appends never grow a file.
pub(super) fn write_spare(path: &Path, bytes: u64) -> Result<(), Error> {
    let what = || format!("preparing log segment `{}`", path.display());
    let made = (|| {
        let file = LogFile::create(path)?;
        let zeros = vec![0; 1 << 20];
        let mut position = 0;
        while position < bytes {
            let piece = (bytes - position).min(zeros.len() as u64);
            file.write_all_at(&zeros[..usize::try_from(piece).unwrap_or(zeros.len())], position)?;
            position += piece;
        }
        file.sync_data()
    })();
    if made.is_err() {
        // A half-made spare is of no use and may be what fills the disk.
        let _ = disk::remove(path);
    }
    made.context(what())
}

impl Segment {
    /// Turns a spare into the segment that begins at `base`: header written and synced, then renamed. The segment may
    /// be written once its directory is synced. If anything fails, the spare must not be used again.
    pub fn begin(directory: &Path, spare: &Path, identity: Uuid, base: u64) -> Result<Segment, Error> {
        let path = directory.join(file_name(base));
        let what = || format!("beginning log segment `{}`", path.display());
        let file = LogFile::open(spare).context(what())?;
        let capacity = file.length().context(what())?;
        let header = header(identity, base, Uuid::new_v4(), capacity);
        file.write_all_at(&header, 0).context(what())?;
        file.sync_data().context(what())?;
        disk::rename(spare, &path).context(what())?;
        let seed = crc32c::crc32c(&header[8..48]);
        Ok(Segment { path, base, file, seed, capacity, end: HEADER_BYTES, frames: Vec::new() })
    }

    /// Opens and scans a segment; after the last one, of which `next` says nothing, a torn tail is allowed. Of one whose
    /// frames lead to the offset `next`, at which the following one begins, the records are not read: every frame of it was
    /// synced, and [`Segment::read`] verifies what is read. So a long log opens as fast as a short one.
    pub fn open(path: &Path, identity: Uuid, next: Option<u64>) -> Result<(Segment, Rest), Error> {
        let what = || format!("opening log segment `{}`", path.display());
        let file = LogFile::open(path).context(what())?;
        let length = file.length().context(what())?;
        if length < HEADER_BYTES {
            return Err(Error::Corrupt(format!("log segment `{}` is shorter than its header", path.display())));
        }
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, 0).context(what())?;
        let (base, seed, capacity) = check_header(path, &header, identity)?;
        if length != capacity {
            return Err(Error::Corrupt(format!(
                "log segment `{}` has {length} bytes, but was made with {capacity}: records from offset {base} on may be lost",
                path.display()
            )));
        }
        let mut segment =
            Segment { path: path.to_owned(), base, file, seed, capacity, end: HEADER_BYTES, frames: Vec::new() };
        if let Some(next) = next
            && segment.hop(next).context(what())?
        {
            return Ok((segment, Rest::Clean));
        }
        let rest = segment.scan(next.is_none())?;
        Ok((segment, rest))
    }

    /// Bytes that a frame for this payload takes.
    pub fn frame_bytes(payload: usize) -> u64 {
        (FRAME_HEADER + payload).next_multiple_of(8) as u64
    }

    /// The longest payload for which an empty segment of this size has room.
    pub fn largest_payload(bytes: u64) -> u64 {
        bytes.saturating_sub(HEADER_BYTES + FRAME_HEADER as u64) / 8 * 8
    }

    /// The size of the file.
    pub fn bytes(&self) -> u64 {
        self.capacity
    }

    pub fn has_room(&self, payload: usize) -> bool {
        self.end + Self::frame_bytes(payload) <= self.capacity
    }

    /// The offset after the last record.
    pub fn next(&self) -> u64 {
        self.frames.last().map_or(self.base, FrameAt::next)
    }

    /// The frames that have records from this offset on: there may be millions before them.
    pub fn frames_from(&self, offset: Offset) -> &[FrameAt] {
        &self.frames[self.frames.partition_point(|frame| frame.next() <= offset.0)..]
    }

    /// Lets the system forget its copy of the file.
    pub fn let_go(&self) {
        self.file.let_go();
    }

    /// Writes one frame and syncs it. On an error the segment must not be written again.
    pub fn write(&mut self, records: &[Bytes]) -> std::io::Result<()> {
        let first = self.next();
        let count = u32::try_from(records.len()).map_err(std::io::Error::other)?;
        let payload: usize = records.iter().map(|record| 4 + record.len()).sum();
        let length = u32::try_from(payload).map_err(std::io::Error::other)?;
        let mut frame = Vec::with_capacity(FRAME_HEADER + payload + 8);
        frame.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&count.to_le_bytes());
        frame.extend_from_slice(&first.to_le_bytes());
        for record in records {
            frame.extend_from_slice(&u32::try_from(record.len()).map_err(std::io::Error::other)?.to_le_bytes());
            frame.extend_from_slice(record);
        }
        let crc = crc32c::crc32c_append(self.seed, &frame[8..]);
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        frame.resize(frame.len().next_multiple_of(8), 0);
        let end = self.end + frame.len() as u64;
        // Whole blocks: of one that is written in part, and is not in the kernel's memory, the rest would be read first.
        let whole = end.next_multiple_of(BLOCK_BYTES).min(self.capacity) - self.end;
        frame.resize(usize::try_from(whole).map_err(std::io::Error::other)?, 0);
        self.file.write_all_at(&frame, self.end)?;
        self.file.sync_data()?;
        self.frames.push(FrameAt { first, count, position: self.end });
        self.end = end;
        Ok(())
    }

    /// Makes the last frame durable, whatever became of it before. It reads well, but after a failed sync, or one that
    /// never came, only the kernel's memory may have it, in pages that count as written; so it is written again.
    pub fn settle(&self) -> Result<(), Error> {
        let what = || format!("settling the last frame of `{}`", self.path.display());
        let Some(last) = self.frames.last() else { return Ok(()) };
        let mut frame = vec![0; usize::try_from(self.end - last.position).unwrap_or_default()];
        self.file.read_exact_at(&mut frame, last.position).context(what())?;
        if self.verify(&frame, 0).is_none() {
            return Err(Error::Corrupt(format!("{}: it read well a moment ago", what())));
        }
        self.file.write_all_at(&frame, last.position).context(what())?;
        self.file.sync_data().context(what())
    }

    /// The records of the frame at this position.
    pub fn read(&self, frame: FrameAt) -> Result<Vec<(Offset, Bytes)>, Error> {
        let corrupt = |what: &str| {
            let last = frame.next() - 1;
            Error::Corrupt(format!("log `{}`: offsets {} to {last}: {what}", self.path.display(), frame.first))
        };
        let mut header = [0; FRAME_HEADER];
        let context = || format!("reading log segment `{}`", self.path.display());
        self.file.read_exact_at(&mut header, frame.position).context(context())?;
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        if Self::frame_bytes(length) > self.capacity {
            return Err(corrupt("impossible length"));
        }
        let mut payload = vec![0; length];
        self.file.read_exact_at(&mut payload, frame.position + FRAME_HEADER as u64).context(context())?;
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(self.seed, &header[8..]), &payload);
        if crc.to_le_bytes() != header[4..8] {
            return Err(corrupt("checksum does not match"));
        }
        let mut payload = Bytes::from(payload);
        let mut records = Vec::with_capacity(frame.count as usize);
        for index in 0..u64::from(frame.count) {
            if payload.remaining() < 4 {
                return Err(corrupt("records are cut off"));
            }
            let length = payload.get_u32_le() as usize;
            if payload.remaining() < length {
                return Err(corrupt("records are cut off"));
            }
            records.push((Offset(frame.first + index), payload.split_to(length)));
        }
        Ok(records)
    }

    /// Goes from one frame's header to the next without looking at records; says whether that leads to this offset. If
    /// not, nothing was taken in.
    fn hop(&mut self, next: u64) -> std::io::Result<bool> {
        let mut frames: Vec<FrameAt> = Vec::new();
        let (mut position, mut first) = (HEADER_BYTES, self.base);
        let (mut buffer, mut read_at) = (Vec::new(), 0);
        while first < next {
            if position + FRAME_HEADER as u64 > self.capacity {
                return Ok(false);
            }
            if buffer.is_empty() || position + FRAME_HEADER as u64 > read_at + buffer.len() as u64 {
                read_at = position;
                buffer.resize(usize::try_from((self.capacity - position).min(HOP_BYTES)).unwrap_or_default(), 0);
                self.file.read_exact_at(&mut buffer, position)?;
            }
            let header = usize::try_from(position - read_at).ok().and_then(|at| FrameHeader::at(&buffer, at));
            let Some(header) = header.filter(|header| header.first == first && header.count > 0) else {
                return Ok(false);
            };
            frames.push(FrameAt { first, count: header.count, position });
            position += Self::frame_bytes(header.length);
            first += u64::from(header.count);
        }
        let leads_there = first == next && position <= self.capacity;
        if leads_there {
            (self.frames, self.end) = (frames, position);
        }
        Ok(leads_there)
    }

    fn scan(&mut self, last: bool) -> Result<Rest, Error> {
        let context = || format!("scanning log segment `{}`", self.path.display());
        let mut bytes = vec![0; usize::try_from(self.capacity).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, 0).context(context())?;
        let mut position = HEADER_BYTES as usize;
        while let Some((frame, end)) = self.verify(&bytes, position) {
            if frame.first != self.next() {
                break;
            }
            self.frames.push(frame);
            position = end;
        }
        self.end = position as u64;
        if bytes[position.min(bytes.len())..].iter().all(|byte| *byte == 0) {
            return Ok(Rest::Clean);
        }
        let next = self.next();
        let later = (position..bytes.len().saturating_sub(FRAME_HEADER)).step_by(8);
        for candidate in later {
            if let Some((frame, _)) = self.verify(&bytes, candidate)
                && frame.first >= next
            {
                return Err(Error::Corrupt(format!(
                    "log `{}`: the records from offset {next} do not verify, but those from {} do",
                    self.path.display(),
                    frame.first
                )));
            }
        }
        // Bytes of a former life look like this too; only a frame magic says that a write had begun.
        let begun = bytes.get(position..position + 4) == Some(&FRAME_MAGIC.to_le_bytes()[..]);
        Ok(if last && begun { Rest::Torn { position: self.end } } else { Rest::Clean })
    }

    fn verify(&self, bytes: &[u8], position: usize) -> Option<(FrameAt, usize)> {
        let FrameHeader { checksum, length, count, first } = FrameHeader::at(bytes, position)?;
        let end = position + FRAME_HEADER + length;
        let content = bytes.get(position + 8..end)?;
        if crc32c::crc32c_append(self.seed, content) != checksum {
            return None;
        }
        Some((FrameAt { first, count, position: position as u64 }, end.next_multiple_of(8)))
    }
}

/// What stands before the records of a frame.
struct FrameHeader {
    checksum: u32,
    length: usize,
    count: u32,
    first: u64,
}

impl FrameHeader {
    /// `None` if no frame begins here.
    fn at(bytes: &[u8], position: usize) -> Option<FrameHeader> {
        let header = bytes.get(position..position + FRAME_HEADER)?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if word(0) != FRAME_MAGIC {
            return None;
        }
        let first = u64::from(word(16)) | u64::from(word(20)) << 32;
        Some(FrameHeader { checksum: word(4), length: word(8) as usize, count: word(12), first })
    }
}

fn header(identity: Uuid, base: u64, nonce: Uuid, capacity: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES as usize);
    header.extend_from_slice(SEGMENT_MAGIC);
    header.extend_from_slice(identity.as_bytes());
    header.extend_from_slice(&base.to_le_bytes());
    header.extend_from_slice(nonce.as_bytes());
    header.extend_from_slice(&capacity.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    header.resize(HEADER_BYTES as usize, 0);
    header
}

fn check_header(path: &Path, header: &[u8], identity: Uuid) -> Result<(u64, u32, u64), Error> {
    let corrupt = |what: &str| Error::Corrupt(format!("log segment `{}`: {what}", path.display()));
    if &header[..8] != SEGMENT_MAGIC || crc32c::crc32c(&header[..56]).to_le_bytes() != header[56..60] {
        return Err(corrupt("the header does not verify"));
    }
    if &header[8..24] != identity.as_bytes() {
        return Err(corrupt("it belongs to another log"));
    }
    let number = |at: usize| header[at..at + 8].try_into().map(u64::from_le_bytes).map_err(|_| corrupt("short header"));
    let (base, capacity) = (number(24)?, number(48)?);
    if path.file_name().and_then(|name| name.to_str()) != Some(&file_name(base)) {
        return Err(corrupt("its name and its base offset differ"));
    }
    Ok((base, crc32c::crc32c(&header[8..48]), capacity))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a block that is written in part the rest would be read from disk first.
    #[test]
    fn whole_blocks_are_written_and_frames_still_follow_each_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let spare = directory.path().join("former-life.spare");
        let capacity = (HEADER_BYTES + BLOCK_BYTES + BLOCK_BYTES / 2) as usize;
        std::fs::write(&spare, vec![0xff; capacity]).expect("a spare");
        let mut segment = Segment::begin(directory.path(), &spare, Uuid::nil(), 0).expect("begun");
        let (end_of_block, content) = ((HEADER_BYTES + BLOCK_BYTES) as usize, |segment: &Segment| {
            std::fs::read(&segment.path).expect("the segment")
        });
        segment.write(&[Bytes::from_static(b"one")]).expect("written");
        let bytes = content(&segment);
        assert!(bytes[segment.end as usize..end_of_block].iter().all(|byte| *byte == 0), "a block in part");
        assert!(bytes[end_of_block..].iter().all(|byte| *byte == 0xff), "more than the block");
        // The last block is shorter, and the file does not grow for it.
        segment.write(&[Bytes::from(vec![7; BLOCK_BYTES as usize])]).expect("written");
        let bytes = content(&segment);
        assert_eq!(bytes.len(), capacity);
        assert!(bytes[segment.end as usize..].iter().all(|byte| *byte == 0), "a block in part");
        let (opened, _) = Segment::open(&segment.path, Uuid::nil(), None).expect("opened");
        assert_eq!((opened.next(), opened.end), (2, segment.end));
    }
}
