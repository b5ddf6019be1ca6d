//! Which locale an environment can use: AWS's `en_US.UTF-8` where the host has it, else `C.UTF-8`, which every C library
//! since 2.35 (and Debian's before) carries.
//!
//! A `LANG` that does not exist is worse than a lesser one: programs fall back to plain ASCII.

use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

/// Folder of glibc's locales, which the base root carries.
const LOCALES: &str = "/usr/lib/locale";

/// How much of the archive is looked at: its index of names lies at the beginning, in far less than this.
const INDEX_BYTES: u64 = 512 * 1024;

/// The value for `LANG`.
pub(crate) fn language() -> &'static str {
    static LANGUAGE: OnceLock<&str> = OnceLock::new();
    LANGUAGE.get_or_init(|| if has_english(Path::new(LOCALES)) { "en_US.UTF-8" } else { "C.UTF-8" })
}

fn has_english(locales: &Path) -> bool {
    if locales.join("en_US.utf8").is_dir() || locales.join("en_US.UTF-8").is_dir() {
        return true;
    }
    let Ok(archive) = std::fs::File::open(locales.join("locale-archive")) else { return false };
    let mut index = Vec::new();
    archive.take(INDEX_BYTES).read_to_end(&mut index).is_ok()
        && index.windows(b"en_US.utf8\0".len()).any(|name| name == b"en_US.utf8\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_locale_in_the_archive_or_as_a_folder() {
        let folder = std::env::temp_dir().join(format!("freehold-locale-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(!has_english(&folder));
        std::fs::write(folder.join("locale-archive"), b"\0de_DE.utf8\0en_US.utf8\0").unwrap();
        assert!(has_english(&folder));
        std::fs::remove_file(folder.join("locale-archive")).unwrap();
        std::fs::create_dir(folder.join("en_US.utf8")).unwrap();
        assert!(has_english(&folder));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
