//! New jails: by ezz, by `zfs clone`, by calls of libzfs_core, by a bare channel program, and as other jail managers
//! create them.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ezz::lock::Locks;
use ezz::model::{Kind, Labels, Network};
use ezz::name::{DatasetName, JailName, TrackName};
use ezz::plan::Step;
use ezz::plan::create::{Of, Request, create};
use ezz::plan::new::Choice;
use ezz::ports::Zfs as _;
use ezz::session::{Scope, Session};
use ezz_zfs::nvlist::NvMap;
use ezz_zfs::program::{Args, Program};
use rayon::prelude::*;

use crate::guest::{ORIGIN, PEER, SITE, run, sh, timed, timed_sh};
use crate::{Failure, Measured};

/// How many jails are created at once.
pub const COUNTS: [usize; 4] = [1, 10, 100, 1000];
/// The value of a jail's property.
const JAIL: &str =
    r#"{"kind":"thin","base":{"track":"main"},"skel":1,"hostname":"j","network":"host"}"#;

/// Runs one round with each way in turn; the first way differs from round to round.
pub fn round(measured: &mut Measured, round: usize) -> Result<(), Failure> {
    type Way = fn(usize) -> Result<Option<f64>, Failure>;
    let ways: [(&str, Way); 6] = [
        ("loop", zfs_loop),
        ("parallel loop", parallel_loop),
        ("raw", raw),
        ("program", program),
        ("ezz, created", created),
        ("ezz", whole),
    ];
    for count in COUNTS {
        for at in 0..ways.len() {
            let (name, way) = ways[(at + round) % ways.len()];
            sh(&format!(
                "zfs create -o canmount=off -o mountpoint=none -o ezz:epoch=1 {PEER}"
            ))?;
            let took = way(count)?;
            if let Some(took) = took {
                measured.add(format!("create {count}: {name}"), took);
            }
            sh(&format!("zfs destroy -r {PEER}"))?;
        }
    }
    for (name, script) in PEERS {
        sh(&format!(
            "zfs create -o mountpoint=/peer {PEER}; mkdir -p /peer/conf"
        ))?;
        measured.add(format!("create 1: as {name}"), timed_sh(script)?);
        sh(&format!(
            "zfs destroy -R {ORIGIN}@none 2>/dev/null || true
             for s in $(zfs list -Ht snapshot -o name -d1 tank/ezz/newjail/1 tank/ezz/basejail/1 | grep -v '@1$'); do zfs destroy -R $s; done
             zfs destroy -r {PEER}; rm -rf /peer"
        ))?;
    }
    Ok(())
}

fn zfs_loop(count: usize) -> Result<Option<f64>, Failure> {
    let script = format!(
        "for n in $(seq {count}); do zfs clone -o ezz:jail='{JAIL}' {ORIGIN} {PEER}/j$n; done"
    );
    timed_sh(&script).map(Some)
}

fn parallel_loop(count: usize) -> Result<Option<f64>, Failure> {
    if count == 1 {
        return Ok(None);
    }
    let script =
        format!("seq {count} | xargs -P 16 -I N zfs clone -o ezz:jail='{{}}' {ORIGIN} {PEER}/jN");
    timed_sh(&script).map(Some)
}

/// Times parallel calls of libzfs_core, and one program that sets all properties.
fn raw(count: usize) -> Result<Option<f64>, Failure> {
    let zfs = ezz_zfs::Zfs::open()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(64.min(count))
        .build()?;
    let names: Vec<String> = (1..=count).map(|n| format!("{PEER}/j{n}")).collect();
    let took = timed(|| {
        let none = NvMap::new();
        pool.install(|| {
            names
                .par_iter()
                .with_max_len(1)
                .try_for_each(|name| zfs.clone(name, ORIGIN, &none))
        })?;
        let args = Args::at_epoch(PEER, 1)
            .bool("adopt", false)
            .texts("sealed", [""; 0])
            .texts("ds", &names)
            .texts("p", names.iter().map(|_| "ezz:jail"))
            .texts("x", names.iter().map(|_| "-"))
            .texts("v", names.iter().map(|_| format!("={JAIL}")));
        Program::Commit.run(&zfs, &args)?;
        Ok(())
    })?;
    Ok(Some(took))
}

/// Times one program that clones and sets one property for each jail, and does nothing else: the lower bound.
fn program(count: usize) -> Result<Option<f64>, Failure> {
    if !ezz_zfs::Zfs::open()?.capabilities("tank")?.sync_clone {
        return Ok(None);
    }
    let lua = format!(
        "args = ...\nfor i = 1, tonumber(args.argv[1]) do\n  local d = '{PEER}/j' .. i\n  if zfs.sync.clone('{ORIGIN}', d) ~= 0 then error(d) end\n  zfs.sync.set_prop(d, 'ezz:jail', '{JAIL}')\nend\n"
    );
    std::fs::write("/tmp/floor.lua", lua)?;
    timed_sh(&format!(
        "zfs program -m 100000000 tank /tmp/floor.lua {count}"
    ))
    .map(Some)
}

fn names(count: usize) -> String {
    format!("'j{{1..{count}}}'")
}

/// Times the whole command as a user runs it: the jails are created, mounted and configured.
fn whole(count: usize) -> Result<Option<f64>, Failure> {
    let took = timed_sh(&format!("$EZZ -q create {}", names(count)))?;
    run(&format!("delete --yes {}", names(count)))?;
    Ok(Some(took))
}

