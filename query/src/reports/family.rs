//! What a report computes, in pieces that add up: over one file, over what memory has, over all.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use trunklog_storage::archive::{Snapshot, StoredTable};
use trunklog_storage::event::{Id, Micros};
use trunklog_storage::fact::Decoder;

use super::calendar::Interval;
use super::call::{ALWAYS, Call, CallColumns, LegColumns, OF_OPEN};
use super::dimension::Filters;
use super::request::Attribution;
use crate::error::QueryError;

/// Which time of a row says whether it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// This column is within the interval.
    Within(&'static str),
    /// The call lasts within the interval, wholly or in part.
    Overlap,
    /// This column is not before the interval; the partial result is good for any.
    Since(&'static str),
}

impl From<Attribution> for Basis {
    fn from(attribution: Attribution) -> Basis {
        Basis::Within(match attribution {
            Attribution::Start => "started_at",
            Attribution::Answer => "answered_at",
            Attribution::End => "ended_at",
        })
    }
}

/// Whose rows count, and which do not although they are stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keep {
    /// Rows of this tenant, or of all.
    pub tenant: Option<Arc<str>>,
    /// Rows that memory supersedes, by id.
    pub superseded: HashSet<Id>,
}

impl Keep {
    /// Whether a row of this tenant counts.
    pub fn tenant(&self, tenant: &str) -> bool {
        self.tenant.as_ref().is_none_or(|own| **own == *tenant)
    }

    /// The rows of a batch that count.
    pub fn rows<'a>(&'a self, batch: &'a RecordBatch, id_column: &str) -> impl Iterator<Item = usize> + 'a {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (tenants, ids) = (text("tenant"), text(id_column).filter(|_| !self.superseded.is_empty()));
        let value = |column: &'a StringArray, row: usize| if column.is_valid(row) { column.value(row) } else { "" };
        (0..batch.num_rows()).filter(move |row| {
            tenants.is_some_and(|tenants| self.tenant(value(tenants, *row)))
                && ids.is_none_or(|ids| !self.superseded.contains(value(ids, *row)))
        })
    }
}

/// What adds up over the rows of a table.
pub(crate) trait Family: Send + Sync + 'static {
    /// What some of the rows come to.
    type Partial: Clone + Send + Sync + 'static;

    /// The table.
    const TABLE: StoredTable;

    /// Nothing yet.
    fn begin(&self) -> Self::Partial;

    /// The columns that it reads.
    fn columns(&self) -> Vec<&'static str>;

    /// Which rows count.
    fn basis(&self) -> Basis;

    /// Adds the rows of a file.
    fn add_stored(&self, partial: &mut Self::Partial, batch: &RecordBatch, keep: &Keep, within: Interval);

    /// Adds the rows that memory has.
    ///
    /// # Errors
    /// If rows cannot be made, which would be a defect.
    fn add_fresh(
        &self,
        partial: &mut Self::Partial,
        snapshot: &Snapshot,
        keep: &Keep,
        within: Interval,
    ) -> Result<(), QueryError>;

    /// Adds what other rows come to.
    fn merge(&self, partial: &mut Self::Partial, other: &Self::Partial);

    /// Bytes of memory, about.
    fn bytes(&self, partial: &Self::Partial) -> usize;

    /// When it will change although nothing is heard.
    fn changes_at(&self, _partial: &Self::Partial) -> Option<Micros> {
        None
    }
}

/// What adds up over calls.
pub(crate) trait CallFamily: Send + Sync + 'static {
    /// What some of the calls come to.
    type Partial: Clone + Send + Sync + 'static;

    /// Calls that the filters do not choose are told to it, too.
    const FILTERS_ITSELF: bool = false;

    /// Nothing yet.
    fn begin(&self) -> Self::Partial;

    /// The columns that it reads besides those that are always read.
    fn columns(&self) -> Vec<&'static str>;

    /// Which calls count.
    fn basis(&self) -> Basis;

    /// Adds a call that counts.
    fn add(&self, partial: &mut Self::Partial, call: &Call<'_>, open: bool, within: Interval);

    /// Adds what other calls come to.
    fn merge(&self, partial: &mut Self::Partial, other: &Self::Partial);

    /// Bytes of memory, about.
    fn bytes(&self, partial: &Self::Partial) -> usize;
}

