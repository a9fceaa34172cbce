//! The state of the pool: datasets, properties, snapshots, holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use super::{Found, Seen, run};

/// The value and the source of each property.
type Row = BTreeMap<String, (String, String)>;

/// All datasets, snapshots and holds of a site.
#[derive(Debug)]
pub(super) struct Rows {
    site: String,
    datasets: BTreeMap<String, Row>,
    snapshots: BTreeMap<String, Row>,
    /// The name of a snapshot, and the tag.
    holds: BTreeSet<(String, String)>,
}

fn rows(text: &str) -> Result<BTreeMap<String, Row>, String> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for line in text.lines() {
        let columns: Vec<&str> = line.splitn(4, '\t').collect();
        let [name, property, value, source] = columns[..] else {
            return Err(format!("a line of zfs get has no four columns: {line:?}"));
        };
        let cell = (value.to_owned(), source.to_owned());
        rows.entry(name.to_owned())
            .or_default()
            .insert(property.to_owned(), cell);
    }
    Ok(rows)
}

/// Reads all datasets and snapshots below a site.
pub(super) fn read(site: &str) -> Result<Rows, String> {
    let get = |types: &str, properties: &str| {
        let args = [
            "get",
            "-Hpr",
            "-t",
            types,
            "-o",
            "name,property,value,source",
            properties,
            site,
        ];
        rows(&run("zfs", &args)?)
    };
    let datasets = get("filesystem,volume", "all")?;
    let snapshots = get("snapshot", "guid,userrefs,defer_destroy,ezz:sealed")?;
    let mut holds = BTreeSet::new();
    let held: Vec<&str> = snapshots
        .iter()
        .filter(|(_, row)| text(row, "userrefs") != "0")
        .map(|(name, _)| name.as_str())
        .collect();
    if !held.is_empty() {
        for line in run("zfs", &[&["holds", "-H"], &held[..]].concat())?.lines() {
            let mut columns = line.split('\t');
            if let (Some(name), Some(tag)) = (columns.next(), columns.next()) {
                holds.insert((name.to_owned(), tag.to_owned()));
            }
        }
    }
    Ok(Rows {
        site: site.to_owned(),
        datasets,
        snapshots,
        holds,
    })
}

fn text<'a>(row: &'a Row, property: &str) -> &'a str {
    row.get(property).map_or("-", |(value, _)| value.as_str())
}

fn source<'a>(row: &'a Row, property: &str) -> &'a str {
    row.get(property).map_or("-", |(_, source)| source.as_str())
}

/// Returns a property that was set on this dataset or snapshot itself.
fn local<'a>(row: &'a Row, property: &str) -> Option<&'a str> {
    row.get(property)
        .filter(|(_, source)| source == "local")
        .map(|(value, _)| value.as_str())
}

fn set_here(row: &Row, property: &str) -> bool {
    matches!(source(row, property), "local" | "received")
}

/// Returns whether a text is the name of a track or a jail (design.md §3).
pub(super) fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

/// Checks invariants 1 to 3, and everything that must be on a pool.
pub(super) fn check(rows: &Rows, found: &mut Found) -> Seen {
    let site = &rows.site;
    let empty = Row::new();
    let top = rows.datasets.get(site).unwrap_or(&empty);
    let mut seen = Seen {
        site: site.clone(),
        id: local(top, "ezz:id").unwrap_or_default().to_owned(),
        directory: PathBuf::from(text(top, "mountpoint")),
        sealed: Vec::new(),
        numbers: Vec::new(),
        contents: BTreeMap::new(),
        files: BTreeMap::new(),
        records: BTreeMap::new(),
        merging: BTreeSet::new(),
        tracks: Vec::new(),
        jails: Vec::new(),
    };
    shape(rows, found);
    numbers(top, site, found);
    properties(rows, found);
    generations(rows, &mut seen, found);
    tracks(rows, &mut seen, found);
    jails(rows, &mut seen, found);
    let seq = local(top, "ezz:seq").and_then(|text| text.parse::<u32>().ok());
    if let (Some(seq), Some(last)) = (seq, seen.numbers.iter().max()) {
        if seq < *last {
            found.always(format!(
                "{site}: ezz:seq is {seq}, and there is generation {last}"
            ));
        }
    }
    seen
}

