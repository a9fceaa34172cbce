//! Flags of mounts on the host.

/// The mount flags that ezz sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// The mount is read-only.
    pub read_only: bool,
    /// Set-user-ID bits have no effect.
    pub nosuid: bool,
    /// Device nodes have no effect.
    pub nodev: bool,
    /// Reading does not update access times.
    pub noatime: bool,
}

impl Flags {
    /// Returns the names that mount(8) has for the flags that are set.
    pub fn words(self) -> Vec<&'static str> {
        let all = [
            (self.read_only, "ro"),
            (self.nosuid, "nosuid"),
            (self.nodev, "nodev"),
            (self.noatime, "noatime"),
        ];
        let set = all.into_iter().filter(|(set, _)| *set);
        set.map(|(_, word)| word).collect()
    }

    /// Reads the same names, separated by commas, and ignores all others.
    pub fn parse(text: &str) -> Flags {
        let has = |word: &str| text.split(',').any(|found| found == word);
        Flags {
            read_only: has("ro"),
            nosuid: has("nosuid"),
            nodev: has("nodev"),
            noatime: has("noatime"),
        }
    }

    /// Returns the flags that are set in `self` and not in `others`.
    #[must_use]
    pub fn without(self, others: Flags) -> Flags {
        Flags {
            read_only: self.read_only && !others.read_only,
            nosuid: self.nosuid && !others.nosuid,
            nodev: self.nodev && !others.nodev,
            noatime: self.noatime && !others.noatime,
        }
    }

    /// Reports whether any flag is set.
    pub fn any(self) -> bool {
        self != Flags::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for bits in 0..16 {
            let bit = |n: u32| bits & (1 << n) != 0;
            let flags = Flags {
                read_only: bit(0),
                nosuid: bit(1),
                nodev: bit(2),
                noatime: bit(3),
            };
            assert_eq!(Flags::parse(&flags.words().join(",")), flags);
            assert_eq!(flags.without(flags), Flags::default());
            assert_eq!(flags.without(Flags::default()), flags);
            assert_eq!(flags.any(), bits != 0);
        }
        assert_eq!(Flags::parse("rw,nosuid,noexec").words(), ["nosuid"]);
    }
}
