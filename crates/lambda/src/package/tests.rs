//! The unpacker against packages of every kind: what common tools make, what attackers make, and random mixtures.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// One entry, each number of which a test may falsify.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    name: Vec<u8>,
    local_name: Vec<u8>,
    content: Vec<u8>,
    pub(crate) mode: u32,
    deflate: bool,
    method: Option<u16>,
    flags: u16,
    size: Option<u32>,
    checksum: Option<u32>,
    /// Where the directory says that the entry is, instead of where it is.
    offset: Option<u32>,
}

pub(crate) fn file(name: &str, content: &str) -> Raw {
    Raw {
        name: name.into(),
        local_name: name.into(),
        content: content.into(),
        mode: 0o100_644,
        deflate: true,
        method: None,
        flags: 0,
        size: None,
        checksum: None,
        offset: None,
    }
}

fn link(name: &str, target: &str) -> Raw {
    Raw { mode: 0o120_777, ..file(name, target) }
}

fn folder(name: &str) -> Raw {
    Raw { mode: 0o040_755, deflate: false, ..file(name, "") }
}

/// Writes a zip as it is told, right or wrong.
pub(crate) fn zip_of(entries: &[Raw]) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let at = u32::try_from(zip.len()).expect("small");
        let packed = if entry.deflate {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&entry.content).expect("memory");
            encoder.finish().expect("memory")
        } else {
            entry.content.clone()
        };
        let mut crc = flate2::Crc::new();
        crc.update(&entry.content);
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes());
        common.extend(entry.flags.to_le_bytes());
        common.extend(entry.method.unwrap_or(if entry.deflate { 8 } else { 0 }).to_le_bytes());
        common.extend([0; 4]);
        common.extend(entry.checksum.unwrap_or(crc.sum()).to_le_bytes());
        common.extend(u32::try_from(packed.len()).expect("small").to_le_bytes());
        common.extend(entry.size.unwrap_or(entry.content.len() as u32).to_le_bytes());
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend((entry.local_name.len() as u16).to_le_bytes());
        zip.extend([0; 2]);
        zip.extend(&entry.local_name);
        zip.extend(&packed);
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        directory.extend((entry.name.len() as u16).to_le_bytes());
        directory.extend([0; 8]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(entry.offset.unwrap_or(at).to_le_bytes());
        directory.extend(&entry.name);
    }
    let (count, at) = ((entries.len() as u16).to_le_bytes(), zip.len() as u32);
    zip.extend(&directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    zip.extend(count.iter().chain(&count));
    zip.extend((directory.len() as u32).to_le_bytes());
    zip.extend(at.to_le_bytes());
    zip.extend([0; 2]);
    zip
}

/// Unpacks into a folder beside a file that must stay as it is, and checks what holds for every outcome.
fn unpack_watched(zip: &[u8]) -> (tempfile::TempDir, Result<PathBuf, PackageError>) {
    let place = tempfile::tempdir().expect("a temporary folder");
    fs::write(place.path().join("canary"), "alive").expect("write");
    let folder = place.path().join("code");
    let result = unpack(zip, &folder);
    assert_eq!(result.is_ok(), check(zip).is_ok(), "a check and an unpacking must agree");
    assert_eq!(fs::read(place.path().join("canary")).expect("read"), b"alive");
    let mut names: Vec<_> =
        fs::read_dir(place.path()).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    let expected: &[&str] = if result.is_ok() { &["canary", "code"] } else { &["canary"] };
    assert_eq!(names, expected, "{result:?}");
    let result = result.map(|()| folder.clone());
    if result.is_ok() {
        assert_all_inside(&folder);
    }
    (place, result)
}

