//! What hostile jails plant at the paths of each class: links, special files, lines without end. The tests need no
//! root.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use ezz::world::merge::{Examined, What};

use crate::Fail;
use crate::own_files::{By, CLASSES, Trees, lines, shown, text};

/// Plants an object somewhere.
pub type Plant = Box<dyn Fn() -> Result<(), Fail>>;

/// Returns what a jail can plant at a path, each with its name.
pub fn plants(at: &Path, outside: &Path) -> Vec<(&'static str, Plant)> {
    let (here, there) = (at.to_path_buf(), outside.to_path_buf());
    let to = |target: PathBuf| {
        let here = here.clone();
        Box::new(move || Ok(symlink(&target, &here)?)) as Plant
    };
    let write = |bytes: Vec<u8>| {
        let here = here.clone();
        Box::new(move || Ok(fs::write(&here, &bytes)?)) as Box<dyn Fn() -> Result<(), Fail>>
    };
    let (fifo, socket, sparse) = (here.clone(), here.clone(), here.clone());
    vec![
        ("a link to a directory", to(there.clone())),
        ("a link to a file", to(there.join("file"))),
        ("a link to nothing", to(there.join("none"))),
        ("a link to itself", to(here.clone())),
        ("a line of a mebibyte", write(vec![b'x'; 1 << 20])),
        ("no text", write(vec![0xff, 0, 0xfe])),
        ("nothing in it", write(Vec::new())),
        (
            "a fifo",
            Box::new(move || {
                let mode = rustix::fs::Mode::from_raw_mode(0o666);
                let kind = rustix::fs::FileType::Fifo;
                Ok(rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0)?)
            }),
        ),
        (
            "a socket",
            Box::new(move || {
                // The path of a socket may be only about a hundred bytes long.
                let short = tempfile::tempdir()?;
                let at = short.path().join("s");
                UnixListener::bind(&at)?;
                Ok(fs::rename(&at, &socket)?)
            }),
        ),
        (
            "a file without end",
            Box::new(move || Ok(fs::File::create(&sparse)?.set_len(1 << 40)?)),
        ),
    ]
}

#[test]
fn whatever_a_jail_has_put_there_nothing_leads_out_and_nothing_hangs() -> Result<(), Fail> {
    for class in CLASSES {
        // Whether the old and the new skeleton have the file; then the planted path: the file itself, the directory
        // above it, or the name beside it.
        for (was, is) in [(true, true), (false, true), (true, false)] {
            for place in ["above/x", "above", "above/x.ezz-new"] {
                for number in 0..plants(Path::new("x"), Path::new("y")).len() {
                    hostile(class, (was, is), place, number)?;
                }
            }
        }
    }
    Ok(())
}

fn hostile(class: &str, (was, is): (bool, bool), place: &str, number: usize) -> Result<(), Fail> {
    let trees = Trees::new()?;
    let outside = trees.at("outside", "");
    trees.put(&["outside"], "file", "precious")?;
    trees.put(&["outside"], "x", &text(By::Old))?;
    let (dir, x) = (format!("t/{class}/above"), format!("t/{class}/above/x"));
    for root in ["old", "new", "jail"] {
        fs::create_dir(trees.at(root, &dir))?;
    }
    for (there, root, by) in [(was, "old", By::Old), (is, "new", By::New)] {
        if there {
            fs::write(trees.at(root, &x), text(by))?;
        }
    }
    let at = trees.at("jail", &format!("t/{class}/{place}"));
    match place {
        "above" => fs::remove_dir(&at)?,
        "above/x" => {}
        // The jail has a version of its own, so that there is a conflict where one is possible.
        _ => fs::write(trees.at("jail", &x), text(By::Mine))?,
    }
    let plants = plants(&at, &outside);
    let (what, plant) = &plants[number];
    plant()?;
    let told = format!("{class}, {was} to {is}: {what} at {place}");
    let kind = |path: &Path| {
        fs::symlink_metadata(path)
            .map(|it| (it.mode(), it.len()))
            .ok()
    };
    let (planted, beyond) = (kind(&at), shown(&outside));
    let Examined { changes, .. } = trees.merge().map_err(|e| format!("{told}: {e}"))?;
    assert_eq!(shown(&outside), beyond, "{told}");
    let said = lines(&changes);
    assert_eq!(kind(&at), planted, "{told}: {said:?}");
    let only = |wanted: &dyn Fn(&What) -> bool| changes.iter().all(|it| wanted(&it.what));
    match class {
        "merged" => assert!(
            only(&|what| matches!(what, What::Conflict(_) | What::Left(_))),
            "{told}: {said:?}"
        ),
        "kept" => assert_eq!(said, [""; 0], "{told}"),
        _ => assert!(
            only(&|what| matches!(what, What::Left(_))),
            "{told}: {said:?}"
        ),
    }
    Ok(())
}
