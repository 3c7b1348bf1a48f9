//! The rows of `calls`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, SchemaRef};
use compact_str::CompactString;

use super::{Keyed, KeyedCall, State, lists, maps, texts, times, wholes};
use crate::call::{CallRow, CallState, LegRow, Seen};
use crate::error::Error;
use crate::event::Micros;
use crate::fact::Decoder;
use crate::schema;

/// The columns of a call that are not keys, but for its offsets and first receipt.
#[derive(Clone, Debug)]
pub struct ShownCall {
    /// What its messages say.
    pub row: CallRow,
    /// The calling number as E.164.
    pub from_e164: Option<String>,
    /// The called number as E.164.
    pub to_e164: Option<String>,
    /// Latest receipt of any delivery.
    pub last_received_at: Option<Micros>,
}

impl State for CallState {
    const ID: &'static str = "call_id";
    const KEY: &'static str = "call_key";
    const TIME: &'static str = "started_at";

    type Shown = ShownCall;

    fn join(&mut self, other: Self) {
        self.merge(other);
    }

    fn show(call: &Keyed<Self>, decoder: &dyn Decoder) -> ShownCall {
        let row = call.state.row(&call.tenant, call.source);
        let e164 = |number: &Option<CompactString>| {
            number.as_deref().and_then(|number| decoder.e164(&call.tenant, call.source, number))
        };
        let (from_e164, to_e164) = (e164(&row.from_number), e164(&row.to_number));
        let last_received_at = call.state.whole().seen.map(|seen| seen.last_received_at);
        ShownCall { row, from_e164, to_e164, last_received_at }
    }

    fn time(keyed: &Keyed<Self>) -> Option<Micros> {
        keyed.state.started_at(keyed.source).0
    }

    fn is_hidden(&self) -> bool {
        self.leg_of().is_some()
    }

    fn fetch(&self) -> usize {
        self.look()
    }

    fn schema() -> SchemaRef {
        schema::calls()
    }

    fn stored_schema() -> SchemaRef {
        schema::calls_table()
    }

    fn columns(items: &[Keyed<Self>], decoder: &dyn Decoder) -> Result<Vec<ArrayRef>, Error> {
        columns(items, decoder)
    }
}

fn legs(rows: &[CallRow]) -> Result<ArrayRef, Error> {
    let flat: Vec<&LegRow> = rows.iter().flat_map(|row| &row.legs).collect();
    let each = || flat.iter();
    let columns: Vec<ArrayRef> = vec![
        texts(each().map(|leg| Some(leg.leg_key.as_str()))),
        texts(each().map(|leg| leg.endpoint.as_deref())),
        texts(each().map(|leg| leg.endpoint_name.as_deref())),
        texts(each().map(|leg| Some(leg.direction.as_str()))),
        times(each().map(|leg| leg.started_at)),
        times(each().map(|leg| leg.ringing_at)),
        times(each().map(|leg| leg.answered_at)),
        times(each().map(|leg| leg.ended_at)),
        wholes(each().map(|leg| leg.talk_ms)),
        texts(each().map(|leg| Some(leg.disposition))),
        texts(each().map(|leg| leg.disposition_raw.as_deref())),
        wholes(each().map(|leg| leg.cause_q850)),
    ];
    let values = StructArray::try_new(schema::leg_fields(), columns, None::<NullBuffer>)?;
    let element = Arc::new(Field::new("element", DataType::Struct(schema::leg_fields()), true));
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.legs.len()));
    Ok(Arc::new(arrow::array::ListArray::try_new(element, offsets, Arc::new(values), None)?))
}

/// The columns of `calls`, in the schema's order.
fn columns(calls: &[KeyedCall], decoder: &dyn Decoder) -> Result<Vec<ArrayRef>, Error> {
    let rows: Vec<CallRow> = calls.iter().map(|call| call.state.row(&call.tenant, call.source)).collect();
    let e164 = |pick: fn(&CallRow) -> &Option<CompactString>| -> ArrayRef {
        let numbers = calls
            .iter()
            .zip(&rows)
            .map(|(call, row)| pick(row).as_deref().and_then(|number| decoder.e164(&call.tenant, call.source, number)));
        Arc::new(StringArray::from_iter(numbers))
    };
    // What was delivered about a leg that was its own row at first counts for the call.
    let delivered: Vec<Option<Seen>> = calls.iter().map(|call| call.state.whole().seen).collect();
    let seen = |pick: fn(&Seen) -> i64| delivered.iter().map(move |seen| seen.as_ref().map(pick));
    let each = || rows.iter();
    let text = |pick: fn(&CallRow) -> Option<&str>| texts(each().map(pick));
    let time = |pick: fn(&CallRow) -> Option<Micros>| times(each().map(pick));
    let whole = |pick: fn(&CallRow) -> Option<i64>| wholes(each().map(pick));
    Ok(vec![
        texts(calls.iter().map(|call| Some(&*call.tenant))),
        texts(calls.iter().map(|call| Some(call.source.as_str()))),
        texts(calls.iter().map(|call| Some(&*call.id))),
        texts(calls.iter().map(|call| Some(&*call.key))),
        text(|row| Some(&row.direction)),
        text(|row| row.from_number.as_deref()),
        text(|row| row.to_number.as_deref()),
        e164(|row| &row.from_number),
        e164(|row| &row.to_number),
        text(|row| row.caller_name.as_deref()),
        text(|row| row.own_number.as_deref()),
        text(|row| row.endpoint.as_deref()),
        text(|row| row.endpoint_name.as_deref()),
        text(|row| row.queue.as_deref()),
        time(|row| row.started_at),
        time(|row| row.ringing_at),
        time(|row| row.answered_at),
        time(|row| row.ended_at),
        whole(|row| row.duration_ms),
        whole(|row| row.ring_ms),
        whole(|row| row.talk_ms),
        whole(|row| row.hold_ms),
        whole(|row| row.ivr_ms),
        whole(|row| row.queue_ms),
        text(|row| Some(row.disposition)),
        text(|row| row.disposition_raw.as_deref()),
        whole(|row| row.cause_q850),
        whole(|row| row.sip_status),
        text(|row| Some(&row.released_by)),
        text(|row| Some(row.state)),
        text(|row| row.clock),
        legs(&rows)?,
        whole(|row| Some(row.transfers)),
        text(|row| Some(row.recording_state)),
        lists(each().map(|row| &row.recordings)),
        maps(each().map(|row| &row.dtmf))?,
        maps(each().map(|row| &row.attributes))?,
        text(|row| row.external_id.as_deref()),
        lists(each().map(|row| &row.related_calls)),
        times(seen(|seen| seen.first_received_at)),
        times(seen(|seen| seen.last_received_at)),
        wholes(seen(|seen| seen.first_offset.0.cast_signed())),
        wholes(seen(|seen| seen.last_offset.0.cast_signed())),
    ])
}