fn assert_all_inside(root: &Path) {
    let canonical = root.canonicalize().expect("exists");
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        assert_eq!(fs::symlink_metadata(&folder).expect("metadata").permissions().mode() & 0o777, 0o555);
        for entry in fs::read_dir(&folder).expect("list") {
            let entry = entry.expect("entry");
            let kind = entry.file_type().expect("type");
            if kind.is_symlink() {
                if let Ok(end) = entry.path().canonicalize() {
                    assert!(end.starts_with(&canonical), "{entry:?} leads to {end:?}");
                }
            } else if kind.is_dir() {
                waiting.push(entry.path());
            } else {
                assert!(kind.is_file(), "{entry:?}");
                let mode = entry.metadata().expect("metadata").permissions().mode() & 0o7777;
                assert!(mode == 0o444 || mode == 0o555, "{entry:?} has mode {mode:o}");
            }
        }
    }
}

fn refusal(entries: &[Raw]) -> String {
    let (_place, result) = unpack_watched(&zip_of(entries));
    result.expect_err("must be refused").to_string()
}

fn accepted(zip: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let (place, result) = unpack_watched(zip);
    (place, result.expect("must be accepted"))
}

#[test]
fn a_package_is_unpacked_with_its_execute_bits_and_links() {
    let script = Raw { mode: 0o100_700, ..file("bin/run", "#!/bin/sh") };
    let (_place, root) = accepted(&zip_of(&[
        file("./lambda_function.py", "def lambda_handler(): ..."),
        folder("lib/"),
        file("lib//deep/mod.py", ""),
        script,
        link("lib/up", "../bin/run"),
        link("dangling", "lib/nowhere"),
        link("loop", "loop"),
        Raw { deflate: false, mode: 0, ..file("stored ü.txt", "stored") },
    ]));
    assert_eq!(
        fs::read_to_string(root.join("lambda_function.py")).expect("read"),
        "def lambda_handler(): ..."
    );
    assert_eq!(fs::read_to_string(root.join("lib/up")).expect("read"), "#!/bin/sh");
    assert_eq!(fs::read_to_string(root.join("stored ü.txt")).expect("read"), "stored");
    assert_eq!(fs::metadata(root.join("lib/deep/mod.py")).expect("there").len(), 0);
    let mode = |path: &str| fs::metadata(root.join(path)).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode("bin/run"), mode("lambda_function.py")), (0o555, 0o444));
}

#[test]
fn a_zip_behind_a_program_and_with_a_comment_is_read() {
    let mut zip = b"#!/usr/bin/env python3\n".to_vec();
    zip.extend(zip_of(&[file("__main__.py", "print()")]));
    let end = zip.len();
    zip[end - 2..].copy_from_slice(&5_u16.to_le_bytes());
    zip.extend(b"notes");
    accepted(&zip);
}

#[test]
fn what_is_no_zip_gets_awss_text() {
    let whole = zip_of(&[file("a", "content")]);
    for zip in
        [&b"not a zip"[..], b"PK\x03\x04", &whole[..whole.len() - 1], &whole[..whole.len() / 2], &[0; 100]]
    {
        let (_place, result) = unpack_watched(zip);
        assert_eq!(result.expect_err("refused").to_string(), CANNOT_UNZIP);
    }
    for zip in [&b""[..], &zip_of(&[]), &zip_of(&[folder("only/")])] {
        let (_place, result) = unpack_watched(zip);
        assert_eq!(result.expect_err("refused").to_string(), "Uploaded file must be a non-empty zip");
    }
}

#[test]
fn names_that_leave_or_mislead_are_refused() {
    for name in
        ["../x", "a/../../x", "a/..", "..", "/etc/passwd", "a\\b", "..\\x", "a\0b", "", ".", "./", "a/./"]
    {
        let text = refusal(&[file("ok", "ok"), file(name, "x")]);
        assert!(text.starts_with(CANNOT_UNZIP) && text.len() > CANNOT_UNZIP.len(), "{name:?}: {text}");
    }
    for name in ["x".repeat(256), "x/".repeat(200) + "x", "y".repeat(PATH_BYTES + 1)] {
        refusal(&[file(&name, "x")]);
    }
    let foreign = Raw { name: b"caf\xe9".to_vec(), local_name: b"caf\xe9".to_vec(), ..file("", "x") };
    assert!(refusal(&[foreign]).contains("is not UTF-8"));
    let other = Raw { local_name: b"innocent".to_vec(), ..file("evil", "x") };
    assert!(refusal(&[other]).contains("another name"));
}

