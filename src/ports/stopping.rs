//! The rules by which a jail is stopped.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::profile::Profile;

/// The seconds after which a jail without a profile is killed.
const PATIENCE: u32 = 30;

/// How a jail is asked to end, and how long that may take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stopping<'a> {
    /// The rules of the jail's world. A jail without them gets SIGTERM.
    pub profile: Option<&'a Profile>,
    /// The seconds after which the processes that have not ended are killed; none unless the user has set them.
    pub timeout: Option<u32>,
    /// Whom [`crate::ports::Host::ask`] has asked to end before.
    pub asked: Option<&'a Asked>,
}

/// Whom a host has asked to end, and when: from then on the time of the stop counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The moment from which the time limit of the stop counts.
    pub at: Instant,
    /// The processes, each by its number and the time of its start as the kernel counts it.
    pub processes: BTreeSet<(u32, u64)>,
    /// Whether the first process of the jail was asked.
    pub first: bool,
}

impl Stopping<'_> {
    /// Returns the seconds after which the processes that have not ended are killed. A world with an init of its own
    /// has more time, because the init ends its services one after the other.
    pub fn seconds(&self, own_init: bool) -> u32 {
        let usual = self.profile.map_or(PATIENCE, |profile| {
            let stop = &profile.stop;
            match own_init {
                true => stop.init_timeout.unwrap_or(stop.timeout),
                false => stop.timeout,
            }
        });
        self.timeout.unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_the_profile_and_a_default_choose_the_time() {
        let named = |name: &str| {
            let mut all = Profile::builtin().iter();
            all.find(|profile| profile.name == name)
        };
        let seconds = |profile, timeout| {
            let how = Stopping {
                profile,
                timeout,
                asked: None,
            };
            (how.seconds(false), how.seconds(true))
        };
        assert_eq!(seconds(named("debian"), None), (30, 100));
        assert_eq!(seconds(named("freebsd"), None), (30, 30));
        assert_eq!(seconds(None, None), (30, 30));
        for profile in [named("debian"), None] {
            assert_eq!(seconds(profile, Some(3)), (3, 3));
            assert_eq!(seconds(profile, Some(0)), (0, 0));
        }
    }
}
