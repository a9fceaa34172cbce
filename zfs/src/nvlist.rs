//! Name-value lists, the input and output of libzfs_core, as plain Rust values.
//!
//! [`Value`] and [`NvMap`] are pure. Only the conversion to and from `nvlist_t` uses libnvpair, and every raw list is
//! owned by a `RawList` that frees it. This module must not know datasets.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{self, NonNull};

use crate::errno::Errno;
use crate::sys::{self, Lib, LoadError, NvList, NvPair, UInt};

/// A list of names with values. Names are unique, and sorted.
pub type NvMap = BTreeMap<String, Value>;

/// One value of an nvlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `boolean_value`: true or false.
    Bool(bool),
    /// `boolean`: a name without a value. A channel program returns `nil` in this form.
    Flag,
    /// Any signed integer. It is written as `int64`, the only number that channel programs accept.
    Int(i64),
    /// Any unsigned integer. It is written as `uint64`, which native properties require.
    UInt(u64),
    /// A string. Bytes that are not UTF-8 are read as U+FFFD.
    Str(String),
    /// A list inside a list; a table in Lua.
    List(NvMap),
    /// An array of strings; in Lua a table whose indices begin at 1.
    StrArray(Vec<String>),
    /// An array of `int64`; in Lua a table whose indices begin at 1.
    IntArray(Vec<i64>),
    /// An array of lists, which channel programs do not accept.
    ListArray(Vec<NvMap>),
}

/// A value cannot be passed to libnvpair, or a value from it is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NvError {
    /// A name or string contains a NUL byte, which a C string cannot.
    #[error("{key:?} holds a NUL byte")]
    Nul {
        /// The name of the pair.
        key: String,
    },
    /// An array has more elements than libnvpair can count.
    #[error("the array {key:?} is too long")]
    TooLong {
        /// The name of the pair.
        key: String,
    },
    /// Channel programs refuse the type: a plain unsigned integer, a flag, or an array of lists.
    #[error("{key:?} has a type that channel programs do not take")]
    NotForPrograms {
        /// The name of the pair.
        key: String,
    },
    /// ezz does not know the type.
    #[error("{key:?} has the unknown type {data_type}")]
    UnknownType {
        /// The name of the pair.
        key: String,
        /// The `data_type_t` of the value.
        data_type: i32,
    },
    /// libnvpair returned an error.
    #[error("libnvpair cannot convert {key:?}")]
    Refused {
        /// The name of the pair, empty for the list itself.
        key: String,
        /// The errno that libnvpair returned.
        #[source]
        errno: Errno,
    },
}

impl Value {
    /// Returns the string, if the value is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// Returns the number, if the value is one that fits.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::UInt(number) => i64::try_from(*number).ok(),
            Value::Bool(_)
            | Value::Flag
            | Value::Str(_)
            | Value::List(_)
            | Value::StrArray(_)
            | Value::IntArray(_)
            | Value::ListArray(_) => None,
        }
    }

    /// Returns the list, if the value is one.
    pub fn as_list(&self) -> Option<&NvMap> {
        if let Value::List(map) = self {
            Some(map)
        } else {
            None
        }
    }
}

/// Refuses what `zcp_nvpair_value_to_lua` refuses (zcp.c), because the kernel would return EINVAL without a name.
///
/// A list that has only flags is accepted: it becomes an array of its names.
pub(crate) fn check_for_program(map: &NvMap) -> Result<(), NvError> {
    let only_flags = map.values().all(|value| *value == Value::Flag);
    for (key, value) in map {
        match value {
            Value::Flag if only_flags => {}
            Value::List(inner) => check_for_program(inner)?,
            Value::UInt(_) | Value::Flag | Value::ListArray(_) => {
                return Err(NvError::NotForPrograms { key: key.clone() });
            }
            Value::Bool(_)
            | Value::Int(_)
            | Value::Str(_)
            | Value::StrArray(_)
            | Value::IntArray(_) => {}
        }
    }
    Ok(())
}