/// Checks the four datasets of a site as `init` creates them, and that there are no others.
fn shape(rows: &Rows, found: &mut Found) {
    let site = &rows.site;
    let wanted: [(&str, &[(&str, &str)]); 4] = [
        ("", &[("devices", "off"), ("atime", "off")]),
        (
            "/basejail",
            &[
                ("canmount", "off"),
                ("readonly", "on"),
                ("com.sun:auto-snapshot", "false"),
            ],
        ),
        (
            "/newjail",
            &[("canmount", "off"), ("com.sun:auto-snapshot", "false")],
        ),
        ("/jails", &[("canmount", "off")]),
    ];
    for (below, properties) in wanted {
        let name = format!("{site}{below}");
        let Some(row) = rows.datasets.get(&name) else {
            found.always(format!("{name} is missing"));
            continue;
        };
        for (property, value) in properties {
            // For a property that is not ezz's, a received value counts.
            if text(row, property) != *value || !set_here(row, property) {
                let is = (text(row, property), source(row, property));
                found.always(format!("{name}: {property} is {is:?}, not {value}"));
            }
        }
    }
    let mountpoint = |name: &str| rows.datasets.get(name).map(|row| text(row, "mountpoint"));
    if mountpoint(site) != mountpoint(&format!("{site}/jails")) {
        found.always(format!(
            "{site} and {site}/jails have different mountpoints"
        ));
    }
    for (name, row) in &rows.datasets {
        let below: Vec<&str> = name[site.len()..].split('/').skip(1).collect();
        let known = match below[..] {
            [] | ["basejail" | "newjail" | "jails"] => true,
            ["basejail" | "newjail", component] => number(component).is_some(),
            ["jails", component] => is_name(component),
            _ => false,
        };
        if !known || text(row, "type") != "filesystem" {
            found.settled(format!(
                "{name}: an orphan, no dataset of a site is called so"
            ));
        }
    }
}

fn numbers(top: &Row, site: &str, found: &mut Found) {
    if local(top, "ezz:format") != Some("1") {
        found.always(format!(
            "{site}: its ezz:format is {:?}",
            top.get("ezz:format")
        ));
    }
    for property in ["ezz:seq", "ezz:epoch"] {
        if local(top, property)
            .and_then(|text| text.parse::<u64>().ok())
            .is_none()
        {
            found.always(format!("{site}: {property} is {:?}", top.get(property)));
        }
    }
    let id = local(top, "ezz:id").unwrap_or_default();
    if id.len() != 36 || !id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        found.always(format!("{site}: its ezz:id is {id:?}"));
    }
}

/// Checks that every `ezz:*` property is where the design has it; when all is settled, there are no intents.
fn properties(rows: &Rows, found: &mut Found) {
    let site = &rows.site;
    for (name, row) in &rows.datasets {
        let below: Vec<&str> = name[site.len()..].split('/').skip(1).collect();
        for property in row.keys().filter(|property| property.starts_with("ezz:")) {
            if local(row, property).is_none() {
                if source(row, property) == "received" {
                    found.settled(format!("{name}: {property} came with a receive"));
                }
                continue;
            }
            let known = match below[..] {
                [] => matches!(
                    property.as_str(),
                    "ezz:format" | "ezz:id" | "ezz:seq" | "ezz:epoch"
                ),
                ["basejail"] => ["ezz:track:", "ezz:rollout:", "ezz:swaps:", "ezz:accounts:"]
                    .iter()
                    .any(|begin| property.starts_with(begin)),
                ["basejail", _] => [
                    "ezz:world",
                    "ezz:populated",
                    "ezz:rejected",
                    "ezz:served",
                    "ezz:pruned",
                    "ezz:sealing",
                ]
                .contains(&property.as_str()),
                ["newjail", _] => property == "ezz:pruned",
                ["jails", _] => property == "ezz:jail" || property == "ezz:merging",
                _ => false,
            };
            if property.starts_with("ezz:intent:") && below == ["jails"] {
                found.settled(format!("{name}: the intent {property} is left"));
            } else if !known {
                found.always(format!("{name}: {property} has no business here"));
            }
        }
    }
}

/// Returns the seal of a snapshot: its text, and the SHA-256 of the manifest.
fn seal(rows: &Rows, snapshot: &str) -> Option<(String, String)> {
    let text = local(rows.snapshots.get(snapshot)?, "ezz:sealed")?;
    let parsed: Value = serde_json::from_str(text).ok()?;
    let manifest = parsed.get("manifest")?.as_str()?;
    let hex = manifest.len() == 64 && manifest.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| (text.to_owned(), manifest.to_owned()))
}

