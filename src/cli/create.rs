//! `ezz create` and `ezz clone`: new jails, of a generation or of another jail.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use clap::Args;

use super::select::NewJails;
use super::shared_network::{self, Way};
use super::{CliError, Context, DryRun, JailReporter, delegated, error, preflight};
use crate::model::{
    Address, AddressPool, AskedLimits, Cpus, Cpuset, Defaults, JailState, Kind, Label, Network,
    OrNone, Param, Params, hostname, memory, processes, size,
};
use crate::name::{DatasetName, FlavourName, JailName, TrackName};
use crate::plan::create::{Of, Request, create};
use crate::plan::delete;
use crate::plan::new::Choice;
use crate::plan::{Observed, Plan};
use crate::ports::HostError;
use crate::report::Exit;
use crate::session::{Around, Scope, Session, SessionError};

/// Create jails
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz create www --address 192.0.2.7/24 --start\n  ezz create 'web{01..20}' --quota 10G --ip-pool 'em0|10.0.0.0/22' --label tier=front\n  ezz create ci --memory 512M --cpus 1.5 --processes 500 --cpuset 0-3\n  ezz create --count 500 --prefix j --atomic\n  generate-names | ezz create --names-from - --json\n\nezz warns on standard error about conflicts with the host, such as an address that no interface has, or a service that listens on the jail's address. Warnings never block; `ezz doctor` repeats them.\n\nWithout --memory, --processes or --quota, the table [defaults] of the configuration file (/etc/ezz.toml, on FreeBSD /usr/local/etc/ezz.toml) sets the limits. `none` removes a limit. On Linux a jail without a limit of its own may use seven eighths of the host's memory, and 16384 processes.\n\nJSON: a `jail-result` for each jail"
)]
pub struct Create {
    /// Track to follow
    #[arg(
        long,
        help_heading = "Base and files",
        default_value = "main",
        conflicts_with = "pin"
    )]
    track: TrackName,
    /// Generation to stay on: a number, LABEL.N or a label
    #[arg(long, help_heading = "Base and files", value_name = "GENERATION")]
    pin: Option<String>,
    /// Give the jail a writable copy of the whole world
    #[arg(long, help_heading = "Base and files")]
    thick: bool,
    /// Network of the jail: host, none, or on FreeBSD vnet [default: host]
    ///
    /// With host, a jail shares the host's network. On Linux, and on FreeBSD without --address, it
    /// reaches every service of the host, including those on 127.0.0.1. With vnet, a jail has a
    /// network of its own, and --address 'BRIDGE|ADDRESS' connects it to a bridge of the host.
    #[arg(long, help_heading = "Network", value_name = "NETWORK", value_parser = network)]
    network: Option<Network>,
    #[command(flatten)]
    own: Own,
    /// Shell command that checks the jail's health after its base changes; exit status 0 means healthy
    #[arg(long, help_heading = "Start", value_name = "COMMAND")]
    health: Option<String>,
    #[command(flatten)]
    jails: NewJails,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Clone a jail, stopped or running
///
/// The clones get the files of the jail as they are at this moment, and its configuration except for
/// host name and addresses. All clones are made from one snapshot, or from one snapshot per thousand
/// clones. ezz removes what identifies a machine, such as host keys and the machine-id; each clone
/// makes its own when it first starts.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz clone www www-test --start\n  ezz clone golden 'job{001..200}' --ip-pool 10.0.0.0/22 --label run=7\n\nJSON: a `jail-result` for each jail"
)]
pub struct Clone {
    /// Jail to clone
    #[arg(value_name = "SOURCE")]
    source: JailName,
    #[command(flatten)]
    own: Own,
    #[command(flatten)]
    jails: NewJails,
    #[command(flatten)]
    dry_run: DryRun,
}

