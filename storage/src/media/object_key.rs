//! Object keys: `objects/recordings/<tenant>/<day>/<name>`, for a shared file followed by `#<offset>+<length>`.

use crate::error::Error;

/// Where recordings lie, from the data directory.
pub(super) const RECORDINGS: &str = "objects/recordings";

/// An object key that names nothing outside of [`RECORDINGS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectKey<'a> {
    /// The file, from the data directory.
    pub file: &'a str,
    /// Offset and length in bytes; `None` is the whole file.
    pub window: Option<(u64, u64)>,
}

impl<'a> ObjectKey<'a> {
    /// Reads a key.
    ///
    /// # Errors
    /// `Missing` when it is no key of this store: there cannot be such an object.
    pub fn parse(object: &'a str) -> Result<ObjectKey<'a>, Error> {
        ObjectKey::read(object).ok_or_else(|| Error::Missing(object.escape_debug().to_string()))
    }

    fn read(object: &'a str) -> Option<ObjectKey<'a>> {
        let (file, window) = match object.split_once('#') {
            Some((file, window)) => (file, Some(read_window(window)?)),
            None => (object, None),
        };
        let below = file.strip_prefix(RECORDINGS)?.strip_prefix('/')?;
        let whole = below.split('/').count() == 3 && below.split('/').all(is_component);
        whole.then_some(ObjectKey { file, window })
    }
}

fn read_window(window: &str) -> Option<(u64, u64)> {
    let (offset, length) = window.split_once('+')?;
    let number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?;
    let (offset, length): (u64, u64) = (number(offset)?, number(length)?);
    offset.checked_add(length)?;
    Some((offset, length))
}

/// Whether this may be the name of a directory or file of the store.
pub(super) fn is_component(name: &str) -> bool {
    let taken = |letter: char| letter == '/' || letter == '#' || letter.is_control();
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && !name.contains(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        let file = "objects/recordings/acme/2026-01-31/0123abcd";
        assert_eq!(ObjectKey::read(file), Some(ObjectKey { file, window: None }));
        let packed = format!("{file}#65536+12");
        assert_eq!(ObjectKey::read(&packed), Some(ObjectKey { file, window: Some((65536, 12)) }));
    }

    #[test]
    fn what_is_no_key_is_missing() {
        for object in [
            "",
            "/etc/passwd",
            "objects/recordings",
            "objects/recordings/",
            "objects/recordings/acme/2026-01-31/",
            "objects/recordings/acme/../x",
            "objects/recordings/../../secrets/x",
            "objects/recordings//2026-01-31/x",
            "objects/recordings/acme/2026-01-31/.",
            "objects/recordings/acme/2026-01-31/..",
            "objects/recordings/acme/2026-01-31/x\0",
            "objects/recordings/acme/2026-01-31/x/y",
            "objects/recordingsacme/2026-01-31/x/y",
            "/objects/recordings/acme/2026-01-31/x",
            "objects/.tmp/acme/2026-01-31/x",
            "objects/recordings/acme/2026-01-31/x#",
            "objects/recordings/acme/2026-01-31/x#1",
            "objects/recordings/acme/2026-01-31/x#+1+2",
            "objects/recordings/acme/2026-01-31/x#1+",
            "objects/recordings/acme/2026-01-31/x#-1+2",
            "objects/recordings/acme/2026-01-31/x#18446744073709551615+1",
        ] {
            assert!(matches!(ObjectKey::parse(object), Err(Error::Missing(_))), "{object:?}");
        }
    }
}
