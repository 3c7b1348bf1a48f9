//! Whether the account that a message names is one of its tenant's.

use trunklog_storage::event::Event;

use super::debug;
use crate::reject::Refusal;
use crate::settings::TenantSettings;

/// The sender asserts its account; a tenant may say which ones are its own.
pub(super) fn check_account(tenant: &TenantSettings, account: Option<&str>) -> Result<(), Refusal> {
    let known = |account: &str| tenant.kazoo_accounts.iter().any(|own| own.eq_ignore_ascii_case(account));
    match account {
        Some(account) if !tenant.kazoo_accounts.is_empty() && !known(account) => {
            Err(Refusal::Forbidden("the account is not one of this tenant's".to_owned()))
        }
        _ => Ok(()),
    }
}

/// The same for the requests in debug documents: a foreign one refuses all.
pub(super) fn check_accounts(tenant: &TenantSettings, documents: &[Event]) -> Result<(), Refusal> {
    if tenant.kazoo_accounts.is_empty() {
        return Ok(());
    }
    let mut accounts = documents.iter().flat_map(debug::accounts);
    accounts.try_for_each(|account| check_account(tenant, Some(&account)))
}

#[cfg(test)]
mod tests {
    use trunklog_storage::event::Source;

    use super::*;
    use crate::sources::fixture::posted;

    fn tenant() -> TenantSettings {
        let kazoo_accounts = vec!["0123456789abcdef0123456789abcdef".to_owned()];
        TenantSettings { kazoo_accounts, ..TenantSettings::default() }
    }

    #[test]
    fn foreign_accounts_are_refused() {
        assert!(check_account(&tenant(), Some("0123456789ABCDEF0123456789abcdef")).is_ok());
        assert!(check_account(&tenant(), None).is_ok());
        assert!(check_account(&tenant(), Some("00000000000000000000000000000002")).is_err());
        assert!(check_account(&TenantSettings::default(), Some("any")).is_ok());
    }

    #[test]
    fn foreign_accounts_in_debug_documents_are_refused() {
        let check = |tenant: &TenantSettings, document: &str| {
            check_accounts(tenant, &[posted(Source::Virtualpbx, "virtualpbx.debug", document)]).is_ok()
        };
        let own = r#"{"call_id":"a","uri":"http://h/p?Account-ID=0123456789abcdef0123456789abcdef&Call-ID=a"}"#;
        let foreign = r#"{"call_id":"a","uri":"<http://h/p?Call-ID=a&Account-ID=00000000000000000000000000000002>"}"#;
        let in_body = r#"{"call_id":"a","method":"post","uri":"http://h/p","req_body":"Call-ID=a&Account-ID=0002"}"#;
        assert!(check(&tenant(), own) && check(&tenant(), r#"{"call_id":"a","resp_body":"x"}"#));
        assert!(check(&tenant(), "nonsense"));
        assert!(!check(&tenant(), foreign) && !check(&tenant(), in_body));
        assert!(check(&TenantSettings::default(), foreign));
    }
}