#[test]
fn a_name_is_taken_once() {
    let cases = [
        [file("a", "1"), file("a", "2")],
        [file("a/b", "1"), file("a/./b", "2")],
        [file("a//b", "1"), file("./a/b", "2")],
        [file("a", "1"), file("a/b", "2")],
        [file("a/b", "1"), file("a", "2")],
        [file("a", "1"), folder("a/")],
        [link("a", "b"), file("a", "2")],
        [link("a", "b"), folder("a/")],
    ];
    for entries in cases {
        let text = refusal(&entries);
        assert!(text.contains("twice") || text.contains("not a folder"), "{text}");
    }
    accepted(&zip_of(&[folder("a/"), file("a/b", "1"), folder("a/")]));
}

#[test]
fn links_that_leave_are_refused_also_through_other_links() {
    let cases: [&[Raw]; 7] = [
        &[link("a", "/etc/passwd")],
        &[link("a", "../x")],
        &[link("d/a", "../../x")],
        &[link("deep", "x/y/z"), link("a", "deep/../../../../x")],
        &[
            file("x/y/z/file", ""),
            link("deep", "x/y/z"),
            link("d/d/d/d/d/a", "../../../../../deep/../../../../x"),
        ],
        &[folder("d/e/"), link("up", "d/e"), link("up2", "up/../.."), link("a", "up2/../..")],
        &[link("a", "")],
    ];
    for entries in cases {
        let entries: Vec<Raw> = [file("ok", "ok")].into_iter().chain(entries.iter().cloned()).collect();
        refusal(&entries);
    }
    // Written through a link, it would land elsewhere.
    refusal(&[folder("d/"), link("a", "d"), file("a/file", "x")]);
    refusal(&[file("ok", ""), link("a", &"x/".repeat(600))]);
}

#[test]
fn links_cannot_make_the_check_take_forever() {
    let mut entries = vec![file("ok", "")];
    entries.extend(
        (0..400).map(|index| link(&format!("l{index}"), &format!("l{}/../", (index + 1) % 400).repeat(60))),
    );
    let (_place, _) = unpack_watched(&zip_of(&entries));
}

#[test]
fn other_kinds_encryption_and_other_methods_are_refused() {
    for mode in [0o020_644, 0o060_644, 0o010_644, 0o140_644] {
        assert!(refusal(&[Raw { mode, ..file("dev", "") }]).contains("neither a file"));
    }
    for flags in [1, 1 << 6, 1 << 13] {
        assert!(refusal(&[Raw { flags, ..file("secret", "x") }]).contains("is encrypted"));
    }
    assert!(refusal(&[Raw { method: Some(12), ..file("bz", "x") }]).contains("method 12"));
    refusal(&[Raw { deflate: false, mode: 0o040_755, ..file("folder/", "content") }]);
}

#[test]
fn sizes_and_checksums_must_be_true() {
    let long = "x".repeat(100_000);
    refusal(&[Raw { size: Some(10), ..file("a", &long) }]);
    refusal(&[Raw { size: Some(99_999), ..file("a", &long) }]);
    refusal(&[Raw { size: Some(100_001), ..file("a", &long) }]);
    refusal(&[Raw { size: Some(9), deflate: false, ..file("a", "0123456789") }]);
    refusal(&[Raw { checksum: Some(1), ..file("a", &long) }]);
    assert!(refusal(&[Raw { size: Some(u32::MAX - 1), ..file("a", "x") }]).contains("cannot be true"));
}

