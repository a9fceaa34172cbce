//! Parses the text of a fleet file.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use super::{At, Fleet, FleetError, MOST, Origin, Place, Wanted, Wish};
use crate::model::{
    Cpus, Cpuset, Kind, Label, Labels, Limits, Network, OrNone, Param, Params, hostname, memory,
    size,
};
use crate::name::{FleetName, JailName, expand};

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    fleet: Spanned<String>,
    #[serde(default)]
    defaults: Entry,
    #[serde(default)]
    jail: Vec<Spanned<Entry>>,
}

/// One entry, for one or several jails; or the defaults of all entries.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    name: Option<Spanned<String>>,
    names: Option<Vec<Spanned<String>>>,
    state: Option<Wish>,
    track: Option<Spanned<String>>,
    pin: Option<Spanned<String>>,
    thick: Option<bool>,
    clone: Option<Spanned<String>>,
    hostname: Option<Spanned<String>>,
    addresses: Option<Vec<Spanned<String>>>,
    ip_pools: Option<Vec<Spanned<String>>>,
    labels: Option<BTreeMap<String, Spanned<String>>>,
    network: Option<Network>,
    limits: Option<Limited>,
    params: Option<Spanned<Vec<Spanned<String>>>>,
    datasets: Option<Vec<Spanned<String>>>,
    health: Option<String>,
    quota: Option<Spanned<String>>,
    flavours: Option<Vec<Spanned<String>>>,
    depends: Option<Vec<Spanned<String>>>,
    order: Option<i32>,
    boot: Option<bool>,
    nested_userns: Option<bool>,
}

/// The limits as they are written.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limited {
    memory: Option<Spanned<String>>,
    cpus: Option<OrNone<Cpus>>,
    processes: Option<OrNone<NonZeroU32>>,
    cpuset: Option<Spanned<String>>,
}

/// Converts byte offsets into places.
struct Text<'a> {
    text: &'a str,
    /// The offset at which each line begins. It is computed once, because there may be as many places as jails.
    lines: Vec<usize>,
}

impl<'a> Text<'a> {
    fn new(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Text {
            text,
            lines: std::iter::once(0).chain(ends).collect(),
        }
    }

    fn place(&self, span: Range<usize>) -> Place {
        let line = self.lines.partition_point(|start| *start <= span.start);
        let start = self.lines.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..span.start).unwrap_or_default();
        Place {
            line,
            column: before.chars().count() + 1,
        }
    }

    /// Parses a text, and keeps its place.
    fn parse<T: FromStr>(&self, text: &Spanned<String>) -> Result<At<T>, FleetError>
    where
        T::Err: ToString,
    {
        let place = self.place(text.span());
        let value = text.get_ref().parse::<T>();
        value
            .map(|value| At { value, place })
            .map_err(|e| FleetError::new(place, e.to_string()))
    }

    /// Parses a value or `none`, if there is a text.
    fn or_none<T, E: ToString>(
        &self,
        text: Option<&Spanned<String>>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<OrNone<T>>, FleetError> {
        text.map(|text| {
            let value = OrNone::parse(text.get_ref(), &parse);
            value.map_err(|e| FleetError::new(self.place(text.span()), e))
        })
        .transpose()
    }

    fn parse_all<T: FromStr>(
        &self,
        texts: Option<&Vec<Spanned<String>>>,
    ) -> Result<Option<Vec<At<T>>>, FleetError>
    where
        T::Err: ToString,
    {
        let all = texts.map(|texts| texts.iter().map(|t| self.parse(t)).collect());
        all.transpose()
    }

    /// Expands names and ranges into jails.
    fn jails<'t>(
        &self,
        texts: impl IntoIterator<Item = &'t Spanned<String>>,
    ) -> Result<Vec<At<JailName>>, FleetError> {
        let mut jails = Vec::new();
        for text in texts {
            let place = self.place(text.span());
            let bad = |e: crate::name::NameError| FleetError::new(place, e);
            for name in expand(text.get_ref()).map_err(bad)? {
                let value = JailName::parse(&name).map_err(bad)?;
                jails.push(At { value, place });
            }
            if jails.len() > MOST {
                return Err(FleetError::new(place, format!("more than {MOST} jails")));
            }
        }
        Ok(jails)
    }
}

