//! Whole stores: copied, backed up, restored, checked.

use std::sync::Arc;

use freehold_base::clock::{SharedClock, SystemClock};
use freehold_store::transfer::{self, Phase, Problem, Progress, Summary, TransferError};
use freehold_store::{
    BlobId, Bytes, Direction, Key, KeyRange, Options, Part, Read, Session, Store, StoreError, keyspace, lease,
};
use proptest::prelude::*;

use super::{Target, get, key, put};

fn quiet(_: Progress) {}

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

/// A store with keys of many sizes, blobs of many sizes, a session and a lease.
async fn filled(target: &Target) -> Store {
    let store = target.open().await;
    for round in 0..3_u64 {
        let write = store.transact(|tx| async move {
            for number in 0..400 {
                let value = vec![round as u8 + 1; (number as usize * 37) % 1_500 + 1];
                tx.put(keyspace::TESTS.key(&[Part::Number(round), Part::Number(number)]), value);
            }
            Ok::<_, StoreError>(())
        });
        write.await.unwrap();
    }
    for number in 0..3_u8 {
        let large = vec![number + 1; 3 << 20];
        let write = store.transact(|tx| {
            tx.put(key(&format!("large{number}")), large.clone());
            async { Ok::<_, StoreError>(()) }
        });
        write.await.unwrap();
    }
    put(&store, &[("", "x"), ("zero\0s", "\0"), ("empty", "")]).await;
    for size in [0, 1, 300 << 10, 9 << 20] {
        store.blobs().put(Bytes::from(vec![9; size])).await.unwrap();
    }
    let session = Session::start(&store, &clock(), lease::SESSION_DURATION).await.unwrap();
    session.acquire("queue/q").await.unwrap().unwrap();
    store
}

async fn backup_of(store: &Store) -> (Vec<u8>, Summary) {
    let mut file = Vec::new();
    let summary = transfer::backup(store, &mut file, &mut quiet).await.unwrap();
    (file, summary)
}

/// Every key and value but sessions, which never move.
async fn contents(store: &Store) -> Vec<(Key, Bytes)> {
    let (snapshot, mut range, mut entries) = (store.snapshot().await.unwrap(), KeyRange::all(), Vec::new());
    loop {
        let page = snapshot.scan(range.clone(), Direction::Forward, 10).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        range.start = last.successor();
        entries.extend(page);
    }
    let session = keyspace::SESSIONS.key(&[]);
    entries.retain(|(key, _)| !key.as_bytes().starts_with(session.as_bytes()));
    entries
}

async fn assert_same(one: &Store, other: &Store) {
    assert!(contents(one).await == contents(other).await, "keys and values differ");
    for size in [0, 1, 300 << 10, 9 << 20] {
        let content = Bytes::from(vec![9; size]);
        assert_eq!(other.blobs().get(&BlobId::of(&content)).await.unwrap(), content);
    }
}

async fn a_copy_holds_the_same_and_leases_do_not_go_back(target: &Target) {
    let from = filled(target).await;
    for to in [Target::memory(), Target::folder()] {
        let to = to.open().await;
        let mut seen = Vec::new();
        let summary = transfer::copy(&from, &to, &mut |progress| seen.push(progress)).await.unwrap();
        assert_same(&from, &to).await;
        assert_eq!(summary.entries.keys, contents(&from).await.len() as u64);
        assert_eq!((summary.blobs, summary.missing_blobs), (4, 0));
        assert_eq!(summary.blob_bytes, 1 + (300 << 10) + (9 << 20));
        let last = seen.last().unwrap();
        assert_eq!((last.phase, last.keys, last.blobs), (Phase::Verifying, summary.entries.keys, 4));

        // The holder was another process: the lease is free, with a larger token.
        let session = Session::start(&to, &clock(), lease::SESSION_DURATION).await.unwrap();
        assert_eq!(session.acquire("queue/q").await.unwrap().unwrap().token(), 2);
        let again = transfer::copy(&from, &to, &mut quiet).await;
        assert!(matches!(again, Err(TransferError::NotEmpty)));
    }
}

