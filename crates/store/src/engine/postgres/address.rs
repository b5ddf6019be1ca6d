//! Where the database is, and what each of our sessions sets there. Never shows a password.

use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::error::StoreError;

/// How long making a connection may take, for each host of the URL.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent peer is asked after this, then again twice as `KEEPALIVE_INTERVAL` says, then given up.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged by the peer's kernel.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(25);
/// How long one statement may run on the server: the largest group and the largest scan take a few seconds.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a process that stands still between two statements keeps everybody's turn.
const TURN_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a snapshot may rest between two reads: while it does, the database keeps every old version of every row.
const READ_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// A parsed URL.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    shown: String,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Read-only transactions.
    Reader,
    /// Groups of commits.
    Committer,
    /// Notifications, and trimming the table of changes.
    Listener,
}

impl Role {
    /// As the server's own list of sessions shows it.
    fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Committer => "committer",
            Self::Listener => "listener",
        }
    }
}

impl Address {
    /// Parses a URL as libpq knows it, `postgres://user:password@host:port/database?host=/folder/of/socket`.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let shown = redacted(url);
        check_tls(url)?;
        let config: Config = url.parse().map_err(|_| StoreError::Url { url: shown.clone() })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(StoreError::Url { url: shown });
        }
        let is_far = config.get_hosts().iter().any(is_far)
            || config.get_hostaddrs().iter().any(|address| !address.is_loopback());
        if is_far && !parameters(url).any(|(name, _)| name == "sslmode") {
            return Err(StoreError::Options {
                reason: format!(
                    "{shown} is on another machine, and this version does not speak TLS to PostgreSQL: use a network \
                     or tunnel that you trust and add sslmode=disable to the URL"
                ),
            });
        }
        Ok(Self { config, shown })
    }

    /// How to make a session.
    pub(super) fn session(&self, role: Role) -> Config {
        let mut config = self.config.clone();
        let idle = match role {
            Role::Reader => READ_IDLE_TIMEOUT,
            Role::Committer | Role::Listener => TURN_IDLE_TIMEOUT,
        };
        // What is acknowledged is on disk; only the listener, which trims, may lose what it did.
        let synchronous_commit = if role == Role::Listener { "off" } else { "on" };
        // Every statement here finds its rows by a primary key. A plan made while the tables were small, or never
        // analysed, must not become a scan of all rows later.
        let ours = format!(
            "-c synchronous_commit={synchronous_commit} -c default_transaction_isolation=read\\ committed \
             -c statement_timeout={} -c idle_in_transaction_session_timeout={} -c tcp_keepalives_idle={} \
             -c tcp_keepalives_interval={} -c tcp_keepalives_count={KEEPALIVE_RETRIES} -c tcp_user_timeout={} \
             -c enable_seqscan=off -c enable_bitmapscan=off -c enable_sort=off -c jit=off",
            STATEMENT_TIMEOUT.as_millis(),
            idle.as_millis(),
            KEEPALIVE_IDLE.as_secs(),
            KEEPALIVE_INTERVAL.as_secs(),
            TCP_USER_TIMEOUT.as_millis(),
        );
        let options = match self.config.get_options() {
            Some(theirs) => format!("{theirs} {ours}"),
            None => ours,
        };
        config.options(options);
        config.keepalives(true).keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES).tcp_user_timeout(TCP_USER_TIMEOUT);
        config.connect_timeout(CONNECT_TIMEOUT);
        let name = self.config.get_application_name().unwrap_or("freehold");
        config.application_name(format!("{name} {}", role.name()));
        config
    }

    /// The URL without its password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }
}

fn is_far(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => false,
    }
}

/// Refuses what would need TLS, rather than to go on without.
fn check_tls(url: &str) -> Result<(), StoreError> {
    let asked = parameters(url).find(|(name, value)| {
        matches!(*name, "sslcert" | "sslkey" | "sslrootcert" | "sslnegotiation")
            || (*name == "sslmode" && !matches!(*value, "disable" | "prefer"))
    });
    match asked {
        None => Ok(()),
        Some((name, value)) => Err(StoreError::Options {
            reason: format!(
                "{name}={value} is not supported: this version does not speak TLS to PostgreSQL; use a Unix socket, or \
                 a network or tunnel that you trust with sslmode=disable"
            ),
        }),
    }
}

/// The parameters after the question mark, as they stand there.
fn parameters(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let after = url.split_once('?').map_or("", |(_, after)| after);
    after.split('&').filter_map(|parameter| parameter.split_once('='))
}

/// A URL with whatever may be a password in it left out.
pub(crate) fn redacted(url: &str) -> String {
    const HIDDEN: &str = "***";
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password may itself hold an unescaped `@`, `/` or `?`: everything up to the last `@` is taken as its part,
    // except in parameters, which are looked at one by one.
    let (place, user) = match rest.rsplit_once('@') {
        Some((before, place)) => (place, Some(before)),
        None => (rest, None),
    };
    let mut shown = format!("{scheme}://");
    if let Some(user) = user {
        match user.split_once(':') {
            Some((name, _)) => shown.extend([name, ":", HIDDEN, "@"]),
            None => shown.extend([user, "@"]),
        }
    }
    let Some((base, parameters)) = place.split_once('?') else { return shown + place };
    shown.push_str(base);
    for (index, parameter) in parameters.split('&').enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if name.contains("pass") => shown.extend([name, "=", HIDDEN]),
            _ => shown.push_str(parameter),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for url in [
            "postgres://me:secret@host:5432/base",
            "postgres://me:secret@host/base?host=/run",
            "postgres://host/base?user=me&password=secret",
            "postgres://me:sec@secret@host/base",
            "postgres://me:secret?x@host/base",
            "postgress://me:secret@host",
        ] {
            let shown = redacted(url);
            assert!(!shown.contains("secret"), "{shown}");
            assert!(shown.contains("host"), "{shown}");
        }
        assert_eq!(redacted("postgres://me@host/base?host=/run"), "postgres://me@host/base?host=/run");
        assert_eq!(redacted("file:/a:b@c"), "file:/a:b@c");
    }

    #[test]
    fn what_asks_for_tls_is_refused_and_never_done_without() {
        for url in [
            "postgres://localhost/base?sslmode=require",
            "postgres://localhost/base?sslmode=verify-full",
            "postgres://localhost/base?sslrootcert=/a",
            "postgres://elsewhere/base",
            "postgres://10.0.0.1/base",
            "postgres://localhost,elsewhere/base",
        ] {
            assert!(matches!(Address::parse(url), Err(StoreError::Options { .. })), "{url}");
        }
        for url in [
            "postgres://localhost/base",
            "postgres://127.0.0.1:7/base?sslmode=prefer",
            "postgres://elsewhere/base?sslmode=disable",
            "postgresql:///base?host=/run/postgresql&user=me",
        ] {
            assert!(Address::parse(url).is_ok(), "{url}");
        }
        for url in ["postgres:", "postgres://", "postgres:///base", "postgres://host/base?port=x"] {
            assert!(matches!(Address::parse(url), Err(StoreError::Url { .. })), "{url}");
        }
    }
}
