//! Reports that count calls by something: the common measures for each group.

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::calendar::{Bucket, Buckets, Calendar, Interval};
use super::call::Call;
use super::cells::{Cells, Key, Measure};
use super::common::{self, Common};
use super::definition::{Counts, Only, Shows};
use super::dimension::Dimension;
use super::family::{Basis, CallFamily, OfCalls};
use super::part::Part;
use super::request::{Attribution, Request};
use super::table::{Cell, Column, StaticColumn, Table, Type, column, most_first};
use super::visit::{self, Visit};

/// The columns of reports about numbers.
pub(crate) const OF_NUMBERS: [StaticColumn; 3] = [common::COLUMNS[0], common::COLUMNS[1], common::COLUMNS[4]];

/// The columns of a heat map besides the common ones.
pub(crate) const OF_HEAT: [StaticColumn; 3] = [
    column(
        "occurrences",
        Type::Whole,
        Some("hours"),
        "occurrences/1",
        "how often this hour of this weekday begins in the interval",
    ),
    column("calls_per_occurrence", Type::Float, Some("calls"), "per_occurrence/1", "calls by occurrences"),
    column("wait_avg_ms", Type::Float, Some("ms"), "wait_avg/1", "average wait in queues"),
];

/// One question of this kind.
pub(crate) struct Counting {
    counts: &'static Counts,
    parts: Vec<Part>,
    any_direction: bool,
    calendar: Calendar,
    bucket: Bucket,
    digits: usize,
    attribution: Attribution,
}

/// What some calls come to.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    cells: Cells<Common>,
    buckets: Buckets,
    nameless: u64,
    key: Vec<Key>,
}

impl Counting {
    /// The question of this request.
    pub fn of(counts: &'static Counts, request: &Request) -> Counting {
        let own = |dimension: &Dimension| counts.parts.contains(&Part::Of(*dimension));
        let added = request.group_by.iter().filter(|dimension| !own(dimension)).map(|dimension| Part::Of(*dimension));
        let digits = request.options.whole("digits");
        Counting {
            counts,
            parts: counts.parts.iter().copied().chain(added).collect(),
            any_direction: request.filters.has(Dimension::Direction),
            calendar: request.calendar,
            bucket: request.bucket().unwrap_or(Bucket::Hour),
            digits: usize::try_from(digits).unwrap_or_default(),
            attribution: request.attribution(),
        }
    }

    fn is_heat(&self) -> bool {
        self.parts.contains(&Part::WeekdayAndHour)
    }

    fn accepts(&self, call: &Call<'_>, open: bool) -> bool {
        match self.counts.only {
            Only::All => true,
            Only::Inbound => self.any_direction || call.direction == "in",
            Only::Outbound => self.any_direction || call.direction == "out",
            Only::Unanswered => !open && !matches!(call.disposition, "answered" | "answered_elsewhere" | "unknown"),
        }
    }

    fn put_key(&self, key: &mut Vec<Key>, buckets: &mut Buckets, call: &Call<'_>) {
        key.clear();
        let at = match self.attribution {
            Attribution::Start => call.started_at,
            Attribution::Answer => call.answered_at,
            Attribution::End => call.ended_at,
        };
        for part in &self.parts {
            match part {
                Part::Bucket => key.push(Key::whole(at.map(|at| buckets.of(at).from))),
                Part::WeekdayAndHour => {
                    let (weekday, hour) = self.calendar.weekday_and_hour(at.unwrap_or_default());
                    key.extend([Key::Whole(weekday), Key::Whole(hour)]);
                }
                part => key.push(part.of(call, self.digits)),
            }
        }
    }

