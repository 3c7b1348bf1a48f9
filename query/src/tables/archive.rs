//! `calls`, `recordings`, `events` and `system_events`: stored rows and tail of one snapshot, for one tenant or all.
//!
//! For each side of each partition, stored or in memory: scan, filter (tenant, what the tail supersedes, the user's
//! conditions that cannot fail), project to the public columns. Then their union under a [`TenantBarrier`].

use std::collections::HashSet;
use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ToDFSchema, project_schema};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, ScalarUDF, TableProviderFilterPushDown, TableType, cast, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use trunklog_storage::archive;
use trunklog_storage::call::LEG;
use trunklog_storage::event::Source;
use trunklog_storage::fact::Decoder;
use trunklog_storage::partitions::Snapshot;
use trunklog_storage::schema;

use super::barrier::TenantBarrier;
use super::functions::{STATE_COLUMNS, shown_state, superseded};
use super::pushdown::cannot_fail;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Calls,
    Recordings,
    Events,
    SystemEvents,
}

/// A condition names so many days at most.
const LISTED_DAYS: usize = 64;

/// One table of one snapshot.
pub(super) struct ArchiveTable {
    kind: Kind,
    tenant: Option<Arc<str>>,
    snapshot: Snapshot,
    schema: SchemaRef,
    shown_state: ScalarUDF,
}

impl Debug for ArchiveTable {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ArchiveTable")
            .field("kind", &self.kind)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// One side of the union: rows as they are stored or held, and what must be true of them.
struct Side {
    rows: Rows,
    conditions: Vec<Expr>,
}

enum Rows {
    Stored(Arc<dyn TableProvider>),
    Fresh(SchemaRef, Vec<RecordBatch>),
}

impl ArchiveTable {
    pub(super) fn new(
        kind: Kind,
        tenant: Option<Arc<str>>,
        snapshot: Snapshot,
        decoder: Arc<dyn Decoder>,
    ) -> ArchiveTable {
        let schema = schema::bare(&match kind {
            Kind::Calls => schema::calls(),
            Kind::Recordings => schema::recordings(),
            Kind::Events | Kind::SystemEvents => schema::events(),
        });
        let shown_state = shown_state(decoder, snapshot.time);
        ArchiveTable { kind, tenant, snapshot, schema, shown_state }
    }

    /// What the table has. Only on the days of what is in memory need ids be read to leave rows out.
    fn stored(&self, part: &archive::Snapshot) -> Vec<Side> {
        let (table, tiered) = match self.kind {
            Kind::Calls => (part.calls_stored(), Some(("call_id", part.calls_superseded()))),
            Kind::Recordings => (part.recordings_stored(), Some(("recording_id", part.recordings_superseded()))),
            Kind::Events | Kind::SystemEvents => (part.events_stored(), None),
        };
        let side = |more: Vec<Expr>| Side {
            rows: Rows::Stored(Arc::clone(&table)),
            conditions: self.conditions().into_iter().chain(more).collect(),
        };
        let Some((id, gone)) = tiered else { return vec![side(Vec::new())] };
        let days: Option<Vec<Expr>> = gone.days().map(|days| days.iter().map(lit).collect());
        let is_final = column("tier").eq(lit("final"));
        let stays = !superseded(Arc::new(move |id: &str| gone.contains(id))).call(vec![column(id)]);
        match days {
            Some(days) if days.is_empty() => vec![side(vec![is_final])],
            Some(days) if days.len() <= LISTED_DAYS => {
                let (touched, others) = (column("day").in_list(days.clone(), false), column("day").in_list(days, true));
                vec![side(vec![is_final.clone(), others]), side(vec![is_final, touched, stays])]
            }
            _ => vec![side(vec![is_final, stays])],
        }
    }

    /// What memory has, of all partitions.
    fn fresh(&self) -> Result<Side> {
        let mut batches = Vec::new();
        for (_, part) in self.snapshot.parts() {
            let fresh = match self.kind {
                Kind::Calls => part.calls_fresh(),
                Kind::Recordings => part.recordings_fresh(),
                Kind::Events | Kind::SystemEvents => part.events_fresh(),
            };
            batches.extend(fresh.map_err(|error| DataFusionError::External(Box::new(error)))?);
        }
        let schema = batches.first().map_or_else(|| Arc::clone(&self.schema), RecordBatch::schema);
        Ok(Side { rows: Rows::Fresh(schema, batches), conditions: self.conditions() })
    }

    /// What holds for every row that this principal may see, stored or fresh.
    fn conditions(&self) -> Vec<Expr> {
        let mut conditions = Vec::new();
        if let Some(tenant) = &self.tenant {
            conditions.push(column("tenant").eq(lit(&**tenant)));
        }
        let own = lit(Source::Trunklog.as_str());
        match self.kind {
            // What became a leg of another call is part of that one's row.
            Kind::Calls => conditions.push(column("state").not_eq(lit(LEG))),
            Kind::Recordings => {}
            Kind::Events => conditions.push(column("source").not_eq(own)),
            Kind::SystemEvents => conditions.push(column("source").eq(own)),
        }
        conditions
    }

