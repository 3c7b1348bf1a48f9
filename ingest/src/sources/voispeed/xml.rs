//! Report bodies: cut into `<call>` rows as sent, and the fields of a row. XML is read strictly; what is not XML, but
//! looks like what the vendor's guide prints, by the tolerant scanner. Entities of a document's own are never expanded.

mod tolerant;

use std::collections::BTreeMap;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

/// The fields of a row, names in lower case, values trimmed; a field without a value is empty.
pub(super) type Row = BTreeMap<String, String>;

/// Where the rows of a body stand; an answer without rows has none. An error says why the body is no answer at all.
pub(super) fn split(body: &[u8]) -> Result<Vec<Range<usize>>, String> {
    refuse_definitions(body)?;
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    if !text.starts_with(b"<") {
        return Err("the body is not XML".to_owned());
    }
    let skipped = body.len() - text.len();
    let rows = strict_rows(text).unwrap_or_else(|| tolerant::rows(text));
    if rows.is_empty() && !tolerant::is_answer(text) {
        return Err("the body is no answer of the PBX".to_owned());
    }
    Ok(rows.into_iter().map(|row| row.start + skipped..row.end + skipped).collect())
}

/// The fields of one row.
pub(super) fn row(payload: &[u8]) -> Result<Row, String> {
    refuse_definitions(payload)?;
    let text = std::str::from_utf8(payload).map_err(|_| "the row is not UTF-8".to_owned())?.trim();
    if !text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("<call")) {
        return Err("the payload is not a `<call>` row".to_owned());
    }
    Ok(strict_row(text).unwrap_or_else(|| tolerant::row(text.as_bytes())))
}

/// Document types and entity definitions have no business in an answer, and are how XML bombs are built.
fn refuse_definitions(body: &[u8]) -> Result<(), String> {
    let begins = |tag: &[u8], word: &[u8]| tag.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let mut tags = body.split(|byte| *byte == b'<').skip(1);
    if tags.any(|tag| begins(tag, b"!doctype") || begins(tag, b"!entity")) {
        return Err("document type definitions are not taken".to_owned());
    }
    Ok(())
}

/// The rows of a well-formed document.
fn strict_rows(text: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut reader = Reader::from_str(std::str::from_utf8(text).ok()?);
    let (mut rows, mut depth, mut open) = (Vec::new(), 0_usize, None);
    loop {
        let before = position(&reader)?;
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                if open.is_none() && is_call(tag.name().into_inner()) {
                    open = Some((depth, before));
                }
                depth += 1;
            }
            Event::Empty(tag) if open.is_none() && is_call(tag.name().into_inner()) => {
                rows.push(before..position(&reader)?)
            }
            Event::End(_) => {
                depth = depth.checked_sub(1)?;
                if let Some((opened_at, start)) = open
                    && opened_at == depth
                {
                    rows.push(start..position(&reader)?);
                    open = None;
                }
            }
            Event::DocType(_) => return None,
            Event::Eof => return (depth == 0).then_some(rows),
            _ => {}
        }
    }
}

/// The fields of a well-formed row: the elements right below it.
fn strict_row(text: &str) -> Option<Row> {
    let mut reader = Reader::from_str(text);
    let (mut row, mut depth) = (Row::new(), 0_usize);
    let (mut name, mut value) = (String::new(), String::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                depth += 1;
                if depth == 2 {
                    name = tag.name().into_inner().to_ascii_lowercase();
                    value.clear();
                }
            }
            Event::Empty(tag) if depth == 1 => insert(&mut row, &tag.name().into_inner().to_ascii_lowercase(), ""),
            Event::End(_) => {
                if depth == 2 {
                    insert(&mut row, &name, &value);
                }
                depth = depth.checked_sub(1)?;
            }
            Event::Text(text) if depth == 2 => value.push_str(&text),
            Event::CData(text) if depth == 2 => value.push_str(&text),
            Event::GeneralRef(reference) if depth == 2 => push_reference(&mut value, &reference)?,
            Event::DocType(_) => return None,
            Event::Eof => return (depth == 0).then_some(row),
            _ => {}
        }
    }
}

/// Characters and the five entities that XML itself defines; any other stays as it is written.
fn push_reference(value: &mut String, reference: &BytesRef<'_>) -> Option<()> {
    if let Some(character) = reference.resolve_char_ref().ok()? {
        value.push(character);
    } else if let Some(text) = resolve_predefined_entity(reference) {
        value.push_str(text);
    } else {
        value.extend(["&", &**reference, ";"]);
    }
    Some(())
}

/// Of several fields of one name the first that has a value counts.
fn insert(row: &mut Row, name: &str, value: &str) {
    // The guide opens this one with a misprint.
    let name = if name == "call_ref_if" { "call_ref_id" } else { name };
    let known = row.entry(name.to_owned()).or_default();
    if known.is_empty() {
        value.trim().clone_into(known);
    }
}

fn is_call(name: &str) -> bool {
    name.eq_ignore_ascii_case("call")
}

fn position(reader: &Reader<&[u8]>) -> Option<usize> {
    usize::try_from(reader.buffer_position()).ok()
}

#[cfg(test)]
mod tests;
