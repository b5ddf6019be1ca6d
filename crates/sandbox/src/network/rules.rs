//! What environments may reach: one nftables table per sandbox, loaded once.
//!
//! ```text
//! from an environment:  raw prerouting (before anybody translates a destination)   forward                      postrouting
//!                       own source address? a destination out there, allowed?  --> allowed still? how many? --> masquerade
//! to an environment:    forward, output: only answers to what it asked
//! to the host:          input: nothing
//! ```
//!
//! Interfaces are named by prefix, and an environment's own address is checked by the route to it, so no rule knows of any single
//! environment. A table can only forbid what others allow, not the other way round: a host whose other rules drop forwarded
//! packets must let ours through ([`blocking`] says so).

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Internet, LINK_PREFIX, prefix};

/// Where the program is looked for: the helper has no PATH.
const NFT_PLACES: &[&str] = &["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
/// What to do where it is missing.
pub(crate) const NFT_ADVICE: &str = "install nftables (`apt-get install nftables`)";
/// Connections of one environment that the host keeps track of. Its table of them is shared with everything else on the host;
/// a process has at most 1,024 descriptors.
const CONNECTIONS_MAX: u32 = 1024;
/// Destinations that no setting opens: this network, loopback, link-local with the metadata address, protocol assignments,
/// multicast, reserved, broadcast.
const NEVER: &[&str] = &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/3"];
/// Destinations that are somebody's private network: RFC 1918, RFC 6598, RFC 2544 (where environments of other sandboxes
/// live too).
const PRIVATE: &[&str] = &["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15"];

/// The table's name.
pub(crate) fn table(mark: u64) -> String {
    format!("freehold-{:012x}", mark & 0xffff_ffff_ffff)
}

/// The program, if this host has it.
pub(crate) fn nft() -> Option<&'static Path> {
    NFT_PLACES.iter().map(Path::new).find(|path| path.exists())
}

/// Loads the table, instead of any that a predecessor left.
pub(crate) fn load(internet: &Internet) -> Result<(), String> {
    let table = table(internet.mark);
    run(&format!("add table inet {table}\ndelete table inet {table}\n{}", ruleset(internet)))
}

/// Loads the table after somebody took it away.
pub(crate) fn load_again(internet: &Internet) -> Result<(), String> {
    match run(&ruleset(internet)) {
        // Whoever took it away has put it back, as a restart of a saved firewall does.
        Err(reason) if reason.contains("File exists") => Ok(()),
        other => other,
    }
}

/// Removes the table, if it is there.
pub(crate) fn remove(mark: u64) -> Result<(), String> {
    let table = table(mark);
    run(&format!("add table inet {table}\ndelete table inet {table}\n"))
}

/// Whether rules of somebody else drop forwarded packets that nobody has allowed, as Docker's and many firewalls' do.
pub(crate) fn blocking() -> bool {
    let Some(program) = nft() else { return false };
    let output = Command::new(program).args(["list", "chains"]).stderr(Stdio::null()).output();
    output.is_ok_and(|output| has_dropping_forward(&String::from_utf8_lossy(&output.stdout)))
}

fn has_dropping_forward(chains: &str) -> bool {
    chains.lines().any(|line| line.contains("hook forward") && line.contains("policy drop"))
}

fn run(script: &str) -> Result<(), String> {
    let program = nft().ok_or_else(|| format!("the program nft is missing: {NFT_ADVICE}"))?;
    let failed = |error: io::Error| format!("{}: {error}", program.display());
    let mut process = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Shorter than a pipe's buffer; dropped at once, which ends it.
    let written = process.stdin.take().map_or(Ok(()), |mut input| input.write_all(script.as_bytes()));
    let output = process.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return written.map_err(failed);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().next().unwrap_or("no reason given");
    Err(format!("the kernel or nft does not take our rules: {first}"))
}

fn set(name: &str, flags: &str, elements: &[String]) -> String {
    let elements = match elements {
        [] => String::new(),
        elements => format!("elements = {{ {} }}; ", elements.join(", ")),
    };
    format!("\tset {name} {{ type ipv4_addr; {flags}{elements}}}\n")
}

