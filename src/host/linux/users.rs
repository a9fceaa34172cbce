//! Users of a jail by name, from the text of its passwd(5) and group(5).
//!
//! Pure. The jail's own resolver (NSS, LDAP) is not asked: that would run its code on the host.

/// Who a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// The name, where it is known.
    pub name: Option<String>,
    /// User id in the jail.
    pub uid: u32,
    /// Group id in the jail.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Looks up `USER` or `USER:GROUP`, each a name or a number; none if there is no such user or
/// group. A number needs no entry in passwd; its group is 0 then.
pub(super) fn lookup(passwd: &str, group: &str, wanted: &str) -> Option<Account> {
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let number: Option<u32> = user.parse().ok();
    let mut account = passwd
        .lines()
        .filter_map(entry)
        .find(|a| a.name.as_deref() == Some(user) || number == Some(a.uid))
        .or_else(|| {
            number.map(|uid| Account {
                name: None,
                uid,
                gid: 0,
                groups: Vec::new(),
                home: "/".to_owned(),
            })
        })?;
    if let Some(wanted) = wanted_group {
        account.gid = match wanted.parse() {
            Ok(gid) => gid,
            Err(_) => members(group).find(|(name, ..)| *name == wanted)?.1,
        };
        return Some(account);
    }
    if let Some(name) = &account.name {
        account.groups = members(group)
            .filter(|(_, _, users)| users.split(',').any(|user| user == name))
            .map(|(_, gid, _)| gid)
            .collect();
    }
    Some(account)
}

fn entry(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, _] = fields.as_slice() else {
        return None;
    };
    if name.is_empty() {
        return None;
    }
    Some(Account {
        name: Some((*name).to_owned()),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        groups: Vec::new(),
        home: if home.starts_with('/') { home } else { "/" }.to_string(),
    })
}

/// Name, number and members of each group.
fn members(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbad line\n+nis\n\
        www:x:33:33:www:/var/www:/usr/sbin/nologin\nweird:x:99999999999:1::/:/bin/sh\n\
        odd:x:7:7::relative:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:\nadm:x:4:www,root\nwww:x:33:\nssl:x:101:www\nbroken\nx:x:y:www\n";

    #[test]
    fn names_and_numbers() {
        let www = lookup(PASSWD, GROUP, "www").expect("known");
        assert_eq!(
            (www.uid, www.gid, www.groups.as_slice()),
            (33, 33, &[4, 101][..])
        );
        assert_eq!(www.home, "/var/www");
        assert_eq!(lookup(PASSWD, GROUP, "33"), Some(www));
        let stranger = lookup(PASSWD, GROUP, "1234").expect("numbers need no entry");
        assert_eq!((stranger.name, stranger.uid, stranger.gid), (None, 1234, 0));
    }

    #[test]
    fn a_group_replaces_all_groups() {
        let www = lookup(PASSWD, GROUP, "www:adm").expect("known");
        assert_eq!((www.gid, www.groups.len()), (4, 0));
        assert_eq!(
            lookup(PASSWD, GROUP, "0:9").map(|a| (a.uid, a.gid)),
            Some((0, 9))
        );
        assert_eq!(lookup(PASSWD, GROUP, "www:nosuch"), None);
    }

    #[test]
    fn hostile_text_gives_nobody() {
        for wanted in [
            "",
            "bad line",
            "+nis",
            "weird",
            "nosuch",
            ":",
            "-1",
            "4294967296",
        ] {
            assert_eq!(lookup(PASSWD, GROUP, wanted), None, "{wanted:?}");
        }
        assert_eq!(
            lookup(PASSWD, GROUP, "odd").map(|a| a.home),
            Some("/".into())
        );
        assert_eq!(lookup("", "", "root"), None);
    }
}
