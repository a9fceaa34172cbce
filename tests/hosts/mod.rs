//! The contract of `Host`, as scenarios. They are written once, and run on the simulated host, on the FreeBSD host with
//! stand-ins for its programs (both `ground::hosts`) and on Linux (`bare::hosts` in the lab). Each runs the command
//! line and then examines the machine by the machine's own means.
//!
//! A scenario that makes no sense on a machine is left out there, with a reason; which ones these are is asserted, too.

pub mod json;
pub mod luck;
pub mod running;
pub mod text;

/// The reason why a machine does not have something.
pub type Why = &'static str;

/// The list of all scenarios: calls a macro with the scenarios of each module, by their names.
macro_rules! scenarios {
    ($with:ident) => {
        $with! { running: start, start_twice, stop, stop_twice, restart, exit_status, exec_without_a_command, exec_in_a_stopped_jail, generation, started_by_others, thick, dependencies, health, delete, prune }
        $with! { luck: lost_conf, lost_fstab, stale_base, stale_other, planted, died, stranger, deaf, dying, busy, busy_for_ever, starts_nothing, starts_and_fails, stops_nothing, stops_and_fails, hangs, start_hangs, start_fails, files_of_a_running_jail, limits_and_networks }
        $with! { text: names, words, parameters, own_mounts, site_directory }
    };
}
#[allow(unused_imports, reason = "the lab runs them all in one test")]
pub(crate) use scenarios;

/// A scenario: its name, and what it does. It is left out as soon as it requests something that the machine lacks.
pub type Scenario = (&'static str, fn(&dyn Bench) -> Result<(), Why>);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    #[expect(dead_code, reason = "shown when a test fails")]
    pub command: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A false report of jail(8), or whatever runs jails.
#[derive(Debug, Clone, Copy)]
pub enum Lie {
    /// It starts nothing, and reports success.
    StartsNothing,
    /// It starts the jail, and reports failure.
    StartsAndFails,
    /// It stops nothing, and reports success.
    StopsNothing,
    /// It stops the jail, and reports failure.
    StopsAndFails,
}

/// A machine with a site `tank/ezz` and a world in it, and the ways to change it from outside.
pub trait Bench {
    /// Runs ezz; an invalid command line ends with 2 and clap's message.
    fn ezz(&self, words: &[&str]) -> Ended;

    /// Returns the jails that run according to the machine itself, in the order of their starts, each with a number
    /// that distinguishes its starts.
    fn running(&self) -> Vec<(String, u64)>;

    /// Returns the mounts of a jail, one line each: the source, and the directory in the jail.
    fn mounts(&self, jail: &str) -> Vec<String>;

    /// Returns the generation whose dataset a running jail sees at `/basejail`.
    fn base(&self, jail: &str) -> Option<u32>;

    /// Returns another world of the same release, as an archive or directory.
    fn world(&self) -> String;

    /// Returns the derived files of a jail with their contents; the conf is the first.
    fn files(&self, jail: &str) -> Result<Vec<(std::path::PathBuf, Vec<u8>)>, Why>;

    /// Stops and starts jails by the machine's own means, without ezz.
    fn restarted(&self, jails: &[&str]) -> Result<(), Why>;

    /// Lets the jail end by itself; its mounts stay.
    fn dies(&self, jail: &str) -> Result<(), Why>;

    /// Mounts the base in the stopped jail, as an administrator who forgets it does.
    fn stale_base(&self, jail: &str) -> Result<(), Why>;

    /// Starts or ends a jail of this name that is not ezz's.
    fn stranger(&self, jail: &str, runs: bool) -> Result<(), Why>;

    /// Starts a process in the jail that ignores SIGTERM.
    fn deaf(&self, jail: &str) -> Result<(), Why>;

    /// Lets the next jails that end stay in the kernel for a while, so that their names are taken.
    fn dying(&self) -> Result<(), Why>;

    /// Makes this many unmounts fail because something is in use.
    fn busy(&self, times: u32) -> Result<(), Why>;

    /// Makes the next report of whatever runs jails a false one.
    fn lie(&self, lie: Lie) -> Result<(), Why>;

    /// Makes commands of this parameter work, fail or hang from now on.
    fn command(&self, parameter: &str, how: Command) -> Result<(), Why>;

    /// Returns the commands of a jail that were run, as they came out of its configuration: parameter and text.
    fn commands(&self, jail: &str) -> Result<Vec<(String, String)>, Why>;

    /// Returns the number of limits that the kernel enforces for a jail of this name.
    fn limits(&self, jail: &str) -> Result<usize, Why>;

    /// Returns the network interfaces; from now on there is a bridge `bridge0`.
    fn interfaces(&self) -> Result<Vec<String>, Why>;

    /// Creates an empty directory with this name outside the site, and returns its path.
    fn outside(&self, name: &str) -> Result<std::path::PathBuf, Why>;

    /// Creates another machine of this kind, whose site directory has this name.
    fn elsewhere(&self, name: &str) -> Result<Box<dyn Bench>, Why>;

    /// Returns the site directory.
    fn directory(&self) -> std::path::PathBuf;

    /// Checks what must be true after every scenario.
    fn end(&self) {}
}

/// The behaviour of a command of a jail.
#[derive(Debug, Clone, Copy)]
pub enum Command {
    Works,
    Fails,
    Hangs,
}

/// Returns all scenarios.
fn all() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = Vec::new();
    macro_rules! add {
        ($module:ident: $($name:ident),*) => {
            $(all.push((stringify!($name), $module::$name));)*
        };
    }
    scenarios!(add);
    all
}

