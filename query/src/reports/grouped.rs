//! Families that measure something for each group that `group_by` names.

use super::calendar::Interval;
use super::call::Call;
use super::cells::{Cells, Key, Measure};
use super::dimension::{DIMENSIONS, Dimension};
use super::family::{Basis, CallFamily};
use super::part::Part;
use super::request::Request;
use super::table::Column;

/// What is measured.
pub(crate) trait Grouped: Send + Sync + 'static {
    /// The measure of a group.
    type Measure: Measure;

    /// The columns that it reads besides those that are always read.
    fn columns(&self) -> Vec<&'static str>;

    /// Which calls count.
    fn basis(&self) -> Basis;

    /// Whether the call makes a group.
    fn concerns(&self, _call: &Call<'_>, _open: bool) -> bool {
        true
    }

    /// Adds a call to its group.
    fn measure(&self, measure: &mut Self::Measure, call: &Call<'_>);
}

/// Something that is measured for each group.
pub(crate) struct ByGroup<G> {
    /// What is measured.
    pub inner: G,
    /// By what calls are grouped.
    pub group_by: Vec<Dimension>,
}

impl<G: Grouped> CallFamily for ByGroup<G> {
    type Partial = Cells<G::Measure>;

    fn begin(&self) -> Self::Partial {
        Cells::default()
    }

    fn columns(&self) -> Vec<&'static str> {
        group_reads(&self.group_by).chain(self.inner.columns()).collect()
    }

    fn basis(&self) -> Basis {
        self.inner.basis()
    }

    fn add(&self, partial: &mut Self::Partial, call: &Call<'_>, open: bool, _within: Interval) {
        if self.inner.concerns(call, open) {
            let key = group_of(&self.group_by, call);
            self.inner.measure(partial.at(&key), call);
        }
    }

    fn merge(&self, partial: &mut Self::Partial, other: &Self::Partial) {
        partial.merge(other);
    }

    fn bytes(&self, partial: &Self::Partial) -> usize {
        partial.bytes()
    }
}

/// The columns of these groups.
pub(crate) fn group_columns(dimensions: &[Dimension]) -> Vec<Column> {
    dimensions.iter().flat_map(|dimension| Part::Of(*dimension).columns()).collect()
}

/// The groups that a request names, but for those that the report has as columns of its own.
pub(crate) fn groups_without(request: &Request, own: impl Fn(Dimension) -> bool) -> Vec<Dimension> {
    request.group_by.iter().copied().filter(|dimension| !own(*dimension)).collect()
}

/// The values of a call's group.
pub(crate) fn group_of(dimensions: &[Dimension], call: &Call<'_>) -> Vec<Key> {
    dimensions.iter().map(|dimension| Key::text(dimension.value(call))).collect()
}

/// The columns of `calls` that groups read.
pub(crate) fn group_reads(dimensions: &[Dimension]) -> impl Iterator<Item = &'static str> {
    let known = DIMENSIONS.into_iter().filter(|dimension| dimensions.contains(dimension));
    known.flat_map(|dimension| dimension.columns().iter().copied())
}