/// Times the command up to the last commit, after which the jails exist: observation, plan and programs, without the
/// start of a process and the steps after the commit.
fn created(count: usize) -> Result<Option<f64>, Failure> {
    let zfs = ezz::pool::SystemZfs::new();
    let site = DatasetName::parse(SITE)?;
    let found = ezz::observe::named_site(&zfs, &site)?;
    let can = zfs.capabilities(&site)?.sync_clone;
    let session = Session {
        jobs: 1,
        zfs: Box::new(zfs),
        host: ezz::host::this_host(&found.id, &found.directory),
        site: site.clone(),
        id: found.id.clone(),
        locks: Locks::new("/run/ezz".as_ref(), &found.id, Duration::from_secs(30)),
        dry_run: false,
        no_sync_clone: AtomicBool::new(!can),
        changed: AtomicBool::new(false),
        looks: true,
        top: Mutex::default(),
    };
    let names: Result<Vec<JailName>, _> = (1..=count)
        .map(|n| JailName::parse(&format!("j{n}")))
        .collect();
    let request = Request {
        names: names?,
        of: Of::World {
            kind: Kind::Thin,
            base: Choice::Track(TrackName::main()),
            network: Network::Host,
            health: None,
        },
        hostname: None,
        datasets: Vec::new(),
        addresses: Vec::new(),
        pools: Vec::new(),
        labels: Labels::default(),
        flavours: Vec::new(),
        limits: ezz::model::AskedLimits::default(),
        params: ezz::model::Params::default(),
        quota: None,
        defaults: ezz::model::Defaults::default(),
        boot: None,
        nested_userns: None,
        start: false,
        atomic: false,
    };
    let scope = Scope {
        current: true,
        ..Scope::of(request.names.iter().cloned())
    };
    let took = timed(|| {
        let observed = session.observe(&scope)?;
        let plan = create(&observed, &request)?;
        for step in &plan.steps {
            match step {
                Step::Commit { site, commit } => session.zfs.commit(site, commit)?,
                Step::Clone { clones } => session.zfs.clone_all(clones)?,
                _ => {}
            }
        }
        Ok(())
    })?;
    run(&format!("delete --yes {}", self::names(count)))?;
    Ok(Some(took))
}

/// The work of other managers for one jail, as plain scripts that follow a description of their steps: the dataset, the
/// files and the configuration, but not the start. Where they copy the world, the whole base is copied.
const PEERS: [(&str, &str); 4] = [
    (
        "ezjail",
        "zfs list -H tank/peer >/dev/null; zfs create -o mountpoint=/peer/j tank/peer/j
         zfs snapshot tank/ezz/newjail/1@_vanilla_newjail_
         zfs send tank/ezz/newjail/1@_vanilla_newjail_ | zfs receive -F tank/peer/j
         zfs destroy tank/peer/j@_vanilla_newjail_; zfs destroy tank/ezz/newjail/1@_vanilla_newjail_
         echo '/base /peer/j/basejail nullfs ro 0 0' >/peer/conf/fstab.j
         for k in hostname ip rootdir exec_start exec_stop mount devfs fstab; do echo export jail_j_$k=x >>/peer/conf/j; done",
    ),
    (
        "iocage, a clone",
        "zfs snapshot tank/ezz/basejail/1@uuid; zfs clone -p -o mountpoint=/peer/j tank/ezz/basejail/1@uuid tank/peer/j
         for n in 1 2 3 4; do echo '{\"host_hostname\":\"j\"}' >/peer/conf/config.json; done
         echo >/peer/conf/fstab; echo '127.0.0.1 localhost' >/peer/conf/hosts; echo 'hostname=j' >/peer/conf/rc.conf",
    ),
    (
        "Bastille, thin",
        "zfs create -o mountpoint=/peer/j tank/peer/j; zfs create -o mountpoint=/peer/j/root tank/peer/j/root
         echo '/base /peer/j/root/.bastille nullfs ro 0 0' >/peer/j/fstab
         mkdir -p /peer/j/root/.bastille /peer/j/root/usr/home /peer/j/root/usr/local
         for l in bin boot lib libexec rescue sbin usr/bin usr/include usr/lib usr/lib32 usr/libdata usr/libexec usr/sbin usr/share usr/src; do ln -sf /.bastille/$l /peer/j/root/$l; done
         s=/srv/jails/basejail/1; for d in etc root var tmp srv home media mnt opt run; do [ ! -e $s/$d ] || cp -a $s/$d /peer/j/root/; done
         echo 'j { }' >/peer/j/jail.conf; for k in syslogd_flags sendmail_enable cron_flags; do sed -i -e \"\\$ a $k=x\" /peer/j/jail.conf; done",
    ),
    (
        "Bastille, thick",
        "zfs create -o mountpoint=none tank/peer/j; zfs snapshot tank/ezz/basejail/1@bastille
         zfs send tank/ezz/basejail/1@bastille | zfs receive tank/peer/j/root
         zfs set readonly=off tank/peer/j/root; zfs set mountpoint=/peer/j tank/peer/j/root; zfs inherit com.sun:auto-snapshot tank/peer/j/root
         zfs destroy tank/ezz/basejail/1@bastille; zfs destroy tank/peer/j/root@bastille
         echo 'j { }' >/peer/conf/jail.conf",
    ),
];
