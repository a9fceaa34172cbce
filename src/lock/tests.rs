//! Locks between threads: flock(2) locks belong to open files, so two in one process exclude each other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn locks(directory: &tempfile::TempDir, wait: Duration) -> Locks {
    Locks::new(directory.path(), "id", wait)
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_second_one_waits_and_gives_up() {
    let directory = directory();
    let locks = locks(&directory, Duration::from_millis(120));
    let held = locks.site().expect("free");
    assert!(matches!(locks.site(), Err(LockError::Held { .. })));
    drop(held);
    let _again = locks.site().expect("free again");
}

#[test]
fn many_jails_need_few_files() {
    let directory = directory();
    let locks = locks(&directory, Duration::ZERO);
    let names: Vec<JailName> = (0..2000)
        .map(|n| JailName::parse(&format!("j{n}")).expect("valid"))
        .collect();
    let _held = locks.jails(&names).expect("free");
    let files = std::fs::read_dir(directory.path())
        .expect("readable")
        .count();
    assert!(files as u64 <= STRIPES, "{files}");
}

#[test]
fn a_signal_ends_the_wait_at_once() {
    let directory = directory();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let waits = locks(&directory, LONG).with(Manners::new(
        move || seen.load(Ordering::Relaxed),
        |_| {},
        "ezz start a",
        "now",
    ));
    let held = locks(&directory, LONG).site().expect("free");
    let waiter = {
        let waits = waits.clone();
        std::thread::spawn(move || {
            let begun = Instant::now();
            let refused = waits.site().expect_err("a signal comes");
            (begun.elapsed(), refused.to_string())
        })
    };
    std::thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    let (took, words) = waiter.join().expect("it ends");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(
        words,
        "interrupted while waiting for another ezz to finish with this site"
    );
    drop(held);
    // A free lock is not taken either.
    let refused = waits.site().expect_err("the signal has come");
    assert_eq!(refused.to_string(), "interrupted");
    // Steps that finish or undo something go on.
    let _held = waits.steadfast().site().expect("free");
    assert!(waits.stage_is_free(GenerationId(3)).expect("usable"));
}

#[test]
fn a_signal_ends_a_pause_at_once() {
    let directory = directory();
    let all = locks(&directory, LONG);
    all.pause(Duration::from_millis(1), "nothing")
        .expect("no signal");
    let stopped = all.with(Manners::new(|| true, |_| {}, "", ""));
    let begun = Instant::now();
    let refused = stopped.pause(LONG, "a dataset that is in use");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(
        refused.expect_err("stopped").to_string(),
        "interrupted while waiting for a dataset that is in use"
    );
    stopped
        .steadfast()
        .pause(Duration::from_millis(1), "nothing")
        .expect("it is not asked");
}

#[test]
fn the_holder_is_named_once_it_takes_long_and_in_the_refusal() {
    let directory = directory();
    let said = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&said);
    let tell = move |text: &str| hears.lock().expect("not poisoned").push(text.to_owned());
    let holder = locks(&directory, LONG).with(Manners::new(
        || false,
        |_| {},
        "ezz stop web1",
        "2026-01-01T12:00:03Z",
    ));
    let waits = locks(&directory, Duration::from_millis(1300));
    let waits = waits.with(Manners::new(|| false, tell, "ezz start web1", "later"));
    let name = JailName::parse("web1").expect("valid");
    let held = holder.jails([&name]).expect("free");
    let refused = waits.jails([&name]).expect_err("held").to_string();
    let pid = std::process::id();
    let who = format!("pid {pid} (ezz stop web1, since 2026-01-01T12:00:03Z)");
    assert_eq!(
        refused,
        format!("another ezz is working on these jails: {who}")
    );
    assert_eq!(
        *said.lock().expect("not poisoned"),
        [format!("waiting for {who} to finish with these jails")]
    );
    // With several files the holder of the one that blocks is named.
    let all: Vec<JailName> = (0..200)
        .map(|n| JailName::parse(&format!("j{n}")).expect("valid"))
        .collect();
    let refused = waits.jails(&all).expect_err("one is held").to_string();
    assert!(refused.ends_with(&who), "{refused}");
    drop(held);
    let _nobody = waits.jails(&all).expect("free");
}

#[test]
fn who_left_its_line_is_not_named_for_another() {
    let directory = directory();
    let named = locks(&directory, Duration::ZERO).with(Manners::new(
        || false,
        |_| {},
        "ezz stop web1",
        "now",
    ));
    // A holder removes its line when it releases the lock, although the process lives on.
    drop(named.site().expect("free"));
    let nameless = locks(&directory, Duration::ZERO);
    let held = nameless.site().expect("free");
    let words = |refused: Result<Held, LockError>| refused.expect_err("held").to_string();
    assert_eq!(words(named.site()), "another ezz is working on this site");
    // A killed holder leaves its line, and the next holder could not write: no process is named.
    let path = directory.path().join("id-site.lock");
    std::fs::write(&path, format!("{} 7 now ezz stop web1\n", i32::MAX)).expect("writable");
    assert_eq!(words(named.site()), "another ezz is working on this site");
    drop(held);
}

#[test]
fn a_file_that_was_removed_is_made_again() {
    let directory = directory();
    let all = locks(&directory, LONG);
    let path = directory.path().join("id-site.lock");
    let held = all.site().expect("free");
    let waiter = {
        let all = all.clone();
        std::thread::spawn(move || all.site().map(drop))
    };
    std::thread::sleep(Duration::from_millis(100));
    // The file is removed while one process works and another waits. The waiter takes the new file.
    std::fs::remove_file(&path).expect("it is there");
    waiter
        .join()
        .expect("it ends")
        .expect("the new one is free");
    assert!(path.exists());
    drop(held);
    // The same with the whole directory.
    std::fs::remove_file(&path).expect("it is there");
    std::fs::remove_dir(directory.path()).expect("nothing else is in it");
    let held = all.site().expect("free");
    assert!(path.exists());
    // A file that was opened before the removal is no lock, even if it is free by now.
    let old = File::open(&path).expect("there");
    std::fs::remove_file(&path).expect("it is there");
    assert!(!is_still(&old, &path));
    std::fs::write(&path, "").expect("writable");
    assert!(!is_still(&old, &path));
    drop(held);
}
