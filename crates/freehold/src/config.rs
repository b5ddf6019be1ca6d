//! What `serve` can be told, and from where: defaults < file < environment < flags. An unknown key is an error
//! wherever it stands. Everything is checked here, before a port is opened or a file is made.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use freehold_base::id::{AccountId, Region};
use freehold_base::limits::{ACCOUNT_CONCURRENCY, SCALING_BURST};
use freehold_gateway::credentials::DEVELOPMENT_KEY;
use freehold_store::Options as StoreOptions;
use freehold_wire::sigv4::Credentials;

use crate::cli::{Doctor, DoneWithout, FunctionNetwork, FunctionTmp, Serve, StoreWords};

/// Where the server listens unless it is told otherwise: the port that local AWS tooling already targets.
const LISTEN_DEFAULT: &str = "127.0.0.1:4566";
/// The region unless told otherwise.
const REGION_DEFAULT: &str = "us-east-1";
/// Every variable of the environment that the server reads, all with this prefix.
const VARIABLES_PREFIX: &str = "FREEHOLD_";

/// The largest concurrency and scaling burst that can be set: no machine holds as many environments.
const CONCURRENCY_MAX: u32 = 1_000_000;

/// The server's settings, complete and checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub data: PathBuf,
    /// The store, and where its blobs lie if it doesn't keep them itself.
    pub store: StoreOptions,
    /// The region that this server is.
    pub region: Region,
    /// The account that owns everything here.
    pub account: AccountId,
    /// The key that clients sign with, where one was given.
    pub credentials: Option<Credentials>,
    /// Whether the development key is accepted.
    pub development_key: bool,
    /// What functions reach.
    pub function_network: FunctionNetwork,
    /// Whom functions with internet access ask for names; the host's own resolvers if empty.
    pub function_resolvers: Vec<Ipv4Addr>,
    /// Whether functions with internet access reach private networks.
    pub function_private_networks: bool,
    /// Where functions' `/tmp` lives.
    pub function_tmp: FunctionTmp,
    /// Whether functions may run where their memory cannot be limited.
    pub allow_without_memory_limit: bool,
    /// What else may be done without.
    pub allow_without: Vec<DoneWithout>,
    /// Folders to look in first for interpreters.
    pub runtime_folders: Vec<PathBuf>,
    /// Events in flight at once, over all functions.
    pub account_concurrency: u32,
    /// New environments that one function may start within the scaling period.
    pub scaling_burst: u32,
    /// Memory of this host that functions leave free, in MiB, where it is not left to the executor.
    pub memory_floor_mib: Option<u64>,
    /// What the server logs about itself.
    pub log: String,
}

/// Takes each setting from the upper layer where it is there, else from the lower one.
macro_rules! layer {
    ($upper:ident over $lower:ident: $($field:ident),* $(,)?) => {
        Serve { config: None, $($field: $upper.$field.or($lower.$field)),* }
    };
}

impl Settings {
    /// Puts the layers together and checks the whole. `flags` already carry the environment's values.
    pub fn load(flags: Serve) -> Result<Self> {
        refuse_unknown_variables(std::env::vars_os().map(|(name, _)| name))?;
        let file = match &flags.config {
            Some(path) => read_file(path)?,
            None => Serve::default(),
        };
        Self::merge(flags, file)
    }

    fn merge(flags: Serve, file: Serve) -> Result<Self> {
        Self::check(layer!(flags over file:
            listen, data, store, blobs, region, account, access_key_id, secret_access_key, allow_plain_http, function_network,
            function_resolvers, function_private_networks, function_tmp, runtime_folders, allow_without_memory_limit,
            allow_without, account_concurrency, scaling_burst, memory_floor_mib, log,
        ))
    }

    fn check(words: Serve) -> Result<Self> {
        let listen = words
            .listen
            .unwrap_or_else(|| LISTEN_DEFAULT.parse().expect("the default address is well formed"));
        let data = std::path::absolute(words.data.unwrap_or_else(default_data_folder))?;
        let account = words.account.unwrap_or_else(|| AccountId::DEVELOPMENT.to_owned());
        let account =
            AccountId::parse(&account).with_context(|| format!("account '{account}' is not 12 digits"))?;
        let credentials = match (words.access_key_id, words.secret_access_key) {
            (Some(id), Some(secret)) => Some(Credentials::new(id, secret)),
            (None, None) => None,
            _ => bail!("access_key_id and secret_access_key go together: one of them is missing"),
        };
        check_public(listen, credentials.as_ref(), words.allow_plain_http.unwrap_or(false))?;
        Ok(Self {
            development_key: credentials.is_none() && listen.ip().is_loopback(),
            listen,
            store: store_options(words.store, words.blobs, &data)?,
            data,
            region: Region::new(words.region.unwrap_or_else(|| REGION_DEFAULT.to_owned())),
            account,
            credentials,
            function_network: words.function_network.unwrap_or(FunctionNetwork::Isolated),
            function_resolvers: words.function_resolvers.unwrap_or_default(),
            function_private_networks: words.function_private_networks.unwrap_or(false),
            function_tmp: words.function_tmp.unwrap_or(FunctionTmp::Disk),
            allow_without_memory_limit: words.allow_without_memory_limit.unwrap_or(false),
            allow_without: words.allow_without.unwrap_or_default(),
            runtime_folders: words.runtime_folders.unwrap_or_default(),
            account_concurrency: count(
                "account_concurrency",
                words.account_concurrency,
                ACCOUNT_CONCURRENCY,
            )?,
            scaling_burst: count("scaling_burst", words.scaling_burst, SCALING_BURST)?,
            memory_floor_mib: words.memory_floor_mib,
            log: words.log.unwrap_or_else(|| "info".to_owned()),
        })
    }
}

