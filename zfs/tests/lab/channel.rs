//! Channel programs in general: values in and out, errors, limits, states of the pool.

use std::collections::BTreeMap;

use ezz_zfs::{Limits, NvError, NvMap, ProgramError, Value};

use crate::pool::{Pool, local, run};

fn map(pairs: &[(&str, Value)]) -> NvMap {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

fn text(text: &str) -> Value {
    Value::Str(text.into())
}

fn program(pool: &Pool, source: &str) -> Result<NvMap, ProgramError> {
    pool.zfs
        .program(&pool.name, source, &NvMap::new(), Limits::default())
}

#[test]
fn values_come_back_as_they_went() {
    let pool = Pool::new();
    let inner = map(&[("x", text("ü y")), ("n", Value::Int(i64::MIN))]);
    let args = map(&[
        ("yes", Value::Bool(true)),
        ("no", Value::Bool(false)),
        ("int", Value::Int(-5)),
        ("text", text("")),
        ("list", Value::List(inner.clone())),
        ("texts", Value::StrArray(vec!["a".into(), "b".into()])),
        ("ints", Value::IntArray(vec![1, -1])),
        ("none", Value::StrArray(vec![])),
        (
            "names",
            Value::List(map(&[("p", Value::Flag), ("q", Value::Flag)])),
        ),
    ]);
    let limits = Limits::default();
    let reply = pool
        .zfs
        .program_readonly(&pool.name, "return ...", &args, limits)
        .unwrap();
    let table = |items: &[Value]| {
        Value::List(
            (1..)
                .zip(items)
                .map(|(n, v): (i32, _)| (n.to_string(), v.clone()))
                .collect(),
        )
    };
    let back = map(&[
        ("yes", Value::Bool(true)),
        ("no", Value::Bool(false)),
        ("int", Value::Int(-5)),
        ("text", text("")),
        ("list", Value::List(inner)),
        ("texts", table(&[text("a"), text("b")])),
        ("ints", table(&[Value::Int(1), Value::Int(-1)])),
        ("none", table(&[])),
        ("names", table(&[text("p"), text("q")])),
    ]);
    assert_eq!(reply, map(&[("return", Value::List(back))]));
    assert_eq!(
        program(&pool, "return nil").unwrap(),
        map(&[("return", Value::Flag)])
    );
    assert_eq!(program(&pool, "local x = 1").unwrap(), BTreeMap::new());
}

#[test]
fn what_programs_cannot_take_is_refused_before() {
    let pool = Pool::new();
    let args = map(&[("n", Value::UInt(1))]);
    let error = pool
        .zfs
        .program(&pool.name, "return 1", &args, Limits::default())
        .unwrap_err();
    let ProgramError::Arguments { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*source, NvError::NotForPrograms { key: "n".into() });
    assert!(!error.may_have_changed());
}

#[test]
fn a_lua_error_gives_its_message_and_keeps_what_was_done() {
    let pool = Pool::new();
    let source = format!(
        "zfs.sync.set_prop('{}', 'ezz:x', 'done')\nerror('boom')",
        pool.name
    );
    let error = program(&pool, &source).unwrap_err();
    let ProgramError::Lua {
        message, traceback, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert!(message.ends_with(":2: boom"), "{message}");
    assert!(!traceback.is_empty());
    assert!(error.may_have_changed());
    assert_eq!(local(&pool.name, "ezz:x").as_deref(), Some("done"));
}

#[test]
fn an_error_that_is_a_table_is_shown() {
    let pool = Pool::new();
    let error = program(&pool, "error({why = 'odd'})").unwrap_err();
    assert!(matches!(error, ProgramError::Lua { .. }), "{error:?}");
    let error = program(&pool, "return zfs.get_prop('nopool/x', 'guid')").unwrap_err();
    let ProgramError::Lua { message, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(message.contains("nopool/x"), "{message}");
}

#[test]
fn bad_syntax_and_bad_limits_are_rejected() {
    let pool = Pool::new();
    let error = program(&pool, "return return").unwrap_err();
    let ProgramError::Rejected { message, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(message.contains("unexpected symbol"), "{message}");
    let too_much = Limits {
        instructions: Limits::MAX.instructions + 1,
        ..Limits::MAX
    };
    let error = pool
        .zfs
        .program(&pool.name, "return 1", &NvMap::new(), too_much)
        .unwrap_err();
    assert!(matches!(error, ProgramError::Rejected { .. }), "{error:?}");
    pool.zfs
        .program(&pool.name, "return 1", &NvMap::new(), Limits::MAX)
        .unwrap();
}

#[test]
fn limits_stop_a_program() {
    let pool = Pool::new();
    let small = Limits {
        instructions: 10_000,
        memory: 1 << 20,
    };
    let endless = pool
        .zfs
        .program(&pool.name, "while true do end", &NvMap::new(), small);
    let Err(ProgramError::Instructions { limit, .. }) = endless else {
        panic!("{endless:?}")
    };
    assert_eq!(limit, 10_000);
    let large = "local t = {} for i = 1, 1000000 do t[i] = {i} end return 1";
    let limits = Limits {
        instructions: 100_000_000,
        memory: 1 << 20,
    };
    let error = pool
        .zfs
        .program(&pool.name, large, &NvMap::new(), limits)
        .unwrap_err();
    assert!(
        matches!(error, ProgramError::Memory { limit, .. } if limit == 1 << 20),
        "{error:?}"
    );
}

#[test]
fn a_missing_and_a_read_only_pool() {
    let pool = Pool::new();
    let args = NvMap::new();
    let error = pool
        .zfs
        .program("no-such", "return 1", &args, Limits::default())
        .unwrap_err();
    assert_eq!(
        error,
        ProgramError::NoPool {
            pool: "no-such".into()
        }
    );
    run("zpool", &["export", &pool.name]);
    let directory = std::env::temp_dir();
    let directory = directory.to_str().unwrap();
    run(
        "zpool",
        &["import", "-o", "readonly=on", "-d", directory, &pool.name],
    );
    let error = program(&pool, "return 1").unwrap_err();
    assert_eq!(
        error,
        ProgramError::ReadOnly {
            pool: pool.name.clone()
        }
    );
    let error = pool.zfs.capabilities(&pool.name).unwrap_err();
    assert_eq!(
        error,
        ProgramError::ReadOnly {
            pool: pool.name.clone()
        }
    );
}

#[test]
fn capabilities_are_those_of_the_module() {
    let pool = Pool::new();
    let capabilities = pool.zfs.capabilities(&pool.name).unwrap();
    let version = std::fs::read_to_string("/sys/module/zfs/version").unwrap();
    assert_eq!(capabilities.module.as_deref(), Some(version.trim()));
    let mut numbers = version
        .trim()
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    assert_eq!(capabilities.sync_clone, version >= (2, 4));
}

#[test]
fn an_ordinary_user_may_not() {
    let pool = Pool::new();
    let error = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: the raw call changes this thread only, which ends right after.
            let code = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
            assert_eq!(code, 0);
            program(&pool, "return 1").unwrap_err()
        });
        thread.join().unwrap()
    });
    assert_eq!(
        error,
        ProgramError::Permission {
            pool: pool.name.clone()
        }
    );
}