/// Converts a map to an nvlist and back. For tests of this module.
///
/// # Errors
/// The library is missing; the inner error is a value that cannot be converted.
#[doc(hidden)]
pub fn through_libnvpair(map: &NvMap) -> Result<Result<NvMap, NvError>, LoadError> {
    let lib = Lib::get()?;
    Ok(RawList::from_map(lib, map).and_then(|list| list.to_map()))
}

/// An `nvlist_t` that we own.
#[derive(Debug)]
pub(crate) struct RawList {
    lib: &'static Lib,
    list: NonNull<NvList>,
}

impl Drop for RawList {
    fn drop(&mut self) {
        // SAFETY: `list` came from nvlist_alloc or from the library as a list that we free, and no other code frees it.
        unsafe { (self.lib.nv.nvlist_free)(self.list.as_ptr()) }
    }
}

impl RawList {
    /// Makes an empty list.
    fn new(lib: &'static Lib) -> Result<RawList, NvError> {
        let mut list = ptr::null_mut();
        // SAFETY: `list` is a valid place for the pointer; the flag is one that the header defines.
        let code = unsafe { (lib.nv.nvlist_alloc)(&raw mut list, sys::NV_UNIQUE_NAME, 0) };
        accept("", code)?;
        let list = NonNull::new(list).ok_or_else(|| NvError::Refused {
            key: String::new(),
            errno: Errno(libc::ENOMEM),
        })?;
        Ok(RawList { lib, list })
    }

    /// Takes ownership of a list that the library made for the caller to free; `None` for a null pointer.
    ///
    /// # Safety
    /// `list` is null or a valid list that no other code frees or uses.
    pub(crate) unsafe fn adopt(lib: &'static Lib, list: *mut NvList) -> Option<RawList> {
        NonNull::new(list).map(|list| RawList { lib, list })
    }

    /// Builds the list of a map.
    pub(crate) fn from_map(lib: &'static Lib, map: &NvMap) -> Result<RawList, NvError> {
        let list = RawList::new(lib)?;
        for (key, value) in map {
            list.add(key, value)?;
        }
        Ok(list)
    }

    /// Returns the pointer, for a call that does not free the list.
    pub(crate) fn as_ptr(&self) -> *mut NvList {
        self.list.as_ptr()
    }

    fn add(&self, key: &str, value: &Value) -> Result<(), NvError> {
        let (nv, list) = (&self.lib.nv, self.list.as_ptr());
        let name = c_string(key, key)?;
        // Calls the function of libnvpair that adds this type.
        macro_rules! add {
            ($function:ident $(, $argument:expr)*) => {
                // SAFETY: `list` is a live list of ours; `name` and what the arguments point to
                // outlive the call, and a count is that of the array before it; libnvpair copies
                // what it is given. The types are those of the declaration.
                unsafe { (nv.$function)(list, name.as_ptr() $(, $argument)*) }
            };
        }
        let code = match value {
            Value::Flag => add!(nvlist_add_boolean),
            Value::Bool(value) => add!(nvlist_add_boolean_value, sys::Boolean::from(*value)),
            Value::Int(value) => add!(nvlist_add_int64, *value),
            Value::UInt(value) => add!(nvlist_add_uint64, *value),
            Value::Str(value) => {
                let text = c_string(key, value)?;
                add!(nvlist_add_string, text.as_ptr())
            }
            Value::List(map) => {
                let inner = RawList::from_map(self.lib, map)?;
                add!(nvlist_add_nvlist, inner.as_ptr())
            }
            Value::StrArray(values) => {
                let texts = values
                    .iter()
                    .map(|text| c_string(key, text))
                    .collect::<Result<Vec<CString>, NvError>>()?;
                let pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
                let count = count(key, pointers.len())?;
                add!(nvlist_add_string_array, pointers.as_ptr(), count)
            }
            Value::IntArray(values) => {
                let count = count(key, values.len())?;
                add!(nvlist_add_int64_array, values.as_ptr(), count)
            }
            Value::ListArray(maps) => {
                let lists = maps
                    .iter()
                    .map(|map| RawList::from_map(self.lib, map))
                    .collect::<Result<Vec<RawList>, NvError>>()?;
                let pointers: Vec<*const NvList> = lists
                    .iter()
                    .map(|list| list.as_ptr().cast_const())
                    .collect();
                let count = count(key, pointers.len())?;
                add!(nvlist_add_nvlist_array, pointers.as_ptr(), count)
            }
        };
        accept(key, code)
    }

