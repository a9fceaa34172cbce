//! Tests with honest and with hostile account files.

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbad line\n+nis\n\
    www:x:33:33:www:/var/www:/usr/sbin/nologin\nodd:x:7:7::relative:/bin/sh\n";
const GROUP: &str = "root:x:0:\nadm:x:4:www,root\nwww:x:33:\nssl:x:101:www\nbroken\nx:x:y:www\n";

fn account_of(
    passwd: &str,
    group: &str,
    wanted: Option<&str>,
    ids: JailIds,
) -> Result<Account, AccountError> {
    Wanted::parse(wanted, ids)?.account(passwd.as_bytes(), group.as_bytes(), ids)
}

/// Returns the account in a jail with ids of its own.
fn account(passwd: &str, group: &str, wanted: &str) -> Result<Account, AccountError> {
    account_of(passwd, group, Some(wanted), JailIds::Own)
}

/// Returns the account of a command for which no user is requested.
fn root(passwd: &str, group: &str) -> Result<Account, AccountError> {
    account_of(passwd, group, None, JailIds::Own)
}

/// Returns the numbers of an account: user, group, supplementary groups.
fn numbers(account: &Account) -> (u32, u32, Vec<u32>) {
    let groups = account.groups.iter().map(|gid| gid.get());
    (account.uid.get(), account.gid.get(), groups.collect())
}

#[track_caller]
fn gives(passwd: &str, group: &str, wanted: &str, expected: (u32, u32, &[u32])) {
    let found = account(passwd, group, wanted).expect("an account");
    let (uid, gid, groups) = numbers(&found);
    assert_eq!((uid, gid, groups.as_slice()), expected, "{wanted}");
}

