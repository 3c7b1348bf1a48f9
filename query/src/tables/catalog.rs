//! The schema `public` of one session: makes each table when a query names it.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::TableType;
use trunklog_storage::fact::Decoder;
use trunklog_storage::partitions::Snapshot;

use super::archive::{ArchiveTable, Kind};
use super::views;
use crate::engine::Access;

/// What one principal sees of one snapshot.
#[derive(Clone)]
pub(crate) struct ArchiveSchema {
    template: Arc<SessionState>,
    access: Access,
    snapshot: Snapshot,
    decoder: Arc<dyn Decoder>,
}

impl Debug for ArchiveSchema {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ArchiveSchema").field("access", &self.access).finish_non_exhaustive()
    }
}

const TABLES: [(&str, Kind); 4] = [
    ("calls", Kind::Calls),
    ("events", Kind::Events),
    ("recordings", Kind::Recordings),
    ("system_events", Kind::SystemEvents),
];

impl ArchiveSchema {
    pub(crate) fn new(
        template: &Arc<SessionState>,
        access: &Access,
        snapshot: &Snapshot,
        decoder: &Arc<dyn Decoder>,
    ) -> ArchiveSchema {
        ArchiveSchema {
            template: Arc::clone(template),
            access: access.clone(),
            snapshot: snapshot.clone(),
            decoder: Arc::clone(decoder),
        }
    }

    fn archive_table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let (_, kind) = TABLES.iter().find(|(table, _)| *table == name)?;
        let tenant = self.access.only_tenant().cloned();
        Some(Arc::new(ArchiveTable::new(*kind, tenant, self.snapshot.clone(), Arc::clone(&self.decoder))))
    }
}

#[async_trait]
impl SchemaProvider for ArchiveSchema {
    fn table_names(&self) -> Vec<String> {
        let views = views::VIEWS.iter().map(|(name, _)| *name);
        TABLES.iter().map(|(name, _)| *name).chain(views).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.archive_table(name) {
            return Ok(Some(table));
        }
        match views::VIEWS.iter().find(|(view, _)| *view == name) {
            Some((_, sql)) => views::view(&self.template, self.clone(), sql).await.map(Some),
            None => Ok(None),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        let view = views::VIEWS.iter().any(|(view, _)| *view == name);
        Ok(if view { Some(TableType::View) } else { self.archive_table(name).map(|table| table.table_type()) })
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.iter().any(|(table, _)| *table == name) || views::VIEWS.iter().any(|(view, _)| *view == name)
    }
}