fn generations(rows: &Rows, seen: &mut Seen, found: &mut Found) {
    let site = &rows.site;
    let mut all: BTreeSet<u32> = BTreeSet::new();
    for half in ["basejail", "newjail"] {
        let prefix = format!("{site}/{half}/");
        let names = rows
            .datasets
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix));
        all.extend(names.filter_map(number));
    }
    for n in all {
        seen.numbers.push(n);
        let (base, skeleton) = (
            format!("{site}/basejail/{n}"),
            format!("{site}/newjail/{n}"),
        );
        let (base_at, skeleton_at) = (format!("{base}@{n}"), format!("{skeleton}@{n}"));
        let sealed = (seal(rows, &base_at), seal(rows, &skeleton_at));
        let content = sealed.1.as_ref().and_then(|(text, _)| {
            let parsed: Value = serde_json::from_str(text).ok()?;
            Some(parsed.get("skeleton")?.as_str()?.to_owned())
        });
        seen.contents.extend(content.map(|content| (n, content)));
        if sealed.1.is_some()
            && !rows.datasets.contains_key(&base)
            && !rows.snapshots.contains_key(&base_at)
        {
            // Its base was pruned; jails that were created from it keep the skeleton.
            continue;
        }
        let (Some((own, manifest)), Some((other, _))) = &sealed else {
            if rows.snapshots.contains_key(&base_at) || sealed.0.is_some() || sealed.1.is_some() {
                found.always(format!("generation {n}: it is half sealed: {sealed:?}"));
            }
            found.settled(format!("generation {n}: it was never sealed"));
            continue;
        };
        seen.sealed.push((n, manifest.clone()));
        if own != other {
            found.always(format!("generation {n}: its halves have different seals"));
        }
        match (rows.datasets.get(&base), rows.datasets.get(&skeleton)) {
            (Some(base_row), Some(skeleton_row)) => {
                sealed_base(&base, base_row, found);
                if text(skeleton_row, "canmount") != "noauto" {
                    found.always(format!("{skeleton}: canmount is not noauto"));
                }
                if source(skeleton_row, "sync") == "local" {
                    found.always(format!("{skeleton}: sync is still set"));
                }
            }
            _ => found.always(format!("generation {n}: one of its halves is missing")),
        }
        for snapshot in [&base_at, &skeleton_at] {
            if !rows.holds.contains(&(snapshot.clone(), "ezz".to_owned())) {
                found.settled(format!("{snapshot}: it is not held"));
            }
        }
        let property = format!("written@{n}");
        let halves = [base.as_str(), skeleton.as_str()];
        let args = [&["get", "-Hpo", "value", &property], &halves[..]].concat();
        match run("zfs", &args).as_deref() {
            Ok("0\n0\n") => {}
            other => found.always(format!(
                "generation {n}: {property} of its halves is {other:?}"
            )),
        }
    }
}

fn sealed_base(base: &str, row: &Row, found: &mut Found) {
    if text(row, "readonly") != "on" || source(row, "readonly") == "local" {
        let is = (text(row, "readonly"), source(row, "readonly"));
        found.always(format!("{base}: readonly is {is:?}"));
    }
    if source(row, "sync") == "local" {
        found.always(format!("{base}: sync is still set"));
    }
    let world = local(row, "ezz:world").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let named = |world: &Value| {
        ["label", "profile", "os", "arch"]
            .iter()
            .all(|key| world.get(key).is_some_and(Value::is_string))
    };
    if !world.as_ref().is_some_and(named) {
        found.always(format!("{base}: its ezz:world is {world:?}"));
    }
}

/// Returns the number in a JSON value if it names a sealed generation.
fn names_sealed(seen: &Seen, value: &Value) -> Option<u32> {
    let n = u32::try_from(value.as_u64()?).ok()?;
    seen.sealed
        .iter()
        .any(|(sealed, _)| *sealed == n)
        .then_some(n)
}

fn tracks(rows: &Rows, seen: &mut Seen, found: &mut Found) {
    let name = format!("{}/basejail", rows.site);
    let Some(row) = rows.datasets.get(&name) else {
        return;
    };
    for (property, (value, _)) in row {
        let Some(track) = property.strip_prefix("ezz:track:") else {
            continue;
        };
        if local(row, property).is_none() {
            continue;
        }
        let parsed: Value = serde_json::from_str(value).unwrap_or_default();
        if !parsed.is_object() || !is_name(track) {
            found.always(format!("{name}: {property} is {value:?}"));
        }
        for key in ["current", "previous"] {
            let value = parsed.get(key).unwrap_or(&Value::Null);
            if !value.is_null() && names_sealed(seen, value).is_none() {
                found.always(format!(
                    "track {track}: its {key} is {value}, which is not sealed"
                ));
            }
        }
        let current = parsed
            .get("current")
            .and_then(|value| names_sealed(seen, value));
        seen.tracks.push((track.to_owned(), current));
    }
}

