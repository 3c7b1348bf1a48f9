//! The rows of `recordings`.

use arrow::array::{ArrayRef, BooleanArray, Float64Array};
use arrow::datatypes::SchemaRef;

use super::{Keyed, State, texts, times, wholes};
use crate::error::Error;
use crate::event::{Id, Micros};
use crate::fact::Decoder;
use crate::recording::{Probe, RecordingState, Text};
use crate::schema;

impl State for RecordingState {
    const ID: &'static str = "recording_id";
    const KEY: &'static str = "recording_id";
    const TIME: &'static str = "received_at";

    type Shown = ();

    fn join(&mut self, other: Self) {
        self.merge(other);
    }

    fn time(keyed: &Keyed<Self>) -> Option<Micros> {
        keyed.state.received_at()
    }

    fn show(_: &Keyed<Self>, _: &dyn Decoder) {}

    fn schema() -> SchemaRef {
        schema::recordings()
    }

    fn stored_schema() -> SchemaRef {
        schema::recordings_table()
    }

    fn hidden(items: &[Keyed<Self>]) -> Vec<ArrayRef> {
        let elsewhere = items.iter().map(|item| Some(item.state.uploads.len() > 1));
        vec![std::sync::Arc::new(BooleanArray::from_iter(elsewhere))]
    }

    fn columns(items: &[Keyed<Self>], _decoder: &dyn Decoder) -> Result<Vec<ArrayRef>, Error> {
        let states = || items.iter().map(|item| &*item.state);
        let text = |field: Text| texts(states().map(move |state| state.get(field)));
        let number = |field: Text| texts(states().map(move |state| state.get(field).map(user_part)));
        let probed_text = |pick: fn(&Probe) -> Option<&str>| texts(states().map(|state| state.probed().and_then(pick)));
        let probed = |pick: fn(&Probe) -> Option<i64>| wholes(states().map(|state| state.probed().and_then(pick)));
        let call_ids: Vec<Option<Id>> =
            items.iter().map(|item| item.state.call_id(&item.tenant, item.source)).collect();
        let object = |state: &'_ RecordingState| state.stored.as_ref().map(|(_, object)| object.clone());
        let objects: Vec<Option<String>> = states().map(object).collect();
        let known = |sha256: &'_ str| (!sha256.is_empty()).then(|| sha256.to_owned());
        let digests: Vec<Option<String>> = states().map(|state| known(&state.sha256)).collect();
        Ok(vec![
            texts(items.iter().map(|item| Some(&*item.tenant))),
            texts(items.iter().map(|item| Some(item.source.as_str()))),
            texts(items.iter().map(|item| Some(&*item.id))),
            texts(call_ids.iter().map(Option::as_deref)),
            texts(states().map(|state| state.call().map(|(key, _)| key))),
            texts(states().map(|state| Some(state.link_kind()))),
            std::sync::Arc::new(Float64Array::from_iter(states().map(|state| state.call().map(|(_, sure)| sure)))),
            text(Text::Name),
            texts(digests.iter().map(Option::as_deref)),
            wholes(states().map(|state| i64::try_from(state.bytes).ok())),
            text(Text::MediaType),
            probed_text(|probe| probe.container.as_deref()),
            probed_text(|probe| probe.codec.as_deref()),
            probed(|probe| probe.channels),
            probed(|probe| probe.sample_rate_hz),
            probed(|probe| probe.bit_rate),
            wholes(states().map(RecordingState::length_ms)),
            times(states().map(|state| state.started_at)),
            times(states().map(RecordingState::received_at)),
            texts(states().map(|state| Some(state.status()))),
            texts(objects.iter().map(Option::as_deref)),
            texts(states().map(|state| state.uploaded_as.as_ref().map(|(_, url)| url.as_str()))),
            text(Text::ExternalId),
            number(Text::From),
            number(Text::To),
            text(Text::Endpoint),
        ])
    }
}

/// Of `user@realm` only the user.
fn user_part(number: &str) -> &str {
    let number = number.strip_prefix("sip:").unwrap_or(number);
    number.split_once('@').map_or(number, |(user, _)| user)
}
