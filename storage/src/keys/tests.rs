use super::*;
use crate::event::Source;

fn keys() -> (tempfile::TempDir, Keys) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = Keys::open(directory.path()).expect("opens");
    (directory, keys)
}

fn request(scopes: &[&str]) -> NewKey {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    NewKey { tenant: Some("acme".into()), scopes, ..NewKey::default() }
}

#[test]
fn a_key_lets_in_after_reopening_and_no_longer_after_revocation() {
    let (directory, keys) = keys();
    let created = keys.create(request(&["ingest:placetel", "query"])).expect("created");
    let reopened = Keys::open(directory.path()).expect("opens");
    let principal = reopened.authenticate(&created.token, None).expect("lets in");
    assert_eq!(principal.tenant.as_deref(), Some("acme"));
    assert!(principal.may_ingest(Source::Placetel) && !principal.may_ingest(Source::Kazoo));
    assert!(principal.has("query") && !principal.has("export") && !principal.is_admin());
    assert_eq!(reopened.tenants(), ["acme"]);
    assert!(reopened.revoke(&created.id).expect("revoked"));
    assert_eq!(reopened.authenticate(&created.token, None).err(), Some(Denied::Unauthorized));
    assert!(!reopened.revoke("key_unknown").expect("no error"));
}

#[test]
fn the_file_is_private_and_holds_neither_token_nor_secret() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, keys) = keys();
    let secret = "a shared secret that is longer than one block of the key stream";
    let created =
        keys.create(NewKey { hmac_secret: Some(secret.into()), ..request(&["ingest:placetel"]) }).expect("created");
    let path = directory.path().join("keys.json");
    let text = std::fs::read_to_string(&path).expect("readable");
    assert!(!text.contains(&created.token) && !text.contains(secret));
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let principal = keys.authenticate(&created.token, None).expect("lets in");
    assert_eq!(principal.hmac_secret.as_deref(), Some(secret.as_bytes()));
}

#[test]
fn addresses_and_expiry_are_obeyed() {
    let (_directory, keys) = keys();
    let addresses = vec!["10.1.0.0/16".to_owned(), "::1".to_owned()];
    let created = keys.create(NewKey { addresses, ..request(&["query"]) }).expect("created");
    let from = |address: &str| keys.authenticate(&created.token, Some(address.parse().expect("an address"))).err();
    assert_eq!(from("10.1.2.3"), None);
    assert_eq!(from("::ffff:10.1.2.3"), None);
    assert_eq!(from("::1"), None);
    assert_eq!(from("10.2.2.3"), Some(Denied::Address));
    assert_eq!(keys.authenticate(&created.token, None).err(), Some(Denied::Address));
    let soon = NewKey { expires_at: Some(now() + 30_000), ..request(&["query"]) };
    let created = keys.create(soon).expect("created");
    std::thread::sleep(std::time::Duration::from_millis(40));
    assert_eq!(keys.authenticate(&created.token, None).err(), Some(Denied::Unauthorized));
}

#[test]
fn wrong_requests_name_the_field() {
    let fault = |request: NewKey| request.check().expect_err("is wrong").parameter;
    assert_eq!(fault(request(&["everything"])), "scopes");
    assert_eq!(fault(request(&[])), "scopes");
    assert_eq!(fault(request(&["ingest:trunklog"])), "scopes");
    assert_eq!(fault(request(&["admin"])), "tenant");
    assert_eq!(fault(NewKey { tenant: None, ..request(&["query"]) }), "tenant");
    assert_eq!(fault(NewKey { tenant: Some("../etc".into()), ..request(&["query"]) }), "tenant");
    assert_eq!(fault(NewKey { addresses: vec!["10.0.0.0/33".into()], ..request(&["query"]) }), "addresses");
    assert_eq!(fault(NewKey { expires_at: Some(0), ..request(&["query"]) }), "expires_at");
}

#[test]
fn a_scope_given_twice_is_kept_once() {
    let (_directory, keys) = keys();
    keys.create(request(&["query", "export", "query"])).expect("created");
    assert_eq!(keys.list()[0].scopes, ["query", "export"]);
}

#[test]
fn tokens_are_found_in_authorization_headers() {
    assert_eq!(from_authorization("Bearer tlk_x").as_deref(), Some("tlk_x"));
    assert_eq!(from_authorization("basic dXNlcjp0bGtfeA==").as_deref(), Some("tlk_x"));
    assert_eq!(from_authorization("Digest x"), None);
    assert_eq!(from_authorization("Basic !!"), None);
}

#[test]
fn the_local_token_administers_and_is_never_stored() {
    let (directory, keys) = keys();
    keys.create(request(&["query"])).expect("created");
    assert!(keys.authenticate(keys.local_token(), None).expect("lets in").is_admin());
    let text = std::fs::read_to_string(directory.path().join("keys.json")).expect("readable");
    assert!(!text.contains(keys.local_token()));
    let other = Keys::open(directory.path()).expect("opens");
    assert_ne!(other.local_token(), keys.local_token());
}
