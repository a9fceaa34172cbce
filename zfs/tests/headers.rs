//! Compares the hand-written declarations with the real headers of libzfslinux-dev.
//!
//! Each Rust signature is written as C, and the C compiler compares it with the function of the header. The test needs
//! the lab, which always has the headers; nothing is compared at build time.
#![cfg(feature = "lab")]
#![expect(clippy::disallowed_methods, reason = "the C compiler is the judge")]

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ezz_zfs::sys::{CONSTANTS, Declaration, declarations};

type Outcome = Result<(), Box<dyn Error>>;

/// Returns the directory with `libzfs_core.h`: the one that was named, the installed one (in the lab's guest that of
/// its own OpenZFS), or the one in the lab's cache.
fn headers() -> Result<PathBuf, Box<dyn Error>> {
    let cache = env::var_os("EZZ_LAB_CACHE").map(PathBuf::from);
    let cached = cache
        .iter()
        .filter_map(|cache| fs::read_dir(cache.join("userland")).ok());
    let candidates = env::var_os("EZZ_ZFS_HEADERS")
        .map(PathBuf::from)
        .into_iter()
        .chain([PathBuf::from("/usr/include/libzfs")])
        .chain(
            cached
                .flatten()
                .flatten()
                .map(|entry| entry.path().join("usr/include/libzfs")),
        );
    for candidate in candidates {
        if candidate.join("libzfs_core.h").is_file() {
            return Ok(candidate);
        }
    }
    Err("no libzfs_core.h: set EZZ_ZFS_HEADERS, or make the lab's userland".into())
}

/// Returns the C type of a Rust type that is spelled as in `sys.rs`.
fn c_type(rust: &str) -> String {
    if let Some(inner) = rust.strip_prefix("*const ") {
        return match inner.strip_prefix('*') {
            // A pointer to a const pointer: the const belongs to the pointer.
            Some(_) => format!("{} const *", c_type(inner)),
            None => format!("const {} *", c_type(inner)),
        };
    }
    if let Some(inner) = rust.strip_prefix("*mut ") {
        return format!("{} *", c_type(inner));
    }
    match rust {
        "()" => "void",
        "c_char" => "char",
        "c_int" => "int",
        "u8" => "uint8_t",
        "i32" => "int32_t",
        "u32" => "uint32_t",
        "i64" => "int64_t",
        "u64" => "uint64_t",
        "NvList" => "nvlist_t",
        "NvPair" => "nvpair_t",
        "Boolean" => "boolean_t",
        "UInt" => "uint_t",
        "DataType" => "data_type_t",
        "LzcDatasetType" => "enum lzc_dataset_type",
        other => other,
    }
    .to_owned()
}

/// Returns a C file that compiles only if every declaration agrees with the headers.
fn c_source(declared: &[Declaration]) -> Result<String, std::fmt::Error> {
    let mut c = String::from(
        "#include <stdint.h>\n#include <sys/types.h>\n\
         #include <libzfs_core.h>\n#include <libnvpair.h>\n",
    );
    for function in declared {
        let mut arguments: Vec<String> = function
            .arguments
            .iter()
            .map(|argument| c_type(argument))
            .collect();
        if arguments.is_empty() {
            arguments.push("void".to_owned());
        }
        writeln!(
            c,
            "_Static_assert(__builtin_types_compatible_p(__typeof__({name}), {returns} ({arguments})), \"{name}\");",
            name = function.name,
            returns = c_type(function.returns),
            arguments = arguments.join(", "),
        )?;
    }
    for (name, value) in CONSTANTS {
        writeln!(c, "_Static_assert({name} == {value}, \"{name}\");")?;
    }
    for (name, size) in [
        ("boolean_t", size_of::<ezz_zfs::sys::Boolean>()),
        ("uint_t", size_of::<ezz_zfs::sys::UInt>()),
        ("data_type_t", size_of::<ezz_zfs::sys::DataType>()),
        (
            "enum lzc_dataset_type",
            size_of::<ezz_zfs::sys::LzcDatasetType>(),
        ),
    ] {
        writeln!(c, "_Static_assert(sizeof ({name}) == {size}, \"{name}\");")?;
    }
    // Enumerations are unsigned; only data_type_t is an int, because it has a negative member.
    writeln!(
        c,
        "_Static_assert((boolean_t)-1 > 0 && (data_type_t)-1 < 0, \"signs\");"
    )?;
    Ok(c)
}

fn compile(headers: &Path, source: &str, name: &str) -> Result<Output, Box<dyn Error>> {
    let file = env::temp_dir().join(format!("ezz-{}-{name}.c", std::process::id()));
    fs::write(&file, source)?;
    // Almost nothing is const in the headers of OpenZFS before 2.2; const does not change a call.
    let nvpair = fs::read_to_string(headers.join("sys/nvpair.h"))?;
    let old = nvpair.contains("nvpair_value_string(nvpair_t *, char **)");
    let output = Command::new("cc")
        .args(old.then_some("-Dconst="))
        .args(["-std=gnu11", "-fsyntax-only", "-D_GNU_SOURCE", "-I"])
        .arg(headers)
        .arg("-I")
        .arg(headers.with_file_name("libspl"))
        .arg(&file)
        .output()?;
    fs::remove_file(&file)?;
    Ok(output)
}

#[test]
fn declarations_are_those_of_the_headers() -> Outcome {
    let all: Vec<Declaration> = declarations().collect();
    for name in ["nvlist_alloc", "lzc_channel_program"] {
        assert!(
            all.iter().any(|function| function.name == name),
            "{name} is not compared"
        );
    }
    let output = compile(&headers()?, &c_source(&all)?, "all")?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn a_wrong_declaration_is_found() -> Outcome {
    let headers = headers()?;
    let find = |name: &str| declarations().find(|function| function.name == name);
    let clone = find("lzc_clone").ok_or("lzc_clone")?;
    let wrong = [
        Declaration {
            arguments: &["*const c_char", "*const c_char", "*mut NvPair"],
            ..clone
        },
        Declaration {
            arguments: &["*const c_char", "*mut NvList"],
            ..clone
        },
        Declaration {
            returns: "u64",
            ..clone
        },
        Declaration {
            arguments: &["*mut NvList", "*const c_char", "*const u64", "UInt"],
            ..find("nvlist_add_int64_array").ok_or("nvlist_add_int64_array")?
        },
    ];
    for (index, declaration) in wrong.iter().enumerate() {
        let output = compile(
            &headers,
            &c_source(&[*declaration])?,
            &format!("wrong{index}"),
        )?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{declaration:?} compiled");
        let failed = format!("static assertion failed: \"{}\"", declaration.name);
        assert!(said.contains(&failed), "{declaration:?}: {said}");
        assert_eq!(said.matches("error:").count(), 1, "{said}");
    }
    Ok(())
}