async fn a_copy_into_this_engine_is_there_after_a_restart(target: &Target) {
    let from = filled(&Target::memory()).await;
    let to = target.open().await;
    let copied = transfer::copy(&from, &to, &mut quiet).await.unwrap();
    let to = if target.keeps {
        to.close().await;
        drop(to);
        target.open().await
    } else {
        to
    };
    assert_same(&from, &to).await;
    let report = transfer::check(&to, &mut quiet).await.unwrap();
    assert_eq!(report.entries, copied.entries);
    assert_eq!((report.damaged, report.noted, report.blobs), (0, 0, 4), "{:?}", report.findings);
}

async fn an_interrupted_copy_is_never_a_store(target: &Target) {
    let from = filled(&Target::memory()).await;
    let to = target.open().await;
    let (reached, mut has_reached) = tokio::sync::mpsc::unbounded_channel();
    let (source, into) = (from.clone(), to.clone());
    let copying = tokio::spawn(async move {
        // Killed when some keys are there and not all.
        let mut progress = |progress: Progress| {
            if progress.phase == Phase::Verifying {
                reached.send(()).unwrap();
                panic!("killed");
            }
        };
        transfer::copy(&source, &into, &mut progress).await
    });
    has_reached.recv().await.unwrap();
    assert!(copying.await.unwrap_err().is_panic());
    assert!(!contents(&to).await.is_empty(), "it was killed too early for this test");

    let unfinished =
        |error: TransferError| matches!(error, TransferError::Store(StoreError::Unfinished { .. }));
    assert!(unfinished(transfer::backup(&to, tokio::io::sink(), &mut quiet).await.unwrap_err()));
    assert!(unfinished(transfer::copy(&to, &Target::memory().open().await, &mut quiet).await.unwrap_err()));
    let report = transfer::check(&to, &mut quiet).await.unwrap();
    assert_eq!(report.findings[0].problem, Problem::Unfinished { what: "copy".to_owned() });
    let to = if target.keeps {
        to.close().await;
        drop(to);
        let error = Store::open_with(target.options()).await.unwrap_err();
        assert!(matches!(&error, StoreError::Unfinished { what } if what == "copy"), "{error}");
        transfer::open_target(target.options()).await.unwrap()
    } else {
        to
    };
    // What was there goes, also what the next copy doesn't bring.
    let other = Target::memory().open().await;
    put(&other, &[("a", "1")]).await;
    transfer::copy(&other, &to, &mut quiet).await.unwrap();
    assert!(contents(&other).await == contents(&to).await);
    to.close().await;
    drop(to);
    if target.keeps {
        assert_eq!(get(&target.open().await, "a").await.as_deref(), Some("1"));
    }
}

async fn a_second_copy_takes_over_and_the_first_fails(target: &Target) {
    let from = filled(&Target::memory()).await;
    let to = target.open().await;
    let runtime = tokio::runtime::Handle::current();
    let mut second = None;
    let mut progress = |progress: Progress| {
        if progress.phase == Phase::Verifying && second.is_none() {
            let copy = async { transfer::copy(&from, &to, &mut quiet).await };
            second = Some(tokio::task::block_in_place(|| runtime.block_on(copy)));
        }
    };
    let first = transfer::copy(&from, &to, &mut progress).await;
    assert!(matches!(first, Err(TransferError::TakenOver)));
    second.unwrap().unwrap();
    assert_same(&from, &to).await;
}

async fn a_backup_restores_to_the_same(target: &Target) {
    let store = filled(target).await;
    let (file, summary) = backup_of(&store).await;
    assert_eq!(transfer::verify(&file[..], &mut quiet).await.unwrap(), summary);
    for to in [Target::memory(), Target::folder()] {
        let restored = to.open().await;
        assert_eq!(transfer::restore(&file[..], &restored, &mut quiet).await.unwrap(), summary);
        assert_same(&store, &restored).await;
        // Of the same content there is one file.
        assert!(backup_of(&restored).await.0 == file);
        let again = transfer::restore(&file[..], &restored, &mut quiet).await;
        assert!(matches!(again, Err(TransferError::NotEmpty)));
        if to.keeps {
            restored.close().await;
            drop(restored);
            assert_same(&store, &to.open().await).await;
        }
    }
    let back = Target::folder().open().await;
    let empty = backup_of(&back).await;
    assert_eq!((empty.1.entries.keys, empty.1.blobs), (0, 0));
    transfer::restore(&empty.0[..], &target_of_same_kind(target).open().await, &mut quiet).await.unwrap();
}

