//! Whole answers, kept for who asks again: computed at most once for each change and every 100 ms, however many ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use axum::http::HeaderValue;
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use trunklog_storage::event::{Micros, hex, now};
use trunklog_storage::position::Position;

use super::answer::Answer;
use super::definition::Definition;
use super::request::Request;
use crate::engine::{Access, QueryEngine};
use crate::error::QueryError;
use crate::format::Format;
use crate::moment::{AsOf, Moment};

/// An answer that was checked so lately need not be checked again.
const FRESH: Duration = Duration::from_millis(100);
/// Questions whose answers are kept.
const MOST: usize = 512;

/// One answer. It stays while nothing changes that it reads.
pub(crate) struct Body {
    content: [u8; 32],
    batch: RecordBatch,
    json: Bytes,
    as_of: AsOf,
    changes_at: Option<Micros>,
    encoded: Mutex<HashMap<Format, Encoded>>,
}

/// An answer in one form.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its strong entity tag, in quotes.
    pub etag: HeaderValue,
}

/// An answer, and up to where it was checked that it is still the answer.
#[derive(Clone)]
pub(crate) struct Served {
    body: Arc<Body>,
    /// The snapshot at which that was checked.
    pub checked: AsOf,
    /// When.
    pub checked_at: Instant,
}

impl Body {
    fn new(definition: &Definition, answer: &Answer, as_of: AsOf) -> Result<Body, QueryError> {
        let batch = answer.table.batch()?;
        let content = answer.body(definition, &batch);
        let hash = Sha256::digest(&content).into();
        let json = Answer::close(content, as_of).into();
        Ok(Body { content: hash, batch, json, as_of, changes_at: answer.changes_at, encoded: Mutex::default() })
    }
}

impl Served {
    /// The answer in this form.
    ///
    /// # Errors
    /// If its columns do not fit the form.
    pub fn encoded(&self, format: Format) -> Result<Encoded, QueryError> {
        let body = &self.body;
        if let Some(encoded) = body.encoded.lock().get(&format) {
            return Ok(encoded.clone());
        }
        let bytes = if format == Format::Json {
            body.json.clone()
        } else {
            let mut encoder = format.encoder(body.batch.schema(), body.as_of)?;
            let mut bytes = encoder.batch(&body.batch)?;
            bytes.extend(encoder.finish()?);
            Bytes::from(bytes)
        };
        let etag = format!("\"{}\"", hex(&Sha256::digest(&bytes)[..16]));
        let etag = HeaderValue::from_str(&etag).map_err(|error| QueryError::Internal(error.to_string()))?;
        let encoded = Encoded { bytes, etag };
        body.encoded.lock().insert(format, encoded.clone());
        Ok(encoded)
    }

    /// What the body was read at.
    pub fn as_of(&self) -> AsOf {
        self.body.as_of
    }

    /// How long it stays although nothing is heard, at most so long.
    pub fn until_change(&self, most: Duration) -> Duration {
        let left = self.body.changes_at.map(|at| at.saturating_sub(now()).max(0).cast_unsigned());
        left.map_or(most, |left| most.min(Duration::from_micros(left + 1000)))
    }

    fn contains(&self, offset: Option<Position>) -> bool {
        offset.is_none_or(|offset| offset.is_reached_by(&self.checked.offset))
    }

    fn is_past(&self, now: Micros) -> bool {
        self.body.changes_at.is_some_and(|at| at < now)
    }
}

/// A question that may be asked again, with the answer of last time.
pub(crate) struct Question {
    access: Access,
    request: Request,
    held: Mutex<Option<Served>>,
    computing: tokio::sync::Mutex<()>,
    used: AtomicU64,
}

impl Question {
    fn new(access: Access, request: Request) -> Question {
        Question {
            access,
            request,
            held: Mutex::new(None),
            computing: tokio::sync::Mutex::new(()),
            used: AtomicU64::new(0),
        }
    }

