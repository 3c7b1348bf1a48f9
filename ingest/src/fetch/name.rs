//! The name of a fetched file: as the answer gives it (RFC 6266), else the last segment of the URL's path.

use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{CONTENT_DISPOSITION, HeaderMap};

/// What file systems take.
const LONGEST_BYTES: usize = 255;

/// The file's name, without any path; `None` if there is none.
pub(super) fn file_name(headers: &HeaderMap, url: &Url) -> Option<String> {
    let disposition = headers.get(CONTENT_DISPOSITION).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let sent = disposition.and_then(|disposition| of_disposition(&disposition));
    sent.or_else(|| {
        let last = url.path_segments()?.next_back()?;
        plain(&percent_decode_str(last).decode_utf8_lossy())
    })
}

/// `filename*` before `filename`.
fn of_disposition(disposition: &str) -> Option<String> {
    let parameters = parameters(disposition);
    let find = |name: &str| parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let extended = find("filename*").and_then(|value| {
        let (charset, rest) = value.split_once('\'')?;
        let (_language, encoded) = rest.split_once('\'')?;
        let is_utf8 = charset.eq_ignore_ascii_case("utf-8");
        is_utf8.then(|| percent_decode_str(encoded).decode_utf8_lossy().into_owned())
    });
    extended.and_then(|name| plain(&name)).or_else(|| plain(find("filename")?))
}

/// Names in lower case and values without quotes; a `;` inside quotes does not end a value.
fn parameters(disposition: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for character in disposition.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => {
                escaped = true;
                continue;
            }
            '"' => {
                quoted = !quoted;
                continue;
            }
            ';' if !quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    let pairs = parts.iter().filter_map(|part| part.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect()
}

/// The last segment of what may be a path, without control characters, not too long.
fn plain(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next()?;
    let mut plain: String = last.chars().filter(|character| !character.is_control()).collect();
    while plain.len() > LONGEST_BYTES {
        plain.pop();
    }
    let plain = plain.trim();
    (!matches!(plain, "" | "." | "..")).then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn name(disposition: Option<&str>, url: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(disposition) = disposition {
            headers.insert(CONTENT_DISPOSITION, HeaderValue::from_bytes(disposition.as_bytes()).expect("a value"));
        }
        file_name(&headers, &Url::parse(url).expect("a URL"))
    }

    #[test]
    fn names_of_files() {
        let url = "http://pbx.example/rec/1617661332.43.mp3?token=secret";
        for (disposition, expected) in [
            (None, "1617661332.43.mp3"),
            (Some("attachment"), "1617661332.43.mp3"),
            (Some("attachment; filename=a.mp3"), "a.mp3"),
            (Some("attachment; FileName=\"a b; c.mp3\""), "a b; c.mp3"),
            (Some("attachment; filename=\"a\\\"b.mp3\""), "a\"b.mp3"),
            (Some("attachment; filename=\"x.mp3\"; filename*=UTF-8''%D0%B7%D0%B2%D0%BE%D0%BD.mp3"), "звон.mp3"),
            (Some("attachment; filename*=latin'x; filename=y.mp3"), "y.mp3"),
            (Some("attachment; filename=\"../../etc/passwd\""), "passwd"),
            (Some("attachment; filename=\"C:\\\\temp\\\\a.mp3\""), "a.mp3"),
            (Some("attachment; filename=\"..\""), "1617661332.43.mp3"),
            (Some("attachment; filename=\"\""), "1617661332.43.mp3"),
        ] {
            assert_eq!(name(disposition, url).as_deref(), Some(expected), "{disposition:?}");
        }
        assert_eq!(name(None, "http://pbx.example/"), None);
        assert_eq!(name(None, "http://pbx.example/a%2F..%2Fb%00%0A.mp3").as_deref(), Some("b.mp3"));
        assert_eq!(name(None, &format!("http://pbx.example/{}", "ä".repeat(300))).map(|name| name.len()), Some(254));
    }
}