    /// The rows of these totals, in order, those of empty buckets too.
    fn rows(&self, cells: Cells<Common>, interval: Interval) -> Vec<(Vec<Key>, Common)> {
        let mut rows = Vec::new();
        if let [Part::Bucket] = self.parts.as_slice() {
            let empty = self.calendar.buckets(self.bucket, interval).map(|bucket| vec![Key::Whole(bucket.from)]);
            rows.extend(empty.filter(|key| cells.get(key).is_none()).map(|key| (key, Common::default())));
        }
        if let [Part::WeekdayAndHour] = self.parts.as_slice() {
            let hours =
                (1..=7).flat_map(|weekday| (0..24).map(move |hour| vec![Key::Whole(weekday), Key::Whole(hour)]));
            rows.extend(hours.filter(|key| cells.get(key).is_none()).map(|key| (key, Common::default())));
        }
        rows.extend(cells.into_rows());
        if self.parts.is_empty() && rows.is_empty() {
            rows.push((Vec::new(), Common::default()));
        }
        let by_time = matches!(self.parts.first(), None | Some(Part::Bucket | Part::WeekdayAndHour | Part::Transfers));
        rows.sort_unstable_by(|left, right| {
            if by_time { left.0.cmp(&right.0) } else { most_first((left.1.calls, &left.0), (right.1.calls, &right.0)) }
        });
        rows
    }

    /// The groups that were asked for stand in front of the report's own.
    fn group_cells(&self, key: &[Key]) -> Vec<Cell> {
        let mut cells: Vec<Cell> = key.iter().map(Cell::from).collect();
        if self.parts.first() == Some(&Part::Bucket)
            && let Some(Cell::Whole(at)) = cells.first()
        {
            cells[0] = Cell::Text(self.calendar.label(*at).into());
        }
        let own: usize = self.counts.parts.iter().map(|part| part.columns().len()).sum();
        cells.rotate_left(own);
        cells
    }

    /// The answer.
    pub fn answer(&self, request: &Request, total: OfCalls<Counted>) -> Answer {
        let counted = total.inner;
        let mut sum = Common::default();
        counted.cells.iter().for_each(|(_, measure)| sum.merge(measure));
        let mut params = request.params();
        let mut rows = self.rows(counted.cells, request.interval);
        if self.counts.shows == Shows::Number {
            self.tell_of_numbers(&mut params, &mut rows, request);
        }
        if self.parts.contains(&Part::Transfers) {
            let rate = if sum.calls == 0 { Value::Null } else { json!(sum.transferred as f64 / sum.calls as f64) };
            params.insert("transfer_rate".into(), rate);
        }
        let occurrences = self.is_heat().then(|| self.occurrences(request.interval));
        let rows = rows.iter().map(|(key, measure)| {
            let mut cells = self.group_cells(key);
            match self.counts.shows {
                Shows::Common => cells.extend(measure.cells()),
                Shows::Calls => cells.push(Cell::count(measure.calls)),
                Shows::Number => cells.extend([
                    Cell::count(measure.calls),
                    Cell::count(measure.answered),
                    Cell::whole(measure.talk()),
                ]),
            }
            if let Some(occurrences) = &occurrences {
                let times = occurrences.get(&key[..2]).map_or(0, |hours| hours.0);
                cells.extend([
                    Cell::count(times),
                    Cell::ratio(measure.calls, times),
                    Cell::float(measure.average_wait()),
                ]);
            }
            cells
        });
        let table = Table { rows: rows.collect(), columns: self.columns() };
        let mut answer = Answer::new(table, params, total.open);
        for column in common::COLUMNS {
            answer.unknown(column.name, sum.unknown(column.name));
        }
        answer.unknown("number", counted.nameless);
        answer
    }

    /// The columns of the answer.
    pub fn columns(&self) -> Vec<Column> {
        let own = match self.counts.shows {
            Shows::Common => common::COLUMNS.as_slice(),
            Shows::Calls => &common::COLUMNS[..1],
            Shows::Number => OF_NUMBERS.as_slice(),
        };
        let heat = if self.is_heat() { OF_HEAT.as_slice() } else { &[] };
        let (own_parts, added) = self.parts.split_at(self.counts.parts.len());
        let groups = added.iter().chain(own_parts).flat_map(|part| part.columns());
        groups.chain(own.iter().chain(heat).map(|column| (*column).into())).collect()
    }

