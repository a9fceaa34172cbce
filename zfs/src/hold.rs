//! Holds, which keep a snapshot from being destroyed.
//!
//! A hold protects a snapshot against `destroy`; it does not protect a clone. A channel program can neither create nor
//! release a hold. This module must not decide which snapshots are held.

use std::collections::BTreeMap;
use std::ptr;

use crate::core::{Call, Zfs};
use crate::error::ZfsError;
use crate::nvlist::{NvMap, RawList, Value};

impl Zfs {
    /// Holds snapshots, each given as `(snapshot, tag)`. One call of the library accepts one tag for a snapshot. So
    /// several tags for one snapshot need several calls, each of which succeeds or fails as a whole.
    ///
    /// # Errors
    /// In `per`: EEXIST if the tag exists and E2BIG if it is longer than 255 bytes, and then no snapshot is held;
    /// ENOENT if the snapshot does not exist, and then the *others are held*.
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
            // SAFETY: the library is initialised; the list outlives the call; -1 means no cleanup descriptor; `failed`
            // receives a list that `check_each` owns.
            let code = unsafe { (self.lib.core.lzc_hold)(list.as_ptr(), -1, &raw mut failed) };
            // SAFETY: we own the list that the call returned, and no other code uses it.
            unsafe { call.check_each(self.lib, code, failed)? };
            rest = later;
        }
        Ok(())
    }

    /// Releases holds, each given as `(snapshot, tag)`, in one call.
    ///
    /// # Errors
    /// In `per`: ENOENT if the snapshot does not exist, or, named `SNAPSHOT#TAG`, if it does not have the tag; the
    /// *others are released*.
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
        // SAFETY: the library is initialised; the list outlives the call; `failed` receives a list that `check_each`
        // owns.
        let code = unsafe { (self.lib.core.lzc_release)(list.as_ptr(), &raw mut failed) };
        // SAFETY: we own the list that the call returned, and no other code uses it.
        unsafe { call.check_each(self.lib, code, failed) }
    }

    /// Returns the holds of a snapshot: each tag and the time of its creation, in seconds since 1970.
    ///
    /// # Errors
    /// ENOENT if the snapshot does not exist; EINVAL if it is not a snapshot.
    pub fn holds(&self, snapshot: &str) -> Result<Vec<(String, i64)>, ZfsError> {
        let call = Call {
            operation: "list the holds of",
            dataset: snapshot,
        };
        let c_name = call.c_string(snapshot)?;
        let mut found = ptr::null_mut();
        // SAFETY: the library is initialised; the name outlives the call; `found` receives a list that we own.
        let code = unsafe { (self.lib.core.lzc_get_holds)(c_name.as_ptr(), &raw mut found) };
        // SAFETY: as above: no other code frees or uses the list.
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
