//! Converts the containers project's seccomp profile into the form of the OCI runtime specification. It evaluates the
//! conditions on architecture, capabilities and kernel.
//!
//! This module is pure: the text comes from its caller. The profile decides which system calls are allowed. Format:
//! containers-common, `pkg/seccomp/seccomp.json`, documented in its `types.go`.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};
use serde::Deserialize;

/// The paths of the profile in Debian's golang-github-containers-common and similar packages. The first one is the
/// administrator's own.
pub(super) const PROFILES: [&str; 2] = [
    "/etc/containers/seccomp.json",
    "/usr/share/containers/seccomp.json",
];

/// The values that the conditions of a profile refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine<'a> {
    /// The architecture as Rust names it, `std::env::consts::ARCH`.
    pub arch: &'a str,
    /// The capabilities that the jail's processes may have.
    pub capabilities: &'a [&'a str],
    /// The major and minor number of the kernel's version.
    pub kernel: (u32, u32),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    arch_map: Vec<Family>,
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: String,
    #[serde(default)]
    sub_architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    caps: Vec<String>,
    min_kernel: Option<String>,
}

/// Converts a profile for this machine.
///
/// # Errors
/// Returns an error if the text is not a profile, or if seccomp has no name for the machine's architecture.
pub(super) fn convert(text: &str, machine: Machine<'_>) -> Result<LinuxSeccomp, serde_json::Error> {
    let profile: Profile = serde_json::from_str(text)?;
    let (go, native) = names(machine.arch);
    let mut architectures = vec![native.to_owned()];
    if let Some(family) = profile.arch_map.iter().find(|f| f.architecture == native) {
        architectures.extend(family.sub_architectures.iter().cloned());
    }
    let architectures: Vec<Arch> = architectures
        .into_iter()
        .map(|name| serde_json::from_value(serde_json::Value::String(name)))
        .collect::<Result<_, _>>()?;
    let syscalls: Vec<LinuxSyscall> = profile
        .syscalls
        .into_iter()
        .filter(|rule| applies(rule, go, machine))
        .map(Rule::into_oci)
        .collect();
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(profile.default_action)
        .set_default_errno_ret(profile.default_errno_ret)
        .set_architectures(Some(architectures))
        .set_syscalls(Some(syscalls));
    Ok(seccomp)
}

/// The flag of clone(2) and unshare(2) that requests a user namespace.
const CLONE_NEWUSER: u64 = 0x1000_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Removes from a profile what creates user namespaces. In a user namespace of its own, root of a jail has every
/// capability. With them it reaches parts of the kernel that are otherwise closed to the jail: mounts, netfilter,
/// packet sockets.
///
/// clone3(2) has its flags in memory, where seccomp cannot look. It fails as on a kernel without it, and the C library
/// falls back to clone(2).
///
/// # Errors
/// Returns an error for a rule that cannot be written, which would be a bug in ezz.
pub(super) fn deny_user_namespaces(
    seccomp: &mut LinuxSeccomp,
    arch: &str,
) -> Result<(), OciSpecError> {
    let mut rules = seccomp.syscalls().clone().unwrap_or_default();
    for rule in &mut rules {
        let others = rule.names().iter();
        let others = others.filter(|name| !["clone", "clone3", "unshare"].contains(&name.as_str()));
        rule.set_names(others.cloned().collect());
    }
    rules.retain(|rule| !rule.names().is_empty());
    // clone(2): on s390x the order of the arguments is different.
    let flags_of_clone = usize::from(arch == "s390x");
    for (name, index) in [("clone", flags_of_clone), ("unshare", 0)] {
        for (action, errno, bit) in [
            (LinuxSeccompAction::ScmpActAllow, None, 0_u64),
            (LinuxSeccompAction::ScmpActErrno, Some(EPERM), CLONE_NEWUSER),
        ] {
            let flags = LinuxSeccompArgBuilder::default()
                .index(index)
                .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
                .value(CLONE_NEWUSER)
                .value_two(bit)
                .build()?;
            rules.push(rule(name, action, errno, Some(vec![flags])));
        }
    }
    let action = LinuxSeccompAction::ScmpActErrno;
    rules.push(rule("clone3", action, Some(ENOSYS), None));
    seccomp.set_syscalls(Some(rules));
    Ok(())
}

fn rule(
    name: &str,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
) -> LinuxSyscall {
    let mut syscall = LinuxSyscall::default();
    syscall
        .set_names(vec![name.to_owned()])
        .set_action(action)
        .set_errno_ret(errno)
        .set_args(args);
    syscall
}

impl Rule {
    fn into_oci(self) -> LinuxSyscall {
        let mut syscall = LinuxSyscall::default();
        syscall
            .set_names(self.names)
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args(self.args.filter(|args| !args.is_empty()));
        syscall
    }
}

/// Reports whether a rule applies: all of its `includes` and none of its `excludes` hold.
fn applies(rule: &Rule, arch: &str, machine: Machine<'_>) -> bool {
    let has = |cap: &String| machine.capabilities.contains(&cap.as_str());
    let new_enough = |text: &String| version(text).is_none_or(|wanted| machine.kernel >= wanted);
    let included = rule.includes.as_ref().is_none_or(|c| {
        (c.arches.is_empty() || c.arches.iter().any(|a| a == arch))
            && c.caps.iter().all(has)
            && c.min_kernel.as_ref().is_none_or(new_enough)
    });
    let excluded = rule.excludes.as_ref().is_some_and(|c| {
        c.arches.iter().any(|a| a == arch)
            || c.caps.iter().any(has)
            || c.min_kernel.as_ref().is_some_and(new_enough)
    });
    included && !excluded
}

