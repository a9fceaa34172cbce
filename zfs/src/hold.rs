//! Holds: what keeps a snapshot from being destroyed.
//!
//! A hold guards a snapshot against `destroy`, not a clone against anything, and a channel program
//! can neither make nor release one. Which snapshots are held is decided by the caller.

use std::collections::BTreeMap;
use std::ptr;

use crate::core::{Call, Zfs};
use crate::error::ZfsError;
use crate::nvlist::{NvMap, RawList, Value};

impl Zfs {
    /// Holds snapshots, each `(snapshot, tag)`. One call of the library takes one tag for a
    /// snapshot, so several tags for one snapshot are several calls, each all or nothing.
    ///
    /// # Errors
    /// In `per`: EEXIST the tag is there and E2BIG it is longer than 255 bytes, then none is held;
    /// ENOENT no such snapshot, and then the *others are held*.
    pub fn hold(&self, holds: &[(&str, &str)]) -> Result<(), ZfsError> {
        let mut rest: Vec<(&str, &str)> = holds.to_vec();
        while let Some(&(dataset, _)) = rest.first() {
            let call = Call {
                operation: "hold",
                dataset,
            };
            let mut round = NvMap::new();
            let mut later = Vec::new();
            for (snapshot, tag) in rest {
                if round.contains_key(snapshot) {
                    later.push((snapshot, tag));
                } else {
                    round.insert(snapshot.to_owned(), Value::Str(tag.to_owned()));
                }
            }
            let list = call.list(self.lib, &round)?;
            let mut failed = ptr::null_mut();
            // SAFETY: initialised; the list outlives the call; -1 means no cleanup descriptor;
            // `failed` receives a list that `check_each` owns.
            let code = unsafe { (self.lib.core.lzc_hold)(list.as_ptr(), -1, &raw mut failed) };
            // SAFETY: the list that the call gave is ours and used nowhere else.
            unsafe { call.check_each(self.lib, code, failed)? };
            rest = later;
        }
        Ok(())
    }

    /// Releases holds, each `(snapshot, tag)`, in one call.
    ///
    /// # Errors
    /// In `per`: ENOENT no such snapshot, or, named `SNAPSHOT#TAG`, no such tag on it; the *others
    /// are released*.
    pub fn release(&self, holds: &[(&str, &str)]) -> Result<(), ZfsError> {
        let Some(&(dataset, _)) = holds.first() else {
            return Ok(());
        };
        let call = Call {
            operation: "release",
            dataset,
        };
        let mut tags: BTreeMap<&str, NvMap> = BTreeMap::new();
        for (snapshot, tag) in holds {
            tags.entry(snapshot)
                .or_default()
                .insert((*tag).to_owned(), Value::Flag);
        }
        let tags: NvMap = tags
            .into_iter()
            .map(|(name, tags)| (name.to_owned(), Value::List(tags)))
            .collect();
        let list = call.list(self.lib, &tags)?;
        let mut failed = ptr::null_mut();
        // SAFETY: initialised; the list outlives the call; `failed` receives a list that
        // `check_each` owns.
        let code = unsafe { (self.lib.core.lzc_release)(list.as_ptr(), &raw mut failed) };
        // SAFETY: the list that the call gave is ours and used nowhere else.
        unsafe { call.check_each(self.lib, code, failed) }
    }

    /// The holds of a snapshot: tag, and when it was made, in seconds since 1970.
    ///
    /// # Errors
    /// ENOENT no such snapshot; EINVAL not a snapshot.
    pub fn holds(&self, snapshot: &str) -> Result<Vec<(String, i64)>, ZfsError> {
        let call = Call {
            operation: "list the holds of",
            dataset: snapshot,
        };
        let c_name = call.c_string(snapshot)?;
        let mut found = ptr::null_mut();
        // SAFETY: initialised; the name outlives the call; `found` receives a list that is ours.
        let code = unsafe { (self.lib.core.lzc_get_holds)(c_name.as_ptr(), &raw mut found) };
        // SAFETY: as above: nobody else frees or uses it.
        let found = unsafe { RawList::adopt(self.lib, found) };
        call.check(code)?;
        let Some(found) = found else {
            return Ok(Vec::new());
        };
        let map = found.to_map().map_err(|error| call.conversion(&error))?;
        Ok(map
            .into_iter()
            .map(|(tag, when)| (tag, when.as_int().unwrap_or(0)))
            .collect())
    }
}