fn jails(rows: &Rows, seen: &mut Seen, found: &mut Found) {
    clone_snapshots(rows, found);
    let prefix = format!("{}/jails/", rows.site);
    for (dataset, row) in &rows.datasets {
        let Some(name) = dataset
            .strip_prefix(&prefix)
            .filter(|name| !name.contains('/'))
        else {
            continue;
        };
        seen.jails.push(name.to_owned());
        if seen.tracks.iter().any(|(track, _)| track == name) {
            found.always(format!("{dataset}: a track is called so too"));
        }
        let Some(text_of) = local(row, "ezz:jail") else {
            found.settled(format!("{dataset}: it has no ezz:jail of its own"));
            continue;
        };
        let config: Value = serde_json::from_str(text_of).unwrap_or_default();
        let skel = config.get("skel").and_then(Value::as_u64);
        let thin = config.get("kind").and_then(Value::as_str) == Some("thin");
        let skel = skel.and_then(|n| u32::try_from(n).ok()).filter(|_| thin);
        seen.files.extend(skel.map(|n| (name.to_owned(), n)));
        let record = config.get("record").and_then(Value::as_u64);
        let record = record.and_then(|n| u32::try_from(n).ok());
        seen.records.extend(record.map(|n| (name.to_owned(), n)));
        if local(row, "ezz:merging").is_some() {
            seen.merging.insert(name.to_owned());
            found.settled(format!("{dataset}: its merge was interrupted"));
        }
        if let Err(why) = jail(rows, seen, dataset, row, &config) {
            found.always(format!("{dataset}: {why}: {text_of}"));
        }
        if config.get("todo").is_some() {
            found.settled(format!("{dataset}: it was never finished: {text_of}"));
        }
        let wanted = seen.directory.join(name);
        if text(row, "mountpoint") != wanted.to_string_lossy()
            || source(row, "mountpoint") == "local"
        {
            let is = (text(row, "mountpoint"), source(row, "mountpoint"));
            found.always(format!("{dataset}: its mountpoint is {is:?}"));
        }
        if text(row, "canmount") != "on" || text(row, "zoned") != "off" {
            found.always(format!("{dataset}: it is zoned or cannot be mounted"));
        }
    }
}

/// Checks that the snapshots that clones of jails have as their origin are destroyed with the last clone.
fn clone_snapshots(rows: &Rows, found: &mut Found) {
    let prefix = format!("{}/jails/", rows.site);
    for (snapshot, row) in &rows.snapshots {
        if !snapshot.starts_with(&prefix) || !snapshot.contains("@ezz-clone-") {
            continue;
        }
        if text(row, "defer_destroy") != "on" {
            found.settled(format!("{snapshot}: it does not go with its last clone"));
        }
        let mut datasets = rows.datasets.values();
        if !datasets.any(|row| text(row, "origin") == snapshot) {
            found.settled(format!("{snapshot}: it has no clone"));
        }
    }
}

/// Checks the `ezz:jail` of a jail against the generations, the tracks and its origin.
fn jail(rows: &Rows, seen: &Seen, dataset: &str, row: &Row, config: &Value) -> Result<(), String> {
    let skel = config.get("skel").ok_or("it names no skel")?;
    // This applies to a thin jail, too: it starts on that base.
    let n = names_sealed(seen, skel).ok_or("its skel is no sealed generation")?;
    let half = match config.get("kind").and_then(Value::as_str) {
        Some("thin") => "newjail",
        Some("thick") => "basejail",
        other => return Err(format!("it is of the kind {other:?}")),
    };
    // A jail that was promoted or received as a whole is a clone of nothing.
    let origin = format!("{}/{half}/{n}@{n}", rows.site);
    let is = text(row, "origin");
    // A thin jail that was merged is a clone of another skeleton, and the snapshots of its merge may have been
    // destroyed; a later base may have taken over the origin of a thick jail.
    let other = is
        .strip_prefix(&format!("{}/{half}/", rows.site))
        .and_then(|rest| rest.split_once('@'))
        .is_some_and(|(dataset, snapshot)| match half {
            "newjail" => dataset == snapshot,
            _ => number(dataset).is_some_and(|k| k > n) && snapshot == n.to_string(),
        });
    let below = is.strip_prefix(&format!("{}/jails/", rows.site));
    let other = other || below.is_some_and(|rest| rest.contains("@ezz-clone-"));
    if is != origin && !other && !is.is_empty() && is != "-" {
        return Err(format!("{dataset} is a clone of {is}, not of {origin}"));
    }
    if config.get("hostname").and_then(Value::as_str).is_none() {
        return Err("it has no host name".to_owned());
    }
    let base = config.get("base").ok_or("it names no base")?;
    let track = base.get("track").and_then(Value::as_str);
    let pinned = base
        .get("pin")
        .is_some_and(|pin| names_sealed(seen, pin).is_some());
    let follows = |name: &str| {
        let mut tracks = seen.tracks.iter();
        tracks.any(|(track, current)| track == name && current.is_some())
    };
    // A thick jail already has its base's files; its track may have been deleted.
    if pinned || half == "basejail" || track.is_some_and(follows) {
        return Ok(());
    }
    Err("what it runs on is not there".to_owned())
}
