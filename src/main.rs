//! The `ezz` binary: arguments in, exit code out. Everything else is in the library.

use std::panic::catch_unwind;
use std::process::ExitCode;

use ezz::report::Exit;

fn main() -> ExitCode {
    // The panic itself is printed by the standard hook; the code tells a bug from a refusal.
    catch_unwind(ezz::cli::main).unwrap_or(Exit::Bug).into()
}
