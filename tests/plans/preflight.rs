//! The notes about jails that will have a problem on their host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ezz::model::{
    Address, Bound, HostConditions, JailConfig, Kind, Lack, Listener, Network, Owner, hostname,
};
use ezz::name::JailName;
use ezz::plan::doctor::{Facts, diagnose};
use ezz::plan::finding::{Severity, What};
use ezz::plan::power::{restart, start, stop};
use ezz::plan::preflight::{concerned, notes};

use super::inventory::*;

fn addressed(addresses: &[&str], network: Network) -> JailConfig {
    let parse = |text: &&str| text.parse::<Address>().expect("an address");
    JailConfig {
        addresses: addresses.iter().map(parse).collect(),
        network,
        hostname: "theirs".to_owned(),
        ..config(Kind::Thin, 1)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Returns the conditions on a host that has these addresses, on em0.
fn host(addresses: &[&str], assigns: bool) -> HostConditions {
    let has = addresses.iter().map(|it| (ip(it), Some("em0".to_owned())));
    HostConditions {
        hostname: Some("host".to_owned()),
        addresses: Some(has.collect()),
        interfaces: assigns.then(|| ["em0", "bridge0"].map(str::to_owned).into()),
        assigns,
        ..HostConditions::default()
    }
}

fn listener(bound: Bound, port: u16, by: Option<Owner>) -> Listener {
    Listener {
        bound,
        protocol: "tcp",
        port,
        by,
    }
}

fn jail(name: &str) -> Owner {
    Owner::Jail(jail_name(name))
}

const EVERYWHERE: Bound = Bound::All { v4: true, v6: true };

/// Returns the notes on jails `a`, `b` … with these configurations.
fn told_of(site: &Built, configs: &[JailConfig], around: &HostConditions) -> Vec<String> {
    let mut jails: BTreeMap<JailName, JailConfig> = BTreeMap::new();
    for (letter, config) in "abcdefgh".chars().zip(configs) {
        let mut config = config.clone();
        if config.hostname == "theirs" {
            config.hostname = format!("host-of-{letter}");
        }
        jails.insert(jail_name(&letter.to_string()), config);
    }
    notes(&site.0, &jails, around)
}

#[test]
fn nothing_is_told_of_jails_without_addresses() {
    let mut around = host(&[], false);
    around.listeners.insert(listener(EVERYWHERE, 22, None));
    around.taken.insert((ip("192.0.2.7"), jail("z")));
    for network in [Network::Host, Network::None, Network::Vnet] {
        let of = [addressed(&[], network)];
        assert_eq!(told_of(&installed(), &of, &around), [""; 0]);
    }
    let none = [addressed(&["192.0.2.7"], Network::None)];
    assert_eq!(told_of(&installed(), &none, &around), [""; 0]);
    // Addresses that were not looked up are not missing.
    let of = [addressed(&["192.0.2.7"], Network::Host)];
    let told = told_of(&installed(), &of, &HostConditions::default());
    assert_eq!(told, [""; 0]);
}

#[test]
fn an_address_that_no_interface_has() {
    let of = [
        addressed(&["192.0.2.7/24", "em0|192.0.2.8/24"], Network::Host),
        addressed(&["192.0.2.9/24", "2001:db8::9/64"], Network::Host),
    ];
    let around = host(&["192.0.2.9"], false);
    assert_eq!(
        told_of(&installed(), &of, &around),
        [
            "jails a, b: no interface of this host has 192.0.2.7, 192.0.2.8, 2001:db8::9 \
             (`ip address add 192.0.2.7/24 dev em0`)"
        ]
    );
    // FreeBSD's jail(8) adds an address that has an interface.
    let around = host(&["192.0.2.9"], true);
    let told = told_of(&installed(), &of[..1], &around);
    assert_eq!(told.len(), 1, "{told:#?}");
    let begin = "jail a: no interface of this host has 192.0.2.7 (give it as 'INTERFACE|192.0.2.7/";
    assert!(told[0].starts_with(begin), "{told:#?}");
}

#[test]
fn an_address_that_the_host_would_lose_or_has_itself() {
    let around = host(&["192.0.2.1", "10.0.0.1"], true);
    let of = [addressed(&["em0|192.0.2.1/24"], Network::Host)];
    let told = told_of(&installed(), &of, &around);
    assert_eq!(
        told,
        [
            "jail a: this host already has 192.0.2.1, and loses it when the jail stops: \
             jail(8) removes the addresses that it adds (give the address without its interface)"
        ]
    );
    // The running jail itself has added the address.
    let runs = installed().running("a");
    assert_eq!(told_of(&runs, &of, &around), [""; 0]);
    let of = [addressed(&["bridge0|10.0.0.1/24"], Network::Vnet)];
    assert_eq!(
        told_of(&installed(), &of, &around),
        ["jail a: this host itself has 10.0.0.1"]
    );
    let of = [
        addressed(&["bridge9|10.0.0.2/24"], Network::Vnet),
        addressed(&["em9|192.0.2.3/24"], Network::Host),
    ];
    assert_eq!(
        told_of(&installed(), &of, &around),
        [
            "jail a: this host has no interface bridge9 (`ifconfig -l` lists them)",
            "jail b: this host has no interface em9 (`ifconfig -l` lists them)",
        ]
    );
}

#[test]
fn an_address_of_several() {
    let site = installed().jail("old", addressed(&["em0|192.0.2.7/24"], Network::Host));
    let site = site.jail("off", addressed(&["192.0.2.7/24"], Network::None));
    let mut around = host(&["192.0.2.7", "192.0.2.8"], false);
    around.taken.insert((ip("192.0.2.7"), jail("old")));
    around.taken.insert((ip("192.0.2.7"), jail("a")));
    let other = Owner::Other("jail x of another site".to_owned());
    around.taken.insert((ip("192.0.2.8"), other));
    around.taken.insert((ip("192.0.2.9"), jail("nobody-asked")));
    let of = [addressed(&["192.0.2.7", "192.0.2.8"], Network::Host)];
    assert_eq!(
        told_of(&site, &of, &around),
        [
            "address 192.0.2.7: several have this address: jail a, jail old",
            "address 192.0.2.8: several have this address: jail a, jail x of another site",
        ]
    );
    around.taken.clear();
    let alone = [addressed(&["192.0.2.8"], Network::Host)];
    assert_eq!(told_of(&site, &alone, &around), [""; 0]);
}

#[test]
fn who_listens_there() {
    let mut around = host(&["192.0.2.7", "192.0.2.8", "2001:db8::8"], false);
    let sshd = Owner::Other("sshd".to_owned());
    let v4 = Bound::All {
        v4: true,
        v6: false,
    };
    around.listeners = [
        listener(EVERYWHERE, 22, Some(sshd.clone())),
        listener(v4, 22, Some(sshd)),
        listener(v4, 25, None),
        listener(Bound::One(ip("192.0.2.7")), 53, None),
        listener(Bound::One(ip("192.0.2.99")), 54, None),
        // A listener of the jail's own, and one of a jail that conflicts with the others.
        listener(EVERYWHERE, 80, Some(jail("b"))),
        listener(Bound::One(ip("192.0.2.8")), 81, Some(jail("b"))),
    ]
    .into();
    let of = [
        addressed(&["192.0.2.7"], Network::Host),
        addressed(&["192.0.2.8"], Network::Host),
    ];
    assert_eq!(
        told_of(&installed(), &of, &around),
        [
            "jails a, b: services listen on every address of this host, including those of the jails: \
             tcp 22 (sshd), tcp 25, \
             tcp 80 (jail b) (let them listen on addresses of their own)",
            "jail a: services listen on 192.0.2.7: tcp 53",
        ]
    );
    let v6 = [addressed(&["2001:db8::8"], Network::Host)];
    let told = told_of(&installed(), &v6, &around);
    assert!(told[0].contains("tcp 22 (sshd), tcp 80"), "{told:#?}");
    let own = [addressed(&["10.0.0.2"], Network::Vnet)];
    assert_eq!(told_of(&installed(), &own, &around), [""; 0]);
}

#[test]
fn host_names_and_what_the_host_lacks() {
    let named = |name: &str| JailConfig {
        hostname: name.to_owned(),
        ..config(Kind::Thin, 1)
    };
    let mut around = host(&[], false);
    around.lacks.push(Lack {
        what: "no racct".to_owned(),
        hint: "reboot".to_owned(),
    });
    around.boot.push(Lack {
        what: "jail_enable is not set".to_owned(),
        hint: "sysrc jail_enable=YES".to_owned(),
    });
    around
        .unread
        .push("cannot list the listening services".to_owned());
    let site = installed().jail("old", named("twin"));
    let expected = hostname("a_b").expect_err("not RFC 1123");
    let of = [named("host"), named("twin"), named("a_b"), named("own")];
    assert_eq!(
        told_of(&site, &of, &around),
        [
            "jail a: its host name host is also that of this host".to_owned(),
            format!("jail c: this host cannot set its host name: {expected}"),
            "jails b, old: they all have the host name twin".to_owned(),
            "this host: no racct (reboot)".to_owned(),
            "this host: cannot list the listening services".to_owned(),
            "this host: jail_enable is not set (sysrc jail_enable=YES)".to_owned(),
        ]
    );
}

/// A thousand jails lead to a few lines.
#[test]
fn many_jails_are_told_of_in_few_words() {
    let mut around = host(&[], false);
    around.listeners = (1..=20)
        .map(|port| listener(EVERYWHERE, port, None))
        .collect();
    let jails: BTreeMap<JailName, JailConfig> = (0..1000_u32)
        .map(|n| {
            let address = format!("10.0.{}.{}", n / 250, n % 250 + 1);
            let mut config = addressed(&[&address], Network::Host);
            config.hostname = format!("h{n}");
            (jail_name(&format!("j{n}")), config)
        })
        .collect();
    let told = notes(&installed().0, &jails, &around);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told.iter().all(|line| line.len() < 250), "{told:#?}");
    assert!(told[0].contains("and 995 more: no interface"), "{told:#?}");
    assert!(told[1].contains("tcp 5 and 15 more"), "{told:#?}");
}

#[test]
fn a_plan_concerns_what_it_makes_configures_or_starts() {
    let site = installed().thin("a").thin("b").unfinished("c").running("b");
    let of = |plan: ezz::plan::Plan| -> Vec<String> {
        let found = concerned(&plan, &site.0.inventory);
        found.keys().map(ToString::to_string).collect()
    };
    let all = names(&["a", "b", "c"]);
    assert_eq!(of(start(&site.0, &all).expect("a plan")), ["a", "c"]);
    assert_eq!(of(restart(&site.0, &all).expect("a plan")), ["a", "b", "c"]);
    assert_eq!(of(stop(&site.0, &all).expect("a plan")), [""; 0]);
}

#[test]
fn doctor_tells_it_and_nothing_is_broken_for_it() {
    let site = installed()
        .jail("a", addressed(&["192.0.2.7"], Network::Host))
        .jail("b", addressed(&["192.0.2.7"], Network::Host));
    let facts = Facts {
        around: host(&[], false),
        ..super::doctor::healthy(&site)
    };
    let found = diagnose(&site.0, &facts, false).expect("judged");
    let kinds: Vec<What> = found.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(
        kinds,
        [
            What::AddressMissing,
            What::AddressShared,
            What::HostnameShared
        ]
    );
    for finding in &found.findings {
        assert_eq!(finding.severity, Severity::Info);
        assert!(!finding.repairable);
    }
    let at_boot = diagnose(&site.0, &facts, true).expect("judged");
    assert!(at_boot.findings.is_empty(), "{:#?}", at_boot.findings);
}