/// Where the store is: what the commands that work on it alone need of the settings.
#[derive(Clone, Debug)]
pub struct StorePlace {
    /// The data folder, where the socket of a running server is.
    pub data: PathBuf,
    /// The store.
    pub store: StoreOptions,
}

impl StorePlace {
    /// Puts the layers together, as [`Settings::load`] does.
    pub fn load(words: StoreWords) -> Result<Self> {
        refuse_unknown_variables(std::env::vars_os().map(|(name, _)| name))?;
        let file = match &words.config {
            Some(path) => read_file(path)?,
            None => Serve::default(),
        };
        let data = std::path::absolute(words.data.or(file.data).unwrap_or_else(default_data_folder))?;
        let url = words.store.or(file.store);
        // What is configured for a database says nothing about a folder that a flag names.
        let is_folder = url.as_ref().is_none_or(|url| !StoreOptions::new(url).needs_blobs_folder());
        let blobs = words.blobs.or(file.blobs).filter(|_| !is_folder);
        Ok(Self { store: store_options(url, blobs, &data)?, data })
    }

    /// The store that `doctor --store` names, or that `serve` would use where it names none.
    pub fn of_doctor(words: Doctor) -> Result<Self> {
        let named = words.store.filter(|url| !url.is_empty());
        let store = named.or_else(|| std::env::var("FREEHOLD_STORE").ok());
        Self::load(StoreWords { config: words.config, data: words.data, store, blobs: words.blobs })
    }
}

/// A store in a database keeps its blobs in a folder; every other keeps them itself.
fn store_options(url: Option<String>, blobs: Option<PathBuf>, data: &Path) -> Result<StoreOptions> {
    let url = url.unwrap_or_else(|| format!("file:{}", data.join("store").display()));
    let mut options = StoreOptions::new(url);
    if options.needs_blobs_folder() {
        options.blobs = Some(std::path::absolute(blobs.unwrap_or_else(|| data.join("blobs")))?);
    } else if blobs.is_some() {
        bail!("blobs is only for a store in a database: {} keeps its blobs itself", options.shown_url());
    }
    Ok(options)
}

/// A count of events or environments: at least one.
fn count(name: &str, given: Option<u32>, default: u32) -> Result<u32> {
    let count = given.unwrap_or(default);
    if !(1..=CONCURRENCY_MAX).contains(&count) {
        bail!("{name} must be from 1 to {CONCURRENCY_MAX}, not {count}");
    }
    Ok(count)
}

/// A public address needs a key of one's own, and a word about TLS, which this server does not do yet.
fn check_public(listen: SocketAddr, credentials: Option<&Credentials>, allow_plain_http: bool) -> Result<()> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    match credentials {
        None => bail!(
            "{listen} is not a loopback address, and the development key is only accepted on loopback: set \
             FREEHOLD_ACCESS_KEY_ID and FREEHOLD_SECRET_ACCESS_KEY, or access_key_id and secret_access_key in the file"
        ),
        Some(key) if key.access_key_id == DEVELOPMENT_KEY || key.secret_access_key == DEVELOPMENT_KEY => {
            bail!("{listen} is not a loopback address: the development key cannot be its key")
        }
        Some(_) if !allow_plain_http => bail!(
            "{listen} is not a loopback address, and this version does not speak TLS itself: put a TLS proxy in front \
             and say --allow-plain-http"
        ),
        Some(_) => Ok(()),
    }
}

