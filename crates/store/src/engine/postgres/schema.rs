//! The tables, in a schema of their own, and their format mark.
//!
//! ```text
//! freehold.state   one row: the format, the number of the last commit, how many keys were written so far
//! freehold.entry   the keys and values; bytea sorts by bytes
//! freehold.change  which keys each of the last groups wrote; trimmed
//! ```

use tokio_postgres::Client;

use super::address::{Address, Role};
use super::failure;
use super::session::Session;
use crate::error::StoreError;

/// What this version writes and reads.
const FORMAT: &str = "freehold-store 1 postgres-1";
/// Whoever makes the tables holds this advisory lock: "freehold" in ASCII.
const CREATION_LOCK: i64 = 0x6672_6565_686f_6c64;

/// Not by `to_regclass`, which may answer from a cache of before the lock.
const IS_MADE: &str =
    "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'freehold' AND tablename = 'state')";
const IS_TAKEN: &str = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'freehold')";
const READ: &str = "SELECT format, sequence FROM freehold.state";

/// Room in each page lets an update of a row stay in its page, and so leave the index alone.
const CREATE: &str = "
    CREATE SCHEMA IF NOT EXISTS freehold;
    CREATE TABLE freehold.entry (
        key bytea PRIMARY KEY,
        value bytea NOT NULL
    ) WITH (fillfactor = 90);
    CREATE TABLE freehold.change (
        sequence bigint PRIMARY KEY,
        written bigint NOT NULL,
        origin uuid NOT NULL,
        batch bigint NOT NULL,
        keys bytea[] NOT NULL
    );
    CREATE TABLE freehold.state (
        id boolean PRIMARY KEY DEFAULT true CHECK (id),
        format text NOT NULL,
        sequence bigint NOT NULL,
        written bigint NOT NULL
    ) WITH (fillfactor = 10);
";

/// Makes the tables if they aren't there and checks their format. Gives the number of the last commit.
pub(super) async fn open(address: &Address) -> Result<i64, StoreError> {
    let client = Session::open(address, Role::Committer).await?;
    let failed = |error: tokio_postgres::Error| failure::statement("open the database", &error);
    if !asks(&client, IS_MADE).await.map_err(failed)? {
        create(&client, address).await?;
    }
    let row = client.query_one(READ, &[]).await.map_err(failed)?;
    let found: String = row.try_get(0).map_err(failed)?;
    if found != FORMAT {
        return Err(wrong_format(address, found));
    }
    row.try_get(1).map_err(failed)
}

/// Two processes may do this at once: one waits, then finds it done.
async fn create(client: &Client, address: &Address) -> Result<(), StoreError> {
    let failed = |error: tokio_postgres::Error| failure::statement("make the tables", &error);
    client.batch_execute("BEGIN").await.map_err(failed)?;
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&CREATION_LOCK]).await.map_err(failed)?;
    if asks(client, IS_MADE).await.map_err(failed)? {
        return client.batch_execute("ROLLBACK").await.map_err(failed);
    }
    if asks(client, IS_TAKEN).await.map_err(failed)? {
        // The transaction ends with the connection, which the caller drops.
        return Err(wrong_format(address, "unmarked".to_owned()));
    }
    client.batch_execute(CREATE).await.map_err(failed)?;
    let mark = "INSERT INTO freehold.state (format, sequence, written) VALUES ($1, 0, 0)";
    client.execute(mark, &[&FORMAT]).await.map_err(failed)?;
    client.batch_execute("COMMIT").await.map_err(failed)
}

async fn asks(client: &Client, question: &str) -> Result<bool, tokio_postgres::Error> {
    client.query_one(question, &[]).await?.try_get(0)
}

fn wrong_format(address: &Address, found: String) -> StoreError {
    StoreError::DatabaseFormat { database: address.shown().to_owned(), found, expected: FORMAT }
}