#[test]
fn bombs_are_refused_before_anything_is_written() {
    let half = "\0".repeat(140 * 1024 * 1024);
    let text = refusal(&[file("a", &half), file("b", &half)]);
    assert_eq!(text, "Unzipped size must be smaller than 262144000 bytes");
    // Many directory entries that share one piece of data.
    let shared = (0..50).map(|index| Raw { offset: Some(0), ..file(&format!("{index}"), "x") });
    let same_name = |raw: Raw| Raw { local_name: b"0".to_vec(), name: b"0".to_vec(), ..raw };
    assert!(refusal(&shared.map(same_name).collect::<Vec<_>>()).contains("overlap"));
    let many: Vec<Raw> = (0..=65_534).map(|index| folder(&format!("{index}/a/"))).collect();
    assert!(refusal(&many).contains("more than 100000"));
}

/// What the widely used writer writes, with the metadata that it adds.
fn zip_by_another_writer(files: &BTreeMap<String, (Vec<u8>, bool)>) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (index, (name, (content, executable))) in files.iter().enumerate() {
        let mode = if *executable { 0o755 } else { 0o644 };
        let large = index % 3 == 0;
        let options = SimpleFileOptions::default().unix_permissions(mode).large_file(large);
        writer.start_file(name.as_str(), options).expect("start");
        writer.write_all(content).expect("write");
    }
    writer.finish().expect("finish").into_inner()
}

fn any_raw() -> impl Strategy<Value = Raw> {
    let component = prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "a b", "ü", "..", ".", ""]);
    let path = || prop::collection::vec(component.clone(), 1..4).prop_map(|parts| parts.join("/"));
    prop_oneof![
        4 => (path(), "[xyz]{0,9}", any::<bool>()).prop_map(|(name, content, deflate)| Raw { deflate, ..file(&name, &content) }),
        2 => (path(), path()).prop_map(|(name, target)| link(&name, &target)),
        1 => path().prop_map(|name| folder(&format!("{name}/"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The oracle is what went in.
    #[test]
    fn what_another_writer_packs_comes_out_equal(
        files in prop::collection::btree_map(
            "[a-c]{1,2}(/[d-f]{1,2}){0,3}\\.txt",
            (prop::collection::vec(any::<u8>(), 0..300), any::<bool>()),
            1..12,
        )
    ) {
        let (_place, root) = accepted(&zip_by_another_writer(&files));
        for (name, (content, executable)) in &files {
            prop_assert_eq!(&fs::read(root.join(name)).expect("read"), content);
            let mode = fs::metadata(root.join(name)).expect("metadata").permissions().mode();
            prop_assert_eq!(mode & 0o111 != 0, *executable);
        }
    }

    /// Whatever the names and links: nothing gets out, and what is accepted is exactly what the zip holds.
    #[test]
    fn random_names_and_links_never_escape(entries in prop::collection::vec(any_raw(), 1..6)) {
        let (_place, result) = unpack_watched(&zip_of(&entries));
        if let Ok(root) = result {
            let files: Vec<&Raw> = entries.iter().filter(|entry| entry.mode == 0o100_644).collect();
            for entry in &files {
                let name = std::str::from_utf8(&entry.name).expect("UTF-8");
                let path: PathBuf = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
                prop_assert_eq!(&fs::read(root.join(path)).expect("read"), &entry.content);
            }
            prop_assert_eq!(count_files(&root), files.len());
        }
    }

    /// Flipped, cut and grown zips never panic and never leave anything behind.
    #[test]
    fn mutated_zips_never_escape(
        entries in prop::collection::vec(any_raw(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut zip = zip_of(&entries);
        for (index, byte) in changes {
            let at = index.index(zip.len());
            zip[at] = byte;
        }
        if let Some(cut) = cut {
            zip.remove(cut.index(zip.len()));
        }
        let (_place, _) = unpack_watched(&zip);
    }

    /// Any bytes at all.
    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut zip = noise.clone();
        zip.extend(b"PK\x05\x06");
        zip.extend(&noise);
        let _ = check(&zip);
    }
}

fn count_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry"));
    entries
        .map(|entry| match entry.file_type().expect("type") {
            kind if kind.is_dir() => count_files(&entry.path()),
            kind => usize::from(kind.is_file()),
        })
        .sum()
}
