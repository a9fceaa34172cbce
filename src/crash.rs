//! Points at which a debug build can be killed. The tests of crashes end ezz before each of its steps.
//!
//! `EZZ_DIE_BEFORE_STEP=N` kills the process when it reaches its N-th [`point`], and `EZZ_INTERRUPT_BEFORE_STEP=N`
//! sends it SIGINT there, as Ctrl-C does. A release build has none of this. These variables must not decide anything
//! else.

/// Marks the beginning of a step, or of the next part of a long step.
#[cfg(debug_assertions)]
pub fn point() {
    use nix::sys::signal::{Signal, raise};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static DEADLY: LazyLock<Option<u64>> = LazyLock::new(|| number("EZZ_DIE_BEFORE_STEP"));
    static ANNOYING: LazyLock<Option<u64>> = LazyLock::new(|| number("EZZ_INTERRUPT_BEFORE_STEP"));
    static REACHED: AtomicU64 = AtomicU64::new(0);
    if DEADLY.is_none() && ANNOYING.is_none() {
        return;
    }
    let at = Some(REACHED.fetch_add(1, Ordering::Relaxed) + 1);
    if *DEADLY == at {
        // SIGKILL cannot be caught, so nothing after this runs.
        let _dead = raise(Signal::SIGKILL);
    }
    if *ANNOYING == at {
        // The signal handler has run when this returns.
        let _sent = raise(Signal::SIGINT);
    }
}

#[cfg(debug_assertions)]
fn number(variable: &str) -> Option<u64> {
    std::env::var_os(variable)?.to_str()?.parse().ok()
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point() {}
