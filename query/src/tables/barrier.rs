//! The end of the tenant's scan in a physical plan: nothing is pushed through it.
//!
//! Below it only the tenant's filter and comparisons that cannot fail are evaluated. An expression of the user that
//! ran there could fail on another tenant's row and print its value, and a row count could be answered from
//! statistics over all tenants. It also gives every batch exactly the table's schema.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::StreamExt;

/// Passes batches on; has no statistics, takes no filters and no projections.
#[derive(Debug)]
pub(super) struct TenantBarrier {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl TenantBarrier {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, schema: SchemaRef) -> TenantBarrier {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            input.pipeline_behavior(),
            input.boundedness(),
        )
        .with_scheduling_type(input.properties().scheduling_type);
        TenantBarrier { input, schema, properties: Arc::new(properties) }
    }
}

impl DisplayAs for TenantBarrier {
    fn fmt_as(&self, _kind: DisplayFormatType, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("TenantBarrier")
    }
}

impl ExecutionPlan for TenantBarrier {
    fn name(&self) -> &str {
        "TenantBarrier"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(TenantBarrier::new(children.swap_remove(0), Arc::clone(&self.schema))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&self.schema);
        let dressed = Arc::clone(&schema);
        let batches = self.input.execute(partition, context)?.map(move |batch| dress(batch?, &dressed));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

fn dress(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}
