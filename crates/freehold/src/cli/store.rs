//! The words of `freehold store` and of `freehold doctor`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Which store, chosen as `serve` does.
#[derive(Clone, Debug, Default, Args)]
pub struct StoreWords {
    /// The server's configuration file.
    #[arg(long, env = "FREEHOLD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The server's data folder [default: as for serve].
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// The store's URL [default: as for serve].
    #[arg(long, env = "FREEHOLD_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,

    /// The folder of the store's blobs, where that is a database [default: as for serve].
    #[arg(long, env = "FREEHOLD_BLOBS", value_name = "DIR")]
    pub blobs: Option<PathBuf>,
}

/// `freehold store`
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy a whole store into another, empty one, such as from file: to postgres:. No server may use them.
    Copy(Copy),
    /// Write the whole store to a file; also while the server runs.
    Backup(Backup),
    /// Fill an empty store from a backup. No server may use it.
    Restore(Restore),
}

/// `freehold store copy`
#[derive(Debug, Args)]
pub struct Copy {
    /// The store's URL to read from, such as file:/var/lib/freehold/store.
    #[arg(value_name = "FROM")]
    pub from: String,

    /// The store's URL to write to.
    #[arg(value_name = "TO")]
    pub to: String,

    /// The folder of FROM's blobs, where that is a database.
    #[arg(long, value_name = "DIR")]
    pub from_blobs: Option<PathBuf>,

    /// The folder for TO's blobs, where that is a database.
    #[arg(long, value_name = "DIR")]
    pub to_blobs: Option<PathBuf>,
}

/// `freehold store backup`
#[derive(Debug, Args)]
pub struct Backup {
    /// The file to make, readable by its owner alone; - for stdout.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Replace FILE if it is there.
    #[arg(long)]
    pub force: bool,

    /// The store.
    #[command(flatten)]
    pub place: StoreWords,
}

/// `freehold store restore`
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup; - for stdin.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The store.
    #[command(flatten)]
    pub place: StoreWords,
}

/// `freehold doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Check the store instead of the host: the one that serve would use, or the one at URL.
    #[arg(long, num_args = 0..=1, default_missing_value = "", value_name = "URL")]
    pub store: Option<String>,

    /// The server's configuration file, for --store.
    #[arg(long, env = "FREEHOLD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The server's data folder, for --store [default: as for serve].
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// The folder of the store's blobs, where that is a database.
    #[arg(long, env = "FREEHOLD_BLOBS", value_name = "DIR")]
    pub blobs: Option<PathBuf>,
}
