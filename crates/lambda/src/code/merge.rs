//! Merges unpacked layers into one folder: what a function sees at `/opt`.
//!
//! Layers are laid over each other in order, file by file: folders of one name are joined, anything else is replaced by the
//! later layer's. The files are hard links to the layers' own, which nobody ever writes to, so a merged folder costs no
//! more than its folders and names. It is made when a function is deployed; starting an environment costs one mount, as for
//! the code. Why not an overlay: `docs/decisions/0008-layers.md`.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::package::{self, PackageError};

/// Merges `layers`, the later over the earlier, into `folder`, which must not exist. On success it is complete, read-only
/// and synced; on failure it is gone. Blocking.
pub(super) fn merge(layers: &[PathBuf], folder: &Path) -> Result<(), PackageError> {
    write(layers, folder).map_err(|source| {
        package::remove(folder);
        PackageError::Io { step: "merge layers", source }
    })
}

fn write(layers: &[PathBuf], folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    make_folder(folder)?;
    for layer in layers {
        lay_over(layer, folder, &mut folders)?;
    }
    for made in folders.iter().rev() {
        // One that a later layer's file has replaced is not there any more.
        if is_folder(made)? {
            fs::set_permissions(made, Permissions::from_mode(0o555))?;
        }
    }
    nix::unistd::syncfs(File::open(folder)?)?;
    Ok(())
}

/// Adds one layer to what is there. Every folder that is made is noted.
fn lay_over(layer: &Path, folder: &Path, folders: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut waiting = vec![(layer.to_owned(), folder.to_owned())];
    while let Some((from, to)) = waiting.pop() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (source, target, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
            if kind.is_dir() {
                // Links are never followed: what is not a folder itself makes room for one.
                if !is_folder(&target)? {
                    remove(&target)?;
                    make_folder(&target)?;
                    folders.push(target.clone());
                }
                waiting.push((source, target));
            } else {
                remove(&target)?;
                if kind.is_symlink() {
                    std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
                } else if fs::hard_link(&source, &target).is_err() {
                    // A file has all the links that its file system allows, or the file system has none.
                    fs::copy(&source, &target)?;
                }
            }
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

fn is_folder(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Removes what an earlier layer has at this path, if anything.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if is_folder(path)? { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    /// An unpacked layer: `{path: content}`, a content that begins with `->` being a link's target.
    fn layer(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("->") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => fs::write(path, content).unwrap(),
            }
        }
        folder.to_owned()
    }

    /// What is in a merged folder, in the same form.
    fn read(folder: &Path) -> BTreeMap<String, String> {
        let (mut found, mut waiting) = (BTreeMap::new(), vec![folder.to_owned()]);
        while let Some(at) = waiting.pop() {
            for entry in fs::read_dir(&at).unwrap() {
                let path = entry.unwrap().path();
                let status = fs::symlink_metadata(&path).unwrap();
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                if status.is_dir() {
                    assert_eq!(status.mode() & 0o777, 0o555, "{name}");
                    waiting.push(path);
                } else if status.is_symlink() {
                    found.insert(name, format!("->{}", fs::read_link(path).unwrap().display()));
                } else {
                    found.insert(name, fs::read_to_string(path).unwrap());
                }
            }
        }
        found
    }

    fn merged(layers: &[&[(&str, &str)]]) -> BTreeMap<String, String> {
        let place = tempfile::tempdir().unwrap();
        let folders: Vec<PathBuf> = layers
            .iter()
            .enumerate()
            .map(|(number, files)| layer(&place.path().join(number.to_string()), files))
            .collect();
        let whole = place.path().join("merged");
        merge(&folders, &whole).unwrap();
        let found = read(&whole);
        package::remove(&whole);
        assert!(!whole.exists());
        for (number, files) in layers.iter().enumerate() {
            assert_eq!(
                read_loosely(&place.path().join(number.to_string())),
                files.len(),
                "layers stay whole"
            );
        }
        found
    }

    fn read_loosely(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if is_folder(&path).unwrap() { read_loosely(&path) } else { 1 }).sum()
    }

    fn expected(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn later_layers_win_file_by_file() {
        let found = merged(&[
            &[("python/a.py", "first"), ("python/b.py", "first"), ("lib/x", "first")],
            &[("python/b.py", "second"), ("bin/tool", "second")],
            &[("python/c.py", "third"), ("bin/tool", "third")],
        ]);
        assert_eq!(
            found,
            expected(&[
                ("python/a.py", "first"),
                ("python/b.py", "second"),
                ("python/c.py", "third"),
                ("lib/x", "first"),
                ("bin/tool", "third"),
            ])
        );
    }

    #[test]
    fn files_links_and_folders_replace_each_other_and_links_are_never_followed() {
        let found = merged(&[
            &[
                ("was-folder/inside", "1"),
                ("was-file", "1"),
                ("was-link", "->elsewhere"),
                ("elsewhere/kept", "1"),
            ],
            &[
                ("was-folder", "2"),
                ("was-file/inside", "2"),
                ("was-link/inside", "2"),
                ("new", "->elsewhere"),
            ],
        ]);
        assert_eq!(
            found,
            expected(&[
                ("was-folder", "2"),
                ("was-file/inside", "2"),
                ("was-link/inside", "2"),
                ("elsewhere/kept", "1"),
                ("new", "->elsewhere"),
            ])
        );
    }

    #[test]
    fn files_are_shared_and_a_failed_merge_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let one = layer(&place.path().join("1"), &[("a", "1")]);
        let two = layer(&place.path().join("2"), &[("b", "2")]);
        let whole = place.path().join("merged");
        merge(&[one.clone(), two], &whole).unwrap();
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(whole.join("a")), inode(one.join("a")));
        let failed = place.path().join("failed");
        assert!(merge(&[one, place.path().join("missing")], &failed).is_err());
        assert!(!failed.exists());
        package::remove(&whole);
    }

    proptest! {
        /// Against the simplest model: a map into which each layer's files are put in order, a file removing what lies below
        /// its path or is in the way of it.
        #[test]
        fn a_merge_is_what_writing_in_order_gives(
            layers in prop::collection::vec(prop::collection::vec(("[ab](/[ab]){0,2}", "[0-9]{1,3}"), 1..6), 2..5)
        ) {
            let place = tempfile::tempdir().unwrap();
            let mut model: BTreeMap<String, String> = BTreeMap::new();
            let mut folders = Vec::new();
            for (number, files) in layers.iter().enumerate() {
                let mut own: BTreeMap<String, String> = BTreeMap::new();
                for (path, content) in files {
                    own.retain(|other, _| !in_the_way(other, path));
                    own.insert(path.clone(), content.clone());
                }
                let list: Vec<(&str, &str)> =
                    own.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
                folders.push(layer(&place.path().join(number.to_string()), &list));
                for (path, content) in own {
                    model.retain(|other, _| !in_the_way(other, &path));
                    model.insert(path, content);
                }
            }
            let whole = place.path().join("merged");
            merge(&folders, &whole).unwrap();
            prop_assert_eq!(read(&whole), model);
            package::remove(&whole);
        }
    }

    fn in_the_way(other: &str, path: &str) -> bool {
        let below = |one: &str, two: &str| one.strip_prefix(two).is_some_and(|rest| rest.starts_with('/'));
        below(other, path) || below(path, other)
    }
}
