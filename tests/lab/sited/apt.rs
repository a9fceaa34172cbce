//! `ezz update` with Debian's own tool: apt, in the world, from a repository on the loopback interface.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::support::*;

/// The files that a repository serves, and the requests to it.
#[derive(Default)]
struct Served {
    files: BTreeMap<String, Vec<u8>>,
    asked: Vec<String>,
}

/// A flat repository (sources.list(5)) with one package.
struct Repository {
    served: Arc<Mutex<Served>>,
    port: u16,
}

impl Repository {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let served = Arc::new(Mutex::new(Served::default()));
        let shared = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that disconnects asks again.
                let _ = answer(stream, &shared);
            }
        });
        Repository { served, port }
    }

    /// Publishes a version of the package with this postinst.
    fn publish(&self, version: &str, postinst: &str) {
        let root = Path::new("/tmp/package");
        let _ = sh("rm -rf /tmp/package");
        for directory in ["DEBIAN", "usr/bin", "etc/init.d"] {
            fs::create_dir_all(root.join(directory)).expect("made");
        }
        let control = format!(
            "Package: ezz-hello\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: says its version\n"
        );
        // A service that would leave a trace in the world if a program started it.
        let service = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: ezz-hello\n# Required-Start:\n# Required-Stop:\n# Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n### END INIT INFO\ntouch /usr/share/started\n";
        let postinst = format!(
            "#!/bin/sh\nset -e\nupdate-rc.d ezz-hello defaults\ninvoke-rc.d ezz-hello start\n{postinst}\n"
        );
        let program = format!("#!/bin/sh\necho {version}\n");
        for (name, text, mode) in [
            ("DEBIAN/control", control.as_str(), "644"),
            ("DEBIAN/postinst", &postinst, "755"),
            ("usr/bin/ezz-hello", &program, "755"),
            ("etc/init.d/ezz-hello", service, "755"),
        ] {
            fs::write(root.join(name), text).expect("written");
            sh(&format!("chmod {mode} {}", root.join(name).display())).ok();
        }
        let name = format!("ezz-hello_{version}_all.deb");
        sh(&format!(
            "dpkg-deb --root-owner-group -Znone --build /tmp/package /tmp/{name}"
        ))
        .ok();
        let package = fs::read(format!("/tmp/{name}")).expect("built");
        let digest = sh(&format!("sha256sum /tmp/{name}")).ok().stdout;
        let digest = digest.split(' ').next().unwrap_or_default();
        let list = format!(
            "{control}Filename: ./{name}\nSize: {}\nSHA256: {digest}\n\n",
            package.len()
        );
        let mut served = self.served.lock().expect("not poisoned");
        served.files.clear();
        served
            .files
            .insert("/Packages".to_owned(), list.into_bytes());
        served.files.insert(format!("/{name}"), package);
    }

    /// Stops serving files.
    fn vanish(&self) {
        self.served.lock().expect("not poisoned").files.clear();
    }

    /// Returns how often packages were downloaded since the last time.
    fn fetched(&self) -> usize {
        let asked = std::mem::take(&mut self.served.lock().expect("not poisoned").asked);
        asked.iter().filter(|path| path.ends_with(".deb")).count()
    }
}

fn answer(stream: TcpStream, served: &Mutex<Served>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut stream = stream;
    while let Some(line) = lines.next().transpose()? {
        let Some(path) = line
            .strip_prefix("GET ")
            .and_then(|rest| rest.split(' ').next())
        else {
            continue;
        };
        // The head of the request ends with an empty line.
        for head in lines.by_ref() {
            if head?.is_empty() {
                break;
            }
        }
        let file = {
            let mut served = served.lock().expect("not poisoned");
            let path = path.replace("/./", "/");
            let file = served.files.get(&path).cloned();
            served.asked.push(path);
            file
        };
        let (status, body) = match file {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", Vec::new()),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        stream.write_all(&body)?;
    }
    Ok(())
}

fn current() -> u64 {
    let track = json_property("tank/ezz/basejail", "ezz:track:main");
    track["current"].as_u64().expect("a number")
}

/// Returns the version that the running jail finds.
fn seen() -> String {
    ezz(&["exec", "a", "--", "ezz-hello"]).ok().stdout
}

#[test]
fn apt_brings_a_world_up_to_date() {
    let repository = Repository::new();
    repository.publish("1", "");
    let source = format!(
        "rm -rf /etc/apt/sources.list.d; echo 'deb [trusted=yes] http://127.0.0.1:{}/ ./' >/etc/apt/sources.list; \
         apt-get update && apt-get install -y ezz-hello",
        repository.port
    );
    ezz(&["update", "--run", "/bin/sh", "-c", &source]).ok();
    assert_eq!((current(), repository.fetched()), (2, 1));
    ezz(&["create", "a", "--start"]).ok();
    assert_eq!(seen(), "1\n");

    // Without a new version no generation is created, and nothing is left of the stage.
    let nothing = ezz(&["update", "--json", "--restart"]).ok();
    let told = &nothing.json()[0];
    assert_eq!(
        (&told["did"], &told["from"], &told["to"]),
        (&"unchanged".into(), &2.into(), &2.into())
    );
    let shown = ezz(&["update"]).ok();
    assert!(
        shown.stdout.contains("nothing to do: track main stays at"),
        "{shown:#?}"
    );
    assert_eq!(current(), 2);
    let halves = zfs(&["list", "-Hd1", "-o", "name", "tank/ezz/basejail"])
        .ok()
        .stdout;
    assert_eq!(halves.lines().count(), 3, "{halves}");

    // A package that cannot be configured ends the update; the next try uses what was downloaded.
    repository.publish("2", "echo the postinst says no >&2; exit 7");
    let failed = ezz(&["update"]).refused(1, "nothing was changed");
    assert!(
        failed.stderr.contains("exited with status 100"),
        "{failed:#?}"
    );
    let log = failed.log();
    assert!(log.contains("the postinst says no"), "{log}");
    assert_eq!((current(), repository.fetched()), (2, 1));
    ezz(&["update"]).refused(1, "exited with status 100");
    assert_eq!((current(), repository.fetched()), (2, 0), "it was kept");
    assert_eq!(seen(), "1\n");

    // If the repository is not available, an update must not publish an older state.
    repository.vanish();
    ezz(&["update"]).refused(1, "exited with status 100");
    assert_eq!(current(), 2);

    repository.publish("3", "");
    ezz(&["update"]).ok();
    let new = current();
    assert!(new > 2);
    assert_eq!(repository.fetched(), 1);
    assert_eq!(seen(), "1\n", "a running jail keeps what it has");
    ezz(&["restart", "a"]).ok();
    assert_eq!(seen(), "3\n");
    // The downloads are outside the world, and no service was started in it.
    sh("ls /srv/jails/.cache/updates/main/ezz-hello_3_all.deb").ok();
    let base = format!("/srv/jails/basejail/{new}");
    let world = sh(&format!(
        "ls {base}/var/cache/apt/archives {base}/usr/share/started 2>/dev/null"
    ));
    assert!(
        !world.stdout.contains(".deb") && !world.stdout.contains("started"),
        "{world:#?}"
    );
    let mode = sh("stat -c %a:%u /srv/jails/.cache/updates/main").ok();
    assert_eq!(
        mode.stdout, "700:0\n",
        "the host's root alone looks into it"
    );
    repaired_at_boot();
    let told = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(told[0]["findings"].to_string(), "[]");
}