/// A misspelt variable would otherwise be a setting that silently does nothing.
fn refuse_unknown_variables(names: impl Iterator<Item = OsString>) -> Result<()> {
    use clap::Args;
    let known = Serve::augment_args(clap::Command::new("serve"));
    let known: Vec<_> = known.get_arguments().filter_map(|argument| argument.get_env()).collect();
    for name in names {
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(VARIABLES_PREFIX));
        if is_ours && !known.contains(&name.as_os_str()) {
            bail!(
                "the environment variable {} is not a setting of Freehold; see freehold serve --help",
                name.display()
            );
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Serve> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    toml::from_str(&text).map_err(|error| wrong_file(path, &text, &error))
}

/// Says what is wrong and where, without the line itself: it may hold a secret.
fn wrong_file(path: &Path, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let (path, message) = (path.display(), error.message());
    anyhow::anyhow!("the configuration file {path} is wrong in line {line}: {message}")
}

/// `/var/lib/freehold` for root, else in the user's data folder.
pub fn default_data_folder() -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if is_root {
        return PathBuf::from("/var/lib/freehold");
    }
    std::env::var_os("XDG_DATA_HOME")
        .map_or_else(|| home().join(".local/share"), PathBuf::from)
        .join("freehold")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(flags: Serve, file: &str) -> Result<Settings> {
        Settings::merge(flags, toml::from_str(file)?)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let flags = Serve { region: Some("eu-west-1".to_owned()), ..Serve::default() };
        let settings = merge(flags, "region = 'us-west-2'\nlisten = '127.0.0.1:0'").expect("valid");
        assert_eq!(settings.region.as_str(), "eu-west-1");
        assert_eq!(settings.listen.port(), 0);
        assert_eq!(settings.account.as_str(), AccountId::DEVELOPMENT);
        assert!(settings.development_key);
    }

    #[test]
    fn what_is_done_without_is_named_and_nothing_else_is_taken() {
        let settings =
            merge(Serve::default(), "allow_without = ['cpu-share', 'separate-users']").expect("valid");
        assert_eq!(settings.allow_without, [DoneWithout::CpuShare, DoneWithout::SeparateUsers]);
        assert_eq!(merge(Serve::default(), "").expect("valid").allow_without, []);
        assert!(merge(Serve::default(), "allow_without = ['seccomp']").is_err());
    }

    #[test]
    fn concurrency_is_awss_unless_it_is_set() {
        let settings = merge(Serve::default(), "").expect("valid");
        assert_eq!((settings.account_concurrency, settings.scaling_burst), (1_000, 1_000));
        assert_eq!(settings.memory_floor_mib, None);
        let flags = Serve { scaling_burst: Some(70), ..Serve::default() };
        let settings = merge(flags, "account_concurrency = 5000\nscaling_burst = 60\nmemory_floor_mib = 100")
            .expect("valid");
        assert_eq!(settings.memory_floor_mib, Some(100));
        assert_eq!((settings.account_concurrency, settings.scaling_burst), (5_000, 70));
        for wrong in ["account_concurrency = 0", "scaling_burst = 0", "account_concurrency = 1000001"] {
            let error = merge(Serve::default(), wrong).expect_err("out of range").to_string();
            assert!(error.starts_with(&wrong[..wrong.find(' ').expect("a key")]), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_in_the_file_and_in_the_environment() {
        let error = merge(Serve::default(), "lisen = '127.0.0.1:0'").expect_err("misspelt");
        assert!(error.to_string().contains("lisen"), "{error}");
        let error = refuse_unknown_variables(["PATH".into(), "FREEHOLD_LISEN".into()].into_iter())
            .expect_err("misspelt");
        assert!(error.to_string().contains("FREEHOLD_LISEN"), "{error}");
        refuse_unknown_variables(["FREEHOLD_LISTEN".into()].into_iter()).expect("known");
    }

    #[test]
    fn a_store_in_a_database_keeps_its_blobs_in_the_data_folder_or_where_it_is_told() {
        let data = "data = '/d'\n";
        let url = "store = 'postgres://me:hunter2@localhost/base'\n";
        let settings = merge(Serve::default(), &format!("{data}{url}")).expect("valid");
        assert_eq!(settings.store.blobs.as_deref(), Some(Path::new("/d/blobs")));
        assert!(!format!("{settings:?}").contains("hunter2"));
        let settings = merge(Serve::default(), &format!("{data}{url}blobs = '/b'")).expect("valid");
        assert_eq!(settings.store.blobs.as_deref(), Some(Path::new("/b")));
        let settings = merge(Serve::default(), data).expect("valid");
        assert_eq!((settings.store.url.as_str(), settings.store.blobs), ("file:/d/store", None));
        let error = merge(Serve::default(), &format!("{data}blobs = '/b'")).expect_err("it has its own");
        assert!(error.to_string().contains("file:/d/store"), "{error}");
    }

    #[test]
    fn what_is_wrong_in_the_file_is_said_without_its_secrets() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("freehold.toml");
        std::fs::write(&path, "region = 'a'\nstroe = 'postgres://me:hunter2@localhost/base'\n")
            .expect("written");
        let error = format!("{:?}", read_file(&path).expect_err("misspelt"));
        assert!(error.contains("line 2") && error.contains("stroe") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_public_address_needs_a_real_key_and_a_word_about_tls() {
        let public = "listen = '0.0.0.0:4566'\n";
        let key = "access_key_id = 'AKIDEXAMPLE'\nsecret_access_key = 'a long secret'\n";
        assert!(merge(Serve::default(), public).is_err());
        assert!(merge(Serve::default(), &format!("{public}{key}")).is_err());
        assert!(
            merge(
                Serve::default(),
                &format!("{public}access_key_id='test'\nsecret_access_key='x'\nallow_plain_http=true")
            )
            .is_err()
        );
        let settings =
            merge(Serve::default(), &format!("{public}{key}allow_plain_http = true")).expect("enough");
        assert!(!settings.development_key);
        assert!(merge(Serve::default(), "access_key_id = 'AKIDEXAMPLE'").is_err());
    }
}
