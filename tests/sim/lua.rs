//! Runs channel programs on the simulated pool: the Lua that is sent to the kernel, with those functions of the `zfs`
//! table that it uses, in one transaction.
//!
//! As in the kernel, an error ends a program and keeps what it did, each call counts against the free space
//! (zcp_synctask.c), and there is no pcall.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ezz_zfs::{Errno, NvMap, ProgramError, Value};
use mlua::{Lua, MultiValue, Table, Variadic};

use super::pool::{From, Pool, valid_property};

/// The space that zcp_synctask.c assumes for a call: blocks × 16 KiB × 3.
const CLONE: u64 = 144 << 10;
const SET: u64 = 96 << 10;
const FREE: u64 = 0;

/// The greatest sum: it is an `int` (include/sys/zcp.h).
const MOST: u64 = 2 << 30;

/// One run of a program.
struct Run {
    pool: RefCell<Pool>,
    needs: Cell<u64>,
    calls: Cell<usize>,
    /// The number of calls after which a signal stops the program.
    cut: Option<usize>,
    was_cut: Cell<bool>,
}

impl Run {
    fn sync(
        &self,
        needs: u64,
        call: impl FnOnce(&mut Pool) -> Result<(), Errno>,
    ) -> mlua::Result<i32> {
        if self.cut == Some(self.calls.get()) {
            self.was_cut.set(true);
            return Err(mlua::Error::runtime("Channel program was canceled."));
        }
        let mut pool = self.pool.borrow_mut();
        let total = self.needs.get() + needs;
        if needs > 0 && (total > pool.available() || total >= MOST) {
            return Ok(super::pool::errno("ENOSPC").0);
        }
        Ok(match call(&mut pool) {
            Ok(()) => {
                self.needs.set(total);
                self.calls.set(self.calls.get() + 1);
                0
            }
            Err(errno) => errno.0,
        })
    }
}

/// Runs a program on a pool; with `cut`, a signal stops it after that many changes.
pub fn run(
    pool: &mut Pool,
    program: &str,
    source: &str,
    args: &NvMap,
    cut: Option<usize>,
) -> Result<NvMap, ProgramError> {
    let run = Rc::new(Run {
        pool: RefCell::new(pool.clone()),
        needs: Cell::new(0),
        calls: Cell::new(0),
        cut,
        was_cut: Cell::new(false),
    });
    let result = evaluate(&run, source, args);
    *pool = run.pool.borrow().clone();
    if run.was_cut.get() {
        return Err(ProgramError::Interrupted {
            program: program.to_owned(),
        });
    }
    result.map_err(|error| ProgramError::Lua {
        program: program.to_owned(),
        message: error.to_string(),
        traceback: Vec::new(),
    })
}

fn evaluate(run: &Rc<Run>, source: &str, args: &NvMap) -> mlua::Result<NvMap> {
    let lua = Lua::new();
    let globals = lua.globals();
    for missing in [
        "pcall",
        "xpcall",
        "load",
        "loadstring",
        "loadfile",
        "dofile",
        "print",
        "io",
        "os",
        "require",
        "package",
        "debug",
    ] {
        globals.set(missing, mlua::Nil)?;
    }
    globals.set("zfs", library(&lua, run)?)?;
    for name in [
        "EPERM", "ENOENT", "EBUSY", "EEXIST", "EINVAL", "ENOSPC", "EDQUOT", "ENOTSUP",
    ] {
        globals.set(name, super::pool::errno(name).0)?;
    }
    let returned: mlua::Value = lua
        .load(source)
        .call(to_lua(&lua, &Value::List(args.clone()))?)?;
    let mut reply = NvMap::new();
    if !returned.is_nil() {
        reply.insert("return".to_owned(), from_lua(&returned)?);
    }
    Ok(reply)
}

