use super::*;

const LONG: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Exec {
    let exec = Exec::new("sh").expect("every host has sh");
    exec.args(["-c", script]).limit(LONG)
}

/// Whether a process is there, a zombie too.
fn there(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    rustix::process::test_kill_process(pid.expect("a number")).is_ok()
}

#[test]
fn a_program_is_watched_and_its_last_words_kept() {
    let run = |script: &str, limit| {
        let watch = Watch {
            limit,
            stop: &|| false,
            log: None,
        };
        let ended = sh(script).watched(watch).expect("it starts");
        (ended.status, ended.said)
    };
    let (status, words) = run("echo out; echo err >&2; exit 7", LONG);
    assert_eq!(status.and_then(|status| status.code()), Some(7));
    assert!(words.contains("out") && words.contains("err"), "{words}");
    let (status, words) = run("seq 100000; exit 0", LONG);
    assert!(status.is_some_and(|status| status.success()));
    assert!(words.ends_with("99999\n100000"), "{}", words.len());
    assert!(words.len() <= STDERR_TAIL);
    let (status, _) = run("exec sleep 100", Duration::from_millis(100));
    assert_eq!(status, None);
}

#[test]
fn all_output_is_collected_and_failures_are_told() {
    let output = sh("seq 1000000; echo words >&2").run().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 1_000_000);
    assert!(text.ends_with("\n1000000\n"));
    let ended = sh("echo out; echo err >&2; exit 3")
        .ended()
        .expect("it ends");
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(
        (&ended.stdout[..], &ended.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert!(ended.whole);
    let error = Exec::at("/no/such/program".as_ref())
        .run()
        .expect_err("it is not there");
    assert!(matches!(error, ExecError::Start { .. }), "{error}");
}

#[test]
fn a_program_is_ended_when_no_more_of_it_is_wanted() {
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let begun = Instant::now();
    let error = sh("trap '' TERM; sleep 100").ended_unless(&stop);
    let error = error.expect_err("it was to end");
    assert!(
        matches!(error, ExecError::Stopped { left: None, .. }),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    // One that ends before is as it is.
    let ended = sh("echo out; exit 3")
        .ended_unless(&|| false)
        .expect("it ends");
    assert_eq!(
        (ended.status.code(), &ended.stdout[..]),
        (Some(3), &b"out\n"[..])
    );
}

#[test]
fn a_program_that_ignores_signals_is_killed_at_its_limit() {
    let begun = Instant::now();
    let script = "trap '' TERM INT HUP; echo $$; while :; do sleep 1; done";
    let error = sh(script)
        .limit(Duration::from_secs(1))
        .run()
        .expect_err("it does not end");
    assert!(begun.elapsed() < Duration::from_secs(30));
    let text = error.to_string();
    assert!(
        text.ends_with("did not end within 1 s and was killed"),
        "{text}"
    );
    assert!(error.timed_out());
}

#[test]
fn the_whole_group_is_killed_where_it_has_its_own() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("pid");
    let script = format!("sleep 1000 & echo $! >{}; wait", file.display());
    let error = sh(&script)
        .limit(Duration::from_secs(2))
        .run()
        .expect_err("it does not end");
    assert!(error.timed_out(), "{error}");
    let text = std::fs::read_to_string(&file).expect("it was written");
    let pid = text.trim().parse().expect("a number");
    // Whoever adopted it has to reap it, which may take a moment.
    let dead = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !there(pid) || stat.contains(") Z ")
    };
    let begun = Instant::now();
    while !dead() {
        assert!(begun.elapsed() < LONG, "{pid} is still there");
        std::thread::sleep(LOOK);
    }
}

#[test]
fn a_flood_of_output_is_cut_off() {
    for script in ["exec yes", "exec yes >&2", "yes | cat"] {
        let begun = Instant::now();
        let error = sh(script)
            .at_most(1 << 20)
            .run()
            .expect_err("it never ends");
        assert!(matches!(error, ExecError::Flooded { .. }), "{error}");
        assert!(begun.elapsed() < LONG, "{script}");
        let text = error.to_string();
        assert!(
            text.ends_with("printed more than 1048576 bytes and was killed"),
            "{text}"
        );
    }
}

/// The pipe stays open as long as the process that was left behind; ezz does not wait for that.
#[test]
fn a_process_that_keeps_the_pipe_is_not_waited_for() {
    let begun = Instant::now();
    let ended = sh("sleep 100 & echo said; echo $! >&2")
        .ended()
        .expect("it ends");
    assert!(begun.elapsed() < Duration::from_secs(50));
    assert!(ended.status.success());
    assert_eq!(ended.stdout, b"said\n");
    assert!(!ended.whole);
    let text = String::from_utf8(ended.stderr).expect("text");
    let pid = text.trim().parse().expect("a number");
    assert!(there(pid), "it was left alone");
    let pid = Pid::from_raw(pid.try_into().expect("small")).expect("a number");
    kill_process(pid, Signal::KILL).expect("killed");
    // What it printed may not be all: that is no success for a caller that needs the output.
    let error = sh("sleep 20 & echo said").run().expect_err("not whole");
    assert!(matches!(error, ExecError::Open { .. }), "{error}");
    // What keeps on printing does not make it last: the limit holds.
    let begun = Instant::now();
    let drip = "(for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo; sleep 1; done) & exit 0";
    let ended = sh(drip)
        .limit(Duration::from_secs(2))
        .ended()
        .expect("it ends");
    assert!(!ended.whole && begun.elapsed() < Duration::from_secs(12));
}

#[test]
fn a_child_that_does_not_end_is_given_up() {
    let mut child = sh("exec sleep 100").command().spawn().expect("it starts");
    let short = Duration::from_millis(100);
    assert_eq!(gone(&mut child, short).expect("looked"), None);
    child.kill().expect("killed");
    let status = gone(&mut child, LONG).expect("looked");
    assert!(status.is_some_and(|status| !status.success()));
}
