//! A world from an archive: unpacked into the same kind of dataset by ezz, and by programs that do only that.

use std::path::Path;

use ezz::world::{self, Context, Source, manifest};

use crate::guest::{PEER, sh, timed, timed_sh};
use crate::{Failure, Measured};

/// Runs one round.
pub fn round(measured: &mut Measured, world: &str) -> Result<(), Failure> {
    let fresh = || {
        sh(&format!(
            "zfs create -o mountpoint=/peer -o sync=disabled -o xattr=sa -o acltype=posix {PEER}; mkdir /peer/base /peer/skel"
        ))
    };
    let gone = || sh(&format!("zfs destroy -r {PEER}; rmdir /peer"));
    // The archive is read once, so that both find it in memory.
    sh(&format!("cat {world} >/dev/null"))?;
    fresh()?;
    let took = timed_sh(&format!(
        "xz -T0 -dc {world} | tar -x -C /peer/base; zpool sync"
    ))?;
    measured.add("install: xz | tar", took);
    gone()?;
    fresh()?;
    let base = Path::new("/peer/base");
    let context = Context::quiet();
    let took = timed(|| {
        world::extract(Source::from_arg(world.as_ref()), base, None, &context)?;
        sh("zpool sync")
    })?;
    measured.add("install: ezz, with its digest", took);
    let profile = world::detect(base)?;
    let took = timed(|| Ok(world::scrub(base, profile, &context)?))?;
    measured.add("install: scrub", took);
    let skeleton = Path::new("/peer/skel");
    let took = timed(|| Ok(world::make_skeleton(base, skeleton, profile, &context)?))?;
    measured.add("install: skeleton", took);
    let took = timed(|| Ok(manifest::write(base, &context)?))?;
    measured.add("install: manifest", took);
    gone()?;
    Ok(())
}
