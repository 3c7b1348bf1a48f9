//! Files of containers that the shared recordings do not have, made byte by byte.

/// A FLAC file of one channel and 8 kHz: samples as they are (verbatim), in blocks of 256.
pub fn flac(samples: &[i16]) -> Vec<u8> {
    let mut file = b"fLaC\x80\0\0\x22\x01\0\x01\0\0\0\0\0\0\0".to_vec();
    // 20 bits of rate, 3 of channels, 5 of bits, 36 of samples: less one where there is never none.
    let fields = 8000u64 << 44 | 15 << 36 | samples.len() as u64;
    file.extend(fields.to_be_bytes());
    file.extend([0; 16]);
    for (number, block) in samples.chunks(256).enumerate() {
        let mut frame = vec![0xff, 0xf8, 0x64, 0x08, number as u8 & 0x7f, block.len().wrapping_sub(1) as u8];
        frame.push(checksum(&frame, 8, 0x07) as u8);
        frame.push(2);
        frame.extend(block.iter().flat_map(|sample| sample.to_be_bytes()));
        let sum = checksum(&frame, 16, 0x8005) as u16;
        frame.extend(sum.to_be_bytes());
        file.extend(frame);
    }
    file
}

/// An Ogg stream of Opus, mono: so many packets of 20 ms, a page each, the last one marked as such.
pub fn opus(packets: u64) -> Vec<u8> {
    let head = b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0";
    let mut file = [page(2, 0, 0, head), page(0, 0, 1, b"OpusTags\0\0\0\0\0\0\0\0")].concat();
    for number in 1..=packets {
        // Configuration 31 (CELT, 20 ms), mono, one frame.
        let packet = [&[31 << 3][..], &[0x33; 59]].concat();
        let flags = if number == packets { 4 } else { 0 };
        file.extend(page(flags, number * 960, number as u32 + 1, &packet));
    }
    file
}

fn page(flags: u8, position: u64, number: u32, packet: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(position.to_le_bytes());
    page.extend(77u32.to_le_bytes());
    page.extend(number.to_le_bytes());
    page.extend([0, 0, 0, 0, 1, packet.len() as u8]);
    page.extend(packet);
    let sum = checksum(&page, 32, 0x04c1_1db7);
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    page
}

/// An MP4 file of one channel and 8 kHz, 16 bit, little-endian, 100 samples a chunk; the tables first.
pub fn mp4(samples: &[i16]) -> Vec<u8> {
    let count = samples.len() as u32;
    let tables = movie(count, 0).len() as u32;
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    [movie(count, tables + 8), boxed(b"mdat", &[&data])].concat()
}

fn movie(count: u32, data_at: u32) -> Vec<u8> {
    let numbers = |values: &[u32]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
    // Reserved, data reference, reserved, channels, bits, reserved, rate as 16.16.
    let entry = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 8], &[0, 1, 0, 16, 0, 0, 0, 0], &numbers(&[8000 << 16])].concat();
    let chunks = count / 100;
    let offsets: Vec<u32> = (0..chunks).map(|chunk| data_at + chunk * 200).collect();
    let table = boxed(
        b"stbl",
        &[
            &boxed(b"stsd", &[&numbers(&[0, 1]), &boxed(b"sowt", &[&entry])]),
            &boxed(b"stts", &[&numbers(&[0, 1, count, 1])]),
            &boxed(b"stsc", &[&numbers(&[0, 1, 1, 100, 1])]),
            &boxed(b"stsz", &[&numbers(&[0, 2, count])]),
            &boxed(b"stco", &[&numbers(&[0, chunks]), &numbers(&offsets)]),
        ],
    );
    let media = boxed(
        b"mdia",
        &[
            &boxed(b"mdhd", &[&numbers(&[0, 0, 0, 8000, count, 0x55c4_0000])]),
            &boxed(b"hdlr", &[&numbers(&[0, 0]), b"soun", &[0; 13]]),
            &boxed(b"minf", &[&boxed(b"smhd", &[&[0; 8]]), &table]),
        ],
    );
    let track = [numbers(&[0, 0, 0, 1, 0, count]), vec![0; 60]].concat();
    let movie = [numbers(&[0, 0, 0, 8000, count]), vec![0; 80]].concat();
    let tracks = boxed(b"trak", &[&boxed(b"tkhd", &[&track]), &media]);
    [boxed(b"ftyp", &[b"isom\0\0\0\0isom"]), boxed(b"moov", &[&boxed(b"mvhd", &[&movie]), &tracks])].concat()
}

fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32 + 8).to_be_bytes(), name.as_slice(), &body].concat()
}

/// A cyclic redundancy check of so many bits, most significant first.
fn checksum(bytes: &[u8], bits: u32, polynomial: u64) -> u32 {
    let (top, mask) = (1u64 << (bits - 1), (1u64 << bits) - 1);
    let sum = bytes.iter().fold(0u64, |sum, byte| {
        (0..8).fold(sum ^ u64::from(*byte) << (bits - 8), |sum, _| {
            (if sum & top == 0 { sum << 1 } else { sum << 1 ^ polynomial }) & mask
        })
    });
    sum as u32
}
