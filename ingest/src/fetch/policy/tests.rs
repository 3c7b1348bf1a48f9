use super::*;

const ENTRIES: [&str; 9] = [
    "pbx.acme.example",
    "*.cloud.example",
    "Files.Example:8443",
    "office.example!private",
    "192.168.7.9:8080!private",
    "[fd00::7]:8080!private",
    "93.184.215.14",
    "127.0.0.1",
    "bücher.example",
];

fn checked(link: &str) -> Result<Reach, Refused> {
    let list = AllowList::new(&ENTRIES.map(str::to_owned));
    list.check(&parse_link(link)?)
}

#[test]
fn links_that_are_followed() {
    for (link, reach) in [
        ("http://pbx.acme.example/a.mp3", Reach::Public),
        ("https://pbx.acme.example/a.mp3?token=1", Reach::Public),
        ("https://PBX.Acme.Example/a.mp3", Reach::Public),
        ("https://pbx.acme.example./a.mp3", Reach::Public),
        ("https://pbx.acme.example:443/a.mp3", Reach::Public),
        ("http://pbx.acme.example:443/a.mp3", Reach::Public),
        (" https://pbx.acme.example/a.mp3\n", Reach::Public),
        ("https://a.cloud.example/", Reach::Public),
        ("https://a.b.cloud.example/", Reach::Public),
        ("https://files.example:8443/x", Reach::Public),
        ("http://office.example/x", Reach::OwnNetwork),
        ("http://192.168.7.9:8080/x", Reach::OwnNetwork),
        ("http://[fd00::7]:8080/x", Reach::OwnNetwork),
        ("http://93.184.215.14/x", Reach::Public),
        ("https://xn--bcher-kva.example/x", Reach::Public),
        ("https://BÜCHER.example/x", Reach::Public),
    ] {
        assert_eq!(checked(link), Ok(reach), "{link}");
    }
}

#[test]
fn links_that_are_refused() {
    for (link, why) in [
        ("", Refused::Invalid),
        ("a.mp3", Refused::Invalid),
        ("//pbx.acme.example/a.mp3", Refused::Invalid),
        ("http://", Refused::Invalid),
        ("http://pbx.acme.example:99999/", Refused::Invalid),
        ("ftp://pbx.acme.example/a.mp3", Refused::Scheme),
        ("file:///etc/passwd", Refused::Scheme),
        ("gopher://pbx.acme.example/", Refused::Scheme),
        ("data:audio/mpeg;base64,AAAA", Refused::Scheme),
        ("http://user@pbx.acme.example/", Refused::Credentials),
        ("http://user:secret@pbx.acme.example/", Refused::Credentials),
        ("http://pbx.acme.example@evil.example/", Refused::Credentials),
        ("http://evil.example/", Refused::Host),
        ("http://evil.example/pbx.acme.example", Refused::Host),
        ("http://evil.example/#pbx.acme.example", Refused::Host),
        ("http://pbx.acme.example.evil.example/", Refused::Host),
        ("http://xpbx.acme.example/", Refused::Host),
        ("http://a.pbx.acme.example/", Refused::Host),
        ("http://acme.example/", Refused::Host),
        ("http://cloud.example/", Refused::Host),
        ("http://xcloud.example/", Refused::Host),
        ("http://pbx.acme.example:8080/", Refused::Host),
        ("https://files.example/x", Refused::Host),
        ("http://192.168.7.9/x", Refused::Host),
        ("http://192.168.7.10:8080/x", Refused::Host),
        ("http://[fd00::8]:8080/x", Refused::Host),
        ("http://169.254.169.254/latest/meta-data/", Refused::Host),
        ("http://localhost/", Refused::Host),
        // Entries without `!private` never reach the own network, however the address is written.
        ("http://127.0.0.1/", Refused::Address),
        ("http://2130706433/", Refused::Address),
        ("http://0x7f.1/", Refused::Address),
        ("http://0177.0.0.1/", Refused::Address),
        ("http://127.1/", Refused::Address),
    ] {
        assert_eq!(checked(link), Err(why), "{link}");
    }
}

#[test]
fn entries_that_cannot_be_read() {
    for entry in
        ["", "*", "*.", "!private", "a b", "pbx:port", "pbx:0", "pbx:70000", "*.10.0.0.1", "a.*.example", "http://pbx/"]
    {
        assert!(!is_entry(entry), "{entry}");
    }
    for entry in ["pbx", "pbx.acme.example!private", "*.acme.example:8443", "::1!private", "[::1]:80", "10.0.0.1:8080"]
    {
        assert!(is_entry(entry), "{entry}");
    }
}

#[test]
fn an_own_network_is_reached_if_one_of_the_entries_says_so() {
    let list = AllowList::new(&["*.acme.example".to_owned(), "pbx.acme.example!private".to_owned()]);
    let reach = |link| list.check(&parse_link(link).expect("a link"));
    assert_eq!(reach("http://pbx.acme.example/"), Ok(Reach::OwnNetwork));
    assert_eq!(reach("http://web.acme.example/"), Ok(Reach::Public));
}

#[test]
fn metadata_is_never_reached() {
    let list = AllowList::new(&["169.254.169.254!private".to_owned(), "[fd00:ec2::254]!private".to_owned()]);
    for link in ["http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://0xa9fea9fe/"] {
        assert_eq!(list.check(&parse_link(link).expect("a link")), Err(Refused::Address), "{link}");
    }
}