fn library(lua: &Lua, run: &Rc<Run>) -> mlua::Result<Table> {
    let zfs = lua.create_table()?;
    let state = Rc::clone(run);
    zfs.set(
        "exists",
        lua.create_function(move |_, name: String| Ok(state.pool.borrow().exists(&name)))?,
    )?;
    let state = Rc::clone(run);
    zfs.set(
        "get_prop",
        lua.create_function(move |lua, (name, property): (String, String)| {
            get_prop(lua, &state.pool.borrow(), &name, &property)
        })?,
    )?;
    zfs.set("sync", changes(lua, run)?)?;
    zfs.set("check", checks(lua, run)?)?;
    zfs.set("list", lists(lua, run)?)?;
    Ok(zfs)
}

fn get_prop(lua: &Lua, pool: &Pool, name: &str, property: &str) -> mlua::Result<MultiValue> {
    if !pool.exists(name) {
        return Err(mlua::Error::runtime(format!(
            "failed to get {property} of {name}: no such dataset"
        )));
    }
    if property.contains(':') && !valid_property(property) {
        return Err(mlua::Error::runtime(format!(
            "'{property}' is not a valid property"
        )));
    }
    let number = |value: u64| mlua::Value::Number(value as f64);
    let own = |value: mlua::Value| -> mlua::Result<MultiValue> {
        Ok(MultiValue::from_vec(vec![
            value,
            mlua::Value::String(lua.create_string("")?),
        ]))
    };
    match property {
        "guid" => return own(number(pool.guid_of(name).unwrap_or(0))),
        "available" => return own(number(pool.available())),
        "origin" => {
            let origin = pool.origin(name).cloned().unwrap_or_default();
            return own(mlua::Value::String(lua.create_string(origin)?));
        }
        "userrefs" => {
            let holds = pool
                .snapshots
                .get(name)
                .map_or(0, |found| found.holds.len());
            return own(number(holds as u64));
        }
        _ => {}
    }
    let found = pool.property(name, property);
    let (value, source) = match found {
        Some((value, From::Local)) => (value, name.to_owned()),
        Some((value, From::Received)) => (value, "$recvd".to_owned()),
        Some((value, From::Inherited(from))) => (value, from),
        None if property.contains(':') => return Ok(MultiValue::new()),
        None => (
            super::zfs::default(property).to_owned(),
            "default".to_owned(),
        ),
    };
    Ok(MultiValue::from_vec(vec![
        mlua::Value::String(lua.create_string(value)?),
        mlua::Value::String(lua.create_string(source)?),
    ]))
}

fn changes(lua: &Lua, run: &Rc<Run>) -> mlua::Result<Table> {
    let sync = lua.create_table()?;
    let state = Rc::clone(run);
    sync.set(
        "destroy",
        // If the argument is a table, its fields are the arguments; those without a number are found by their names.
        lua.create_function(move |_, argument: mlua::Value| {
            let (name, defer) = match argument {
                mlua::Value::Table(named) => (named.get::<String>(1)?, named.get::<bool>("defer")?),
                other => (other.to_string()?, false),
            };
            state.sync(FREE, |pool| match defer {
                true => pool.destroy_deferred(&name),
                false => pool.destroy(&name),
            })
        })?,
    )?;
    let state = Rc::clone(run);
    sync.set(
        "promote",
        lua.create_function(move |_, name: String| state.sync(CLONE, |pool| pool.promote(&name)))?,
    )?;
    let state = Rc::clone(run);
    sync.set(
        "snapshot",
        lua.create_function(move |_, name: String| state.sync(CLONE, |pool| pool.snapshot(&name)))?,
    )?;
    let state = Rc::clone(run);
    sync.set(
        "set_prop",
        lua.create_function(
            move |_, (name, property, value): (String, String, String)| {
                state.sync(SET, |pool| {
                    pool.check_user_property(&name, &property, &value)?;
                    pool.set(&name, &property, &value)
                })
            },
        )?,
    )?;
    let state = Rc::clone(run);
    sync.set(
        "inherit",
        // One more argument, even nil, is an error in the kernel.
        lua.create_function(move |_, arguments: Variadic<mlua::Value>| {
            let [mlua::Value::String(name), mlua::Value::String(property)] = arguments.as_slice()
            else {
                return Err(mlua::Error::runtime(
                    "inherit takes a dataset and a property",
                ));
            };
            let (name, property) = (name.to_str()?.to_owned(), property.to_str()?.to_owned());
            state.sync(SET, |pool| pool.inherit(&name, &property))
        })?,
    )?;
    if run.pool.borrow().sync_clone {
        let state = Rc::clone(run);
        sync.set(
            "clone",
            lua.create_function(move |_, (origin, name): (String, String)| {
                state.sync(CLONE, |pool| pool.clone_to(&origin, &name))
            })?,
        )?;
    }
    Ok(sync)
}

