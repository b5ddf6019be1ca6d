//! What a zip's entries mean together: one tree of folders, files and symbolic links.
//!
//! Paths are made of plain components only. `.` and empty components are dropped before two names are compared, so that
//! `a/b` and `a/./b` are the same name; `..`, absolute paths, backslashes and NUL are refused. A name may be taken once
//! (a folder may be listed again), and nothing lies below what is not a folder: so nothing is ever written through a link.
//! A link may point to anything inside the package, whether it exists or not, also through other links, and to nothing
//! outside.

use std::collections::{BTreeMap, VecDeque};

use freehold_base::limits::UNZIPPED_BYTES;

use super::archive::{self, Entry, Kind};
use super::{
    COMPONENT_BYTES, DEPTH, LINK_HOPS, LINK_STEPS, LINK_TARGET_BYTES, NODES, PATH_BYTES, PackageError,
    extract,
};

/// What stands at one path.
#[derive(Debug)]
pub(super) enum Node {
    Folder,
    File { entry: usize, executable: bool },
    Link { target: String },
}

/// A package whose structure is sound; only its files' contents are not inflated yet.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) entries: Vec<Entry>,
    /// By path, components joined by `/`: every parent comes before what lies in it.
    pub(super) nodes: BTreeMap<String, Node>,
}

/// Reads `zip` and checks everything about it that can be checked without inflating its files.
pub(super) fn plan(zip: &[u8]) -> Result<Plan, PackageError> {
    let entries = archive::entries(zip)?;
    let mut total: u64 = 0;
    for entry in &entries {
        total = total.saturating_add(entry.size);
    }
    if total >= UNZIPPED_BYTES {
        return Err(PackageError::TooLarge);
    }
    let mut nodes = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = normalise(&entry.name)?;
        let node = match entry.kind {
            Kind::Folder => Node::Folder,
            Kind::File { executable } => Node::File { entry: index, executable },
            Kind::Link => Node::Link { target: link_target(zip, entry)? },
        };
        insert(&mut nodes, path, node, &entry.name)?;
    }
    if !nodes.values().any(|node| matches!(node, Node::File { .. })) {
        return Err(PackageError::Empty);
    }
    check_links(&nodes)?;
    Ok(Plan { entries, nodes })
}

/// The path that an entry's name means; empty for the package's own root (`./`).
fn normalise(name: &str) -> Result<String, PackageError> {
    let leaves =
        |why: &str| PackageError::refused(format!("The name of its entry '{}' {why}.", name.escape_debug()));
    if name.is_empty() {
        return Err(leaves("is empty"));
    }
    if name.len() > PATH_BYTES {
        return Err(PackageError::refused(format!(
            "The name of one of its entries is longer than {PATH_BYTES} bytes."
        )));
    }
    if name.starts_with('/') {
        return Err(leaves("is absolute"));
    }
    if name.contains(['\\', '\0']) {
        return Err(leaves("contains a backslash or a NUL; folders are separated by /"));
    }
    let mut path = String::with_capacity(name.len());
    for (depth, component) in name.split('/').filter(|part| !part.is_empty() && *part != ".").enumerate() {
        if component == ".." {
            return Err(leaves("leads out of the package"));
        }
        if component.len() > COMPONENT_BYTES {
            return Err(leaves("has a part that is too long"));
        }
        if depth >= DEPTH {
            return Err(leaves("has too many parts"));
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(component);
    }
    Ok(path)
}

fn insert(
    nodes: &mut BTreeMap<String, Node>,
    path: String,
    node: Node,
    name: &str,
) -> Result<(), PackageError> {
    let name = name.escape_debug();
    if path.is_empty() {
        return match node {
            Node::Folder => Ok(()),
            _ => Err(PackageError::refused(format!("The name of its entry '{name}' names no file."))),
        };
    }
    for (end, _) in path.match_indices('/') {
        match nodes.get(&path[..end]) {
            Some(Node::Folder) => {}
            None => {
                nodes.insert(path[..end].to_owned(), Node::Folder);
            }
            Some(_) => {
                let reason = format!("Its entry '{name}' lies in '{}', which is not a folder.", &path[..end]);
                return Err(PackageError::refused(reason));
            }
        }
    }
    match (nodes.get(&path), &node) {
        (None, _) => {
            nodes.insert(path, node);
        }
        (Some(Node::Folder), Node::Folder) => {}
        (Some(_), _) => return Err(PackageError::refused(format!("Its entry '{name}' is there twice."))),
    }
    if nodes.len() > NODES {
        return Err(PackageError::refused(format!("It has more than {NODES} files and folders.")));
    }
    Ok(())
}

fn link_target(zip: &[u8], entry: &Entry) -> Result<String, PackageError> {
    let refused = |why: &str| {
        PackageError::refused(format!("Its symbolic link '{}' {why}.", entry.name.escape_debug()))
    };
    if entry.size > LINK_TARGET_BYTES {
        return Err(refused("has a target that is too long"));
    }
    let mut target = Vec::new();
    extract::inflate(zip, entry, |chunk| {
        target.extend_from_slice(chunk);
        Ok(())
    })?;
    let target = String::from_utf8(target).map_err(|_| refused("has a target that is not UTF-8"))?;
    if target.is_empty() || target.contains('\0') {
        return Err(refused("has no target"));
    }
    if target.starts_with('/') {
        return Err(refused("leaves the package: its target is absolute"));
    }
    Ok(target)
}

/// Follows every link as the kernel would, through other links, and refuses the package if one ever gets above its root.
fn check_links(nodes: &BTreeMap<String, Node>) -> Result<(), PackageError> {
    let mut steps = 0;
    for (path, node) in nodes {
        let Node::Link { target } = node else { continue };
        let mut place: Vec<&str> = path.split('/').collect();
        place.pop();
        let mut ahead: VecDeque<&str> = target.split('/').collect();
        let mut hops = 0;
        while let Some(component) = ahead.pop_front() {
            steps += 1;
            if steps > LINK_STEPS {
                return Err(PackageError::refused("Its symbolic links are too many or too entangled."));
            }
            match component {
                "" | "." => continue,
                ".." => {
                    if place.pop().is_none() {
                        let reason =
                            format!("Its symbolic link '{}' leaves the package.", path.escape_debug());
                        return Err(PackageError::refused(reason));
                    }
                    continue;
                }
                _ => place.push(component),
            }
            if let Some(Node::Link { target }) = nodes.get(&place.join("/")) {
                hops += 1;
                if hops > LINK_HOPS {
                    break; // The kernel gives up here too: such a link leads nowhere.
                }
                place.pop();
                for component in target.split('/').rev() {
                    ahead.push_front(component);
                }
            }
        }
    }
    Ok(())
}