    /// The report that is asked.
    pub fn definition(&self) -> &'static Definition {
        self.request.definition
    }

    /// The answer, not older than 100 ms; one that contains this offset, if there is one.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn answer(&self, engine: &QueryEngine, min_offset: Option<Position>) -> Result<Served, QueryError> {
        let fresh = || {
            let held = self.held.lock();
            held.as_ref().filter(|held| held.checked_at.elapsed() < FRESH && held.contains(min_offset)).cloned()
        };
        if let Some(served) = fresh() {
            return Ok(served);
        }
        let _one_at_a_time = self.computing.lock().await;
        if let Some(served) = fresh() {
            return Ok(served);
        }
        let (held, visible, checked_at) = (self.held.lock().clone(), engine.archive().visible(), Instant::now());
        let unchanged = held.as_ref().filter(|held| held.checked.offset == visible && !held.is_past(now()));
        let served = match unchanged {
            Some(held) => {
                let checked = AsOf { offset: visible, time: now() };
                Served { checked, checked_at, body: Arc::clone(&held.body) }
            }
            None => {
                let (answer, as_of) = engine.compute(&self.access, &self.request, Moment::Now).await?;
                let body = Body::new(self.request.definition, &answer, as_of)?;
                let same = held.filter(|held| held.body.content == body.content);
                let body = match same {
                    // The same figures: the body of before, which clients have.
                    Some(held) if held.body.changes_at == body.changes_at => held.body,
                    Some(held) => Arc::new(Body { json: held.body.json.clone(), as_of: held.body.as_of, ..body }),
                    None => Arc::new(body),
                };
                Served { body, checked: as_of, checked_at }
            }
        };
        *self.held.lock() = Some(served.clone());
        Ok(served)
    }
}

/// The questions that were asked lately.
pub(crate) struct Polled {
    questions: Mutex<Questions>,
    /// The same by the URL that they were asked with, so that it need not be taken apart again.
    urls: Mutex<Questions>,
    clock: AtomicU64,
    /// Requests, whoever made them.
    pub requests: metrics::Counter,
}

/// Questions by who asks, and by what.
type Questions = HashMap<String, Vec<Arc<Question>>>;

impl Default for Polled {
    fn default() -> Polled {
        let requests = metrics::counter!("trunklog_report_requests_total");
        Polled { questions: Mutex::default(), urls: Mutex::default(), clock: AtomicU64::new(0), requests }
    }
}

impl Polled {
    /// The question that was asked with this URL before.
    pub fn by_url(&self, access: &Access, url: &str) -> Option<Arc<Question>> {
        let found = of(&self.urls.lock(), access, url)?;
        self.touch(&found);
        Some(found)
    }

    /// The question, perhaps asked before; `url` asks it, and nothing else with it.
    pub fn question(&self, access: &Access, request: &Request, url: Option<String>) -> Arc<Question> {
        let question = {
            let (mut questions, key) = (self.questions.lock(), request.key());
            let known = of(&questions, access, &key);
            let question = known.unwrap_or_else(|| {
                let new = Arc::new(Question::new(access.clone(), request.clone()));
                questions.entry(key).or_default().push(Arc::clone(&new));
                new
            });
            self.touch(&question);
            make_room(&mut questions);
            question
        };
        if let Some(url) = url {
            let mut urls = self.urls.lock();
            let of_url = urls.entry(url).or_default();
            of_url.retain(|other| other.access != *access);
            of_url.push(Arc::clone(&question));
            make_room(&mut urls);
        }
        question
    }

    fn touch(&self, question: &Question) {
        question.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The question of this access.
fn of(questions: &Questions, access: &Access, key: &str) -> Option<Arc<Question>> {
    questions.get(key)?.iter().find(|question| question.access == *access).cloned()
}

/// Forgets a quarter of the questions, those not asked for longest, when there are too many.
fn make_room(questions: &mut Questions) {
    let used = |question: &Arc<Question>| question.used.load(Ordering::Relaxed);
    if questions.values().map(Vec::len).sum::<usize>() <= MOST {
        return;
    }
    let mut times: Vec<u64> = questions.values().flatten().map(used).collect();
    times.sort_unstable();
    let since = times[MOST / 4];
    questions.retain(|_, of_key| {
        of_key.retain(|question| used(question) >= since);
        !of_key.is_empty()
    });
}

/// An answer that nobody will ask for again: at an earlier moment.
pub(crate) fn once(request: &Request, answer: &Answer, as_of: AsOf) -> Result<Served, QueryError> {
    let body = Arc::new(Body::new(request.definition, answer, as_of)?);
    Ok(Served { body, checked: as_of, checked_at: Instant::now() })
}
