//! Standard output and standard error: whole lines, and no panic when the reader has gone.

use std::io::{IsTerminal, Write};

/// Prints a line on standard output.
pub fn line(text: &str) {
    bytes(format!("{text}\n").as_bytes());
}

/// Writes bytes to standard output. Whoever closed the pipe (`| head`) wants no more, so errors are not reported.
pub fn bytes(bytes: &[u8]) {
    let mut output = std::io::stdout().lock();
    let _closed = output.write_all(bytes).and_then(|()| output.flush());
}

/// Prints a line on standard error.
pub fn error_line(text: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether a person reads standard output.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
