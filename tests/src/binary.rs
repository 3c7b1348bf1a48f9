//! Where the built `trunklog` is, and how tests start it.

use std::path::PathBuf;
use std::process::Command;

/// `TRUNKLOG_BIN`, else the binary that cargo built beside this test.
pub fn binary() -> PathBuf {
    let path = match std::env::var_os("TRUNKLOG_BIN") {
        Some(path) => PathBuf::from(path),
        None => beside_this_test(),
    };
    assert!(
        path.is_file(),
        "`{}` is not there: run `cargo test --release --workspace`, or set TRUNKLOG_BIN",
        path.display()
    );
    path
}

/// `target/release/deps/all-1234` lies two levels below `target/release/trunklog`.
fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("trunklog")
}

/// The binary with an environment free of `TRUNKLOG_…`, which is configuration to it and test sizes to us.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRUNKLOG_") {
            command.env_remove(name);
        }
    }
    command
}
