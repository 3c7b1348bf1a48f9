//! The scalar functions of SQL, without those by which one short query takes all memory.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use arrow::compute::{cast, max};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::growth;

/// How long a value may be made by padding or repeating.
const LONGEST: i64 = 10_000;

/// Functions whose second argument says how much to make.
const COUNTED: [&str; 5] = ["repeat", "lpad", "rpad", "array_repeat", "array_resize"];

/// Functions that build a whole series as one value; the table functions of these names stream it instead.
const SERIES: [&str; 2] = ["range", "generate_series"];

/// DataFusion's scalar functions; those that grow a value are bounded.
pub(crate) fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let all = SessionStateDefaults::default_scalar_functions();
    all.into_iter().filter(|function| !SERIES.contains(&function.name())).map(bounded).collect()
}

fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    if growth::GROWING.contains(&function.name()) {
        Arc::new(ScalarUDF::from(Bounded { inner: function }))
    } else {
        function
    }
}

/// A function that refuses to make too much: by its second argument over [`LONGEST`], and by the bytes of its result.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.inner().aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.inner().signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if COUNTED.contains(&self.name())
            && let Some(count) = arguments.args.get(1)
            && greatest(count, arguments.number_rows)? > Some(LONGEST)
        {
            return exec_err!("{}: at most {LONGEST} are made", self.name());
        }
        growth::check(self.name(), &arguments)?;
        self.inner.inner().invoke_with_args(arguments)
    }
}

fn greatest(count: &ColumnarValue, rows: usize) -> Result<Option<i64>> {
    let rows = if matches!(count, ColumnarValue::Scalar(_)) { 1 } else { rows };
    let counts = cast(&count.to_array(rows)?, &DataType::Int64)?;
    let counts: &Int64Array = counts.as_primitive::<Int64Type>();
    Ok(max(counts))
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::*;

    #[test]
    fn refuses_to_grow_without_bound() {
        let count = |count| ColumnarValue::Scalar(ScalarValue::Int64(Some(count)));
        assert_eq!(greatest(&count(7), 3).expect("a number"), Some(7));
        let functions = scalar_functions();
        for name in growth::GROWING {
            assert!(functions.iter().any(|function| function.name() == name), "{name}");
        }
        assert!(!functions.iter().any(|function| function.name() == "generate_series"));
    }
}
