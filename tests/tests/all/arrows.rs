//! Who may use whom: `deploy → {ingest, query, dashboards} → storage`, and nothing else.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Crate and those of ours that it may depend on. `tests` may use everything.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("trunklog-storage", &[]),
    ("trunklog-ingest", &["trunklog-storage"]),
    ("trunklog-query", &["trunklog-storage"]),
    ("trunklog-dashboards", &["trunklog-storage"]),
    ("trunklog", &["trunklog-storage", "trunklog-ingest", "trunklog-query", "trunklog-dashboards"]),
];

#[test]
fn crates_depend_on_each_other_only_as_drawn() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<_, _> = ALLOWED.into();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if name == "trunklog-tests" {
            continue;
        }
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("`{name}` has no place in the drawing"));
        seen += 1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let ours = used == "trunklog" || used.starts_with("trunklog-");
            assert!(!ours || allowed.contains(&used), "`{name}` must not use `{used}`");
        }
    }
    assert_eq!(seen, ALLOWED.len(), "every crate of the drawing is there");
}
