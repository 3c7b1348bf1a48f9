//! The binary answers. That this test exists also makes `cargo test --workspace` build it for the black-box tests.

use std::process::Command;

#[test]
fn the_binary_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_trunklog")).arg("--version").output().expect("the binary starts");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
}
