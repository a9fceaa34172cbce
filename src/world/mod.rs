//! Worlds: from a published archive or directory to a base and a skeleton ready to be sealed.
//!
//! The caller has mounted plain directories, on which the steps run in this order: [`extract`] (or a copy of a
//! directory) → [`detect`] → [`scrub`] → [`numbers`] → [`find_secrets`] → [`label`] → [`make_skeleton`] →
//! [`manifest::write`]. Nothing here trusts the world: all access uses directory descriptors, no link below the root is
//! ever followed, and no program of the world is executed.
//! This module must not use ZFS, mount, start processes or print.

mod acl;
mod copy;
mod decode;
mod dirs;
mod error;
mod extract;
mod header;
mod identity;
mod input;
mod label;
mod look;
pub mod manifest;
pub mod merge;
mod meta;
pub mod numbers;
mod pax;
mod progress;
pub mod record;
mod scrub;
mod secrets;
mod skeleton;
mod tarball;
pub mod text;
mod walk;
mod writer;

pub use copy::lay_over;
pub use error::{EntryError, Resemblance, WorldError};
pub use extract::{Bounds, ExtractReport, Opened, SO_FAR, extract, open};
pub use identity::clear_identity;
pub use input::{Digest, DigestError, Source};
pub use label::{WorldLabel, detect, label};
pub use progress::{Cancel, Context, Progress, Quiet};
pub use scrub::{ScrubReport, scrub};
pub use secrets::{Finding, FindingKind, find_secrets};
pub use skeleton::{SkeletonReport, make_skeleton};
