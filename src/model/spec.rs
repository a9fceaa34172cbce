//! The specification of a jail: everything that a host needs to run it.

use std::borrow::Cow;
use std::path::PathBuf;

use super::{JailConfig, World};
use crate::name::{DatasetName, GenerationId, JailName};
use crate::profile::Profile;

/// The basejail of a thin jail, mounted on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseMount {
    /// The generation whose base it is.
    pub generation: GenerationId,
    /// The name of the dataset, as the mount table shows it.
    pub dataset: DatasetName,
    /// The path where it is mounted on the host. Derived files have this path and not the link of a track, because the
    /// link moves at a swap. A program that starts the jail without ezz must find the base to which the jail's own
    /// files belong.
    pub path: PathBuf,
}

/// Everything that a host needs to run a jail.
#[derive(Debug, Clone)]
pub struct JailSpec {
    /// The UUID of the site, which is part of the names of what the host keeps at run time.
    pub site_id: String,
    /// The name of the jail.
    pub name: JailName,
    /// The dataset of the jail.
    pub dataset: DatasetName,
    /// Where its own files are mounted on the host.
    pub root: PathBuf,
    /// The basejail; none for a thick jail.
    pub base: Option<BaseMount>,
    /// The configuration of the jail.
    pub config: JailConfig,
    /// The rules of its world. It is borrowed where possible, because the patterns of a profile are large.
    pub profile: Cow<'static, Profile>,
    /// The world that it runs.
    pub world: World,
}

impl PartialEq for JailSpec {
    /// Compares profiles by their names only.
    fn eq(&self, other: &Self) -> bool {
        self.site_id == other.site_id
            && self.name == other.name
            && self.dataset == other.dataset
            && self.root == other.root
            && self.base == other.base
            && self.config == other.config
            && self.profile.name == other.profile.name
            && self.world == other.world
    }
}

impl Eq for JailSpec {}
