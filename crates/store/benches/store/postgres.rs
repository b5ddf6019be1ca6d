//! The engine on PostgreSQL, on a private server with its durable settings, beside what the server's own benchmark reaches
//! on it: `pgbench` with 16 connections, one upsert of one key a transaction.

use std::path::Path;

use freehold_store::{Options, Store};

use crate::cluster::{self, Database};
use crate::table::Column;
use crate::{Failure, KEYS, RUN, VALUE_BYTES, fill, measure_reads, primitives, writers};

/// The share of the peer's rate that 64 writers are to reach.
const GOAL: &str = "70 % of pgbench";

/// Adds the figures.
pub(crate) async fn measure(folder: &Path, column: &mut Column) -> Result<(), Failure> {
    let database = cluster::shared().database();
    let options = Options { url: database.url(), blobs: Some(folder.join("blobs")) };
    let store = Store::open_with(options).await?;
    fill(&store, 0..KEYS, VALUE_BYTES).await?;
    for (count, goal) in [(1, ""), (64, GOAL)] {
        let peer = pgbench(&database)?;
        column.add(
            &format!("pgbench -c 16 -j 2, before {count} writers"),
            "",
            format!("{peer:.0} transactions/s"),
        );
        let together = writers(&store, count, RUN).await?;
        let share = 100.0 * together.rate() / peer;
        let figure =
            format!("{:.0}/s, p99 {:.2} ms: {share:.0} % of pgbench", together.rate(), together.p99_ms());
        column.add(&format!("{count} concurrent writers"), goal, figure);
    }
    measure_reads(&store, column).await?;
    primitives::measure(&store, column).await?;
    store.close().await;
    Ok(())
}

/// Transactions per second of the server's own benchmark, on a table like the store's own, as full as it is.
fn pgbench(database: &Database) -> Result<f64, Failure> {
    let value = format!("convert_to(repeat(md5(number::text), {VALUE_BYTES} / 32), 'UTF8')");
    database.sql(&format!(
        "CREATE TABLE IF NOT EXISTS peer (key bytea PRIMARY KEY, value bytea NOT NULL);
         INSERT INTO peer SELECT int8send(number), {value} FROM generate_series(1, {KEYS}) AS number
         ON CONFLICT DO NOTHING"
    ));
    let value = value.replace("number::text", ":number::text");
    let script = format!(
        "\\set number random(1, 2 * {KEYS})
         INSERT INTO peer VALUES (int8send(:number), {value}) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value;"
    );
    let seconds = RUN.as_secs().to_string();
    Ok(database.pgbench(&script, &["-c", "16", "-j", "2", "-T", &seconds]).parse()?)
}
