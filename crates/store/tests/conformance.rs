//! What every engine promises, run on every engine: a new one joins by one more `suite!` line.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod suite;

use suite::Target;

/// Runs every test of the suite on one engine.
macro_rules! suite {
    ($engine:ident, $target:expr, [$($file:ident: $($name:ident)+;)+]) => {
        mod $engine {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    super::suite::$file::$name(&$target).await;
                }
            )+)+

            #[test]
            fn does_what_a_sorted_map_does() {
                super::suite::model::does_what_a_sorted_map_does(|| $target);
            }
        }
    };
}

macro_rules! suite_of {
    ($engine:ident, $target:expr) => {
        suite!($engine, $target, [
            basics: a_transaction_sees_its_own_writes_and_others_do_not
                a_failed_closure_leaves_no_trace
                a_snapshot_stands_still
                what_is_too_large_is_refused_whole
                scans_page_both_ways
                tables_keep_order_and_page
                a_closed_store_refuses_work
                what_was_acknowledged_is_there_after_reopening;
            conflicts: no_update_is_lost
                a_changed_key_runs_the_transaction_again
                a_new_key_in_a_scanned_range_runs_the_transaction_again
                a_scan_depends_only_on_what_it_reached
                two_that_read_what_the_other_writes_do_not_both_commit
                writers_that_read_nothing_never_conflict
                readers_never_conflict
                money_is_neither_made_nor_lost
                endless_conflicts_end_in_a_typed_error;
            effects: callbacks_run_once_and_only_after_a_commit
                callbacks_run_even_if_the_caller_goes_away
                a_watch_tells_of_its_prefix_after_the_commit;
            blobs: a_blob_is_kept_under_its_hash
                a_missing_blob_is_a_typed_error;
        ]);
    };
}

suite_of!(embedded, crate::Target::folder());
suite_of!(memory, crate::Target::memory());

#[tokio::test]
async fn urls_that_name_no_engine_are_refused() {
    use freehold_store::{Store, StoreError};
    for url in ["", "here", "file:", "memory:here", "s3:bucket"] {
        assert!(matches!(Store::open(url).await, Err(StoreError::Url { .. })), "{url}");
    }
    assert!(matches!(Store::open("postgres://host/base").await, Err(StoreError::Unsupported { .. })));
}

#[tokio::test]
async fn a_folder_that_is_open_is_refused_by_name() {
    use freehold_store::{Store, StoreError};
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}", folder.path().display());
    let store = Store::open(&url).await.unwrap();
    let error = Store::open(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    drop(store);
    Store::open(&url).await.unwrap();
}