fn target_of_same_kind(target: &Target) -> Target {
    if target.keeps { Target::folder() } else { Target::memory() }
}

async fn a_backup_holds_one_moment_while_others_write(target: &Target) {
    let store = target.open().await;
    put(&store, &[("left", "0"), ("right", "0")]).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            let mut round = 0_u32;
            while !*stopped.borrow() {
                round += 1;
                let (text, extra) = (round.to_string(), format!("extra{round}"));
                put(&store, &[("left", &text), (&extra, &text), ("right", &text)]).await;
                let id = store.blobs().put(Bytes::from(text)).await.unwrap();
                store.blobs().delete(&id).await.unwrap();
            }
            round
        }
    });
    let mut earlier = 0;
    let mut backups = 0;
    // Eight at least, and until the writer has had its turns between them: on a busy machine it may begin late.
    while backups < 8 || earlier < 8 {
        backups += 1;
        assert!(!writer.is_finished(), "the writer failed");
        let (file, _) = backup_of(&store).await;
        let restored = Target::memory().open().await;
        transfer::restore(&file[..], &restored, &mut quiet).await.unwrap();
        let left: u32 = get(&restored, "left").await.unwrap().parse().unwrap();
        assert_eq!(get(&restored, "right").await, Some(left.to_string()));
        assert_eq!(contents(&restored).await.len() as u32, left + 2, "what was written by then, and no more");
        assert!(left >= earlier);
        // What is acknowledged now is in the next backup.
        earlier = get(&store, "left").await.unwrap().parse().unwrap();
    }
    stop.send(true).unwrap();
    writer.await.unwrap();
}

async fn a_blob_that_is_deleted_meanwhile_is_reported(target: &Target) {
    let store = target.open().await;
    let mut ids = Vec::new();
    for number in 0..3_u8 {
        ids.push(store.blobs().put(Bytes::from(vec![number])).await.unwrap());
    }
    ids.sort();
    let runtime = tokio::runtime::Handle::current();
    let mut deleted = false;
    let mut file = Vec::new();
    let mut progress = |progress: Progress| {
        if progress.blobs == 1 && !deleted {
            deleted = true;
            let delete = store.blobs().delete(&ids[2]);
            tokio::task::block_in_place(|| runtime.block_on(delete)).unwrap();
        }
    };
    let summary = transfer::backup(&store, &mut file, &mut progress).await.unwrap();
    assert_eq!((summary.blobs, summary.missing_blobs), (2, 1));
    assert_eq!(summary.missing, [ids[2].clone()]);
    let restored = target_of_same_kind(target).open().await;
    assert_eq!(transfer::restore(&file[..], &restored, &mut quiet).await.unwrap(), summary);
}

async fn a_damaged_or_cut_file_leaves_an_empty_store(target: &Target) {
    let (file, _) = backup_of(&filled(&Target::memory()).await).await;
    let store = target.open().await;
    // In the blobs, in the keys, in the trailer, at the very end.
    for position in [40, 1 << 20, file.len() - (9 << 20), file.len() - 5_000, file.len() - 60, file.len() - 1]
    {
        let mut damaged = file.clone();
        damaged[position] ^= 0x10;
        for wrong in [&damaged[..], &file[..position]] {
            let error = transfer::restore(wrong, &store, &mut quiet).await.unwrap_err();
            assert!(is_about_the_file(&error), "{position}: {error}");
            assert!(contents(&store).await.is_empty(), "{position}");
        }
    }
    transfer::restore(&file[..], &store, &mut quiet).await.unwrap();
}

