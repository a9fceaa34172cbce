//! `ezz create` and `ezz clone`: new jails, of a generation or of another jail.

use clap::Args;

use super::select::NewJails;
use super::{CliError, Context, Did, DryRun, error};
use crate::model::{Address, AddressPool, Kind, Label, Network};
use crate::name::{JailName, TrackName};
use crate::plan::create::{Choice, Of, Request, create};
use crate::plan::delete;
use crate::report::Exit;
use crate::session::{Scope, Session, SessionError};

/// Create jails
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz create www --address 192.0.2.7/24 --start\n  ezz create 'web{01..20}' --quota 10G --ip-pool 'em0|10.0.0.0/22' --label tier=front\n  ezz create --count 500 --prefix j --atomic\n  generate-names | ezz create --names-from - --json\n\nJSON: one {\"jail\", \"did\": \"created\"} a jail"
)]
pub struct Create {
    #[command(flatten)]
    jails: NewJails,
    /// Follow this track
    #[arg(long, default_value = "main", conflicts_with = "pin")]
    track: TrackName,
    /// Stay on this generation: its number, LABEL.N, or its label
    #[arg(long, value_name = "GENERATION")]
    pin: Option<String>,
    /// Give it all files of the world as its own, writable
    #[arg(long)]
    thick: bool,
    /// What network it sees: host or none
    #[arg(long, default_value = "host", value_parser = network)]
    network: Network,
    /// A command for a shell in it, which ends with 0 if it is well: asked when it gets another
    /// basejail
    #[arg(long, value_name = "COMMAND")]
    health: Option<String>,
    #[command(flatten)]
    own: Own,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Clone a jail, stopped or running
///
/// The clones have its files as they are at this moment, all of the same (of more than a thousand, each
/// thousand), and its configuration, but for host name and addresses. What tells one machine from
/// another, such as host keys and the machine-id, is cleared away and made again at their first start.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz clone www www-test --start\n  ezz clone golden 'job{001..200}' --ip-pool 10.0.0.0/22 --label run=7\n\nJSON: one {\"jail\", \"did\": \"cloned\"} a jail"
)]
pub struct Clone {
    /// The jail that they are to be clones of
    #[arg(value_name = "SOURCE")]
    source: JailName,
    #[command(flatten)]
    jails: NewJails,
    #[command(flatten)]
    own: Own,
    #[command(flatten)]
    dry_run: DryRun,
}

/// What new jails get, whatever they are made of.
#[derive(Debug, Args)]
struct Own {
    /// Host name, of one jail; else the jail's name
    #[arg(long, value_parser = hostname)]
    hostname: Option<String>,
    /// An address, of one jail: [INTERFACE|]ADDRESS[/PREFIX]; may be given again
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<Address>,
    /// Give each jail an address of this network that no other jail has: [INTERFACE|]NETWORK/PREFIX; may
    /// be given again
    #[arg(long, value_name = "POOL")]
    ip_pool: Vec<AddressPool>,
    /// A label, KEY=VALUE, by which other commands find it; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Label>,
    /// Most bytes that its own files may take, e.g. 10G; a clone has the quota of its source
    #[arg(long, value_parser = size)]
    quota: Option<u64>,
    /// Start them
    #[arg(long)]
    start: bool,
    /// All of them or none, also above 1000: up to 2000 in one transaction
    #[arg(long)]
    atomic: bool,
}

impl Create {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let request = Request {
            names: self.jails.parse()?,
            of: Of::World {
                kind: if self.thick { Kind::Thick } else { Kind::Thin },
                base: match self.pin {
                    Some(text) => Choice::Pin(text),
                    None => Choice::Track(self.track),
                },
                network: self.network,
                health: self.health,
            },
            hostname: self.own.hostname,
            addresses: self.own.address,
            pools: self.own.ip_pool,
            labels: self.own.label.into_iter().collect(),
            atomic: self.own.atomic,
            quota: self.own.quota,
            start: self.own.start,
        };
        make(context, "create", "created", &request, self.dry_run)
    }
}

