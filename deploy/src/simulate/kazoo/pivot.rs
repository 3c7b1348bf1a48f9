//! Pivot requests in their spellings, and the debug documents that VirtualPBX keeps of them.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use trunklog_storage::event::Source;

use super::super::model::Call;
use super::super::wire::{FORM, Fields, JSON, KeyForm, Message, Script};
use super::{ACCOUNT, CARRIER, Parties, REALM};

const GREGORIAN: i64 = 62_167_219_200;
const MENUS: [&str; 3] = ["menu", "department", "default"];

/// Sends the pivot request(s) of a call; gives the digits that the last one carried.
pub fn visits(call: &mut Call, parties: &Parties, script: &mut Script) -> Vec<(String, String)> {
    let shape = call.weighted(&[(FORM, 0.4), ("GET", 0.45), (JSON, 0.15)]);
    visit(call, shape, call.start, &fields(call, parties, None), script);
    if !call.chance(0.3) {
        return Vec::new();
    }
    let digits = (call.one(&MENUS).to_owned(), call.between(0, 999).to_string());
    visit(call, shape, call.start + 1, &fields(call, parties, Some(&digits)), script);
    vec![digits]
}

fn fields(call: &Call, parties: &Parties, digits: Option<&(String, String)>) -> Fields {
    // VirtualPBX sends the old spellings.
    let old = call.source == Source::Virtualpbx;
    let name = |new: &'static str, former: &'static str| if old { former } else { new };
    let mut fields = Fields::default();
    fields
        .add("Caller-ID-Number", parties.from.as_str())
        .add("Caller-ID-Name", parties.name)
        .add("Direction", "inbound")
        .add(name("Api-Version", "ApiVersion"), if old { "2013-05-01" } else { "4.x" })
        .add(name("To-Realm", "ToRealm"), REALM)
        .add("To", parties.to.as_str())
        .add(name("From-Realm", "FromRealm"), CARRIER)
        .add("From", parties.from.as_str())
        .add("Request", parties.to.as_str())
        .add("Request-Realm", REALM)
        .add("Call-Status", "in-progress")
        .add("Language", "en-us")
        .add("Account-ID", ACCOUNT)
        .add("Call-ID", parties.key.as_str());
    match digits {
        // A collection without a name is sent as a plain string by old versions.
        Some((name, value)) if old && name == "default" => {
            fields.add("Digits", value.as_str());
        }
        Some((name, value)) => {
            let map: Map<String, Value> = [(name.clone(), json!(value))].into_iter().collect();
            fields.add("Digits", map);
        }
        None => {}
    }
    fields
}

fn visit(call: &Call, shape: &'static str, at: i64, fields: &Fields, script: &mut Script) {
    let (route, kind) = match call.source {
        Source::Virtualpbx => ("/virtualpbx/pivot", "virtualpbx.pivot"),
        _ => ("/kazoo/pivot", "kazoo.pivot"),
    };
    let message = match shape {
        FORM => Message::form(call.source, kind, route, fields),
        JSON => Message::post(call.source, kind, route, JSON, fields.json()),
        _ => Message::get(call.source, kind, route, fields),
    };
    script.send(at, message.with_key(KeyForm::Path));
}

/// Posts the debug documents of the call's first pivot request, in one of the three shapes.
pub fn debug(call: &mut Call, parties: &Parties, script: &mut Script) {
    let documents = documents(call, parties);
    let at = call.start + 30;
    match call.between(0, 2) {
        0 => documents.iter().for_each(|document| post(at, document.clone(), vec![document.clone()], script)),
        1 => post(at, format!("[{}]", documents.join(",")), documents, script),
        _ => {
            let list = documents.join(",");
            let body = format!(
                r#"{{"auth_token":"","data":[{list}],"request_id":"{}","revision":"1-{}","status":"success"}}"#,
                &call.hash("request")[..32],
                &call.hash("revision")[..16],
            );
            post(at, body, documents, script);
        }
    }
}

fn documents(call: &mut Call, parties: &Parties) -> Vec<String> {
    let id = |part: u32| format!("{}-{part}", &call.hash("debug")[..16]);
    let query = fields(call, parties, None).encoded();
    let created = call.start + GREGORIAN;
    let request = json!({
        "call_id": parties.key, "id": id(1), "method": "get", "req_body": "", "iteration": 1, "created": created,
        "req_headers": {}, "uri": format!("http://archive.example/pivot?{query}"),
    });
    let head = json!({
        "call_id": parties.key, "id": id(2), "iteration": 1, "created": created, "resp_status_code": "200",
        "resp_headers": {"content-type": "application/json", "date": "fri, 30 may 2014 10:00:00 gmt"},
    });
    let callflow = json!({"module": "resources", "data": {}}).to_string();
    let body = json!({"call_id": parties.key, "id": id(3), "iteration": 1, "created": created, "resp_body": callflow});
    let schema = json!({
        "call_id": parties.key, "id": id(3), "iteration": 1, "created": created,
        "schema_errors": {"module": {"required": {"message": "Field is required but missing"}}}, "resp_body": "{\"data\":{}}",
    });
    let broken = json!({
        "call_id": parties.key, "id": id(3), "iteration": 1, "created": created,
        "json_errors": {"before": "{\"module\":", "after": "", "message": "unexpected end"}, "resp_body": "{\"module\":",
    });
    let last = match call.between(0, 19) {
        0 => schema,
        1 => broken,
        _ => body,
    };
    [request, head, last].iter().map(Value::to_string).collect()
}

fn post(at: i64, body: String, documents: Vec<String>, script: &mut Script) {
    let route = "/virtualpbx/pivot/debug";
    let mut message = Message::post(Source::Virtualpbx, "virtualpbx.debug", route, JSON, body);
    message.parts = documents.into_iter().map(Bytes::from).collect();
    script.send(at, message);
}
