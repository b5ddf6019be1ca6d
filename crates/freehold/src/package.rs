//! Makes a deployment package of a folder, and tells runtime and handler from the code.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use freehold_runtimes::catalog::Family;
use zip::write::SimpleFileOptions;

/// Folders that are never part of a package.
const LEFT_OUT: [&str; 4] = [".git", "__pycache__", ".venv", ".DS_Store"];
/// The files in which a Python or Ruby handler is looked for first, without their extension.
const SCRIPTS: [&str; 5] = ["lambda_function", "app", "main", "handler", "index"];
/// The functions that are taken for such a handler, first one first.
const SCRIPT_HANDLERS: [&str; 2] = ["lambda_handler", "handler"];
/// The modules in which a Node.js handler is looked for, first one first.
const NODE_MODULES: [&str; 5] = ["index", "app", "handler", "main", "lambda"];
/// The extensions of such a module.
const NODE_EXTENSIONS: [&str; 3] = ["mjs", "js", "cjs"];

/// A deployment package, ready to be sent.
#[derive(Debug)]
pub struct Package {
    /// The zip.
    pub zip: Vec<u8>,
    /// What the code seems to be, where it can be told.
    pub guess: Option<Guess>,
}

/// What a package's code seems to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The kind of runtime that it needs.
    pub family: Family,
    /// Its handler.
    pub handler: String,
}

/// Reads a folder or a zip.
pub fn read(source: &Path) -> Result<Package> {
    let kind = fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?;
    if kind.is_dir() {
        return read_folder(source, None);
    }
    let zip = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    let guess = guess_from_zip(&zip)
        .with_context(|| format!("{} is neither a folder nor a zip", source.display()))?;
    Ok(Package { zip, guess })
}

/// Reads a folder but for one file, which is given by its path.
pub fn read_folder(folder: &Path, without: Option<&Path>) -> Result<Package> {
    let left_out = without.and_then(|file| file.strip_prefix(folder).ok()).and_then(Path::to_str);
    let mut entries = collect(folder)?;
    entries.retain(|entry| Some(entry.name.as_str()) != left_out);
    from_files(&entries)
}

/// Whether a path within a folder is never part of its package.
pub fn is_left_out(path: &Path) -> bool {
    path.components().any(|part| LEFT_OUT.iter().any(|name| part.as_os_str() == *name))
}

/// A file of a package.
#[derive(Clone, Debug)]
struct Entry {
    /// Its path within the package, with slashes.
    name: String,
    /// What it holds, or where the link points.
    content: Vec<u8>,
    kind: EntryKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    File,
    Executable,
    Link,
}

/// Makes a package of files held in memory: what quickstart deploys.
pub fn from_text(name: &str, content: &str) -> Result<Package> {
    from_files(&[Entry {
        name: name.to_owned(),
        content: content.as_bytes().to_vec(),
        kind: EntryKind::File,
    }])
}

fn from_files(entries: &[Entry]) -> Result<Package> {
    if entries.is_empty() {
        bail!("there is no file to deploy");
    }
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for entry in entries {
        // The zip's own default time makes the same code the same package, and so the same CodeSha256.
        let options = SimpleFileOptions::default();
        match entry.kind {
            EntryKind::Link => {
                let target =
                    String::from_utf8(entry.content.clone()).context("a link's target is not UTF-8")?;
                writer.add_symlink(entry.name.as_str(), target, options)?;
            }
            kind => {
                let mode = if kind == EntryKind::Executable { 0o755 } else { 0o644 };
                writer.start_file(entry.name.as_str(), options.unix_permissions(mode))?;
                writer.write_all(&entry.content)?;
            }
        }
    }
    Ok(Package { zip: writer.finish()?.into_inner(), guess: guess(entries) })
}

/// All files below a folder, in order of their names.
fn collect(root: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let item = item?;
            if LEFT_OUT.iter().any(|name| item.file_name() == *name) {
                continue;
            }
            let kind = item.file_type()?;
            if kind.is_dir() {
                folders.push(item.path());
            } else if kind.is_file() || kind.is_symlink() {
                entries.push(read_entry(root, &item.path())?);
            }
        }
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

fn read_entry(root: &Path, path: &Path) -> Result<Entry> {
    let inside = path.strip_prefix(root).expect("it was found below the root");
    let name =
        inside.to_str().with_context(|| format!("the name of {} is not UTF-8", path.display()))?.to_owned();
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        let target: PathBuf = fs::read_link(path)?;
        return Ok(Entry {
            name,
            content: target.into_os_string().into_encoded_bytes(),
            kind: EntryKind::Link,
        });
    }
    let executable = metadata.permissions().mode() & 0o111 != 0;
    let kind = if executable { EntryKind::Executable } else { EntryKind::File };
    Ok(Entry {
        name,
        content: fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        kind,
    })
}

