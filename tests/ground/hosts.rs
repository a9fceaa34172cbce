//! The contract of `Host` on the simulated host, and on the FreeBSD host with stand-ins for its programs. The lab runs
//! the same scenarios on Linux.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::hosts_suite::{Bench, Command, Ended, Lie, Why, keeps, scenarios};
use crate::sim::freebsd::{self, StandIns, array};
use crate::sim::host::Phase;
use crate::sim::{SITE, SimMachine};

fn of(machine: &SimMachine, words: &[&str]) -> Ended {
    let command = format!("ezz {words:?}");
    match machine.line(words) {
        Err(usage) => Ended {
            command,
            code: 2,
            out: String::new(),
            err: usage,
        },
        Ok(ended) => Ended {
            command,
            code: ended.code.map_or(137, i32::from),
            out: ended.out.join("\n"),
            err: ended.err.join("\n"),
        },
    }
}

/// Returns the number of a generation, given its dataset.
fn number(base: &str) -> u32 {
    let last = base.rsplit('/').next().unwrap_or_default();
    last.parse()
        .unwrap_or_else(|_| panic!("{base} is no generation"))
}

#[derive(Debug)]
struct Simulated(SimMachine);

/// Why the simulated host leaves out scenarios that need FreeBSD.
const NO_FREEBSD: Why = "the simulated host has neither files nor programs, as jail(8) has";

impl Bench for Simulated {
    fn ezz(&self, words: &[&str]) -> Ended {
        of(&self.0, words)
    }

    fn running(&self) -> Vec<(String, u64)> {
        let state = self.0.state();
        let all = state.host.running.iter();
        all.filter(|(_, jail)| jail.phase == Phase::Running)
            .map(|((_, name), jail)| (name.to_string(), u64::from(jail.id)))
            .collect()
    }

    fn mounts(&self, jail: &str) -> Vec<String> {
        let state = self.0.state();
        let mut found = Vec::new();
        for ((_, name), run) in &state.host.running {
            if name.as_str() == jail && run.phase != Phase::Stopped {
                found.extend(run.base.iter().map(|base| format!("{base} /basejail")));
            }
        }
        found
    }

    fn base(&self, jail: &str) -> Option<u32> {
        let state = self.0.state();
        let mut all = state.host.running.iter();
        let (_, run) =
            all.find(|((_, name), run)| name.as_str() == jail && run.phase == Phase::Running)?;
        run.base.as_deref().map(number)
    }

    fn world(&self) -> String {
        self.0.world("12.2").display().to_string()
    }

    fn files(&self, _jail: &str) -> Result<Vec<(PathBuf, Vec<u8>)>, Why> {
        Err(NO_FREEBSD)
    }

    fn restarted(&self, _jails: &[&str]) -> Result<(), Why> {
        Err(NO_FREEBSD)
    }

    fn dies(&self, jail: &str) -> Result<(), Why> {
        let mut state = self.0.state();
        let mut all = state.host.running.iter_mut();
        let found = all.find(|((_, name), _)| name.as_str() == jail);
        found.expect("it runs").1.phase = Phase::Left;
        Ok(())
    }

    fn stale_base(&self, _jail: &str) -> Result<(), Why> {
        Err(NO_FREEBSD)
    }

    fn stranger(&self, _jail: &str, _runs: bool) -> Result<(), Why> {
        Err("a jail of the simulated host is of a site")
    }

    fn deaf(&self, _jail: &str) -> Result<(), Why> {
        Err("no process runs in a simulated jail")
    }

    fn dying(&self) -> Result<(), Why> {
        Err("a simulated jail is gone at once")
    }

    fn busy(&self, _times: u32) -> Result<(), Why> {
        Err("a simulated jail that has ended uses nothing")
    }

    fn lie(&self, _lie: Lie) -> Result<(), Why> {
        Err(NO_FREEBSD)
    }

    fn command(&self, _parameter: &str, _how: Command) -> Result<(), Why> {
        Err(NO_FREEBSD)
    }

    fn commands(&self, _jail: &str) -> Result<Vec<(String, String)>, Why> {
        Err(NO_FREEBSD)
    }

    fn limits(&self, _jail: &str) -> Result<usize, Why> {
        Err(NO_FREEBSD)
    }

    fn interfaces(&self) -> Result<Vec<String>, Why> {
        Err("a simulated jail has no network")
    }

    fn outside(&self, _name: &str) -> Result<PathBuf, Why> {
        Err(NO_FREEBSD)
    }

    fn elsewhere(&self, _name: &str) -> Result<Box<dyn Bench>, Why> {
        Err(NO_FREEBSD)
    }