/// Runs one scenario on a machine; returns the reason if it was left out.
#[expect(
    clippy::print_stdout,
    reason = "what is left out is said, not passed over"
)]
pub fn run(machine: &str, bench: &dyn Bench, (name, scenario): Scenario) -> Result<(), Why> {
    println!("{machine}: {name}");
    let done = scenario(bench);
    if let Err(why) = done {
        println!("{machine}: {name} is left out: {why}");
    }
    bench.end();
    done
}

/// Runs all scenarios, each on a machine of its own. Exactly the scenarios `without` must be left out.
#[track_caller]
pub fn keeps(machine: &str, bench: &dyn Fn() -> Box<dyn Bench>, without: &[&str]) {
    let mut left = Vec::new();
    for scenario in all() {
        if run(machine, bench().as_ref(), scenario).is_err() {
            left.push(scenario.0);
        }
    }
    assert_eq!(left, without, "what is left out on {machine}");
}

impl Ended {
    /// Asserts the exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Asserts a refusal: this exit code, these words, and a hint.
    #[track_caller]
    pub fn refused(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.err.contains(words), "no {words:?} in {self:#?}");
        assert!(self.err.contains("hint: "), "no hint in {self:#?}");
        self
    }

    /// Returns the output as JSON lines.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        json::lines(&self.out)
    }
}

/// Returns what `ezz list` reports of a jail: its state, its generation, and the generation that is due.
#[track_caller]
pub fn listed(bench: &dyn Bench, jail: &str) -> (String, Option<u64>, Option<u64>) {
    let lines = bench.ezz(&["list", jail, "--json"]).ok().json();
    let number = |name: &str| lines[0][name].as_u64();
    let state = lines[0]["state"].as_str().expect("a state");
    (state.to_owned(), number("generation"), number("due"))
}

/// Returns the number of a jail's start if the machine reports that it runs.
pub fn start_of(bench: &dyn Bench, jail: &str) -> Option<u64> {
    let running = bench.running();
    let found = running.iter().find(|(name, _)| name == jail);
    found.map(|(_, start)| *start)
}

/// Asserts that the machine and ezz report the jail as running, with its base mounted once.
#[track_caller]
pub fn runs(bench: &dyn Bench, jail: &str) {
    assert!(start_of(bench, jail).is_some(), "{jail} does not run");
    let (state, generation, _) = listed(bench, jail);
    assert_eq!(state, "running", "{jail}");
    let base = bench.base(jail);
    assert_eq!(generation, base.map(u64::from), "the base of {jail}");
    let mounts = bench.mounts(jail);
    let bases = mounts.iter().filter(|line| line.ends_with(" /basejail"));
    assert_eq!(bases.count(), usize::from(base.is_some()), "{mounts:#?}");
}

/// Asserts that the machine and ezz report the jail as not running, with nothing mounted.
#[track_caller]
pub fn is_stopped(bench: &dyn Bench, jail: &str) {
    assert_eq!(start_of(bench, jail), None, "{jail} runs");
    assert_eq!(listed(bench, jail).0, "stopped", "{jail}");
    assert_eq!(bench.mounts(jail), [""; 0], "what is mounted for {jail}");
}
