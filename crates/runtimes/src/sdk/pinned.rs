//! Which SDK each kind of runtime carries: exact versions, with the hashes that the packages must have. They are part of the
//! binary (folder `sdk` of this crate), so that the same program fetches the same bytes everywhere.

use sha2::{Digest, Sha256};

use crate::catalog::Family;

/// Python's packages, as `pip` reads them.
const PYTHON: &str = include_str!("../../sdk/python/requirements.txt");
/// Node's, as `npm` reads them.
const NODE_PACKAGE: &str = include_str!("../../sdk/node/package.json");
/// Every package that those need, each with its hash.
const NODE_LOCK: &str = include_str!("../../sdk/node/package-lock.json");

/// The package whose version is shown as the SDK's.
const PYTHON_NAMED: &str = "boto3";
/// The same for Node's, whose packages have versions of their own.
const NODE_NAMED: &str = "@aws-sdk/client-s3";

/// How many digits of the digest are in a folder's name.
const DIGEST_DIGITS: usize = 12;

/// What would be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// `boto3` or `@aws-sdk`.
    pub name: &'static str,
    /// Such as `1.44.5`.
    pub version: &'static str,
    /// How many packages it consists of.
    pub packages: usize,
    /// The files that the package manager reads (name, content).
    pub(crate) files: &'static [(&'static str, &'static str)],
}

/// The SDK of this kind of runtime; the others carry none that can be fetched.
pub fn pinned(family: Family) -> Option<Pinned> {
    match family {
        Family::Python => Some(Pinned {
            name: "boto3",
            version: between(PYTHON, &format!("\n{PYTHON_NAMED}=="), " "),
            packages: PYTHON.matches("--hash=").count(),
            files: &[("requirements.txt", PYTHON)],
        }),
        Family::Node => Some(Pinned {
            name: "@aws-sdk",
            version: between(NODE_PACKAGE, &format!("\"{NODE_NAMED}\": \""), "\""),
            packages: NODE_LOCK.matches("\"integrity\"").count(),
            files: &[("package.json", NODE_PACKAGE), ("package-lock.json", NODE_LOCK)],
        }),
        Family::Ruby | Family::Java | Family::Provided => None,
    }
}

impl Pinned {
    /// Names the exact content: the version, and a digest of all that is pinned.
    pub(crate) fn folder_name(&self) -> String {
        let mut digest = Sha256::new();
        for (name, content) in self.files {
            digest.update(name);
            digest.update(content);
        }
        let digest = hex::encode(digest.finalize());
        format!("{}-{}", self.version, &digest[..DIGEST_DIGITS])
    }
}

fn between(text: &'static str, before: &str, after: &str) -> &'static str {
    let rest = text.split_once(before).map_or("", |(_, rest)| rest);
    rest.split_once(after).map_or("", |(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_an_exact_version_and_a_hash() {
        let python = pinned(Family::Python).unwrap();
        let lines = PYTHON.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            assert!(line.contains("==") && line.contains(" --hash=sha256:"), "{line}");
        }
        assert!(python.version.starts_with("1.") && python.packages >= 7, "{python:?}");

        let node = pinned(Family::Node).unwrap();
        let lock: serde_json::Value = serde_json::from_str(NODE_LOCK).unwrap();
        let packages = lock["packages"].as_object().unwrap();
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{name}");
            assert!(package.get("resolved").is_none(), "{name} names a registry");
        }
        assert_eq!(node.packages, packages.len() - 1);
        let package: serde_json::Value = serde_json::from_str(NODE_PACKAGE).unwrap();
        assert_eq!(package["dependencies"], packages[""]["dependencies"]);
        assert_eq!(package["dependencies"][NODE_NAMED], node.version);
    }
}
