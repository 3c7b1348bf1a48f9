//! Stored recordings that were looked up lately: players ask for one piece after the other.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::Id;
use crate::lake::Pinned;
use crate::rows::KeyedRecording;

/// Rows that are remembered.
const LOOKED_UP: usize = 4096;

/// Stored rows that were looked up lately, of one version of the table.
#[derive(Default)]
pub(super) struct LookedUp {
    table: Option<Arc<Pinned>>,
    rows: HashMap<Id, KeyedRecording>,
}

impl LookedUp {
    pub fn get(&self, table: &Arc<Pinned>, id: &str) -> Option<KeyedRecording> {
        let same = self.table.as_ref().is_some_and(|known| Arc::ptr_eq(known, table));
        self.rows.get(id).filter(|_| same).cloned()
    }

    pub fn remember(&mut self, table: Arc<Pinned>, row: KeyedRecording) {
        let same = self.table.as_ref().is_some_and(|known| Arc::ptr_eq(known, &table));
        if !same || self.rows.len() >= LOOKED_UP {
            self.rows.clear();
        }
        self.table = Some(table);
        self.rows.insert(row.id.clone(), row);
    }
}