/// The options of new jails, whatever they are made from.
#[derive(Debug, Args)]
struct Own {
    /// Flavour to lay over the jails: the files in flavours/FLAVOUR of the site directory; repeatable
    #[arg(long, help_heading = "Base and files", value_name = "FLAVOUR")]
    flavour: Vec<FlavourName>,
    /// Dataset outside of the site that the jail administers itself (FreeBSD); repeatable
    #[arg(long, help_heading = "Base and files", value_name = "DATASET")]
    dataset: Vec<DatasetName>,
    /// Host name, for a single jail [default: the jail's name]
    #[arg(long, help_heading = "Network", value_parser = hostname)]
    hostname: Option<String>,
    /// Address for a single jail: [INTERFACE|]ADDRESS[/PREFIX], e.g. 192.0.2.7/24; repeatable
    #[arg(long, help_heading = "Network", alias = "ip", value_name = "ADDRESS")]
    address: Vec<Address>,
    /// Address pool that each jail gets a free address from: [INTERFACE|]NETWORK/PREFIX, e.g.
    /// 10.0.0.0/22; repeatable
    #[arg(long, help_heading = "Network", value_name = "POOL")]
    ip_pool: Vec<AddressPool>,
    /// Disk quota, e.g. 10G, or none [default for clones: that of the source]
    #[arg(long, help_heading = "Limits", value_name = "SIZE", value_parser = |text: &str| OrNone::parse(text, size))]
    quota: Option<OrNone<u64>>,
    /// Memory limit, e.g. 512M, or none [default for clones: that of the source]
    #[arg(long, help_heading = "Limits", value_name = "SIZE", value_parser = |text: &str| OrNone::parse(text, memory))]
    memory: Option<OrNone<u64>>,
    /// CPU limit in processors, e.g. 1.5, or none [default for clones: that of the source]
    #[arg(long, help_heading = "Limits", value_name = "NUMBER")]
    cpus: Option<OrNone<Cpus>>,
    /// Limit on the number of processes, e.g. 500, or none [default for clones: that of the source]
    #[arg(long, help_heading = "Limits", value_name = "NUMBER", value_parser = |text: &str| OrNone::parse(text, processes))]
    processes: Option<OrNone<u32>>,
    /// Processors that the jail may run on, e.g. 0-3,6, or none [default for clones: those of the source]
    #[arg(long, help_heading = "Limits", value_name = "LIST")]
    cpuset: Option<OrNone<Cpuset>>,
    /// Start the jails
    #[arg(long, help_heading = "Start")]
    start: bool,
    /// Start the jail at boot and with `start --all` [default for clones: as for the source]
    #[arg(long, help_heading = "Start", value_name = "on|off", value_parser = on_or_off)]
    boot: Option<bool>,
    /// Label by which other commands select the jails, e.g. tier=front; repeatable
    #[arg(long, help_heading = "More options", value_name = "KEY=VALUE")]
    label: Vec<Label>,
    /// Parameter of FreeBSD's jail(8): KEY=VALUE, or KEY for a flag; repeatable
    #[arg(long, help_heading = "More options", value_name = "KEY=VALUE")]
    param: Vec<Param>,
    /// Allow user namespaces in the jail (Linux) [default: off; for clones: as for the source]
    ///
    /// Rootless podman, bubblewrap and the sandboxes of browsers need user namespaces. They also open
    /// parts of the kernel to root of the jail that are closed otherwise: mounts, netfilter, packet
    /// sockets.
    #[arg(long, help_heading = "More options", value_name = "on|off", value_parser = on_or_off)]
    nested_userns: Option<bool>,
    /// Create all jails or none, in one transaction of at most 2000 jails
    #[arg(long, help_heading = "More options")]
    atomic: bool,
}

impl Create {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let of = Of::World {
            kind: if self.thick { Kind::Thick } else { Kind::Thin },
            base: match self.pin {
                Some(text) => Choice::Pin(text),
                None => Choice::Track(self.track),
            },
            network: self.network.unwrap_or_default(),
            health: self.health,
        };
        let names = self.jails.parse("ezz create")?;
        let request = self.own.request(names, of, context.defaults()?)?;
        let network = self.network;
        make(
            context,
            "create",
            "created",
            &request,
            network,
            self.dry_run,
        )
    }
}

impl Clone {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let names = self.jails.parse(&format!("ezz clone {}", self.source))?;
        let of = Of::Jail(self.source);
        let request = self.own.request(names, of, Defaults::default())?;
        // A clone has the network of its source.
        let network = Some(Network::default());
        make(context, "clone", "cloned", &request, network, self.dry_run)
    }
}

impl Own {
    fn request(
        self,
        names: Vec<JailName>,
        of: Of,
        defaults: Defaults,
    ) -> Result<Request, CliError> {
        let params = Params::new(self.param).map_err(|error| CliError::Usage {
            what: error.to_string(),
            hint: "give --param once for each".to_owned(),
        })?;
        Ok(Request {
            names,
            of,
            hostname: self.hostname,
            addresses: self.address,
            pools: self.ip_pool,
            labels: self.label.into_iter().collect(),
            atomic: self.atomic,
            flavours: self.flavour,
            limits: AskedLimits {
                memory: self.memory,
                cpus: self.cpus,
                processes: self.processes,
                cpuset: self.cpuset,
            },
            params,
            datasets: self.dataset,
            quota: self.quota,
            defaults,
            boot: self.boot,
            nested_userns: self.nested_userns,
            start: self.start,
        })
    }
}

