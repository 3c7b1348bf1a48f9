//! Calls by id, as they are now, for decisions that must not rest on what the linker happens to remember.

use std::collections::{HashMap, HashSet};

use crate::archive::Archive;
use crate::error::Error;
use crate::event::{Id, call_id};
use crate::rows::KeyedCall;

/// Another call must fit this much better to take the place of the present one.
pub(super) const BETTER_BY: f64 = 0.05;

/// A leg of a leg of a leg: no more steps than this to the call.
const STEPS: usize = 8;

/// The calls of these ids, hidden ones included.
pub(super) async fn calls(archive: &Archive, ids: &HashSet<Id>) -> Result<HashMap<Id, KeyedCall>, Error> {
    let found = archive.calls_of(ids).await?;
    Ok(found.into_iter().map(|call| (call.id.clone(), call)).collect())
}

/// The call of this id, from those that are known or else from the archive.
pub(super) async fn call(
    archive: &Archive,
    id: &Id,
    known: &mut HashMap<Id, KeyedCall>,
) -> Result<Option<KeyedCall>, Error> {
    if !known.contains_key(id) {
        known.extend(calls(archive, &HashSet::from([id.clone()])).await?);
    }
    Ok(known.get(id).cloned())
}

/// The id of the call that the one of this id is a leg of, if it is one. Says nothing about who may see it.
///
/// # Errors
/// If a table cannot be read, `Closed` when the archive is closing.
pub async fn call_of_leg(archive: &Archive, leg: &str) -> Result<Option<String>, Error> {
    let (archive, leg): (Archive, Id) = (archive.clone(), leg.into());
    // Planning a read is no work for the threads that serve.
    let search = archive.background()?.spawn(async move {
        let (mut id, mut known) = (leg.clone(), HashMap::new());
        for _ in 0..STEPS {
            let Some(found) = call(&archive, &id, &mut known).await? else { return Ok(None) };
            match found.state.leg_of() {
                Some((key, _)) => id = call_id(&found.tenant, found.source, key),
                None => return Ok((id != leg).then(|| id.to_string())),
            }
        }
        Ok::<Option<String>, Error>(None)
    });
    search.await.map_err(|_| Error::Closed)?
}