    /// Reads the list.
    pub(crate) fn to_map(&self) -> Result<NvMap, NvError> {
        // SAFETY: the list is live and ours for the whole call.
        unsafe { read(self.lib, self.list.as_ptr()) }
    }
}

/// Reads a list that the caller keeps.
///
/// # Safety
/// `list` is a valid list for the whole call.
unsafe fn read(lib: &'static Lib, list: *mut NvList) -> Result<NvMap, NvError> {
    let mut map = NvMap::new();
    let mut pair: *mut NvPair = ptr::null_mut();
    loop {
        // SAFETY: `list` is valid, `pair` is null or a pair of this list.
        pair = unsafe { (lib.nv.nvlist_next_nvpair)(list, pair) };
        if pair.is_null() {
            return Ok(map);
        }
        // SAFETY: `pair` is a pair of the list; its name is a C string inside it.
        let key = unsafe { text((lib.nv.nvpair_name)(pair)) };
        // SAFETY: as above.
        let value = unsafe { read_value(lib, pair, &key)? };
        map.insert(key, value);
    }
}

/// # Safety
/// `pair` is a pair of a list that stays valid for the whole call.
unsafe fn read_value(lib: &'static Lib, pair: *mut NvPair, key: &str) -> Result<Value, NvError> {
    let nv = &lib.nv;
    // Calls the function of libnvpair that reads this type, and returns the value.
    macro_rules! get {
        ($function:ident, $start:expr) => {{
            let mut value = $start;
            // SAFETY: `pair` is valid, and the place for the value has the type of the
            // declaration, which the compiler checks.
            accept(key, unsafe { (nv.$function)(pair, &raw mut value) })?;
            value
        }};
    }
    // Reads an array in the same way, and returns a slice that lives in the list.
    macro_rules! get_array {
        ($function:ident) => {{
            let (mut values, mut count) = (ptr::null_mut(), 0);
            // SAFETY: `pair` is valid, and both places have the types of the declaration.
            accept(key, unsafe {
                (nv.$function)(pair, &raw mut values, &raw mut count)
            })?;
            // SAFETY: the call returned a pointer to that many values, which live in the list.
            unsafe { slice(values, count) }
        }};
    }
    // SAFETY: `pair` is valid by the contract of this function.
    let data_type = unsafe { (nv.nvpair_type)(pair) };
    Ok(match data_type {
        sys::DATA_TYPE_BOOLEAN => Value::Flag,
        sys::DATA_TYPE_BOOLEAN_VALUE => Value::Bool(get!(nvpair_value_boolean_value, 0) != 0),
        sys::DATA_TYPE_INT32 => Value::Int(get!(nvpair_value_int32, 0).into()),
        sys::DATA_TYPE_UINT32 => Value::UInt(get!(nvpair_value_uint32, 0).into()),
        sys::DATA_TYPE_INT64 => Value::Int(get!(nvpair_value_int64, 0)),
        sys::DATA_TYPE_UINT64 => Value::UInt(get!(nvpair_value_uint64, 0)),
        sys::DATA_TYPE_STRING => {
            let value = get!(nvpair_value_string, ptr::null());
            // SAFETY: the call returned a C string that lives in the list.
            Value::Str(unsafe { text(value) })
        }
        sys::DATA_TYPE_NVLIST => {
            let value = get!(nvpair_value_nvlist, ptr::null_mut());
            // SAFETY: the call returned a list that lives in the list.
            Value::List(unsafe { read(lib, value)? })
        }
        sys::DATA_TYPE_STRING_ARRAY => {
            let values = get_array!(nvpair_value_string_array).iter();
            // SAFETY: each is a C string that lives in the list.
            Value::StrArray(values.map(|&value| unsafe { text(value) }).collect())
        }
        sys::DATA_TYPE_INT64_ARRAY => {
            Value::IntArray(get_array!(nvpair_value_int64_array).to_vec())
        }
        sys::DATA_TYPE_NVLIST_ARRAY => {
            let lists = get_array!(nvpair_value_nvlist_array).iter();
            // SAFETY: each is a list that lives in the list.
            let maps = lists.map(|&list| unsafe { read(lib, list) });
            Value::ListArray(maps.collect::<Result<Vec<NvMap>, NvError>>()?)
        }
        data_type => {
            return Err(NvError::UnknownType {
                key: key.to_owned(),
                data_type,
            });
        }
    })
}