    /// The public column, in terms of the columns below.
    fn public(&self, name: &str) -> Expr {
        if self.kind == Kind::Calls && name == "state" {
            return self.shown_state.call(STATE_COLUMNS.map(column).to_vec());
        }
        column(name)
    }

    /// The user's condition in terms of the columns below.
    fn lowered(&self, condition: &Expr) -> Result<Expr> {
        let lowered = condition.clone().transform_up(|expression| match &expression {
            Expr::Column(found) => Ok(Transformed::yes(self.public(&found.name))),
            _ => Ok(Transformed::no(expression)),
        })?;
        Ok(lowered.data)
    }

    async fn side(
        &self,
        state: &dyn Session,
        side: Side,
        lowered: &[Expr],
        output: &Schema,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<Expr> = output.fields().iter().map(|field| self.public(field.name())).collect();
        let conditions: Vec<Expr> = side.conditions.into_iter().chain(lowered.iter().cloned()).collect();
        let mut plan = scan(state, &side.rows, &conditions, &columns, &self.schema).await?;
        let below = plan.schema().to_dfschema()?;
        if let Some(condition) = conjunction(conditions) {
            let condition = state.create_physical_expr(condition, &below)?;
            plan = Arc::new(FilterExec::try_new(condition, plan)?);
        }
        let mut projection = Vec::with_capacity(columns.len());
        for (expression, field) in columns.into_iter().zip(output.fields()) {
            let typed = if same_type(&expression, field.data_type(), &below) {
                expression
            } else {
                cast(expression, field.data_type().clone())
            };
            let expr = state.create_physical_expr(typed, &below)?;
            projection.push(ProjectionExpr { expr, alias: field.name().clone() });
        }
        Ok(Arc::new(ProjectionExec::try_new(projection, plan)?))
    }
}

/// Scans only the columns that are needed.
async fn scan(
    state: &dyn Session,
    rows: &Rows,
    conditions: &[Expr],
    columns: &[Expr],
    public: &Schema,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut needed: HashSet<&str> = HashSet::new();
    for expression in conditions.iter().chain(columns) {
        needed.extend(expression.column_refs().into_iter().map(|column| column.name.as_str()));
    }
    let indices = |below: &Schema| -> Vec<usize> {
        let fields = below.fields().iter().enumerate();
        fields.filter(|(_, field)| needed.contains(field.name().as_str())).map(|(index, _)| index).collect()
    };
    match rows {
        Rows::Fresh(below, batches) => {
            let projection = Some(indices(below));
            // Not a `MemTable`, which compares every batch's schema with the table's.
            let source =
                MemorySourceConfig::try_new_exec(std::slice::from_ref(batches), Arc::clone(below), projection)?;
            Ok(source)
        }
        Rows::Stored(table) => {
            let below = table.schema();
            let usable = usable(table.as_ref(), conditions, &below, public)?;
            table.scan(state, Some(&indices(&below)), &usable, None).await
        }
    }
}

/// The conditions by which the table can skip files.
fn usable(table: &dyn TableProvider, conditions: &[Expr], below: &Schema, public: &Schema) -> Result<Vec<Expr>> {
    let fits = |condition: &&Expr| {
        let references = condition.column_refs();
        cannot_fail(condition) && references.iter().all(|column| comparable(&column.name, below, public))
    };
    let candidates: Vec<&Expr> = conditions.iter().filter(fits).collect();
    let supported = table.supports_filters_pushdown(&candidates)?;
    let pairs = candidates.into_iter().zip(supported);
    let pushed = pairs.filter(|(_, support)| *support != TableProviderFilterPushDown::Unsupported);
    Ok(pushed.map(|(condition, _)| condition.clone()).collect())
}

/// The literal in a condition has the public column's type; the table below must have the same.
fn comparable(name: &str, below: &Schema, public: &Schema) -> bool {
    match (below.field_with_name(name), public.field_with_name(name)) {
        (Ok(below), Ok(public)) => below.data_type() == public.data_type(),
        // Partition columns, which are compared with strings.
        (Ok(_), Err(_)) => true,
        (Err(_), _) => false,
    }
}

fn same_type(expression: &Expr, wanted: &arrow::datatypes::DataType, below: &DFSchema) -> bool {
    match expression {
        Expr::Column(column) => {
            below.field_with_unqualified_name(&column.name).is_ok_and(|field| field.data_type() == wanted)
        }
        _ => true,
    }
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

#[async_trait]
impl TableProvider for ArchiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            if cannot_fail(filter) {
                TableProviderFilterPushDown::Inexact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let output = project_schema(&self.schema, projection)?;
        let safe = filters.iter().filter(|filter| cannot_fail(filter));
        let lowered = safe.map(|filter| self.lowered(filter)).collect::<Result<Vec<Expr>>>()?;
        let mut sides = Vec::with_capacity(2);
        // Of an empty partition, or before its first message, there is none.
        for (_, part) in self.snapshot.parts() {
            for stored in self.stored(part) {
                sides.push(self.side(state, stored, &lowered, &output).await?);
            }
        }
        sides.push(self.side(state, self.fresh()?, &lowered, &output).await?);
        Ok(Arc::new(TenantBarrier::new(UnionExec::try_new(sides)?, output)))
    }
}
