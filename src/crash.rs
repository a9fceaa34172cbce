//! Where a debug build can be made to die: the tests of crashes end ezz before each of its steps.
//!
//! `EZZ_DIE_BEFORE_STEP=N` kills the process when it comes to its N-th [`point`]. A release build
//! has nothing of it. Nothing else may be decided by this variable.

/// The next step begins, or the next part of a long one.
#[cfg(debug_assertions)]
pub fn point() {
    use nix::sys::signal::{Signal, raise};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static DEADLY: LazyLock<Option<u64>> = LazyLock::new(|| {
        let number = std::env::var_os("EZZ_DIE_BEFORE_STEP")?;
        number.to_str()?.parse().ok()
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);
    if DEADLY.is_some() && *DEADLY == Some(REACHED.fetch_add(1, Ordering::Relaxed) + 1) {
        // It cannot be caught, so there is nothing to go on with.
        let _dead = raise(Signal::SIGKILL);
    }
}

/// Nothing: only a debug build can be made to die.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point() {}