async fn a_check_finds_what_is_strange(target: &Target) {
    let store = target.open().await;
    put(&store, &[("a", "1")]).await;
    let mut newer = Vec::new();
    Part::Text("orders.of_the_future").encode_into(&mut newer);
    let unversioned = keyspace::LEASES.key(&[Part::Text("x")]);
    let [newer, unversioned] = [&Key::new(newer), &unversioned];
    let write = store.transact(|tx| async move {
        tx.put(newer.clone(), "x");
        tx.put(Key::from("loose"), "x");
        tx.put(unversioned.clone(), "");
        Ok::<_, StoreError>(())
    });
    write.await.unwrap();
    let report = transfer::check(&store, &mut quiet).await.unwrap();
    assert_eq!((report.damaged, report.noted, report.entries.keys), (2, 1, 4));
    let mut problems: Vec<_> =
        report.findings.iter().map(|finding| (finding.subject.as_str(), &finding.problem)).collect();
    problems.sort_by_key(|(subject, _)| *subject);
    assert_eq!(
        problems,
        [
            ("key loose", &Problem::MalformedKey),
            ("key orders.of_the_future", &Problem::UnknownPrefix),
            ("key store.lease / x", &Problem::NoRecordVersion),
        ]
    );
    let counts: Vec<_> =
        report.prefixes.iter().map(|each| (each.name.as_str(), each.known, each.keys)).collect();
    assert_eq!(
        counts,
        [
            ("", false, 1),
            ("orders.of_the_future", false, 1),
            ("store.lease", true, 1),
            ("store.test", true, 1)
        ]
    );
}

on_every_engine! {
    a_copy_holds_the_same_and_leases_do_not_go_back
    a_copy_into_this_engine_is_there_after_a_restart
    an_interrupted_copy_is_never_a_store
    a_second_copy_takes_over_and_the_first_fails
    a_backup_restores_to_the_same
    a_backup_holds_one_moment_while_others_write
    a_blob_that_is_deleted_meanwhile_is_reported
    a_damaged_or_cut_file_leaves_an_empty_store
    a_check_finds_what_is_strange
}

fn is_about_the_file(error: &TransferError) -> bool {
    matches!(
        error,
        TransferError::Foreign
            | TransferError::Newer { .. }
            | TransferError::Truncated { .. }
            | TransferError::Corrupt { .. }
    )
}

/// A small backup with a blob and some entries.
async fn small_file() -> Vec<u8> {
    let store = Store::open("memory:").await.unwrap();
    store.blobs().put(Bytes::from_static(b"a package")).await.unwrap();
    store.blobs().put(Bytes::new()).await.unwrap();
    put(&store, &[("a", "1"), ("b", ""), ("c", "three")]).await;
    backup_of(&store).await.0
}

#[tokio::test]
async fn every_flipped_byte_and_every_cut_of_a_backup_is_found() {
    let file = small_file().await;
    transfer::verify(&file[..], &mut quiet).await.unwrap();
    for position in 0..file.len() {
        let error = transfer::verify(&file[..position], &mut quiet).await.unwrap_err();
        assert!(
            matches!(error, TransferError::Truncated { offset } if offset == position as u64),
            "cut at {position}: {error}"
        );
        for mask in [0x01, 0x02, 0x10, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[position] ^= mask;
            let error = transfer::verify(&damaged[..], &mut quiet).await.unwrap_err();
            assert!(is_about_the_file(&error), "{mask:#x} at {position}: {error}");
            let store = Store::open("memory:").await.unwrap();
            transfer::restore(&damaged[..], &store, &mut quiet).await.unwrap_err();
            assert!(contents(&store).await.is_empty());
        }
    }
    let longer = [&file[..], b"\0"].concat();
    assert!(
        matches!(transfer::verify(&longer[..], &mut quiet).await, Err(TransferError::Corrupt { offset, .. }) if offset == file.len() as u64)
    );
}