fn checks(lua: &Lua, run: &Rc<Run>) -> mlua::Result<Table> {
    let check = lua.create_table()?;
    let code = |result: Result<(), Errno>| result.map_or_else(|errno| errno.0, |()| 0);
    let state = Rc::clone(run);
    check.set(
        "destroy",
        lua.create_function(move |_, name: String| {
            Ok(code(state.pool.borrow().check_destroy(&name)))
        })?,
    )?;
    let state = Rc::clone(run);
    check.set(
        "rollback",
        lua.create_function(move |_, name: String| {
            Ok(code(state.pool.borrow().check_rollback(&name)))
        })?,
    )?;
    Ok(check)
}

fn lists(lua: &Lua, run: &Rc<Run>) -> mlua::Result<Table> {
    let list = lua.create_table()?;
    type Names = fn(&Pool, &str) -> Vec<String>;
    let kinds: [(&str, Names); 3] = [
        ("children", |pool, name| {
            pool.children(name).cloned().collect()
        }),
        ("snapshots", |pool, name| {
            pool.snapshots_of(name).cloned().collect()
        }),
        ("clones", Pool::clones_of),
    ];
    for (kind, names) in kinds {
        let state = Rc::clone(run);
        let function = lua.create_function(move |lua, name: String| {
            let found = RefCell::new(names(&state.pool.borrow(), &name).into_iter());
            lua.create_function(move |_, _: MultiValue| Ok(found.borrow_mut().next()))
        })?;
        list.set(kind, function)?;
    }
    Ok(list)
}

fn to_lua(lua: &Lua, value: &Value) -> mlua::Result<mlua::Value> {
    Ok(match value {
        Value::Bool(yes) => mlua::Value::Boolean(*yes),
        Value::Str(text) => mlua::Value::String(lua.create_string(text)?),
        Value::Int(number) => mlua::Value::Number(*number as f64),
        Value::List(map) => {
            let table = lua.create_table()?;
            for (name, value) in map {
                table.set(name.as_str(), to_lua(lua, value)?)?;
            }
            mlua::Value::Table(table)
        }
        Value::StrArray(texts) => {
            mlua::Value::Table(lua.create_sequence_from(texts.iter().map(String::as_str))?)
        }
        Value::IntArray(numbers) => mlua::Value::Table(
            lua.create_sequence_from(numbers.iter().map(|number| *number as f64))?,
        ),
        Value::Flag | Value::UInt(_) | Value::ListArray(_) => {
            return Err(mlua::Error::runtime("programs do not take such a value"));
        }
    })
}

fn from_lua(value: &mlua::Value) -> mlua::Result<Value> {
    Ok(match value {
        mlua::Value::Boolean(yes) => Value::Bool(*yes),
        mlua::Value::Integer(number) => Value::Int(*number),
        mlua::Value::Number(number) => Value::Int(*number as i64),
        mlua::Value::String(text) => Value::Str(text.to_str()?.to_owned()),
        mlua::Value::Table(table) => {
            let mut map = NvMap::new();
            for pair in table.pairs::<String, mlua::Value>() {
                let (name, value) = pair?;
                map.insert(name, from_lua(&value)?);
            }
            Value::List(map)
        }
        other => {
            return Err(mlua::Error::runtime(format!(
                "a program cannot return {other:?}"
            )));
        }
    })
}
