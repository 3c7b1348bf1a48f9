//! `GET /v1/recordings/{recording_id}/waveform`: the peaks of a recording, in the forms of audiowaveform.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderValue;
use axum::http::header::VARY;
use axum::response::Response;
use bytes::Bytes;
use trunklog_storage::error::Error as StorageError;
use trunklog_storage::media::audio::Peaks;

use super::decoded::not_acceptable;
use super::find::{Found, Which, find};
use super::media_type::{Accept, UNKNOWN};
use super::serve::respond;
use crate::error::QueryError;
use crate::rest::QueryState;
use crate::rest::auth::RECORDINGS_READ;
use crate::rest::parameters::{Common, Parameters};
use crate::rest::problem::Problem;
use crate::rest::stream::put_as_of;

const JSON: &str = "application/json";

/// The finest zoom; others are multiples of it.
const FINEST: u32 = 256;

/// The coarsest zoom.
const COARSEST: u32 = 65_536;

/// How peaks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Binary,
}

pub(super) async fn show(
    State(state): State<QueryState>,
    recording_id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut parameters = Parameters::of(&parts.uri)?;
    let common = Common::take_with(RECORDINGS_READ, &state, &parts, &mut parameters)?;
    let zoom = zoom(&mut parameters)?;
    parameters.nothing_left()?;
    // What is not UTF-8 names no recording.
    let Ok(Path(recording_id)) = recording_id else { return Err(Problem::not_found("recording")) };
    let form = form(&Accept::of(&parts.headers))?;
    common.wait(&state).await?;
    let (found, as_of) = find(&state, common.access, common.moment, Which::Id(recording_id)).await?;
    let entity = match form {
        Form::Json => found.derived(&format!("peaks-{zoom}"), JSON, ".json"),
        // Other bytes, so another tag.
        Form::Binary => found.derived(&format!("peaks-{zoom}-dat"), UNKNOWN, ".dat"),
    };
    let mut response = match entity.decided(&parts.method, &parts.headers) {
        Some(response) => response,
        None => {
            let peaks = peaks(&state, &found).await?;
            let content = written(&state, peaks, zoom, form).await?;
            respond(&content, &entity, &parts.method, &parts.headers)
        }
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if form == Form::Binary {
        put_as_of(response.headers_mut(), as_of);
    }
    Ok(response)
}

/// What is no audio has none: 406.
async fn peaks(state: &QueryState, found: &Found) -> Result<Peaks, Problem> {
    // What was drawn before says nothing about the bytes now; and what is drawn of damaged ones would be kept.
    found.open(state).await?;
    match state.media.waveform(found.object(), &found.recording_id).await {
        Ok(peaks) => Ok(peaks),
        Err(StorageError::Missing(_)) => {
            Err(not_acceptable("there is no waveform: the recording is no audio that can be decoded"))
        }
        Err(error) => Err(found.unreadable(error)),
    }
}

/// Hours of audio are megabytes of peaks: not on the threads that serve requests.
async fn written(state: &QueryState, peaks: Peaks, zoom: u32, form: Form) -> Result<Bytes, Problem> {
    let work = state.engine.runtime().spawn_blocking(move || {
        let peaks = if zoom == FINEST { peaks } else { peaks.zoom(zoom)? };
        Some(match form {
            Form::Json => Bytes::from(peaks.to_json()),
            Form::Binary => Bytes::from(peaks.to_binary()),
        })
    });
    let written = work.await.map_err(|error| QueryError::Internal(error.to_string()))?;
    Ok(written.ok_or_else(|| QueryError::Internal("the peaks do not zoom".to_owned()))?)
}

fn form(accept: &Accept) -> Result<Form, Problem> {
    let (json, binary) = (accept.quality(JSON), accept.quality(UNKNOWN));
    if json <= 0.0 && binary <= 0.0 {
        return Err(not_acceptable(format!("there are {JSON} and {UNKNOWN}")));
    }
    Ok(if binary > json { Form::Binary } else { Form::Json })
}

fn zoom(parameters: &mut Parameters) -> Result<u32, QueryError> {
    const NAME: &str = "samples_per_pixel";
    let Some(text) = parameters.one(NAME)? else { return Ok(FINEST) };
    let zoom = text.parse::<u32>().ok().filter(|zoom| zoom % FINEST == 0 && (FINEST..=COARSEST).contains(zoom));
    zoom.ok_or_else(|| {
        QueryError::parameter(NAME, format!("`{NAME}` is a multiple of {FINEST} from {FINEST} to {COARSEST}"))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::http::header::ACCEPT;

    use super::*;

    fn asked(query: &str) -> Result<u32, QueryError> {
        let uri = format!("/?{query}").parse().expect("a URI");
        zoom(&mut Parameters::of(&uri).expect("parameters"))
    }

    #[test]
    fn zooms_are_multiples_of_the_finest() {
        assert_eq!(asked("").ok(), Some(256));
        assert_eq!(asked("samples_per_pixel=768").ok(), Some(768));
        assert_eq!(asked("samples_per_pixel=65536").ok(), Some(65_536));
        for wrong in ["0", "128", "257", "65792", "-256", "x", ""] {
            match asked(&format!("samples_per_pixel={wrong}")) {
                Err(QueryError::Parameter { parameter, .. }) => assert_eq!(parameter, "samples_per_pixel", "{wrong}"),
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }

    #[test]
    fn json_unless_asked_otherwise() {
        let of = |accept: &'static str| {
            form(&Accept::of(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))).ok()
        };
        assert_eq!(of(""), Some(Form::Json));
        assert_eq!(of("*/*"), Some(Form::Json));
        assert_eq!(of("application/octet-stream"), Some(Form::Binary));
        assert_eq!(of("application/octet-stream, */*;q=0.1"), Some(Form::Binary));
        assert_eq!(of("text/html"), None);
    }
}
