//! The names of a jail in its own files: /etc/hostname, and a line in /etc/hosts, without which sudo(8) and `hostname
//! -f` do not find the jail's name.
//!
//! Both follow the jail's host name as long as they are unchanged since ezz wrote them. The line has a mark, so that
//! the jail's administrator may change the rest of the file, or remove the mark and own the line. This module has only
//! the text, and must not read or write files.

/// The end of ezz's line in /etc/hosts.
const MARK: &str = "# the name of this jail, kept by ezz";

/// The address that Debian gives to the name of a machine that may have no other address.
const ADDRESS: &str = "127.0.1.1";

/// Returns the text of /etc/hosts for a jail that has none.
pub(super) fn new_hosts(fresh: &str, hostname: &str) -> String {
    format!("{fresh}{}", line(hostname))
}

/// Returns /etc/hosts with the jail's name; none if it has the name already, or belongs to the jail's administrator.
/// `fresh` is its text in a world.
pub(super) fn hosts(text: &str, fresh: &str, hostname: &str) -> Option<String> {
    let wanted = line(hostname);
    if text.lines().any(is_marked) {
        let mut new = String::with_capacity(text.len() + wanted.len());
        let mut done = false;
        for old in text.split_inclusive('\n') {
            if !is_marked(old.trim_end()) {
                new += old;
            } else if !done {
                new += &wanted;
                done = true;
            }
        }
        return (new != text).then_some(new);
    }
    (text == fresh || unmarked(text, fresh).is_some()).then(|| new_hosts(fresh, hostname))
}

/// Returns the name that ezz has written into /etc/hosts.
pub(super) fn named<'a>(text: &'a str, fresh: &str) -> Option<&'a str> {
    let marked = text.lines().find(|line| is_marked(line));
    let marked = marked.and_then(|line| line.split_whitespace().nth(1));
    marked.or_else(|| unmarked(text, fresh))
}

/// Reports whether /etc/hostname follows the host name: it has the name that ezz wrote before.
pub(super) fn hostname_follows(text: &str, before: Option<&str>, hostname: &str) -> bool {
    let found = text.trim();
    found != hostname && before == Some(found)
}

/// Returns the name in a file that was written by an older ezz, which made no mark.
fn unmarked<'a>(text: &'a str, fresh: &str) -> Option<&'a str> {
    let line = text.strip_prefix(fresh)?.strip_suffix('\n')?;
    let name = line.strip_prefix(ADDRESS)?.strip_prefix('\t')?;
    let plain = !name.is_empty() && !name.contains(char::is_whitespace);
    plain.then_some(name)
}

fn is_marked(line: &str) -> bool {
    line.starts_with(ADDRESS) && line.trim_end().ends_with(MARK)
}

/// Returns the line: the whole name comes first and then its first part, as hosts(5) requires.
fn line(hostname: &str) -> String {
    match hostname.split_once('.') {
        Some((short, _)) => format!("{ADDRESS}\t{hostname} {short}\t{MARK}\n"),
        None => format!("{ADDRESS}\t{hostname}\t{MARK}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: &str = "127.0.0.1\tlocalhost\n";

    #[test]
    fn the_name_follows_until_somebody_changes_it() {
        let first = new_hosts(FRESH, "web1");
        assert_eq!(hosts(FRESH, FRESH, "web1").as_deref(), Some(&*first));
        assert_eq!(hosts(&first, FRESH, "web1"), None);
        assert_eq!(named(&first, FRESH), Some("web1"));
        let second = hosts(&first, FRESH, "www.example.org").expect("changed");
        assert_eq!(second, new_hosts(FRESH, "www.example.org"));
        assert!(second.contains("127.0.1.1\twww.example.org www\t# "));
        // Lines of the administrator stay where they are.
        let own = format!("10.0.0.1 db\n{second}10.0.0.2 mail\n");
        let third = hosts(&own, FRESH, "web3").expect("changed");
        let expected = format!("10.0.0.1 db\n{}10.0.0.2 mail\n", new_hosts(FRESH, "web3"));
        assert_eq!(third, expected);
        // Without the mark the line is the administrator's, and so is the file.
        let theirs = third.replace(MARK, "");
        assert_eq!(hosts(&theirs, FRESH, "web4"), None);
        assert_eq!(named(&theirs, FRESH), None);
        assert_eq!(hosts("10.0.0.1 db\n", FRESH, "web4"), None);
        // A line that was copied by mistake exists only once afterwards.
        let twice = format!("{first}{first}");
        let once = hosts(&twice, FRESH, "web1").expect("changed");
        assert_eq!(once.matches(MARK).count(), 1);
    }

    #[test]
    fn what_an_older_ezz_wrote_follows_too() {
        let old = format!("{FRESH}127.0.1.1\tweb1\n");
        assert_eq!(named(&old, FRESH), Some("web1"));
        let new = hosts(&old, FRESH, "web2").expect("changed");
        assert_eq!(new, new_hosts(FRESH, "web2"));
        assert!(hostname_follows("web1\n", named(&old, FRESH), "web2"));
        assert!(!hostname_follows("mine\n", named(&old, FRESH), "web2"));
        assert!(!hostname_follows("web2\n", Some("web2"), "web2"));
        assert!(!hostname_follows("web1\n", None, "web2"));
        assert_eq!(named(&format!("{FRESH}127.0.1.1\ta b\n"), FRESH), None);
    }
}
