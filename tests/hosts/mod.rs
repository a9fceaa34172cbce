//! What a host does for ezz, as scenarios: written down once, run on the simulated host, on the FreeBSD host with
//! stand-ins for its programs (both `ground::hosts`) and on Linux (`bare::hosts` in the lab). Each drives the
//! command line and then looks by the machine's own means.
//!
//! Where one makes no sense it is left out, and says why; which those are is asserted, too.

pub mod json;
pub mod luck;
pub mod running;
pub mod text;

/// Why a machine has no such thing.
pub type Why = &'static str;

/// The list of all scenarios: gives those of each module to a macro, by their names.
macro_rules! scenarios {
    ($with:ident) => {
        $with! { running: start, start_twice, stop, stop_twice, restart, exit_status, exec_without_a_command, exec_in_a_stopped_jail, generation, started_by_others, thick, dependencies, health, delete, prune }
        $with! { luck: lost_conf, lost_fstab, stale_base, stale_other, planted, died, stranger, deaf, dying, busy, busy_for_ever, starts_nothing, starts_and_fails, stops_nothing, stops_and_fails, hangs, start_hangs, start_fails, files_of_a_running_jail, limits_and_networks }
        $with! { text: names, words, parameters, own_mounts, site_directory }
    };
}
#[allow(unused_imports, reason = "the lab runs them all in one test")]
pub(crate) use scenarios;

/// A scenario: its name, and what happens. It is left out as soon as it asks for what the machine has not.
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

/// What jail(8), or whatever runs jails, does and then says.
#[derive(Debug, Clone, Copy)]
pub enum Lie {
    /// It starts nothing, and says that it did.
    StartsNothing,
    /// It starts the jail, and says that it failed.
    StartsAndFails,
    /// It stops nothing, and says that it did.
    StopsNothing,
    /// It stops the jail, and says that it failed.
    StopsAndFails,
}

/// A machine with a site `tank/ezz` and a world in it, and what can be done to it from outside.
pub trait Bench {
    /// Runs ezz; 2 and clap's words for what is no command line.
    fn ezz(&self, words: &[&str]) -> Ended;

    /// The jails that the machine itself says are running, in the order of their starts, each with what
    /// tells one start of it from another.
    fn running(&self) -> Vec<(String, u64)>;

    /// What is mounted for a jail, one line each: the source, and where in the jail.
    fn mounts(&self, jail: &str) -> Vec<String>;

    /// The generation whose dataset a running jail sees at `/basejail`.
    fn base(&self, jail: &str) -> Option<u32>;

    /// Another world as an archive or directory, of the same release.
    fn world(&self) -> String;

    /// The files that the host derives for a jail, and what is in them; the conf is the first.
    fn files(&self, jail: &str) -> Result<Vec<(std::path::PathBuf, Vec<u8>)>, Why>;

    /// Jails are stopped and started by the machine's own means, without ezz.
    fn restarted(&self, jails: &[&str]) -> Result<(), Why>;

    /// The jail ends by itself, and what was mounted for it stays.
    fn dies(&self, jail: &str) -> Result<(), Why>;

    /// The base is mounted in the stopped jail by somebody who forgot it.
    fn stale_base(&self, jail: &str) -> Result<(), Why>;

    /// A jail of this name that is not ezz's starts, or ends.
    fn stranger(&self, jail: &str, runs: bool) -> Result<(), Why>;

    /// A process in the jail ignores SIGTERM.
    fn deaf(&self, jail: &str) -> Result<(), Why>;

    /// The next jails that end stay in the kernel for a while, and their names are taken.
    fn dying(&self) -> Result<(), Why>;

    /// So many unmounts fail since something is in use.
    fn busy(&self, times: u32) -> Result<(), Why>;

    /// What runs jails lies the next time.
    fn lie(&self, lie: Lie) -> Result<(), Why>;

    /// Commands of this parameter fail, or never end, from now on or no more.
    fn command(&self, parameter: &str, how: Command) -> Result<(), Why>;

    /// The commands of a jail that were run, as they came out of its configuration: parameter and text.
    fn commands(&self, jail: &str) -> Result<Vec<(String, String)>, Why>;

    /// The limits that the kernel keeps for a jail of this name.
    fn limits(&self, jail: &str) -> Result<usize, Why>;

    /// The network interfaces, and a bridge `bridge0` from now on.
    fn interfaces(&self) -> Result<Vec<String>, Why>;

    /// An empty directory outside the site with this name, and its path.
    fn outside(&self, name: &str) -> Result<std::path::PathBuf, Why>;

    /// The same kind of machine, whose site directory has this name.
    fn elsewhere(&self, name: &str) -> Result<Box<dyn Bench>, Why>;

    /// Where the site is mounted.
    fn directory(&self) -> std::path::PathBuf;

    /// What is to be so after every scenario.
    fn end(&self) {}
}

/// What becomes of a command of a jail.
#[derive(Debug, Clone, Copy)]
pub enum Command {
    Works,
    Fails,
    Hangs,
}

/// All scenarios.
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

/// Runs one scenario on a machine, and says why if it is left out.
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

/// Runs all scenarios, each on a machine of its own. Those that are left out must be these.
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
    /// It ended with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// It ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// It was refused: this code, these words, and a hint what to do.
    #[track_caller]
    pub fn refused(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.err.contains(words), "no {words:?} in {self:#?}");
        assert!(self.err.contains("hint: "), "no hint in {self:#?}");
        self
    }

    /// What it printed as JSON lines.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        json::lines(&self.out)
    }
}

/// What `ezz list` says of a jail: its state, the generation that it has, that which it is due.
#[track_caller]
pub fn listed(bench: &dyn Bench, jail: &str) -> (String, Option<u64>, Option<u64>) {
    let lines = bench.ezz(&["list", jail, "--json"]).ok().json();
    let number = |name: &str| lines[0][name].as_u64();
    let state = lines[0]["state"].as_str().expect("a state");
    (state.to_owned(), number("generation"), number("due"))
}

/// The start of a jail that the machine says is running.
pub fn start_of(bench: &dyn Bench, jail: &str) -> Option<u64> {
    let running = bench.running();
    let found = running.iter().find(|(name, _)| name == jail);
    found.map(|(_, start)| *start)
}

/// By the machine and by ezz the jail runs, on a base that is mounted once.
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

/// By the machine and by ezz the jail does not run, and nothing of it is mounted.
#[track_caller]
pub fn is_stopped(bench: &dyn Bench, jail: &str) {
    assert_eq!(start_of(bench, jail), None, "{jail} runs");
    assert_eq!(listed(bench, jail).0, "stopped", "{jail}");
    assert_eq!(bench.mounts(jail), [""; 0], "what is mounted for {jail}");
}
