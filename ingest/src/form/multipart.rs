//! `multipart/form-data` with text fields, as some senders' libraries make of a form.

use super::FormError;

/// The fields of a multipart body.
pub fn parse(content_type: &str, body: &[u8]) -> Result<Vec<(String, String)>, FormError> {
    let boundary = parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty());
    let delimiter = format!("--{}", boundary.ok_or(FormError::Multipart)?);
    let mut rest = find(body, delimiter.as_bytes()).map(|start| &body[start + delimiter.len()..]);
    let mut pairs = Vec::new();
    while let Some(text) = rest {
        if text.starts_with(b"--") {
            return Ok(pairs);
        }
        let end = find(text, delimiter.as_bytes()).ok_or(FormError::Multipart)?;
        pairs.push(part(&text[..end])?);
        rest = Some(&text[end + delimiter.len()..]);
    }
    Err(FormError::Multipart)
}

fn part(text: &[u8]) -> Result<(String, String), FormError> {
    let start = find(text, b"\r\n\r\n").ok_or(FormError::Multipart)?;
    let head = std::str::from_utf8(&text[..start]).map_err(|_| FormError::Utf8)?;
    let value = &text[start + 4..];
    let value = value.strip_suffix(b"\r\n").unwrap_or(value);
    let is_disposition = |line: &&str| line.to_ascii_lowercase().starts_with("content-disposition:");
    let disposition = head.split("\r\n").find(is_disposition).ok_or(FormError::Multipart)?;
    let name = parameter(disposition, "name").ok_or(FormError::Multipart)?;
    let value = std::str::from_utf8(value).map_err(|_| FormError::Utf8)?;
    Ok((name, value.to_owned()))
}

/// The value of `name=value` or `name="value"` after a semicolon.
fn parameter(text: &str, name: &str) -> Option<String> {
    text.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
