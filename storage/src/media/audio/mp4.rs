//! The outline of an MP4 file: whether its boxes are all there, and whether its tables fit into them. symphonia makes
//! room for as many entries as a table says before it reads one.

use std::io;

use super::Container;
use super::source::{Source, Window};

/// Boxes that are looked at before the file is given up.
const MAX_BOXES: usize = 100_000;

/// Boxes that hold boxes.
const PARENTS: [&[u8; 4]; 9] = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"edts"];

/// Walks over the boxes.
pub fn outline(source: &mut dyn Source, bytes: u64) -> io::Result<Container> {
    let mut container = Container { name: "mp4", start: 0, damage: None, is_unsafe: false, is_cut: false };
    let mut window = Window::new(source, 0..bytes);
    for _ in 0..MAX_BOXES {
        let left = window.left();
        if left == 0 {
            return Ok(container);
        }
        let Some((name, header, size)) = read_box(window.peek(16)?, left) else {
            container.damage = Some("truncated: the last box is cut off".to_owned());
            return Ok(container);
        };
        if size > left {
            container.damage = Some(format!("truncated: {left} of the {size} bytes of the last box"));
            // Sound in `mdat` is decoded as far as it goes; a cut table is not.
            container.is_cut = &name == b"mdat";
            container.is_unsafe = !container.is_cut;
            return Ok(container);
        }
        if PARENTS.contains(&&name) {
            window.skip(header);
            continue;
        }
        if table_bytes(&name, window.peek(32)?.get(header as usize..).unwrap_or_default()) > size {
            container.damage = Some("a table is longer than its box".to_owned());
            container.is_unsafe = true;
            return Ok(container);
        }
        window.skip(size);
    }
    container.damage = Some("more boxes than are read".to_owned());
    container.is_unsafe = true;
    Ok(container)
}

/// Name, length of the header and of the whole box.
fn read_box(head: &[u8], left: u64) -> Option<([u8; 4], u64, u64)> {
    let name = [*head.get(4)?, *head.get(5)?, *head.get(6)?, *head.get(7)?];
    let (header, size) = match number(head, 0)? {
        0 => (8, left),
        1 => (16, number(head, 8)? << 32 | number(head, 12)?),
        size => (8, size),
    };
    (size >= header).then_some((name, header, size))
}

/// Bytes that the entries of a table take, from its body.
fn table_bytes(name: &[u8; 4], body: &[u8]) -> u64 {
    let count = |at: usize| number(body, at).unwrap_or_default();
    match name {
        b"stco" => count(4) * 4,
        b"co64" | b"stts" | b"ctts" => count(4) * 8,
        b"stsc" => count(4) * 12,
        // With a size that all samples share there is no table.
        b"stsz" if count(4) == 0 => count(8) * 4,
        b"elst" => count(4) * 12,
        _ => 0,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
}