/// # Safety
/// `pointer` is a C string that lives for the call.
unsafe fn text(pointer: *const c_char) -> String {
    // SAFETY: by the contract of this function.
    unsafe { CStr::from_ptr(pointer) }
        .to_string_lossy()
        .into_owned()
}

/// # Safety
/// `pointer` points to `count` values that live for `'a`, or `count` is 0.
unsafe fn slice<'a, T>(pointer: *const T, count: UInt) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: by the contract of this function; a C array is aligned for its type.
    unsafe { std::slice::from_raw_parts(pointer, count as usize) }
}

fn c_string(key: &str, text: &str) -> Result<CString, NvError> {
    CString::new(text).map_err(|_| NvError::Nul {
        key: key.replace('\0', "\u{fffd}"),
    })
}

fn count(key: &str, length: usize) -> Result<UInt, NvError> {
    UInt::try_from(length).map_err(|_| NvError::TooLong {
        key: key.to_owned(),
    })
}

fn accept(key: &str, code: c_int) -> Result<(), NvError> {
    match code {
        0 => Ok(()),
        code => Err(NvError::Refused {
            key: key.to_owned(),
            errno: Errno(code),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> NvMap {
        NvMap::from([
            ("key".to_owned(), value),
            ("other".to_owned(), Value::Int(1)),
        ])
    }

    #[test]
    fn what_programs_do_not_take_is_named() {
        let refused = Err(NvError::NotForPrograms { key: "key".into() });
        assert_eq!(check_for_program(&map(Value::UInt(1))), refused);
        assert_eq!(check_for_program(&map(Value::Flag)), refused);
        assert_eq!(check_for_program(&map(Value::ListArray(vec![]))), refused);
        assert_eq!(check_for_program(&map(Value::Int(-1))), Ok(()));
        let inner = Value::List(map(Value::UInt(1)));
        assert_eq!(
            check_for_program(&NvMap::from([("a".into(), inner)])),
            refused
        );
    }

    #[test]
    fn a_list_of_flags_alone_is_an_array_for_programs() {
        let names = NvMap::from([("a".into(), Value::Flag), ("b".into(), Value::Flag)]);
        assert_eq!(check_for_program(&names), Ok(()));
        assert_eq!(
            check_for_program(&NvMap::from([("l".into(), Value::List(names))])),
            Ok(())
        );
    }

    #[test]
    fn a_nul_is_refused_with_a_printable_key() {
        assert_eq!(c_string("k", "a\0b"), Err(NvError::Nul { key: "k".into() }));
        assert_eq!(c_string("k\0", "a"), Ok(CString::from(c"a")));
    }
}