fn ruleset(internet: &Internet) -> String {
    let (table, ours, range) = (table(internet.mark), prefix(internet.mark), internet.range);
    let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut never = texts(NEVER);
    never.push(range.to_string());
    let private = if internet.allow_private { vec![] } else { texts(PRIVATE) };
    let resolvers: Vec<_> = internet.resolvers.iter().map(Ipv4Addr::to_string).collect();
    let networks = "flags interval; auto-merge; ";
    let sets = [
        set("never", networks, &never),
        set("private", networks, &private),
        set("resolvers", "", &resolvers),
        set("connections", "flags dynamic; size 65535; ", &[]),
    ]
    .concat();
    let uplinks: Vec<_> =
        internet.uplinks.iter().filter(|uplink| uplink.ours_only).map(|uplink| &uplink.name).collect();
    let transit: String =
        uplinks.iter().map(|name| format!("\t\tiifname \"{name}\" jump transit\n")).collect();
    format!(
        r#"create table inet {table}
table inet {table} {{
{sets}
	chain destination {{
		meta l4proto {{ tcp, udp }} th dport 53 ip daddr @resolvers return
		ip daddr @never drop
		ip daddr @private drop
	}}
	chain arriving {{
		meta nfproto != ipv4 drop
		ip saddr != {range} drop
		fib saddr . iif oif missing drop
		fib daddr type != unicast drop
		jump destination
	}}
	chain prerouting {{
		type filter hook prerouting priority -300; policy accept;
		iifname "{ours}*" jump arriving
	}}
	chain input {{
		type filter hook input priority -300; policy accept;
		iifname "{ours}*" drop
	}}
	chain leaving {{
		oifname "{LINK_PREFIX}*" drop
		ct state invalid drop
		jump destination
		ct state new add @connections {{ ip saddr ct count over {CONNECTIONS_MAX} }} drop
	}}
	chain returning {{
		ct state established,related accept
		drop
	}}
	chain transit {{
		oifname "{LINK_PREFIX}*" accept
		ct state established,related accept
		ct status dnat accept
		drop
	}}
	chain forward {{
		type filter hook forward priority -10; policy accept;
		iifname "{ours}*" jump leaving
		oifname "{ours}*" jump returning
{transit}	}}
	chain output {{
		type filter hook output priority -10; policy accept;
		oifname "{ours}*" jump returning
	}}
	chain postrouting {{
		type nat hook postrouting priority 100; policy accept;
		ip saddr {range} oifname != "{LINK_PREFIX}*" masquerade
	}}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::uplink::Uplink;

    #[test]
    fn only_what_differs_between_sandboxes_differs() {
        let uplink = Uplink { name: "eth0".to_owned(), mtu: 1500, ours_only: true };
        let mut internet = Internet {
            range: "198.18.64.0/18".parse().unwrap(),
            resolvers: vec![[192, 0, 2, 1].into()],
            allow_private: false,
            uplinks: vec![uplink],
            mark: 0xabc,
        };
        let text = ruleset(&internet);
        assert!(
            text.contains("table inet freehold-000000000abc") && text.contains("iifname \"fhd0000abc-*\"")
        );
        assert!(text.contains("10.0.0.0/8") && text.contains("iifname \"eth0\" jump transit"));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        internet.allow_private = true;
        internet.uplinks[0].ours_only = false;
        let text = ruleset(&internet);
        assert!(!text.contains("10.0.0.0/8") && text.contains("169.254.0.0/16") && !text.contains("eth0"));
    }

    #[test]
    fn a_firewall_that_drops_forwarded_packets_is_seen() {
        let text = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        assert!(has_dropping_forward(text) && !has_dropping_forward(&ruleset_text()));
    }

    fn ruleset_text() -> String {
        let range = "198.18.64.0/18".parse().unwrap();
        ruleset(&Internet { range, resolvers: vec![], allow_private: false, uplinks: vec![], mark: 1 })
    }
}