pub(super) fn read(text: &str) -> Result<Fleet, FleetError> {
    let places = Text::new(text);
    let file: File = toml::from_str(text).map_err(|error| {
        let place = places.place(error.span().unwrap_or(0..0));
        FleetError::new(place, error.message().trim().replace('\n', ", "))
    })?;
    let name: At<FleetName> = places.parse(&file.fleet)?;
    if let Some(text) = file.defaults.name.as_ref().or(file
        .defaults
        .names
        .as_ref()
        .and_then(|names| names.first()))
    {
        let place = places.place(text.span());
        return Err(FleetError::new(place, "a name cannot be a default"));
    }
    let mut jails: BTreeMap<JailName, Wanted> = BTreeMap::new();
    for entry in &file.jail {
        let place = places.place(entry.span());
        for (name, wanted) in jails_of(&places, place, entry.get_ref(), &file.defaults)? {
            let at = wanted.place;
            if let Some(first) = jails.get(&name) {
                let line = first.place.line;
                let what = format!("the jail {name} is named already in line {line}");
                return Err(FleetError::new(at, what));
            }
            jails.insert(name, wanted);
            if jails.len() > MOST {
                return Err(FleetError::new(at, format!("more than {MOST} jails")));
            }
        }
    }
    Ok(Fleet {
        name: name.value,
        jails,
    })
}

fn jails_of(
    places: &Text<'_>,
    place: Place,
    entry: &Entry,
    defaults: &Entry,
) -> Result<Vec<(JailName, Wanted)>, FleetError> {
    let texts = entry.name.iter().chain(entry.names.iter().flatten());
    let names = places.jails(texts)?;
    if names.is_empty() {
        return Err(FleetError::new(place, "a jail without `name` or `names`"));
    }
    macro_rules! of {
        ($field:ident) => {
            entry.$field.as_ref().or(defaults.$field.as_ref())
        };
    }
    let origin = origin(places, entry, defaults)?;
    let addresses: Option<Vec<_>> = places.parse_all(entry.addresses.as_ref())?;
    if let (Some(first), true) = (addresses.iter().flatten().next(), names.len() > 1) {
        let what = "an address is one jail's: several take them of `ip_pools`";
        return Err(FleetError::new(first.place, what));
    }
    if let Some(default) = defaults.addresses.iter().flatten().next() {
        let place = places.place(default.span());
        return Err(FleetError::new(place, "an address cannot be a default"));
    }
    let datasets: Option<Vec<_>> = places.parse_all(entry.datasets.as_ref())?;
    if let (Some(first), true) = (datasets.iter().flatten().next(), names.len() > 1) {
        return Err(FleetError::new(first.place, "a dataset is one jail's"));
    }
    if let Some(default) = defaults.datasets.iter().flatten().next() {
        let place = places.place(default.span());
        return Err(FleetError::new(place, "a dataset cannot be a default"));
    }
    let quota = places.or_none(of!(quota), size)?;
    let quota = quota.map(|quota| quota.0.unwrap_or(0));
    let limits = match of!(limits) {
        None => None,
        Some(limited) => Some(Limits {
            memory: places
                .or_none(limited.memory.as_ref(), memory)?
                .and_then(|it| it.0),
            cpus: limited.cpus.and_then(|it| it.0),
            processes: limited.processes.and_then(|it| it.0).map(NonZeroU32::get),
            cpuset: places
                .or_none(limited.cpuset.as_ref(), str::parse::<Cpuset>)?
                .and_then(|it| it.0),
            other: serde_json::Map::new(),
        }),
    };
    let params = match of!(params) {
        None => None,
        Some(texts) => {
            let all: Option<Vec<At<Param>>> = places.parse_all(Some(texts.get_ref()))?;
            let place = places.place(texts.span());
            let all = all.into_iter().flatten().map(|at| at.value);
            Some(Params::new(all).map_err(|e| FleetError::new(place, e))?)
        }
    };
    let labels = labels(places, entry, defaults)?;
    let depends = of!(depends).map(|texts| places.jails(texts)).transpose()?;
    let pools = places.parse_all(of!(ip_pools))?;
    let flavours: Vec<_> = places.parse_all(of!(flavours))?.unwrap_or_default();
    let (network, order) = (of!(network).copied(), of!(order).copied());
    let wish = of!(state).copied();
    let of_state = match wish {
        Some(Wish::Running) => Some(true),
        Some(Wish::Stopped) => Some(false),
        Some(Wish::Absent) | None => None,
    };
    let boot = of!(boot).copied().or(of_state);
    let nested_userns = of!(nested_userns).copied();
    let mut jails = Vec::with_capacity(names.len());
    for At { value: name, place } in names {
        let wanted = Wanted {
            place,
            wish,
            origin: origin.clone(),
            kind: of!(thick).map(|thick| if *thick { Kind::Thick } else { Kind::Thin }),
            hostname: hostname_of(places, of!(hostname), &name)?,
            addresses: addresses.clone(),
            pools: pools.clone(),
            labels: labels.clone(),
            network,
            limits: limits.clone(),
            params: params.clone(),
            datasets: datasets.clone(),
            health: of!(health).cloned(),
            quota,
            flavours: flavours.clone(),
            depends: depends.clone(),
            order,
            boot,
            nested_userns,
        };
        jails.push((name, wanted));
    }
    Ok(jails)
}

