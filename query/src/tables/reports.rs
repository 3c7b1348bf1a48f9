//! Reports as table functions, `report_volume(from, until, name, value, …)`: the same computation as over HTTP.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session as Planning, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::error::QueryError;
use crate::parameters::Parameters;
use crate::reports::{REPORTS, Request, columns, schema_of};
use crate::session::Session;

/// Gives a session the functions of all reports; they read what it reads.
pub(crate) fn register(state: &mut SessionState, session: &Session) {
    let session = Arc::new(session.clone());
    let mut names: Vec<&'static str> = REPORTS.iter().map(|report| report.name).collect();
    names.dedup();
    for report in names {
        state.register_udtf(&format!("report_{report}"), Arc::new(Function { report, session: Arc::clone(&session) }));
    }
}

struct Function {
    report: &'static str,
    session: Arc<Session>,
}

impl Debug for Function {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Function").field("report", &self.report).finish_non_exhaustive()
    }
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, arguments: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let texts = arguments.exprs().iter().map(literal).collect::<Result<Vec<String>>>()?;
        let [from, until, named @ ..] = texts.as_slice() else {
            return plan_err!("report_{} takes `from` and `until`, then names and values of parameters", self.report);
        };
        let (pairs, rest) = named.as_chunks::<2>();
        if let [name] = rest {
            return plan_err!("the parameter `{name}` of report_{} has no value", self.report);
        }
        let times = [("from", from), ("until", until)].map(|(name, time)| (name.to_owned(), time.clone()));
        let pairs = pairs.iter().map(|[name, value]| (name.clone(), value.clone()));
        let parameters = Parameters::new(times.into_iter().chain(pairs).collect());
        let wrong = |error: QueryError| DataFusionError::Plan(format!("report_{}: {error}", self.report));
        let request = Request::parse(self.report, parameters).map_err(wrong)?;
        let schema = schema_of(&columns(&request));
        Ok(Arc::new(Report { request, schema, session: Arc::clone(&self.session) }))
    }
}

fn literal(argument: &Expr) -> Result<String> {
    match argument {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)), _) => Ok(text.clone()),
        Expr::Literal(ScalarValue::Utf8View(Some(text)), _) => Ok(text.clone()),
        Expr::Literal(value, _) if !value.is_null() => Ok(value.to_string()),
        other => plan_err!("arguments of reports are texts and numbers, not `{other}`"),
    }
}

/// A report that is computed when it is read.
struct Report {
    request: Request,
    schema: SchemaRef,
    session: Arc<Session>,
}

impl Debug for Report {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Report").field("request", &self.request).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for Report {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Planning,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let batch = self.session.report(&self.request).await;
        let batch = batch.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let source = MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?;
        Ok(source)
    }
}
