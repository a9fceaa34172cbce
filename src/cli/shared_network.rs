//! The warning that new jails share the network of their host: one for each command that creates jails.

use crate::model::Network;
use crate::plan::Plan;
use crate::ports::Host;

const SHARED: &str =
    "new jails share this host's network and reach its services, also those on 127.0.0.1";

/// How the administrator chooses the network of new jails.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// By an option of the command.
    Option,
    /// By a key of a fleet file.
    File,
}

/// Whether a new jail shares the host's network although the administrator has not chosen a network. A clone has the
/// network of its source, which counts as chosen. Addresses count where the host restricts a jail to them.
pub(super) fn shares(host: &dyn Host, chosen: Option<Network>, has_addresses: bool) -> bool {
    chosen.is_none() && !(has_addresses && host.restricts_to_addresses())
}

/// Adds the warning to a plan that creates jails with the host's network.
pub(super) fn warn(plan: &mut Plan, way: Way) {
    let (none, host) = match way {
        Way::Option => ("--network none", "--network host"),
        Way::File => ("network = \"none\"", "network = \"host\""),
    };
    plan.warnings.push(format!(
        "{SHARED} ({none} prevents it; {host} accepts it and omits this warning)"
    ));
}