impl Clone {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let request = Request {
            names: self.jails.parse()?,
            of: Of::Jail(self.source),
            hostname: self.own.hostname,
            addresses: self.own.address,
            pools: self.own.ip_pool,
            labels: self.own.label.into_iter().collect(),
            atomic: self.own.atomic,
            quota: self.own.quota,
            start: self.own.start,
        };
        make(context, "clone", "cloned", &request, self.dry_run)
    }
}

/// Makes the jails of a request, and says so of each.
fn make(
    context: &Context<'_>,
    verb: &'static str,
    made: &'static str,
    request: &Request,
    dry_run: DryRun,
) -> Result<Exit, CliError> {
    let session = context.session(dry_run)?;
    // An address may be any jail's: then all of them are read.
    let scope = Scope {
        whole: !request.addresses.is_empty() || !request.pools.is_empty(),
        also: request.of.source().into_iter().cloned().collect(),
        ..Scope::of(request.names.iter().cloned())
    };
    let (outcome, exit) = context
        .transact(&session, verb, &scope, |observed| {
            Ok(create(observed, request)?)
        })
        .map_err(|first| undo(&session, &scope, first))?;
    if session.dry_run {
        return Ok(exit);
    }
    for jail in &request.names {
        let failed = outcome.applied.failed.iter().any(|(name, _)| name == jail);
        let started = format!("{made} and started");
        let did = if request.start && !failed {
            &started
        } else {
            made
        };
        context.report.object(&Did { jail, did });
        context.report.said(format!("{jail}: {did}"));
    }
    Ok(exit)
}

/// Clears jails away that a failed `create` could not finish; keeps both causes if that fails too.
/// Jails that were ready before it, or have become so, stay.
fn undo(session: &Session, scope: &Scope, first: CliError) -> CliError {
    if session.dry_run {
        return first;
    }
    let named = Scope::of(scope.jails.iter().cloned());
    match session.transact(&named, |observed| Ok(delete::unfinished(observed)?)) {
        Ok(_) => first,
        // It was another ezz, the pool or its absence that stopped the first: the same again.
        Err(_) if !matches!(first, CliError::Session(SessionError::Apply(_))) => first,
        Err(undo) => CliError::Undo {
            first: Box::new(first),
            undo: error::one_line(&undo),
        },
    }
}

fn network(text: &str) -> Result<Network, String> {
    match text {
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        _ => Err("expected host or none".to_owned()),
    }
}

/// RFC 1123: labels of letters, digits and '-', joined by dots, at most 253 bytes. Linux keeps
/// 64 of them (`sethostname(2)`), so longer ones are refused there.
fn hostname(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let most = if cfg!(target_os = "linux") { 64 } else { 253 };
    if text.len() <= most && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected letters, digits, '-' and '.', at most {most} characters"
        ))
    }
}

/// A size in bytes, with K, M, G or T in powers of 1024, as `zfs set quota` takes it.
fn size(text: &str) -> Result<u64, String> {
    let bad = || "expected a number with K, M, G or T, such as 10G".to_owned();
    let upper = text.to_ascii_uppercase();
    let upper = upper.strip_suffix('B').unwrap_or(&upper);
    let (digits, shift) = match upper.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) => {
            let unit = upper.as_bytes()[digits.len()];
            (
                digits,
                [(b'K', 10), (b'M', 20), (b'G', 30), (b'T', 40)]
                    .iter()
                    .find(|u| u.0 == unit)
                    .map_or(0, |u| u.1),
            )
        }
        None => (upper, 0),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    if number == 0 {
        return Err("a quota of 0 is none: leave it out".to_owned());
    }
    number.checked_mul(1 << shift).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("10G"), Ok(10 << 30));
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("1mb"), Ok(1 << 20));
        for bad in ["", "0", "G", "-1", "1.5G", "99999999T", "1 G"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hostnames_are_labels() {
        for good in ["www", "www.example.org", "a-1"] {
            assert!(hostname(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a_b", "a b", "a\n", &"a".repeat(300)] {
            assert!(hostname(bad).is_err(), "{bad:?}");
        }
    }
}
