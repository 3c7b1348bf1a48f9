//! The routes of a Kazoo and their answers. A call waits for the answer to a pivot request; a webhook that is not
//! answered with 200 is switched off by the PBX.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use trunklog_storage::archive::Receipt;
use trunklog_storage::event::{Event, Source};

use super::account::{check_account, check_accounts};
use super::fields::{Fields, Spelling};
use super::record::Recorder;
use super::{debug, hook, pivot, recording};
use crate::IngestState;
use crate::accept::{Inbound, accept_events, counts, stored};
use crate::reject::{Refusal, problem};
use crate::settings::TenantSettings;

/// The routes below `/in/kazoo` or `/in/virtualpbx`.
pub fn routes(source: Source) -> Router<IngestState> {
    let pivot_methods = MethodFilter::GET.or(MethodFilter::POST);
    let hook_methods = pivot_methods.or(MethodFilter::PUT);
    Router::new()
        .route(
            "/pivot",
            on(pivot_methods, move |State(state): State<IngestState>, request: Request| {
                receive_pivot(state, source, request)
            }),
        )
        .route(
            "/hook",
            on(hook_methods, move |State(state): State<IngestState>, request: Request| {
                receive_hook(state, source, request)
            }),
        )
        .route(
            "/pivot/debug",
            post(move |State(state): State<IngestState>, request: Request| receive_debug(state, source, request)),
        )
        .merge(recordings(source))
}

/// Uploads. Senders that put the file name into the query come without a path of their own.
fn recordings(source: Source) -> Router<IngestState> {
    let methods = MethodFilter::GET.or(MethodFilter::HEAD).or(MethodFilter::PUT).or(MethodFilter::POST);
    let serve = on(methods, move |State(state): State<IngestState>, request: Request| {
        recording::route::serve(state, source, request)
    });
    let paths = ["/recordings", "/recordings/", "/recordings/{*path}"];
    paths.into_iter().fold(Router::new(), |router, path| router.route(path, serve.clone()))
}

async fn receive_pivot(state: IngestState, source: Source, request: Request) -> Result<Response, Refusal> {
    let settings = state.settings.load();
    let inbound = read(&state, request, source, settings.limits.message_bytes).await?;
    let tenant = settings.of(&inbound.tenant);
    let event = inbound.event(&format!("{source}.pivot"), inbound.body.clone());
    let fields = Fields::of(&event, Spelling::Pivot).ok();
    check_account(tenant, fields.as_ref().and_then(pivot::account))?;
    let receipt = append(&state, event).await?;
    let number = fields.as_ref().and_then(pivot::called);
    let recorder = Recorder::of(&settings, &inbound, fields.as_ref());
    Ok(stored(answer(tenant, number, recorder.as_ref()), &receipt))
}

async fn receive_hook(state: IngestState, source: Source, request: Request) -> Result<Response, Refusal> {
    let settings = state.settings.load();
    let inbound = read(&state, request, source, settings.limits.message_bytes).await?;
    let event = inbound.event(&format!("{source}.hook"), inbound.body.clone());
    if let Ok(fields) = Fields::of(&event, Spelling::Hook) {
        check_account(settings.of(&inbound.tenant), hook::account(&event, &fields))?;
    }
    let receipt = append(&state, event).await?;
    Ok(stored(Json(json!({})).into_response(), &receipt))
}

async fn receive_debug(state: IngestState, source: Source, request: Request) -> Result<Response, Refusal> {
    let settings = state.settings.load();
    let limits = settings.limits;
    let inbound = read(&state, request, source, limits.report_bytes).await?;
    let kind = format!("{source}.debug");
    let events = match debug::split(&inbound.body) {
        _ if inbound.body.trim_ascii().is_empty() => Vec::new(),
        Ok(documents) => documents.into_iter().map(|document| inbound.event(&kind, document)).collect(),
        Err(error) => vec![Event { error: Some(error), ..inbound.event(&kind, inbound.body.clone()) }],
    };
    limits.check_messages(&events)?;
    check_accounts(settings.of(&inbound.tenant), &events)?;
    Ok(counts(&accept_events(&state, events).await?))
}

async fn read(state: &IngestState, request: Request, source: Source, limit: usize) -> Result<Inbound, Refusal> {
    let inbound = Inbound::read(state, request, source, limit, &[]).await?;
    if inbound.is_empty() {
        return Err(Refusal::Unprocessable("the request has neither a query nor a body".to_owned()));
    }
    Ok(inbound)
}

async fn append(state: &IngestState, event: Event) -> Result<Receipt, Refusal> {
    let receipts = accept_events(state, vec![event]).await?;
    Ok(receipts.into_iter().next().expect("one message gets one receipt"))
}

/// The callflow for the called number, recorded if wanted. Without one, the PBX takes any 404 as the sign to go on by
/// itself.
fn answer(tenant: &TenantSettings, number: Option<&str>, recorder: Option<&Recorder>) -> Response {
    match (callflow(tenant, number), recorder) {
        (Some(callflow), Some(recorder)) => Json(recorder.before(callflow)).into_response(),
        (Some(callflow), None) => Json(callflow).into_response(),
        (None, _) => problem(StatusCode::NOT_FOUND, "no-callflow", "no callflow is configured for this number", false),
    }
}

fn callflow<'a>(tenant: &'a TenantSettings, number: Option<&str>) -> Option<&'a Value> {
    let of_number = number.and_then(|number| {
        let plain = number.strip_prefix('+').unwrap_or(number);
        let flows = &tenant.kazoo_callflow;
        flows.get(number).or_else(|| flows.get(plain)).or_else(|| flows.get(&format!("+{plain}")))
    });
    of_number.or_else(|| tenant.kazoo_callflow.get("*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantSettings {
        let flows =
            [("+35316877779", json!({"module": "device"})), ("3004", json!({"module": "user"})), ("*", json!({}))];
        TenantSettings {
            kazoo_callflow: flows.map(|(number, flow)| (number.to_owned(), flow)).into(),
            ..TenantSettings::default()
        }
    }

    #[test]
    fn callflows_go_by_number_with_and_without_plus() {
        let tenant = tenant();
        assert_eq!(callflow(&tenant, Some("35316877779")), Some(&json!({"module": "device"})));
        assert_eq!(callflow(&tenant, Some("+3004")), Some(&json!({"module": "user"})));
        assert_eq!(callflow(&tenant, Some("1")), Some(&json!({})));
        assert_eq!(callflow(&tenant, None), Some(&json!({})));
        assert_eq!(callflow(&TenantSettings::default(), Some("1")), None);
    }
}
