//! Unusual names, parameters and paths: they arrive unchanged, or are refused.

use super::{Bench, Why, is_stopped, runs, start_of};

/// Texts that try to break out of a quote, a word, a line or a file.
const HOSTILE: [&str; 14] = [
    "a b",
    "a\tb",
    "a#b",
    "a//b /* c",
    "a\\b\\",
    "a'b",
    "a\"b\"",
    "'; exec.prestart = 'touch /tmp/hurt",
    "}\nroot { path = /; }",
    "$x ${path} $(id) `id`",
    "a;b&c|d>e",
    "é 日本 a\\040b\\n",
    "\u{85}",
    "\u{1}\u{7f}",
];

pub fn names(bench: &dyn Bench) -> Result<(), Why> {
    let more = [
        "", "-a", "1", "a.b", "a_b", "..", "A", "a/b", "*", "a=b", "basejail",
    ];
    for name in HOSTILE.iter().chain(&more) {
        let refused = bench.ezz(&["create", "--", name]);
        assert!([1, 2].contains(&refused.code), "{name:?}: {refused:#?}");
        assert!(!refused.err.contains("panicked"), "{refused:#?}");
    }
    for hostname in HOSTILE.iter().chain(&["", "-a", "a..b", "a_b"]) {
        let hostname = format!("--hostname={hostname}");
        bench.ezz(&["create", "a", &hostname]).exits(2);
    }
    assert_eq!(bench.ezz(&["list", "--only-names"]).ok().out.trim(), "");
    Ok(())
}

pub fn words(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "a", "--start"]).ok();
    let run = |word: &str| {
        bench.ezz(&[
            "exec",
            "a",
            "--",
            "sh",
            "-c",
            "[ \"$1\" = \"$2\" ]; exit 0",
            "sh",
            word,
        ])
    };
    for word in HOSTILE {
        run(word).ok();
    }
    runs(bench, "a");
    Ok(())
}

pub fn parameters(bench: &dyn Bench) -> Result<(), Why> {
    bench.commands("a")?;
    // No property can hold a control character unescaped: a value with one arrives, or is refused beforehand.
    let (last, all) = (HOSTILE.len() - 2, HOSTILE.map(|text| format!("say {text}")));
    let of = |jail: &str, values: &[String]| {
        let values: Vec<String> = values
            .iter()
            .map(|it| format!("exec.poststart={it}"))
            .collect();
        let mut line = vec!["create", jail, "--start"];
        line.extend(values.iter().flat_map(|value| ["--param", value.as_str()]));
        bench.ezz(&line)
    };
    let ran = |jail: &str| -> Result<Vec<String>, Why> {
        let ran = bench.commands(jail)?;
        assert!(
            !ran.iter()
                .any(|(parameter, _)| parameter == "exec.prestart")
        );
        let after = ran
            .into_iter()
            .filter(|(parameter, _)| parameter == "exec.poststart");
        Ok(after.map(|(_, text)| text).collect())
    };
    of("a", &all[..last]).ok();
    runs(bench, "a");
    assert_eq!(ran("a")?, all[..last]);
    bench.ezz(&["stop", "a"]).ok();
    is_stopped(bench, "a");
    for text in &all[last..] {
        let made = of("b", std::slice::from_ref(text));
        if made.code == 0 {
            assert_eq!(ran("b")?, std::slice::from_ref(text));
            bench.ezz(&["delete", "b", "--yes"]).ok();
        }
        assert!(!bench.directory().join("b").exists(), "{made:#?}");
        assert!(!made.err.contains("panicked"), "{made:#?}");
    }
    for bad in [
        "exec.poststart=a\0b",
        "path=/",
        "name=x",
        "exec.x'=1",
        "a b=c",
        "$x=1",
        "exec.fib",
        "allow.everything",
        "mount.fstab=/etc/fstab",
    ] {
        let refused = bench.ezz(&["create", "bad", "--param", bad, "--start"]);
        assert_ne!(refused.code, 0, "{bad:?}: {refused:#?}");
        assert_eq!(start_of(bench, "bad"), None, "{bad:?}");
        assert_eq!(bench.mounts("bad"), [""; 0], "{bad:?}");
        if refused.code != 2 {
            bench.ezz(&["delete", "bad", "--yes"]);
        }
    }
    Ok(())
}

/// Lines of fstab(5), written for a jail(8) that cuts them at blanks and reads them through strunvis(3). jail(8) cuts a
/// line at `#` only in a file.
pub fn own_mounts(bench: &dyn Bench) -> Result<(), Why> {
    bench.ezz(&["create", "b"]).ok();
    let (mut params, mut expected) = (Vec::new(), Vec::new());
    for (index, name) in ["with blank", "with\ttab", "with#hash", "with\\slash"]
        .into_iter()
        .enumerate()
    {
        let from = bench.outside(name)?;
        let at = format!("/mnt/{index} {name}");
        let target = bench.directory().join(format!("b{at}"));
        std::fs::create_dir_all(&target).expect("it can be made");
        let (source, target) = (from.to_str().expect("text"), target.to_str().expect("text"));
        let escaped = |text: &str| {
            let with = [
                ('\\', "\\134"),
                (' ', "\\040"),
                ('\t', "\\011"),
                ('#', "\\043"),
            ];
            with.iter()
                .fold(text.to_owned(), |text, (c, by)| text.replace(*c, by))
        };
        let line = format!(
            "mount={} {} nullfs ro 0 0",
            escaped(source),
            escaped(target)
        );
        params.push(format!("{line:?}"));
        expected.push(format!("{source} {at}"));
    }
    // A fleet gives parameters to an existing jail.
    let text = format!(
        "fleet = \"own\"\n[[jail]]\nname = \"b\"\nparams = [{}]\n",
        params.join(", ")
    );
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("writable");
    bench
        .ezz(&["apply", file.path().to_str().expect("a plain path")])
        .ok();
    bench.ezz(&["start", "b"]).ok();
    runs(bench, "b");
    let mounts = bench.mounts("b");
    for line in &expected {
        assert!(mounts.contains(line), "no {line:?} in {mounts:#?}");
    }
    // It also stops without its fstab, which is restored from what is mounted.
    std::fs::remove_file(&bench.files("b")?[1].0).expect("it is there");
    bench.ezz(&["stop", "b"]).ok();
    is_stopped(bench, "b");
    Ok(())
}

pub fn site_directory(bench: &dyn Bench) -> Result<(), Why> {
    // `init` refuses a name with a tab or a newline.
    for name in ["with blank", "with#hash\\slash", "it's \"$x\" ${y} é"] {
        let bench = bench.elsewhere(name)?;
        let bench = bench.as_ref();
        bench.ezz(&["create", "a", "--start"]).ok();
        runs(bench, "a");
        bench
            .ezz(&["exec", "a", "--", "sh", "-c", "exit 7"])
            .exits(7);
        if let Ok(files) = bench.files("a") {
            std::fs::remove_file(&files[1].0).expect("it is there");
        }
        bench.ezz(&["restart", "a"]).ok();
        runs(bench, "a");
        bench.ezz(&["stop", "a"]).ok();
        is_stopped(bench, "a");
        bench.end();
    }
    Ok(())
}