fn guess_from_zip(zip: &[u8]) -> Result<Option<Guess>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(zip))?;
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let name = file.name()?.into_owned();
        if file.is_file() && !name.contains('/') {
            let executable = file.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, GUESS_BYTES), &mut content)?;
            let kind = if executable { EntryKind::Executable } else { EntryKind::File };
            entries.push(Entry { name, content, kind });
        }
    }
    Ok(guess(&entries))
}

/// How much of a file in a zip is looked at for a handler, in bytes.
const GUESS_BYTES: u64 = 1024 * 1024;

/// Tells what the code is: a `bootstrap`, else a Node.js module, else a Python or Ruby one.
fn guess(entries: &[Entry]) -> Option<Guess> {
    let find = |name: &str| entries.iter().find(|entry| entry.name == name);
    if find("bootstrap").is_some_and(|entry| entry.kind == EntryKind::Executable) {
        return Some(Guess { family: Family::Provided, handler: "bootstrap".to_owned() });
    }
    let node = NODE_MODULES.iter().flat_map(|module| NODE_EXTENSIONS.map(|extension| (module, extension)));
    for (module, extension) in node {
        if find(&format!("{module}.{extension}")).is_some_and(|entry| contains(&entry.content, "handler")) {
            return Some(Guess { family: Family::Node, handler: format!("{module}.handler") });
        }
    }
    guess_script(entries, Family::Python, ".py").or_else(|| guess_script(entries, Family::Ruby, ".rb"))
}

/// A handler that is a function of its own in a file with this extension.
fn guess_script(entries: &[Entry], family: Family, extension: &str) -> Option<Guess> {
    let named = |name: &str| entries.iter().find(|entry| entry.name == format!("{name}{extension}"));
    let others = entries.iter().filter(|entry| !entry.name.contains('/') && entry.name.ends_with(extension));
    for entry in SCRIPTS.iter().filter_map(|name| named(name)).chain(others) {
        for handler in SCRIPT_HANDLERS {
            if contains(&entry.content, &format!("def {handler}(")) {
                let module = entry.name.trim_end_matches(extension);
                return Some(Guess { family, handler: format!("{module}.{handler}") });
            }
        }
    }
    None
}

fn contains(content: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(content).contains(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str, kind: EntryKind) -> Entry {
        Entry { name: name.to_owned(), content: content.as_bytes().to_vec(), kind }
    }

    #[test]
    fn runtime_and_handler_are_told_from_the_code() {
        let cases = [
            (
                file("lambda_function.py", "def lambda_handler(event, context):", EntryKind::File),
                "lambda_function.lambda_handler",
            ),
            (file("work.py", "async = 1\ndef handler(e, c): pass", EntryKind::File), "work.handler"),
            (
                file("lambda_function.rb", "def lambda_handler(event:, context:) = 1", EntryKind::File),
                "lambda_function.lambda_handler",
            ),
            (file("index.mjs", "export const handler = async () => 1", EntryKind::File), "index.handler"),
            (file("bootstrap", "#!/bin/sh", EntryKind::Executable), "bootstrap"),
        ];
        for (entry, handler) in cases {
            let package = from_files(std::slice::from_ref(&entry)).expect("packs");
            assert_eq!(package.guess.as_ref().map(|guess| guess.handler.as_str()), Some(handler));
            assert_eq!(guess_from_zip(&package.zip).expect("reads back"), package.guess, "{}", entry.name);
        }
        assert_eq!(guess(&[file("notes.txt", "handler", EntryKind::File)]), None);
        assert_eq!(guess(&[file("bootstrap", "#!/bin/sh", EntryKind::File)]), None);
    }

    #[test]
    fn the_same_folder_makes_the_same_package() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("inner")).expect("creates");
        fs::write(folder.path().join("inner/b.txt"), "b").expect("writes");
        fs::write(folder.path().join("app.py"), "def handler(e, c): pass").expect("writes");
        std::os::unix::fs::symlink("app.py", folder.path().join("link.py")).expect("links");
        let first = read(folder.path()).expect("packs");
        assert_eq!(first.zip, read(folder.path()).expect("packs").zip);
        assert_eq!(first.guess.expect("tells").handler, "app.handler");
    }
}