    fn directory(&self) -> PathBuf {
        self.0.directory()
    }
}

fn simulated() -> Box<dyn Bench> {
    Box::new(Simulated(SimMachine::installed(true)))
}

#[test]
fn the_simulated_host_keeps_the_contract() {
    let without = [
        "started_by_others",
        "lost_conf",
        "lost_fstab",
        "stale_base",
        "stale_other",
        "planted",
        "stranger",
        "deaf",
        "dying",
        "busy",
        "busy_for_ever",
        "starts_nothing",
        "starts_and_fails",
        "stops_nothing",
        "stops_and_fails",
        "hangs",
        "start_hangs",
        "start_fails",
        "files_of_a_running_jail",
        "limits_and_networks",
        "parameters",
        "own_mounts",
        "site_directory",
    ];
    keeps("the simulator", &simulated, &without);
}

/// The FreeBSD host with stand-ins for its programs, on a simulated pool.
#[derive(Debug)]
pub struct FreeBsd {
    pub machine: SimMachine,
    pub programs: StandIns,
    directory: PathBuf,
    worlds: tempfile::TempDir,
}

impl FreeBsd {
    /// Creates a machine with a world and with a site directory of this name.
    pub fn at(name: &str) -> FreeBsd {
        let machine = SimMachine::bare(true);
        let programs = StandIns::on(&machine);
        let worlds = tempfile::tempdir().expect("a temporary directory");
        for patch in [1, 2] {
            freebsd::world(&worlds.path().join(patch.to_string()), patch);
        }
        let directory = machine.directory().join(name);
        let made = FreeBsd {
            machine,
            programs,
            directory,
            worlds,
        };
        let at = made.directory.display().to_string();
        made.ezz(&["init", SITE, "--directory", &at]).ok();
        let world = made.worlds.path().join("1").display().to_string();
        made.ezz(&["install", &world]).ok();
        made
    }

    fn push(&self, list: &str, value: &str) {
        self.programs.with(|state| {
            let list = state[list].as_array_mut().expect("a list");
            list.push(json!(value));
        });
    }

    /// Returns every call, and every command that jail(8) was to run.
    pub fn log(&self) -> Vec<String> {
        let log = self.programs.with(|state| array(&state["log"]).to_vec());
        log.iter().map(freebsd::text).collect()
    }

    fn jails(&self) -> Vec<Value> {
        self.programs.with(|state| array(&state["jails"]).to_vec())
    }
}

impl Bench for FreeBsd {
    fn ezz(&self, words: &[&str]) -> Ended {
        of(&self.machine, words)
    }

    fn running(&self) -> Vec<(String, u64)> {
        let jails = self.jails();
        let live = jails.iter().filter(|jail| jail["dying"].is_null());
        live.map(|jail| {
            (
                freebsd::text(&jail["params"]["name"]),
                jail["jid"].as_u64().expect("a number"),
            )
        })
        .collect()
    }

    fn mounts(&self, jail: &str) -> Vec<String> {
        let root = self.directory.join(jail).display().to_string();
        let all = self.programs.mounts().into_iter();
        all.filter_map(|[source, target, ..]| {
            Some(format!("{source} {}", target.strip_prefix(&root)?))
        })
        .filter(|line| line.contains(" /"))
        .collect()
    }

    fn base(&self, jail: &str) -> Option<u32> {
        let mounts = self.mounts(jail);
        let base = mounts
            .iter()
            .find_map(|line| line.strip_suffix(" /basejail"));
        base.map(number)
    }

    fn world(&self) -> String {
        self.worlds.path().join("2").display().to_string()
    }

    fn files(&self, jail: &str) -> Result<Vec<(PathBuf, Vec<u8>)>, Why> {
        let paths =
            ["conf", "fstab"].map(|end| self.programs.path(&format!("jail.conf.d/{jail}.{end}")));
        let there = paths.into_iter().filter(|path| path.exists());
        Ok(there
            .map(|path| (path.clone(), std::fs::read(path).expect("readable")))
            .collect())
    }

    /// Restarts jails as rc.d/jail does, with the files that it finds.
    fn restarted(&self, jails: &[&str]) -> Result<(), Why> {
        for jail in jails {
            let conf = self.programs.path(&format!("jail.conf.d/{jail}.conf"));
            let conf = conf.display().to_string();
            self.programs.run("jail", &["-f", &conf, "-r", jail]);
            self.programs.run("jail", &["-f", &conf, "-c", jail]);
        }
        Ok(())
    }

    fn dies(&self, jail: &str) -> Result<(), Why> {
        self.programs.run("jail", &["-R", jail]);
        Ok(())
    }

