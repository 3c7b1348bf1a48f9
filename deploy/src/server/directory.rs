//! The data directory: made so that only its owner may look inside.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::error::Error;

/// Makes the data directory, `log/` and `tables/` with mode 0700; what is already there keeps its mode.
pub fn make(data_dir: &Path) -> Result<(), Error> {
    let failed = |directory: &Path| Error::io(format!("making `{}`", directory.display()));
    if let Some(parent) = data_dir.parent() {
        std::fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    for directory in [data_dir.to_owned(), data_dir.join("log"), data_dir.join("tables")] {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed(&directory))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_may_look_inside() {
        let above = std::env::temp_dir().join(format!("trunklog-directory-{}", uuid::Uuid::new_v4()));
        let data_dir = above.join("data");
        make(&data_dir).expect("made");
        make(&data_dir).expect("made again");
        for directory in [data_dir.clone(), data_dir.join("log"), data_dir.join("tables")] {
            let mode = std::fs::metadata(directory).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        std::fs::remove_dir_all(above).expect("removed");
    }
}
