//! A test of the inspector itself: it finds nothing on a correct site. `bare::inspector` tests what it does find.

use crate::inspect;
use crate::support::*;

#[test]
fn a_site_that_is_right_has_no_violation() {
    assert_eq!(inspect::site(SITE), [""; 0]);
    install_small();
    ezz(&["create", "a", "b", "--quota", "1G"]).ok();
    ezz(&["create", "p", "--pin", "2"]).ok();
    ezz(&["create", "big", "--thick"]).ok();
    ezz(&["track", "create", "other"]).ok();
    ezz(&["start", "a", "big"]).ok();
    assert_eq!(inspect::site(SITE), [""; 0]);
    ezz(&["stop", "--all"]).ok();
    ezz(&["delete", "b", "--yes"]).ok();
    assert_eq!(inspect::site(SITE), [""; 0]);
    assert_eq!(inspect::at_any_moment(SITE), [""; 0]);
    let epoch = inspect::epoch(SITE).expect("a number");
    assert_eq!(epoch.to_string(), property(SITE, "ezz:epoch"));
}
