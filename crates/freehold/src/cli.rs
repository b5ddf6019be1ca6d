//! The words of the command line.

mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

pub use self::store::{Backup, Copy, Doctor, Restore, StoreCommand, StoreWords};

/// A self-hosted serverless cloud that speaks the AWS APIs.
#[derive(Debug, Parser)]
#[command(name = "freehold", version, propagate_version = true, after_help = EXIT_CODES)]
pub struct CommandLine {
    /// Print results as JSON, for programs to read.
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 the function answered with an error.";

/// One thing that the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(Serve),
    /// Try it all in seconds: start a temporary server, deploy a function, invoke it, clean up.
    Quickstart,
    /// Create a function from a folder or a zip, or update the one that is there.
    Deploy(Deploy),
    /// Work on a function: deploy its folder whenever a file is saved, and show its log and the answer of a test event.
    Dev(Dev),
    /// Invoke a function: its answer on stdout, its log on stderr.
    Invoke(Invoke),
    /// List the functions.
    List(List),
    /// Delete a function.
    Delete(Delete),
    /// Print a function's log, from the server's data folder.
    Logs(Logs),
    /// List the runtimes that this host has, and the AWS SDKs that they carry; `install` fetches those.
    Runtimes(Runtimes),
    /// Copy, back up or restore the store that everything is kept in.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Say what this host supports, and what to do about what it lacks; with --store, whether the store is whole.
    Doctor(Doctor),
}

/// Settings of the server, as they stand in one layer: the flags (and the environment), or the configuration file.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serve {
    /// A TOML file with settings; its keys are these flags' names with underscores.
    #[arg(long, env = "FREEHOLD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Where to listen; port 0 picks a free one and prints it [default: 127.0.0.1:4566].
    #[arg(long, env = "FREEHOLD_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,

    /// Where everything is kept [default: /var/lib/freehold for root, else ~/.local/share/freehold].
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// The store's URL: file:/folder or postgres://user:password@host/database; a password is better in the file or
    /// the environment than on a command line [default: file: in the data folder].
    #[arg(long, env = "FREEHOLD_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,

    /// The folder for the blobs of a store in a database; all servers of one database need the same one [default:
    /// blobs in the data folder].
    #[arg(long, env = "FREEHOLD_BLOBS", value_name = "DIR")]
    pub blobs: Option<PathBuf>,

    /// The region that this server is [default: us-east-1].
    #[arg(long, env = "FREEHOLD_REGION", value_name = "NAME")]
    pub region: Option<String>,

    /// The account that owns everything here [default: 000000000000].
    #[arg(long, env = "FREEHOLD_ACCOUNT", value_name = "12 DIGITS")]
    pub account: Option<String>,

    /// The access key that clients sign with. Without one, the development key test/test is
    /// accepted, on loopback only.
    #[arg(long, env = "FREEHOLD_ACCESS_KEY_ID", value_name = "ID")]
    pub access_key_id: Option<String>,

    /// The access key's secret; better in the file or the environment than on a command line.
    #[arg(long, env = "FREEHOLD_SECRET_ACCESS_KEY", value_name = "SECRET", hide_env_values = true)]
    pub secret_access_key: Option<String>,

    /// Listen on a public address without TLS (a proxy in front does TLS).
    #[arg(long, env = "FREEHOLD_ALLOW_PLAIN_HTTP", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_plain_http: Option<bool>,

    /// What functions reach beside this server [default: isolated].
    #[arg(long, env = "FREEHOLD_FUNCTION_NETWORK", value_name = "WHAT")]
    pub function_network: Option<FunctionNetwork>,

    /// Whom functions with internet access ask for names, separated by commas [default: the host's own].
    #[arg(long, env = "FREEHOLD_FUNCTION_RESOLVERS", value_delimiter = ',', value_name = "IP")]
    pub function_resolvers: Option<Vec<Ipv4Addr>>,

    /// Let functions with internet access reach private networks too.
    #[arg(long, env = "FREEHOLD_FUNCTION_PRIVATE_NETWORKS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub function_private_networks: Option<bool>,

    /// Where functions' /tmp lives; in memory it counts as the function's memory [default: disk].
    #[arg(long, env = "FREEHOLD_FUNCTION_TMP", value_name = "WHERE")]
    pub function_tmp: Option<FunctionTmp>,

    /// Folders to look in first for interpreters, separated by colons.
    #[arg(long, env = "FREEHOLD_RUNTIME_FOLDERS", value_delimiter = ':', value_name = "DIR")]
    pub runtime_folders: Option<Vec<PathBuf>>,

    /// Run functions although this host cannot limit their memory.
    #[arg(long, env = "FREEHOLD_ALLOW_WITHOUT_MEMORY_LIMIT", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_without_memory_limit: Option<bool>,

    /// What else an ordinary user's server does without where this host does not let it: separated by commas.
    /// `freehold doctor` says what is needed, and how to do better.
    #[arg(long, env = "FREEHOLD_ALLOW_WITHOUT", value_delimiter = ',', value_name = "WHAT")]
    pub allow_without: Option<Vec<DoneWithout>>,

    /// Events in flight at once, over all functions, as in GetAccountSettings [default: 1000, as on AWS].
    #[arg(long, env = "FREEHOLD_ACCOUNT_CONCURRENCY", value_name = "COUNT")]
    pub account_concurrency: Option<u32>,

    /// New environments that one function may start within 10 seconds [default: 1000, as on AWS].
    #[arg(long, env = "FREEHOLD_SCALING_BURST", value_name = "COUNT")]
    pub scaling_burst: Option<u32>,

    /// Memory of this host that functions leave free: beyond it idle environments are dropped, then events throttled
    /// [default: 512, or 5 % of all, whichever is more].
    #[arg(long, env = "FREEHOLD_MEMORY_FLOOR_MIB", value_name = "MIB")]
    pub memory_floor_mib: Option<u64>,

    /// What the server logs about itself, such as `info` or `freehold_gateway=debug` [default: info].
    #[arg(long, env = "FREEHOLD_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// What functions reach beside the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FunctionNetwork {
    /// Nothing.
    Isolated,
    /// The internet, never the host or its private neighbours.
    Internet,
}