/// A family of calls, with what all of these share: filters, and which calls are open.
pub(crate) struct Calls<F> {
    /// What is computed.
    pub family: F,
    /// Which calls count, unless the family chooses itself.
    pub filters: Filters,
    /// Knows how long a call may be silent.
    pub decoder: Arc<dyn Decoder>,
    /// As of when a call is open.
    pub now: Micros,
}

/// What some calls come to.
#[derive(Clone, Debug)]
pub(crate) struct OfCalls<P> {
    /// For the family.
    pub inner: P,
    /// Open ones among those that count.
    pub open: u64,
    /// When the first of these times out.
    changes_at: Option<Micros>,
}

impl<F: CallFamily> Calls<F> {
    fn add(&self, partial: &mut OfCalls<F::Partial>, call: &Call<'_>, within: Interval) {
        let chosen = F::FILTERS_ITSELF || self.filters.accept(call);
        if !chosen || !counts(self.family.basis(), call, within) {
            return;
        }
        let open_until = call.open_until(self.decoder.as_ref()).filter(|until| *until >= self.now);
        if let Some(until) = open_until {
            partial.open += 1;
            partial.changes_at = Some(partial.changes_at.map_or(until, |other| other.min(until)));
        }
        self.family.add(&mut partial.inner, call, open_until.is_some(), within);
    }
}

/// Whether the call counts. Of calls without an end it is the start that says whether they belong to the interval.
fn counts(basis: Basis, call: &Call<'_>, within: Interval) -> bool {
    let time = |name| match name {
        "answered_at" => call.answered_at,
        "ended_at" => call.ended_at,
        _ => call.started_at,
    };
    match basis {
        Basis::Within(name) => time(name).is_some_and(|at| within.contains(at)),
        Basis::Since(name) => time(name).is_some(),
        Basis::Overlap => match call.lasting() {
            Some(lasting) => lasting.from < within.until && lasting.until > within.from,
            None => call.started_at.is_some_and(|at| within.contains(at)),
        },
    }
}

impl<F: CallFamily> Family for Calls<F> {
    type Partial = OfCalls<F::Partial>;

    const TABLE: StoredTable = StoredTable::Calls;

    fn begin(&self) -> Self::Partial {
        OfCalls { inner: self.family.begin(), open: 0, changes_at: None }
    }

    fn columns(&self) -> Vec<&'static str> {
        let filters = self.filters.0.iter().flat_map(|(dimension, _)| dimension.columns().iter().copied());
        let basis = match self.family.basis() {
            Basis::Within(name) | Basis::Since(name) => name,
            Basis::Overlap => "ended_at",
        };
        let needed = ALWAYS.into_iter().chain(OF_OPEN).chain([basis]);
        needed.chain(self.family.columns()).chain(filters).collect()
    }

    fn basis(&self) -> Basis {
        self.family.basis()
    }

    fn add_stored(&self, partial: &mut Self::Partial, batch: &RecordBatch, keep: &Keep, within: Interval) {
        let (columns, legs) = (CallColumns::of(batch), LegColumns::of(batch));
        for row in keep.rows(batch, "call_id") {
            self.add(partial, &columns.call(row, legs.as_ref()), within);
        }
    }

    fn add_fresh(
        &self,
        partial: &mut Self::Partial,
        snapshot: &Snapshot,
        keep: &Keep,
        within: Interval,
    ) -> Result<(), QueryError> {
        for fresh in snapshot.fresh_calls().filter(|fresh| keep.tenant(fresh.tenant)) {
            self.add(partial, &Call::of(&fresh), within);
        }
        Ok(())
    }

    fn merge(&self, partial: &mut Self::Partial, other: &Self::Partial) {
        self.family.merge(&mut partial.inner, &other.inner);
        partial.open += other.open;
        partial.changes_at = [partial.changes_at, other.changes_at].into_iter().flatten().min();
    }

    fn bytes(&self, partial: &Self::Partial) -> usize {
        size_of::<Self::Partial>() + self.family.bytes(&partial.inner)
    }

    fn changes_at(&self, partial: &Self::Partial) -> Option<Micros> {
        partial.changes_at
    }
}
