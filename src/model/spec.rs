//! All that a host needs to know to run a jail.

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
    /// Its dataset, as the mount table names it.
    pub dataset: DatasetName,
    /// Where it is mounted on the host. Derived files name this and no link of a track, which moves at a swap: what
    /// starts the jail without ezz must find the base that its own files are of.
    pub path: PathBuf,
}

/// All that a host needs to know to run a jail.
#[derive(Debug, Clone)]
pub struct JailSpec {
    /// UUID of the site: names what the host keeps at run time.
    pub site_id: String,
    /// Its name.
    pub name: JailName,
    /// Its dataset.
    pub dataset: DatasetName,
    /// Where its own files are mounted on the host.
    pub root: PathBuf,
    /// The basejail; none for a thick jail.
    pub base: Option<BaseMount>,
    /// Its configuration.
    pub config: JailConfig,
    /// The rules of its world. Not a copy for each jail: its patterns are large.
    pub profile: Cow<'static, Profile>,
    /// The world it runs.
    pub world: World,
}

impl PartialEq for JailSpec {
    /// Profiles are the same if their names are.
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