    fn stale_base(&self, jail: &str) -> Result<(), Why> {
        let base = self.directory.join("basejail/1").display().to_string();
        let at = self
            .directory
            .join(jail)
            .join("basejail")
            .display()
            .to_string();
        self.programs
            .run("mount", &["-t", "nullfs", "-o", "ro", &base, &at]);
        Ok(())
    }

    fn stranger(&self, jail: &str, runs: bool) -> Result<(), Why> {
        if runs {
            self.programs.run(
                "jail",
                &["-c", &format!("name={jail}"), "path=/", "persist"],
            );
        } else {
            self.programs.run("jail", &["-R", jail]);
        }
        Ok(())
    }

    fn deaf(&self, jail: &str) -> Result<(), Why> {
        self.programs.with(|state| {
            let jails = state["jails"].as_array_mut().expect("a list");
            let own = jails.iter_mut().find(|it| it["params"]["name"] == jail);
            own.expect("it runs")["deaf"] = json!(true);
        });
        Ok(())
    }

    fn dying(&self) -> Result<(), Why> {
        self.programs.with(|state| {
            state["hold"] = json!(8);
            state["old_kernel"] = json!(true);
        });
        Ok(())
    }

    fn busy(&self, times: u32) -> Result<(), Why> {
        self.programs.with(|state| state["busy"] = json!(times));
        Ok(())
    }

    fn lie(&self, lie: Lie) -> Result<(), Why> {
        let lie = match lie {
            Lie::StartsNothing => "start nothing 0",
            Lie::StartsAndFails => "start all 1",
            Lie::StopsNothing => "stop nothing 0",
            Lie::StopsAndFails => "stop all 1",
        };
        self.push("lies", lie);
        Ok(())
    }

    fn command(&self, parameter: &str, how: Command) -> Result<(), Why> {
        self.programs.with(|state| {
            state["fails"] = json!([]);
            state["hangs"] = json!([]);
        });
        match how {
            Command::Works => {}
            Command::Fails => self.push("fails", parameter),
            Command::Hangs => self.push("hangs", parameter),
        }
        Ok(())
    }

    fn commands(&self, jail: &str) -> Result<Vec<(String, String)>, Why> {
        let of = |line: &String| {
            let rest = line.strip_prefix(jail)?.strip_prefix(" exec.")?;
            let (parameter, rest) = rest.split_once(' ')?;
            let (_, text) = rest.split_once(": ")?;
            Some((format!("exec.{parameter}"), text.to_owned()))
        };
        Ok(self.log().iter().filter_map(of).collect())
    }

    fn limits(&self, jail: &str) -> Result<usize, Why> {
        let of = format!("jail:{jail}:");
        let rules = self.programs.with(|state| array(&state["rules"]).to_vec());
        Ok(rules
            .iter()
            .filter(|rule| freebsd::text(rule).starts_with(&of))
            .count())
    }

    fn interfaces(&self) -> Result<Vec<String>, Why> {
        Ok(self.programs.with(|state| {
            let all = state["interfaces"].as_object_mut().expect("a table");
            let bridge = json!({"pair": null, "jail": null, "did": []});
            all.entry("bridge0").or_insert(bridge);
            all.keys().cloned().collect()
        }))
    }

    fn outside(&self, name: &str) -> Result<PathBuf, Why> {
        let at = self.programs.path(name);
        std::fs::create_dir(&at).expect("writable");
        Ok(at)
    }

    fn elsewhere(&self, name: &str) -> Result<Box<dyn Bench>, Why> {
        Ok(Box::new(FreeBsd::at(name)))
    }

    fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// Checks that no program was called with words that the real one does not know.
    fn end(&self) {
        let refused = self
            .programs
            .with(|state| array(&state["refused"]).to_vec());
        assert_eq!(refused, [Value::Null; 0], "what the programs do not know");
    }
}

/// No scenario is left out. Each is a test of its own, because programs are started many times.
mod stand_ins {
    use super::{FreeBsd, scenarios};
    use crate::hosts_suite::{Scenario, run};

    #[track_caller]
    fn keeps(scenario: Scenario) {
        let machine = FreeBsd::at("jails");
        let done = run("stand-ins for FreeBSD", &machine, scenario);
        assert_eq!(done, Ok(()), "{} is left out", scenario.0);
    }

    macro_rules! each {
        ($module:ident: $($name:ident),*) => {
            mod $module {
                $(#[test]
                fn $name() {
                    super::keeps((stringify!($name), crate::hosts_suite::$module::$name));
                })*
            }
        };
    }
    scenarios!(each);
}