/// What an ordinary user's server may do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DoneWithout {
    /// CPU by weight and ceiling: a function may use every processor.
    CpuShare,
    /// Freezing: an idle function may go on computing.
    Freezer,
    /// A user per function: outside, all functions are the user who runs the server.
    SeparateUsers,
}

/// Where functions' `/tmp` lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FunctionTmp {
    /// On disk, as on AWS. Needs loop devices and mkfs.ext4.
    Disk,
    /// In the function's memory.
    Memory,
}

/// Which server a command talks to. Credentials come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`,
/// else the development key.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// The server's address.
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL", default_value = "http://127.0.0.1:4566")]
    pub endpoint: String,

    /// The region to sign for.
    #[arg(long, env = "AWS_REGION", value_name = "NAME", default_value = "us-east-1")]
    pub region: String,
}

/// `freehold deploy`
#[derive(Debug, Args)]
pub struct Deploy {
    /// The folder or zip with the function's code.
    #[arg(value_name = "DIR|ZIP")]
    pub source: PathBuf,

    /// The function's name [default: the folder's or zip's name].
    #[arg(long)]
    pub name: Option<String>,

    /// The runtime, such as python3.12 [default: told from the code].
    #[arg(long)]
    pub runtime: Option<String>,

    /// The handler, such as lambda_function.lambda_handler [default: told from the code].
    #[arg(long)]
    pub handler: Option<String>,

    /// Memory, in MB (128 to 10,240).
    #[arg(long, value_name = "MB")]
    pub memory: Option<u32>,

    /// Timeout, in seconds (1 to 900).
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,

    /// An environment variable of the function; may be given many times. Replaces all that were there.
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub variables: Vec<String>,

    /// The execution role's ARN.
    #[arg(long, value_name = "ARN")]
    pub role: Option<String>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `freehold dev`
#[derive(Debug, Args)]
pub struct Dev {
    /// What is deployed, and how.
    #[command(flatten)]
    pub deploy: Deploy,

    /// The test event, invoked after each deployment and whenever it is saved itself [default: event.json in the folder,
    /// where there is one; it is no part of the package].
    #[arg(long, value_name = "FILE")]
    pub event: Option<PathBuf>,

    /// The server's data folder, where the log is read [default: as for serve].
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// `freehold invoke`
#[derive(Debug, Args)]
pub struct Invoke {
    /// The function's name, partial ARN or ARN.
    pub name: String,

    /// The event: JSON, @file, or - for stdin [default: {}].
    #[arg(value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub payload: Option<String>,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `freehold list`
#[derive(Debug, Args)]
pub struct List {
    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `freehold delete`
#[derive(Debug, Args)]
pub struct Delete {
    /// The function's name, partial ARN or ARN.
    pub name: String,

    /// The server.
    #[command(flatten)]
    pub target: Target,
}

/// `freehold runtimes`
#[derive(Debug, Args)]
pub struct Runtimes {
    /// What to do beside listing.
    #[command(subcommand)]
    pub command: Option<RuntimesCommand>,

    /// Folders to look in first for interpreters, separated by colons.
    #[arg(long, env = "FREEHOLD_RUNTIME_FOLDERS", value_delimiter = ':', value_name = "DIR", global = true)]
    pub runtime_folders: Vec<PathBuf>,

    /// The server's data folder [default: as for serve].
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR", global = true)]
    pub data: Option<PathBuf>,
}

/// What `freehold runtimes` does beside listing.
#[derive(Debug, Subcommand)]
pub enum RuntimesCommand {
    /// Fetch the AWS SDK that a runtime carries on AWS (boto3 from PyPI, the AWS SDK for JavaScript v3 from npm), once per
    /// machine. A running server gives it to the environments that it starts from then on.
    Install {
        /// The runtime, such as python3.12 [default: all that this host has].
        name: Option<String>,
    },
}

/// `freehold logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// The function's name.
    pub name: String,

    /// Go on printing what comes, until interrupted.
    #[arg(long, short)]
    pub follow: bool,

    /// The log group, where the function's configuration names one [default: /aws/lambda/ and the name].
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,

    /// The server's data folder [default: as for serve].
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}
