//! Two functions that only the scan itself calls; they are not registered, so SQL cannot name them.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use trunklog_storage::event::{Micros, Source};
use trunklog_storage::fact::Decoder;
use trunklog_storage::schema;

/// Whether a call's stored row must be left out, by call_id.
pub(super) type Contains = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// `superseded(call_id)`: the stored row gives way to one from the tail.
pub(super) fn superseded(contains: Contains) -> ScalarUDF {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    ScalarUDF::from(Superseded { contains, signature })
}

struct Superseded {
    contains: Contains,
    signature: Signature,
}

impl Debug for Superseded {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Superseded")
    }
}

impl PartialEq for Superseded {
    fn eq(&self, other: &Superseded) -> bool {
        Arc::ptr_eq(&self.contains, &other.contains)
    }
}

impl Eq for Superseded {}

impl Hash for Superseded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.contains).cast::<()>().hash(state);
    }
}

impl ScalarUDFImpl for Superseded {
    fn name(&self) -> &str {
        "superseded"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ids = arguments.args[0].to_array(arguments.number_rows)?;
        let ids: &StringArray = ids.as_string::<i32>();
        let values = ids.iter().map(|id| Some(id.is_some_and(|id| (self.contains)(id))));
        Ok(ColumnarValue::Array(Arc::new(values.collect::<BooleanArray>())))
    }
}

/// The columns that [`shown_state`] is called with, in this order.
pub(super) const STATE_COLUMNS: [&str; 7] =
    ["tenant", "source", "state", "last_received_at", "answered_at", "endpoint", "direction"];

/// `shown_state(tenant, source, state, last_received_at, answered_at, endpoint, direction)`: `timed_out` for an open
/// call of which nothing has been heard for longer than its source's limit, else the stored state.
pub(super) fn shown_state(decoder: Arc<dyn Decoder>, now: Micros) -> ScalarUDF {
    let text = DataType::Utf8;
    let time = schema::timestamp();
    let types = vec![text.clone(), text.clone(), text.clone(), time.clone(), time, text.clone(), text];
    ScalarUDF::from(ShownState { decoder, now, signature: Signature::exact(types, Volatility::Immutable) })
}

/// For how long, in microseconds, nothing need be heard of an open call before it times out.
pub(crate) fn silence_allowed(
    decoder: &dyn Decoder,
    tenant: &str,
    source: Source,
    unanswered: bool,
    direction: &str,
) -> Micros {
    // An OutgoingCall has an end to come, an IncomingCall of a contact centre has none.
    let only_ringing = source == Source::Placetel && unanswered && direction != "out";
    decoder.timeout(tenant, source, only_ringing)
}

struct ShownState {
    decoder: Arc<dyn Decoder>,
    now: Micros,
    signature: Signature,
}

impl Debug for ShownState {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ShownState").field("now", &self.now).finish_non_exhaustive()
    }
}

impl PartialEq for ShownState {
    fn eq(&self, other: &ShownState) -> bool {
        self.now == other.now && Arc::ptr_eq(&self.decoder, &other.decoder)
    }
}

impl Eq for ShownState {}

impl Hash for ShownState {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.now.hash(state);
        Arc::as_ptr(&self.decoder).cast::<()>().hash(state);
    }
}

impl ShownState {
    fn states(&self, columns: &[ArrayRef]) -> StringArray {
        let text = |at: usize| columns[at].as_string::<i32>();
        let time = |at: usize| columns[at].as_primitive::<TimestampMicrosecondType>();
        let (tenants, sources, states, endpoints, directions) = (text(0), text(1), text(2), text(5), text(6));
        let (heard, answered) = (time(3), time(4));
        let mut limits: HashMap<(&str, &str, bool, &str), Option<Micros>> = HashMap::new();
        let shown = (0..states.len()).map(|row| {
            if states.is_null(row) || states.value(row) != "open" || heard.is_null(row) {
                return states.is_valid(row).then(|| states.value(row));
            }
            let (tenant, source) = (tenants.value(row), sources.value(row));
            let unanswered = answered.is_null(row) && endpoints.is_null(row);
            let direction = directions.value(row);
            let limit = limits.entry((tenant, source, unanswered, direction)).or_insert_with(|| {
                let source = Source::parse(source);
                source.map(|source| silence_allowed(self.decoder.as_ref(), tenant, source, unanswered, direction))
            });
            let late = limit.is_some_and(|limit| heard.value(row).saturating_add(limit) < self.now);
            Some(if late { "timed_out" } else { "open" })
        });
        shown.collect()
    }
}

impl ScalarUDFImpl for ShownState {
    fn name(&self) -> &str {
        "shown_state"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = arguments.args.iter().map(|column| column.to_array(arguments.number_rows));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        Ok(ColumnarValue::Array(Arc::new(self.states(&columns))))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;
    use trunklog_storage::event::Event;
    use trunklog_storage::fact::Decoded;

    use super::*;

    struct Limits;

    impl Decoder for Limits {
        fn decode(&self, event: &Event) -> Decoded {
            Decoded::new(&*event.kind, &[])
        }
        fn e164(&self, _tenant: &str, _source: Source, _number: &str) -> Option<String> {
            None
        }
        fn timeout(&self, _tenant: &str, _source: Source, only_ringing: bool) -> Micros {
            if only_ringing { 10 } else { 100 }
        }
    }

    #[test]
    fn open_calls_time_out() {
        let text = |values: [Option<&str>; 5]| -> ArrayRef { Arc::new(StringArray::from_iter(values)) };
        let time = |values: [Option<i64>; 5]| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC"))
        };
        let columns = [
            text([Some("acme"); 5]),
            text([Some("placetel"); 5]),
            text([Some("open"), Some("open"), Some("closed"), Some("open"), Some("open")]),
            time([Some(0), Some(0), Some(0), Some(45), Some(0)]),
            time([None, Some(5), None, None, None]),
            text([None; 5]),
            text([Some("in"), Some("in"), Some("in"), Some("in"), Some("out")]),
        ];
        let function =
            ShownState { decoder: Arc::new(Limits), now: 50, signature: Signature::any(7, Volatility::Immutable) };
        let states: Vec<_> = function.states(&columns).iter().flatten().map(str::to_owned).collect();
        assert_eq!(states, ["timed_out", "open", "closed", "open", "open"]);
    }
}
