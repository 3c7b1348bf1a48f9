//! `/v1/keys` and `/v1/tenants`: making, listing and revoking keys.

use std::collections::BTreeMap;
use std::fmt;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use trunklog_storage::event::{Micros, format_time, parse_time};
use trunklog_storage::keys::{KeyInfo, NewKey};

use super::AppState;
use super::access::Administrator;
use super::parameters::Parameters;
use super::problem::Problem;

/// `POST /v1/keys`
pub async fn create(
    Administrator(administrator): Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(error.body_text()),
        _ => Problem::bad_request(error.body_text()),
    })?;
    let request = new_key(&body)?;
    request.check().map_err(|invalid| Problem::parameter(invalid.parameter, invalid.to_string()))?;
    let (tenant, scopes, expires_at) = (request.tenant.clone(), request.scopes.clone(), request.expires_at);
    let created = super::blocking(move || state.keys.create(request)).await?;
    tracing::info!(key = created.id, tenant, by = administrator.key_id, "made a key");
    let answer = json!({
        "id": created.id,
        "token": created.token,
        "tenant": tenant,
        "scopes": scopes,
        "expires_at": expires_at.map(format_time),
    });
    // The answer holds a secret, so no cache may keep it.
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(answer)))
}

/// `GET /v1/keys`
pub async fn list(
    _administrator: Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["tenant"])?;
    let tenant = parameters.get("tenant");
    let all = state.keys.list();
    let keys = all.iter().filter(|key| tenant.is_none_or(|tenant| key.tenant.as_deref() == Some(tenant)));
    Ok(Json(json!({ "items": keys.map(shown).collect::<Vec<_>>(), "next_cursor": null })))
}

/// A key as it is shown to administrators.
pub fn shown(key: &KeyInfo) -> Value {
    json!({
        "id": key.id,
        "tenant": key.tenant,
        "scopes": key.scopes,
        "hmac_secret": key.has_hmac_secret,
        "addresses": key.addresses,
        "created_at": format_time(key.created_at),
        "expires_at": key.expires_at.map(format_time),
        "revoked_at": key.revoked_at.map(format_time),
    })
}

/// `DELETE /v1/keys/{id}`
pub async fn revoke(
    Administrator(administrator): Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let Path(id) = id.map_err(|_| Problem::not_found("there is no such key"))?;
    let key = id.clone();
    if !super::blocking(move || state.keys.revoke(&key)).await? {
        return Err(Problem::not_found(format!("there is no key `{id}`")));
    }
    tracing::info!(key = id, by = administrator.key_id, "revoked a key");
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/tenants`: those that keys were made for or that the configuration names.
pub async fn tenants(
    _administrator: Administrator,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let settings = state.settings.load();
    let mut keys: BTreeMap<String, usize> = settings.tenants.keys().map(|name| (name.clone(), 0)).collect();
    keys.extend(state.keys.tenants().into_iter().map(|name| (name, 0)));
    for key in state.keys.list().into_iter().filter(|key| key.revoked_at.is_none()) {
        if let Some(count) = key.tenant.and_then(|tenant| keys.get_mut(&tenant)) {
            *count += 1;
        }
    }
    let items = keys.iter().map(
        |(tenant, keys)| json!({ "tenant": tenant, "keys": keys, "configured": settings.tenants.contains_key(tenant) }),
    );
    Ok(Json(json!({ "items": items.collect::<Vec<_>>(), "next_cursor": null })))
}

const FIELDS: [&str; 5] = ["tenant", "scopes", "hmac_secret", "expires_at", "addresses"];

fn new_key(body: &[u8]) -> Result<NewKey, Problem> {
    let Members(members) = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON object: {error}")))?;
    let mut body = Map::new();
    for (name, value) in members {
        if body.contains_key(&name) {
            let detail = format!("`{name}` stands more than once");
            return Err(Problem::parameter(name, detail));
        }
        body.insert(name, value);
    }
    if let Some(unknown) = body.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let detail = format!("`{unknown}` is no field of a key; there are {}", FIELDS.join(", "));
        return Err(Problem::parameter(unknown, detail));
    }
    let request = NewKey {
        tenant: text(&body, "tenant")?,
        scopes: texts(&body, "scopes")?,
        hmac_secret: text(&body, "hmac_secret")?,
        expires_at: time(&body, "expires_at")?,
        addresses: texts(&body, "addresses")?,
    };
    Ok(request.distinct())
}

/// The members of a JSON object as they stand there: a map would hide those that stand twice.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn text(body: &Map<String, Value>, field: &str) -> Result<Option<String>, Problem> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Problem::parameter(field, format!("`{field}` must be a string"))),
    }
}

fn time(body: &Map<String, Value>, field: &str) -> Result<Option<Micros>, Problem> {
    let Some(text) = text(body, field)? else { return Ok(None) };
    let wrong = || Problem::parameter(field, format!("`{field}` must be a time as in RFC 3339"));
    parse_time(&text).map(Some).ok_or_else(wrong)
}

fn texts(body: &Map<String, Value>, field: &str) -> Result<Vec<String>, Problem> {
    let wrong = || Problem::parameter(field, format!("`{field}` must be a list of strings"));
    match body.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_once_and_scopes_are_kept_once() {
        let once = br#"{"tenant": "acme", "scopes": ["query", "export", "query"]}"#;
        assert_eq!(new_key(once).expect("is right").scopes, ["query", "export"]);
        for wrong in [&br#"{"tenant": "a", "tenant": "b"}"#[..], b"[]", b"{} {}", br#"{"owner": 1}"#] {
            assert!(new_key(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