/// Checks the message of a refusal.
#[track_caller]
fn refused(result: Result<Account, AccountError>, words: &[&str]) {
    let text = result.expect_err("a refusal").to_string();
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

#[test]
fn names_and_numbers() {
    let www = account(PASSWD, GROUP, "www").expect("known");
    assert_eq!(numbers(&www), (33, 33, vec![4, 101]));
    assert_eq!((www.name.as_deref(), &*www.home), (Some("www"), "/var/www"));
    assert_eq!(account(PASSWD, GROUP, "33"), Ok(www));
    let stranger = account(PASSWD, GROUP, "1234").expect("numbers need no entry");
    assert_eq!(numbers(&stranger), (1234, 0, vec![]));
    assert_eq!((stranger.name, &*stranger.home), (None, "/"));
    let odd = account(PASSWD, GROUP, "odd").expect("known");
    assert_eq!(odd.home, "/");
}

#[test]
fn a_group_replaces_all_groups() {
    gives(PASSWD, GROUP, "www:adm", (33, 4, &[]));
    gives(PASSWD, GROUP, "www:65535", (33, 65_535, &[]));
    gives(PASSWD, GROUP, "0:9", (0, 9, &[]));
    gives(PASSWD, GROUP, "1234:adm", (1234, 4, &[]));
    assert_eq!(
        account(PASSWD, GROUP, "www:nosuch"),
        Err(AccountError::NoGroup("nosuch".to_owned()))
    );
}

#[test]
fn who_is_not_there_is_nobody() {
    for wanted in [
        "", "bad line", "+nis", "nosuch", "-1", "+33", " 33", "33 ", "0x21",
    ] {
        let missing = AccountError::NoUser(wanted.to_owned());
        assert_eq!(account(PASSWD, GROUP, wanted), Err(missing), "{wanted:?}");
    }
    for (wanted, group) in [("0:", ""), ("0:-1", "-1"), ("0:+4", "+4"), ("0:1:2", "1:2")] {
        let missing = AccountError::NoGroup(group.to_owned());
        assert_eq!(account(PASSWD, GROUP, wanted), Err(missing), "{wanted:?}");
    }
    // No name finds an entry without a name.
    let nameless = format!(":x:0:0::/:\n{PASSWD}");
    refused(account(&nameless, ":x:0:\n", ""), &["no user"]);
    refused(account(&nameless, ":x:0:\n", "www:"), &["no group"]);
}

/// To setresuid(2), (uid_t)-1 means "no change": the process would stay the host's root.
#[test]
fn numbers_that_the_jail_does_not_have_are_refused() {
    for number in [
        "65536",
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551615",
    ] {
        let all = format!(
            "user:x:{number}:33::/:\ngroup:x:33:{number}::/:\nmember:x:34:34::/:\n{PASSWD}"
        );
        let groups = format!("evil:x:{number}:member,other\n{GROUP}");
        let outside = [number, "0 to 65535"];
        refused(
            account(&all, &groups, "user"),
            &[&outside[..], &["/etc/passwd", "\"user\"", "user id"]].concat(),
        );
        refused(
            account(&all, &groups, "group"),
            &[&outside[..], &["/etc/passwd", "\"group\"", "group id"]].concat(),
        );
        for wanted in ["member", "34", "33:evil", "www:evil"] {
            refused(
                account(&all, &groups, wanted),
                &[&outside[..], &["/etc/group", "\"evil\""]].concat(),
            );
        }
        // A number in the request is not the jail's fault.
        for wanted in [number, &format!("{number}:0"), &format!("www:{number}")] {
            let asked = account(PASSWD, GROUP, wanted);
            assert!(matches!(asked, Err(AccountError::Asked { .. })), "{wanted}");
            refused(asked, &outside);
        }
        // Other accounts are not affected.
        gives(&all, &groups, "www", (33, 33, &[4, 101]));
        gives(&all, &groups, "group:33", (33, 33, &[]));
        gives(&all, &groups, "member:34", (34, 34, &[]));
    }
}

#[test]
fn the_last_id_is_one() {
    let passwd = "last:x:65535:65535::/:\nzeros:x:00065535:00::/:\n";
    let group = "top:x:65535:last\n";
    gives(passwd, group, "last", (65_535, 65_535, &[65_535]));
    gives(passwd, group, "zeros", (65_535, 0, &[]));
    gives(passwd, group, "65535:65535", (65_535, 65_535, &[]));
    gives(passwd, group, "0000:00", (0, 0, &[]));
}

/// Without a user namespace, the jail has the host's ids, except for the one that is not an id.
#[test]
fn a_jail_with_the_hosts_ids_has_all_but_the_last() {
    let passwd = "far:x:4294967294:65536::/:\nevil:x:4294967295:0::/:\nroot:x:0:4294967295::/:\n";
    let group = "evil:x:4294967295:far\n";
    let of = |wanted| account_of(passwd, group, wanted, JailIds::OfHost);
    let far = of(Some("far:65536")).expect("an account");
    assert_eq!(numbers(&far), (4_294_967_294, 65_536, vec![]));
    for wanted in [
        None,
        Some("evil"),
        Some("far"),
        Some("far:evil"),
        Some("4294967295"),
    ] {
        refused(of(wanted), &["4294967295", "0 to 4294967294"]);
    }
}

#[test]
fn without_a_user_it_is_root() {
    let found = root(PASSWD, GROUP).expect("an account");
    assert_eq!(numbers(&found), (0, 0, vec![4]));
    let own = "toor:x:0:5::/home:/bin/sh\nroot:x:0:0::/root:\n";
    let first = root(own, "").expect("an account");
    assert_eq!(
        (first.name.as_deref(), numbers(&first)),
        (Some("toor"), (0, 5, vec![]))
    );
    // This holds even in a jail that has lost its passwd, or in which another account is called root.
    for passwd in [
        "",
        "root:x:1:1::/:\n",
        "root:x:4294967295:0::/:\n",
        "root:x:-1:-1::/:\n",
    ] {
        let lost = root(passwd, "adm:x:4:root\n").expect("an account");
        assert_eq!((lost.name.as_deref(), &*lost.home), (Some("root"), "/root"));
        assert_eq!(numbers(&lost), (0, 0, vec![]), "{passwd}");
        let asked = account(passwd, "adm:x:4:root\n", "0");
        assert_eq!(asked, Ok(lost));
    }
}

/// No file of the jail can prevent access as root by numbers.
#[test]
fn two_numbers_need_no_file() {
    let (passwd, group) = ("root:x:0:4294967295::/:\n", "evil:x:4294967295:root\n");
    refused(root(passwd, ""), &["\"root\"", "group id 4294967295"]);
    refused(root(PASSWD, group), &["/etc/group", "\"evil\""]);
    gives(passwd, group, "0:0", (0, 0, &[]));
    let needs = |wanted| {
        let wanted = Wanted::parse(wanted, JailIds::Own).expect("it is good");
        (wanted.needs_passwd(), wanted.needs_group())
    };
    assert_eq!(needs(Some("0:0")), (false, false));
    assert_eq!(needs(Some("www:0")), (true, false));
    assert_eq!(needs(Some("0:www")), (false, true));
    for both in [None, Some("0"), Some("www"), Some("www:www")] {
        assert_eq!(needs(both), (true, true), "{both:?}");
    }
}

/// The first entry counts, as with getpwnam(3).
#[test]
fn the_first_entry_of_a_name_counts() {
    let passwd = format!("www:x:80:80::/first:\n{PASSWD}also:x:80:81::/second:\n");
    let group = format!("adm:x:40:\n{GROUP}");
    gives(&passwd, &group, "www", (80, 80, &[4, 101]));
    gives(&passwd, &group, "80", (80, 80, &[4, 101]));
    gives(&passwd, &group, "www:adm", (80, 40, &[]));
    // The second entry does not count even if the first one cannot be used.
    let passwd = format!("www:x:4294967295:80::/:\n{PASSWD}");
    refused(account(&passwd, GROUP, "www"), &["4294967295"]);
}

#[test]
fn digits_are_a_number_and_no_name() {
    let passwd = format!("33:x:0:0::/:\n0:x:5:5::/:\n{PASSWD}");
    let group = format!("33:x:0:\n{GROUP}");
    gives(&passwd, &group, "33", (33, 33, &[4, 101]));
    gives(&passwd, &group, "www:33", (33, 33, &[]));
    let found = root(&passwd, &group).expect("an account");
    assert_eq!(numbers(&found), (0, 0, vec![]));
}

#[test]
fn a_line_that_is_no_entry_is_passed_over() {
    let long = "n".repeat(NAME_MAX);
    let far = format!("/{}", "h".repeat(HOME_MAX));
    let mut passwd = Vec::new();
    for line in [
        &b"www:x:1:1::/a\0b:"[..],
        b"www:x:1:1::/a\x1b[m:",
        b"www:x:1:1::/a\x7f:",
        b"www:x:1:1::/\xff:",
        b"w\0w:x:1:1::/:",
        b"\xff:x:1:1::/:",
        b"www:x:-1:1::/:",
        b"www:x:1:-1::/:",
        b"www:x:+1:1::/:",
        b"www:x::1::/:",
        b"www:x:1:::/:",
        b"www:x: 1:1::/:",
        b"www:x:1:1::/",
        b"www:x:1:1::/:/bin/sh:",
        b"#www:x:1:1::/:",
        b"+www:x:1:1::/:",
        b" www:x:1:1::/:",
        b"::::::",
    ] {
        passwd.extend_from_slice(line);
        passwd.push(b'\n');
    }
    passwd.extend_from_slice(format!("{long}:x:1:1::/:\nwww:x:1:1::{far}:\n").as_bytes());
    passwd.extend_from_slice(PASSWD.as_bytes());
    let ids = JailIds::Own;
    let of = |wanted| Wanted::parse(Some(wanted), ids)?.account(&passwd, GROUP.as_bytes(), ids);
    assert_eq!(of("www"), account(PASSWD, GROUP, "www"));
    for wanted in ["w\0w", "\u{fffd}", "#www", "+www", " www", &long] {
        refused(of(wanted), &["no user"]);
    }
}

#[test]
fn large_files_are_read_to_their_end() {
    let mut passwd = String::new();
    let mut group = String::new();
    for number in 0..100_000 {
        passwd += &format!(
            "user{number}:x:{0}:{0}::/home/user{number}:/bin/sh\n",
            number % 60_000
        );
        group += &format!("group{number}:x:{}:user{number},last\n", number % 60_000);
    }
    passwd += "last:x:65535:65535::/last:/bin/sh\n";
    let last = account(&passwd, &group, "last").expect("an account");
    assert_eq!((last.uid.get(), last.groups.len()), (65_535, 60_000));
    gives(&passwd, &group, "user99999", (39_999, 39_999, &[39_999]));
}

#[test]
fn no_process_has_more_groups_than_the_kernel_takes() {
    let lines = |count: u32| -> String {
        let line = |gid| format!("g:x:{gid}:www\n");
        (0..count).map(line).collect()
    };
    let of = |count| account_of(PASSWD, &lines(count), Some("www"), JailIds::OfHost);
    let most = of(65_536).expect("an account");
    assert_eq!(most.groups.len(), 65_536);
    refused(of(65_537), &["\"www\"", "65536 groups"]);
    // A group that lists a user more than once counts once.
    let often = "g:x:4:www\n".repeat(200_000);
    gives(PASSWD, &often, "www", (33, 33, &[4]));
}