/// Returns the origin of a jail. `track`, `pin` and `clone` are one setting: if the entry has any of them, all of the
/// defaults' are ignored.
fn origin(
    places: &Text<'_>,
    entry: &Entry,
    defaults: &Entry,
) -> Result<Option<Origin>, FleetError> {
    let says = |of: &Entry| of.track.is_some() || of.pin.is_some() || of.clone.is_some();
    let from = if says(entry) { entry } else { defaults };
    let two = |second: &Spanned<String>| {
        let place = places.place(second.span());
        FleetError::new(place, "of `track`, `pin` and `clone` a jail has one")
    };
    match (&from.track, &from.pin, &from.clone) {
        (Some(_), Some(second), _)
        | (Some(_), None, Some(second))
        | (None, Some(_), Some(second)) => Err(two(second)),
        (None, None, Some(jail)) => {
            if entry.thick.is_some() {
                let what = "a clone is of the kind of its source: leave `thick` out";
                return Err(FleetError::new(places.place(jail.span()), what));
            }
            Ok(Some(Origin::Jail(places.parse(jail)?)))
        }
        (None, Some(pin), None) => {
            let place = places.place(pin.span());
            let value = pin.get_ref().clone();
            Ok(Some(Origin::Pin(At { value, place })))
        }
        (Some(track), None, None) => Ok(Some(Origin::Track(places.parse(track)?))),
        (None, None, None) => Ok(None),
    }
}

/// Returns the labels of the entry and of the defaults.
fn labels(
    places: &Text<'_>,
    entry: &Entry,
    defaults: &Entry,
) -> Result<Option<Labels>, FleetError> {
    if defaults.labels.is_none() && entry.labels.is_none() {
        return Ok(None);
    }
    let mut labels = Vec::new();
    let all = defaults.labels.iter().chain(&entry.labels).flatten();
    for (key, value) in all {
        let place = places.place(value.span());
        let label = format!("{key}={}", value.get_ref());
        let label = label.parse::<Label>();
        labels.push(label.map_err(|e| FleetError::new(place, e))?);
    }
    Ok(Some(labels.into_iter().collect()))
}

/// Returns the host name for a jail; `{name}` in the pattern stands for the jail's name.
fn hostname_of(
    places: &Text<'_>,
    pattern: Option<&Spanned<String>>,
    name: &JailName,
) -> Result<Option<String>, FleetError> {
    let Some(pattern) = pattern else {
        return Ok(None);
    };
    let text = pattern.get_ref().replace("{name}", name.as_str());
    let checked = hostname(&text).map(Some);
    checked.map_err(|e| FleetError::new(places.place(pattern.span()), e))
}