#[tokio::test]
async fn frames_that_are_lost_doubled_or_moved_are_found() {
    let file = small_file().await;
    let starts = frame_starts(&file);
    let (head, frames): (_, Vec<&[u8]>) =
        (&file[..starts[0]], starts.windows(2).map(|pair| &file[pair[0]..pair[1]]).collect());
    for index in 0..frames.len() {
        let (mut lost, mut doubled) = (frames.clone(), frames.clone());
        lost.remove(index);
        doubled.insert(index, frames[index]);
        let mut variants = vec![lost, doubled];
        for other in index + 1..frames.len() {
            let mut moved = frames.clone();
            moved.swap(index, other);
            variants.push(moved);
        }
        for frames in variants {
            let file = [head, &frames.concat()].concat();
            let error = transfer::verify(&file[..], &mut quiet).await.unwrap_err();
            assert!(is_about_the_file(&error), "{index}: {error}");
        }
    }
}

/// Where each frame begins, and where the file ends.
fn frame_starts(file: &[u8]) -> Vec<usize> {
    let mut starts = vec![file.iter().position(|&byte| byte == b'\n').unwrap() + 1];
    while let Some(head) = file.get(starts[starts.len() - 1]..).filter(|rest| !rest.is_empty()) {
        let length = u32::from_be_bytes(head[1..5].try_into().unwrap()) as usize;
        starts.push(starts[starts.len() - 1] + 9 + length);
    }
    starts
}

#[tokio::test]
async fn foreign_and_newer_files_are_told_apart() {
    let error = |file: &'static [u8]| async move { transfer::verify(file, &mut quiet).await.unwrap_err() };
    assert!(matches!(error(b"PK\x03\x04 a zip").await, TransferError::Foreign));
    assert!(matches!(error(b"").await, TransferError::Truncated { offset: 0 }));
    assert!(matches!(error(b"freehold-backup one\n").await, TransferError::Foreign));
    assert!(matches!(error(b"freehold-backup 01\n").await, TransferError::Foreign));
    assert!(matches!(
        error(b"freehold-backup 2\nwho knows").await,
        TransferError::Newer { found: 2, known: 1, offset: 16 }
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever follows the first line: an error that names its place, never a panic, never accepted.
    #[test]
    fn nonsense_is_never_a_backup(
        bytes in prop::collection::vec(prop_oneof![prop::sample::select(b"BPMKE\0\x01\x20\x28".to_vec()), any::<u8>()], 0..200),
    ) {
        let file = [b"freehold-backup 1\n", &bytes[..]].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(transfer::verify(&file[..], &mut quiet)).unwrap_err();
        prop_assert!(is_about_the_file(&error), "{}", error);
    }
}

#[test]
fn every_prefix_stands_in_the_documentation() {
    let page = include_str!("../../../../docs/store.md");
    for prefix in keyspace::ALL {
        assert!(page.contains(&format!("\n| `{}` |", prefix.name())), "docs/store.md lacks {prefix:?}");
    }
}

#[tokio::test]
async fn a_source_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("data");
    let error = transfer::open_source(Options::new(format!("file:{}", missing.display()))).await.unwrap_err();
    assert!(matches!(&error, TransferError::NoStore(path) if *path == missing), "{error}");
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_damaged_blob_is_found() {
    let target = Target::folder();
    let store = target.open().await;
    let id = store.blobs().put(Bytes::from_static(b"whole")).await.unwrap();
    let url = target.options().url;
    let path = std::path::Path::new(url.strip_prefix("file:").unwrap());
    let path = path.join("blobs").join(&id.as_str()[..2]).join(id.as_str());
    std::fs::write(&path, "whale").unwrap();
    let report = transfer::check(&store, &mut quiet).await.unwrap();
    assert_eq!(report.damaged, 1);
    assert_eq!(report.findings[0].subject, format!("blob {id}"));
    assert_eq!(report.findings[0].problem, Problem::BlobDamaged);
    let error = transfer::backup(&store, tokio::io::sink(), &mut quiet).await.unwrap_err();
    assert!(error.to_string().contains(id.as_str()), "{error}");
}
