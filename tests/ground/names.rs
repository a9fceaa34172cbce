//! Names of jails: which are no jails, since a command that was killed left them.

use crate::sim::{Death, Fault, SimMachine, When};

/// `kill -9` in the middle of a create: what it made is no jail, and no list says so.
#[test]
fn what_a_killed_create_made_is_in_no_list_of_jails() {
    let m = SimMachine::installed(true);
    m.ezz(&["create", "a"]).ok();
    let fault = Fault {
        call: 1,
        when: When::Within(7),
        death: Death::Kill,
    };
    let ended = m.attempt(Some(fault), &["create", "x{1..3}"]);
    assert_eq!(ended.code, None, "{ended:#?}");
    assert_eq!(m.ezz(&["list", "--only-names"]).ok().out, ["a"]);
    let listed = m.ezz(&["list", "--json"]).ok().out;
    let mut left = 0;
    for line in &listed {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if line["jail"] == "a" {
            assert_eq!(line["state"], "stopped");
            continue;
        }
        left += 1;
        assert_eq!(line["state"], "unfinished", "{line}");
        let problem = line["problem"].as_str().expect("it says why");
        assert_eq!(
            problem,
            "its creation was interrupted, or has not ended yet"
        );
    }
    assert!(left > 0, "{listed:#?}");
    m.ezz(&["start", "--all"]).ok();
    m.ezz(&["doctor", "--repair"]).ok();
    assert_eq!(m.ezz(&["list", "--only-names"]).ok().out, ["a"]);
}
