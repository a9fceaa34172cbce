//! The containers project's seccomp profile, turned into the form of the OCI runtime
//! specification: conditions on architecture, capabilities and kernel are decided here.
//!
//! Pure: the text comes from outside. Which system calls are allowed is the profile's business.
//! Format: containers-common, `pkg/seccomp/seccomp.json`, documented in its `types.go`.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};
use serde::Deserialize;

/// Where Debian's golang-github-containers-common and its peers put the profile; the first is the
/// administrator's own.
pub(super) const PROFILES: [&str; 2] = [
    "/etc/containers/seccomp.json",
    "/usr/share/containers/seccomp.json",
];

/// What the conditions of a profile are about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine<'a> {
    /// As Rust names it, `std::env::consts::ARCH`.
    pub arch: &'a str,
    /// The capabilities that the jail's processes may have.
    pub capabilities: &'a [&'a str],
    /// Major and minor number of the kernel.
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
/// The text is not a profile, or the machine's architecture has no name in seccomp.
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

/// A rule counts if all of its `includes` and none of its `excludes` hold.
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

/// Major and minor number of a kernel release such as `6.1.0-18-amd64`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The names of an architecture in conditions (those of Go) and in seccomp.
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