    /// Shares and limits of reports about numbers.
    fn tell_of_numbers(&self, params: &mut Map<String, Value>, rows: &mut Vec<(Vec<Key>, Common)>, request: &Request) {
        if request.definition.name == "repeat_callers" {
            let how_many =
                |least: u64, most: u64| rows.iter().filter(|(_, row)| (least..=most).contains(&row.calls)).count();
            let repeated = how_many(2, u64::MAX);
            let share = if rows.is_empty() { Value::Null } else { json!(repeated as f64 / rows.len() as f64) };
            params.insert("callers".into(), json!(rows.len()));
            params.insert("repeat_share".into(), share);
            let buckets = [("1", 1, 1), ("2", 2, 2), ("3", 3, 3), ("4", 4, 4), ("5-10", 5, 10), (">10", 11, u64::MAX)];
            let buckets = buckets.map(|(name, least, most)| (name.to_owned(), json!(how_many(least, most))));
            params.insert("callers_by_calls".into(), Value::Object(buckets.into_iter().collect()));
            let least = request.options.whole("min_calls").cast_unsigned();
            rows.retain(|(_, row)| row.calls >= least);
        }
        rows.truncate(usize::try_from(request.options.whole("limit")).unwrap_or_default());
    }

    fn occurrences(&self, interval: Interval) -> Cells<Hours> {
        let mut occurrences = Cells::<Hours>::default();
        let hours = self.calendar.buckets(Bucket::Hour, interval).filter(|hour| hour.from >= interval.from);
        for hour in hours {
            let (weekday, hour) = self.calendar.weekday_and_hour(hour.from);
            occurrences.at(&[Key::Whole(weekday), Key::Whole(hour)]).0 += 1;
        }
        occurrences
    }
}

/// A number of hours.
#[derive(Clone, Copy, Debug, Default)]
struct Hours(u64);

impl Measure for Hours {
    fn merge(&mut self, other: &Hours) {
        self.0 += other.0;
    }
}

impl CallFamily for Counting {
    type Partial = Counted;

    fn begin(&self) -> Counted {
        let buckets = Buckets::new(self.calendar, self.bucket);
        Counted { cells: Cells::default(), buckets, nameless: 0, key: Vec::new() }
    }

    fn columns(&self) -> Vec<&'static str> {
        let own = match self.counts.shows {
            Shows::Common => common::READS.as_slice(),
            Shows::Calls => &[],
            Shows::Number => &["talk_ms"],
        };
        let heat = if self.is_heat() { visit::READS.as_slice() } else { &[] };
        let parts = self.parts.iter().flat_map(|part| part.reads());
        parts.chain(own).chain(heat).copied().collect()
    }

    fn basis(&self) -> Basis {
        self.attribution.into()
    }

    fn add(&self, partial: &mut Counted, call: &Call<'_>, open: bool, _within: Interval) {
        if !self.accepts(call, open) {
            return;
        }
        let mut key = std::mem::take(&mut partial.key);
        self.put_key(&mut key, &mut partial.buckets, call);
        if self.parts.first().is_some_and(|part| part.is_required()) && key.first() == Some(&Key::Null) {
            partial.nameless += 1;
        } else {
            let measure = partial.cells.at(&key);
            measure.add(call, open);
            if self.is_heat()
                && let Some(visit) = Visit::of(call)
            {
                measure.add_wait(&visit);
            }
        }
        partial.key = key;
    }

    fn merge(&self, partial: &mut Counted, other: &Counted) {
        partial.cells.merge(&other.cells);
        partial.nameless += other.nameless;
    }

    fn bytes(&self, partial: &Counted) -> usize {
        partial.cells.bytes()
    }
}
