//! What the kernel says of this process: memory, bytes written, processor time.

use serde_json::{Value, json};

/// Figures of this process since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessFigures {
    /// Resident now, in bytes.
    pub resident: u64,
    /// Resident at most, in bytes.
    pub highest_resident: u64,
    /// Handed to the disks, in bytes.
    pub written: u64,
    /// Fetched from the disks, in bytes.
    pub read: u64,
}

impl ProcessFigures {
    /// Those of now.
    ///
    /// # Errors
    /// If `/proc` does not say.
    pub fn now() -> std::io::Result<ProcessFigures> {
        let (status, io) = (std::fs::read_to_string("/proc/self/status")?, std::fs::read_to_string("/proc/self/io")?);
        let number = |text: &str, name: &str| -> std::io::Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            word.and_then(|word| word.parse().ok()).ok_or_else(|| std::io::Error::other(format!("`{name}` is missing")))
        };
        Ok(ProcessFigures {
            resident: number(&status, "VmRSS:")? * 1024,
            highest_resident: number(&status, "VmHWM:")? * 1024,
            written: number(&io, "write_bytes:")?,
            read: number(&io, "read_bytes:")?,
        })
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "resident_bytes": self.resident,
            "highest_resident_bytes": self.highest_resident,
            "written_bytes": self.written,
            "read_bytes": self.read,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says() {
        let figures = ProcessFigures::now().expect("/proc says it");
        assert!(figures.resident > 0 && figures.highest_resident >= figures.resident, "{figures:?}");
    }
}