/// Creates the jails of a request, with the network that was chosen for them, and reports each.
fn make(
    context: &Context<'_>,
    verb: &'static str,
    made: &'static str,
    request: &Request,
    network: Option<Network>,
    dry_run: DryRun,
) -> Result<Exit, CliError> {
    request.check()?;
    let session = context.session_to_commit(dry_run)?;
    session
        .host
        .ensure_supported(network.unwrap_or_default(), &request.params)?;
    if request.nested_userns == Some(true) {
        session.host.takes_user_namespaces()?;
    }
    delegated::check(&session, &request.datasets)?;
    let has_addresses = !request.addresses.is_empty() || !request.pools.is_empty();
    let shares = shared_network::shares(session.host.as_ref(), network, has_addresses);
    let names: Vec<&JailName> = request.names.iter().collect();
    if let Some(taken) = HostError::taken(session.host.taken(&names)?) {
        return Err(taken.into());
    }
    // An address or dataset may belong to any jail: then all jails are read.
    let scope = Scope {
        whole: !request.addresses.is_empty()
            || !request.pools.is_empty()
            || !request.datasets.is_empty(),
        current: matches!(
            &request.of,
            Of::World {
                base: Choice::Track(_),
                ..
            }
        ),
        also: request.of.source().into_iter().cloned().collect(),
        ..Scope::of(request.names.iter().cloned())
    };
    let asked: BTreeSet<&JailName> = request.names.iter().collect();
    let did = match request.start {
        true => format!("{made} and started"),
        false => made.to_owned(),
    };
    let told = JailReporter::new(&context.report, &session);
    let plan = |observed: &Observed| {
        let running = |name: &&JailName| {
            let known = observed.inventory.jails.contains_key(*name);
            known && matches!(observed.state(name), JailState::Running { .. })
        };
        let running: BTreeSet<JailName> = request.names.iter().filter(running).cloned().collect();
        Ok((create(observed, request)?, running))
    };
    let before = |observed: &Observed, plan: &mut Plan, _: &BTreeSet<JailName>| {
        preflight::warn(&session, observed, plan);
        if shares && !plan.steps.is_empty() {
            shared_network::warn(plan, Way::Option);
        }
    };
    let done = |jail: &JailName, running: &BTreeSet<JailName>| {
        if running.contains(jail) {
            told.already(jail);
        } else if asked.contains(jail) {
            told.say(jail, &did);
        }
    };
    let around = Around {
        before: &before,
        done: &done,
    };
    let (outcome, exit, _) = context
        .transact_around(&session, verb, &scope, plan, &around)
        .map_err(|first| undo(&session, &scope, first))?;
    if !session.dry_run {
        // A jail whose start has failed was created nevertheless.
        let failed = outcome.applied.failed.iter();
        failed.for_each(|(jail, _)| told.say(jail, made));
    }
    Ok(exit)
}

/// Destroys the jails that a failed `create` could not finish; if that fails, too, the error has both causes. Jails
/// that were ready before it, or have become ready, stay.
pub(super) fn undo(session: &Session, scope: &Scope, first: CliError) -> CliError {
    let waited = matches!(
        first,
        CliError::Session(SessionError::Lock(_) | SessionError::Interrupted { .. })
    );
    if session.dry_run || waited && !session.changed.load(Ordering::Relaxed) {
        return first;
    }
    let named = Scope::of(scope.jails.iter().cloned()).steadfast();
    match session.transact(&named, |observed| Ok(delete::unfinished(observed)?)) {
        Ok(_) => first,
        // Another ezz, or a missing or failing pool, has stopped the first attempt: the cleanup fails for the same
        // reason.
        Err(_) if !matches!(first, CliError::Session(SessionError::Apply(_))) => first,
        Err(undo) => CliError::Undo {
            first: Box::new(first),
            undo: error::one_line(&undo),
        },
    }
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

fn network(text: &str) -> Result<Network, String> {
    match text {
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        "vnet" => Ok(Network::Vnet),
        _ => Err("expected host, none or vnet".to_owned()),
    }
}