/// Returns the major and minor number of a kernel release such as `6.1.0-18-amd64`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Returns the names of an architecture in conditions, which are those of Go, and in seccomp.
fn names(arch: &str) -> (&str, &'static str) {
    match arch {
        "x86_64" => ("amd64", "SCMP_ARCH_X86_64"),
        "x86" => ("386", "SCMP_ARCH_X86"),
        "aarch64" => ("arm64", "SCMP_ARCH_AARCH64"),
        "arm" => ("arm", "SCMP_ARCH_ARM"),
        "powerpc64" => ("ppc64le", "SCMP_ARCH_PPC64LE"),
        "s390x" => ("s390x", "SCMP_ARCH_S390X"),
        "riscv64" => ("riscv64", "SCMP_ARCH_RISCV64"),
        other => (other, "SCMP_ARCH_NATIVE"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
      "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
      "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EPERM"},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}]}"#;

    fn rules(arch: &str, capabilities: &[&str], kernel: (u32, u32)) -> Vec<String> {
        let machine = Machine {
            arch,
            capabilities,
            kernel,
        };
        let seccomp = convert(TEXT, machine).expect("valid");
        let none = Vec::new();
        let all = seccomp.syscalls().as_ref().unwrap_or(&none);
        all.iter()
            .map(|s| format!("{} {}", s.names().join("+"), s.action()))
            .collect()
    }

    #[test]
    fn conditions_are_decided() {
        assert_eq!(
            rules("x86_64", &["CAP_SYS_CHROOT"], (6, 1)),
            [
                "read+write SCMP_ACT_ALLOW",
                "kexec_load SCMP_ACT_ERRNO",
                "arch_prctl SCMP_ACT_ALLOW",
                "bpf SCMP_ACT_ERRNO",
                "chroot SCMP_ACT_ALLOW",
                "ptrace SCMP_ACT_ALLOW",
                "personality SCMP_ACT_ALLOW",
            ]
        );
        assert_eq!(
            rules("aarch64", &["CAP_SYS_ADMIN"], (4, 4)),
            [
                "read+write SCMP_ACT_ALLOW",
                "kexec_load SCMP_ACT_ERRNO",
                "bpf SCMP_ACT_ALLOW",
                "personality SCMP_ACT_ALLOW",
            ]
        );
    }

    #[test]
    fn the_result_is_what_the_runtime_specification_says() {
        let machine = Machine {
            arch: "aarch64",
            capabilities: &[],
            kernel: (6, 1),
        };
        let seccomp = convert(TEXT, machine).expect("valid");
        let value = serde_json::to_value(&seccomp).expect("serialises");
        assert_eq!(value["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(value["defaultErrnoRet"], 38);
        assert_eq!(
            value["architectures"],
            serde_json::json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])
        );
        assert_eq!(value["syscalls"][0].get("args"), None);
        assert_eq!(value["syscalls"][1]["errnoRet"], 1);
        assert_eq!(value["syscalls"][4]["args"][0]["op"], "SCMP_CMP_EQ");
    }

    #[test]
    fn user_namespaces_can_be_denied() {
        let machine = Machine {
            arch: "x86_64",
            capabilities: &[],
            kernel: (6, 1),
        };
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["clone", "clone3", "read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["unshare"], "action": "SCMP_ACT_ALLOW"}]}"#;
        let mut seccomp = convert(text, machine).expect("valid");
        deny_user_namespaces(&mut seccomp, "x86_64").expect("denied");
        let value = serde_json::to_value(&seccomp).expect("serialises");
        let of = |name: &str| -> Vec<&serde_json::Value> {
            let rules = value["syscalls"].as_array().expect("rules").iter();
            let names = |rule: &serde_json::Value| rule["names"].as_array().cloned();
            rules
                .filter(|rule| names(rule).is_some_and(|names| names.contains(&name.into())))
                .collect()
        };
        assert_eq!(of("read")[0]["action"], "SCMP_ACT_ALLOW");
        for name in ["clone", "unshare"] {
            let [allowed, denied] = of(name)[..] else {
                panic!("{value:#}");
            };
            assert_eq!(allowed["action"], "SCMP_ACT_ALLOW");
            assert_eq!(denied["action"], "SCMP_ACT_ERRNO");
            assert_eq!(denied["errnoRet"], 1);
            for (rule, bit) in [(allowed, 0), (denied, 0x1000_0000)] {
                let arg = &rule["args"][0];
                assert_eq!(arg["op"], "SCMP_CMP_MASKED_EQ");
                assert_eq!(
                    (&arg["value"], &arg["valueTwo"]),
                    (&0x1000_0000.into(), &bit.into())
                );
            }
        }
        let [hidden] = of("clone3")[..] else {
            panic!("{value:#}");
        };
        assert_eq!(
            (&hidden["action"], &hidden["errnoRet"]),
            (&"SCMP_ACT_ERRNO".into(), &38.into())
        );
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let machine = Machine {
            arch: "x86_64",
            capabilities: &[],
            kernel: (6, 1),
        };
        assert!(convert("{}", machine).is_err());
        assert!(convert("", machine).is_err());
        let unknown = Machine {
            arch: "pdp11",
            ..machine
        };
        assert!(convert(TEXT, unknown).is_ok());
    }

    #[test]
    fn kernel_releases_parse() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.12.95+deb13"), Some((6, 12)));
        assert_eq!(version("x"), None);
    }
}
