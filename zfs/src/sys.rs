//! libzfs_core and libnvpair, found at run time.
//!
//! The libraries are loaded rather than linked, so that one binary serves OpenZFS 2.1 to 2.4, and still starts, with a
//! clear message, on a host without OpenZFS. The declarations are written by hand: each quotes its line of the header,
//! and `tests/headers.rs` compiles them against the real headers. This module must not interpret results; safe wrappers
//! are in `nvlist` and `core`.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::{Arc, OnceLock};

use libloading::Library;

/// `nvlist_t`, an opaque type that is only used behind a pointer.
#[repr(C)]
#[derive(Debug)]
pub struct NvList {
    _opaque: [u8; 0],
}

/// `nvpair_t`, an opaque type that is only used behind a pointer.
#[repr(C)]
#[derive(Debug)]
pub struct NvPair {
    _opaque: [u8; 0],
}

/// `boolean_t`, an enumeration of `B_FALSE` and `B_TRUE`: as wide as an unsigned int.
pub type Boolean = c_uint;
/// The C type `uint_t`.
pub type UInt = c_uint;
/// `data_type_t`, an enumeration with a negative member: as wide as an int.
pub type DataType = c_int;
/// The C type `enum lzc_dataset_type`.
pub type LzcDatasetType = c_uint;

/// `LZC_DATSET_TYPE_ZFS` (spelled as in the header).
pub const LZC_DATSET_TYPE_ZFS: LzcDatasetType = 2;
/// `NV_UNIQUE_NAME`.
pub const NV_UNIQUE_NAME: UInt = 1;
/// `DATA_TYPE_BOOLEAN`: a name without a value.
pub const DATA_TYPE_BOOLEAN: DataType = 1;
/// `DATA_TYPE_INT32`.
pub const DATA_TYPE_INT32: DataType = 5;
/// `DATA_TYPE_UINT32`.
pub const DATA_TYPE_UINT32: DataType = 6;
/// `DATA_TYPE_INT64`.
pub const DATA_TYPE_INT64: DataType = 7;
/// `DATA_TYPE_UINT64`.
pub const DATA_TYPE_UINT64: DataType = 8;
/// `DATA_TYPE_STRING`.
pub const DATA_TYPE_STRING: DataType = 9;
/// `DATA_TYPE_INT64_ARRAY`.
pub const DATA_TYPE_INT64_ARRAY: DataType = 15;
/// `DATA_TYPE_STRING_ARRAY`.
pub const DATA_TYPE_STRING_ARRAY: DataType = 17;
/// `DATA_TYPE_NVLIST`.
pub const DATA_TYPE_NVLIST: DataType = 19;
/// `DATA_TYPE_NVLIST_ARRAY`.
pub const DATA_TYPE_NVLIST_ARRAY: DataType = 20;
/// `DATA_TYPE_BOOLEAN_VALUE`.
pub const DATA_TYPE_BOOLEAN_VALUE: DataType = 21;

/// The constants above by their C names, for the test that compares them with the headers.
pub const CONSTANTS: &[(&str, i64)] = &[
    ("LZC_DATSET_TYPE_ZFS", LZC_DATSET_TYPE_ZFS as i64),
    ("NV_UNIQUE_NAME", NV_UNIQUE_NAME as i64),
    ("DATA_TYPE_BOOLEAN", DATA_TYPE_BOOLEAN as i64),
    ("DATA_TYPE_INT32", DATA_TYPE_INT32 as i64),
    ("DATA_TYPE_UINT32", DATA_TYPE_UINT32 as i64),
    ("DATA_TYPE_INT64", DATA_TYPE_INT64 as i64),
    ("DATA_TYPE_UINT64", DATA_TYPE_UINT64 as i64),
    ("DATA_TYPE_STRING", DATA_TYPE_STRING as i64),
    ("DATA_TYPE_INT64_ARRAY", DATA_TYPE_INT64_ARRAY as i64),
    ("DATA_TYPE_STRING_ARRAY", DATA_TYPE_STRING_ARRAY as i64),
    ("DATA_TYPE_NVLIST", DATA_TYPE_NVLIST as i64),
    ("DATA_TYPE_NVLIST_ARRAY", DATA_TYPE_NVLIST_ARRAY as i64),
    ("DATA_TYPE_BOOLEAN_VALUE", DATA_TYPE_BOOLEAN_VALUE as i64),
];

/// A C function as it is declared here, as text, which `tests/headers.rs` compares.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    /// The symbol of the function.
    pub name: &'static str,
    /// The Rust types of its arguments, in order.
    pub arguments: &'static [&'static str],
    /// The Rust type that it returns.
    pub returns: &'static str,
}

/// The libraries cannot be used on this host.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no OpenZFS on this host: cannot load {library}")]
pub struct LoadError {
    /// The library, or the library and the symbol that it lacks.
    pub library: String,
    /// The error of the dynamic linker.
    #[source]
    pub source: Arc<libloading::Error>,
}

macro_rules! functions {
    ($(#[$outer:meta])* $table:ident { $($(#[doc = $header:literal])+ fn $name:ident($($arg:ty),*) -> $ret:ty;)* }) => {
        $(#[$outer])*
        #[derive(Debug)]
        pub(crate) struct $table {
            $($(#[doc = $header])+ pub(crate) $name: unsafe extern "C" fn($($arg),*) -> $ret,)*
        }

        impl $table {
            pub(crate) const DECLARATIONS: &'static [Declaration] = &[
                $(Declaration {
                    name: stringify!($name),
                    arguments: &[$(stringify!($arg)),*],
                    returns: stringify!($ret),
                }),*
            ];

            fn resolve(library: &Library, file: &str) -> Result<Self, LoadError> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the symbol is a C function with the signature that the header
                        // quoted at the declaration gives it; tests/headers.rs compares the two.
                        // The pointer stays valid because the library is never unloaded (`Lib`).
                        let symbol = unsafe {
                            library.get::<unsafe extern "C" fn($($arg),*) -> $ret>(
                                concat!(stringify!($name), "\0").as_bytes(),
                            )
                        };
                        *symbol.map_err(|source| LoadError {
                            library: format!("{} from {file}", stringify!($name)),
                            source: Arc::new(source),
                        })?
                    },)*
                })
            }
        }
    };
}

functions! {
    /// libnvpair (`sys/nvpair.h`). In 2.1 some types are `char **` where later headers have `const char **`; the ABI is
    /// the same.
    NvPairFns {
        /// `int nvlist_alloc(nvlist_t **, uint_t, int);`
        fn nvlist_alloc(*mut *mut NvList, UInt, c_int) -> c_int;
        /// `void nvlist_free(nvlist_t *);`
        fn nvlist_free(*mut NvList) -> ();
        /// `int nvlist_add_boolean(nvlist_t *, const char *);`
        fn nvlist_add_boolean(*mut NvList, *const c_char) -> c_int;
        /// `int nvlist_add_boolean_value(nvlist_t *, const char *, boolean_t);`
        fn nvlist_add_boolean_value(*mut NvList, *const c_char, Boolean) -> c_int;
        /// `int nvlist_add_int64(nvlist_t *, const char *, int64_t);`
        fn nvlist_add_int64(*mut NvList, *const c_char, i64) -> c_int;
        /// `int nvlist_add_uint64(nvlist_t *, const char *, uint64_t);`
        fn nvlist_add_uint64(*mut NvList, *const c_char, u64) -> c_int;
        /// `int nvlist_add_string(nvlist_t *, const char *, const char *);`
        fn nvlist_add_string(*mut NvList, *const c_char, *const c_char) -> c_int;
        /// `int nvlist_add_nvlist(nvlist_t *, const char *, const nvlist_t *);`
        fn nvlist_add_nvlist(*mut NvList, *const c_char, *const NvList) -> c_int;
        /// `int nvlist_add_string_array(nvlist_t *, const char *, const char * const *, uint_t);`
        fn nvlist_add_string_array(*mut NvList, *const c_char, *const *const c_char, UInt) -> c_int;
        /// `int nvlist_add_int64_array(nvlist_t *, const char *, const int64_t *, uint_t);`
        fn nvlist_add_int64_array(*mut NvList, *const c_char, *const i64, UInt) -> c_int;
        /// `int nvlist_add_nvlist_array(nvlist_t *, const char *, const nvlist_t * const *, uint_t);`
        fn nvlist_add_nvlist_array(*mut NvList, *const c_char, *const *const NvList, UInt) -> c_int;
        /// `nvpair_t *nvlist_next_nvpair(nvlist_t *, const nvpair_t *);`
        fn nvlist_next_nvpair(*mut NvList, *const NvPair) -> *mut NvPair;
        /// `const char *nvpair_name(const nvpair_t *);`
        fn nvpair_name(*const NvPair) -> *const c_char;
        /// `data_type_t nvpair_type(const nvpair_t *);`
        fn nvpair_type(*const NvPair) -> DataType;
        /// `int nvpair_value_boolean_value(const nvpair_t *, boolean_t *);`
        fn nvpair_value_boolean_value(*const NvPair, *mut Boolean) -> c_int;
        /// `int nvpair_value_int32(const nvpair_t *, int32_t *);`
        fn nvpair_value_int32(*const NvPair, *mut i32) -> c_int;
        /// `int nvpair_value_uint32(const nvpair_t *, uint32_t *);`
        fn nvpair_value_uint32(*const NvPair, *mut u32) -> c_int;
        /// `int nvpair_value_int64(const nvpair_t *, int64_t *);`
        fn nvpair_value_int64(*const NvPair, *mut i64) -> c_int;
        /// `int nvpair_value_uint64(const nvpair_t *, uint64_t *);`
        fn nvpair_value_uint64(*const NvPair, *mut u64) -> c_int;
        /// `int nvpair_value_string(const nvpair_t *, const char **);`
        fn nvpair_value_string(*const NvPair, *mut *const c_char) -> c_int;
        /// `int nvpair_value_nvlist(nvpair_t *, nvlist_t **);`
        fn nvpair_value_nvlist(*mut NvPair, *mut *mut NvList) -> c_int;
        /// `int nvpair_value_string_array(nvpair_t *, const char ***, uint_t *);`
        fn nvpair_value_string_array(*mut NvPair, *mut *mut *const c_char, *mut UInt) -> c_int;
        /// `int nvpair_value_int64_array(nvpair_t *, int64_t **, uint_t *);`
        fn nvpair_value_int64_array(*mut NvPair, *mut *mut i64, *mut UInt) -> c_int;
        /// `int nvpair_value_nvlist_array(nvpair_t *, nvlist_t ***, uint_t *);`
        fn nvpair_value_nvlist_array(*mut NvPair, *mut *mut *mut NvList, *mut UInt) -> c_int;
    }
}

functions! {
    /// libzfs_core (`libzfs_core.h`). Each function returns an errno as its value. All of them need a call of
    /// `libzfs_core_init` first, and abort the process without it.
    CoreFns {
        /// `int libzfs_core_init(void);`
        fn libzfs_core_init() -> c_int;
        /// `void libzfs_core_fini(void);`
        fn libzfs_core_fini() -> ();
        /// `int lzc_create(const char *, enum lzc_dataset_type, nvlist_t *, uint8_t *, uint_t);`
        fn lzc_create(*const c_char, LzcDatasetType, *mut NvList, *mut u8, UInt) -> c_int;
        /// `int lzc_clone(const char *, const char *, nvlist_t *);`
        fn lzc_clone(*const c_char, *const c_char, *mut NvList) -> c_int;
        /// `int lzc_snapshot(nvlist_t *, nvlist_t *, nvlist_t **);`
        fn lzc_snapshot(*mut NvList, *mut NvList, *mut *mut NvList) -> c_int;
        /// `int lzc_destroy(const char *);`
        fn lzc_destroy(*const c_char) -> c_int;
        /// `int lzc_destroy_snaps(nvlist_t *, boolean_t, nvlist_t **);`
        fn lzc_destroy_snaps(*mut NvList, Boolean, *mut *mut NvList) -> c_int;
        /// `int lzc_promote(const char *, char *, int);`
        fn lzc_promote(*const c_char, *mut c_char, c_int) -> c_int;
        /// `int lzc_rename(const char *, const char *);`
        fn lzc_rename(*const c_char, *const c_char) -> c_int;
        /// `int lzc_rollback_to(const char *, const char *);`
        fn lzc_rollback_to(*const c_char, *const c_char) -> c_int;
        /// `int lzc_hold(nvlist_t *, int, nvlist_t **);`
        fn lzc_hold(*mut NvList, c_int, *mut *mut NvList) -> c_int;
        /// `int lzc_release(nvlist_t *, nvlist_t **);`
        fn lzc_release(*mut NvList, *mut *mut NvList) -> c_int;
        /// `int lzc_get_holds(const char *, nvlist_t **);`
        fn lzc_get_holds(*const c_char, *mut *mut NvList) -> c_int;
        /// `boolean_t lzc_exists(const char *);`
        fn lzc_exists(*const c_char) -> Boolean;
        /// `int lzc_channel_program(const char *, const char *, uint64_t, uint64_t, nvlist_t *,
        /// nvlist_t **);`
        fn lzc_channel_program(*const c_char, *const c_char, u64, u64, *mut NvList, *mut *mut NvList) -> c_int;
        /// `int lzc_channel_program_nosync(const char *, const char *, uint64_t, uint64_t,
        /// nvlist_t *, nvlist_t **);`
        fn lzc_channel_program_nosync(*const c_char, *const c_char, u64, u64, *mut NvList, *mut *mut NvList) -> c_int;
    }
}

/// Both libraries, which stay loaded as long as the process runs.
#[derive(Debug)]
pub(crate) struct Lib {
    pub(crate) nv: NvPairFns,
    pub(crate) core: CoreFns,
    /// Never dropped, because the function pointers above point into the libraries.
    _keep: [Library; 2],
}

// The libraries of the base system; a port or package may add those with the numbers of upstream.
#[cfg(target_os = "freebsd")]
const CORE_NAMES: &[&str] = &["libzfs_core.so.2", "libzfs_core.so", "libzfs_core.so.3"];
#[cfg(target_os = "freebsd")]
const NVPAIR_NAMES: &[&str] = &["libnvpair.so.2", "libnvpair.so", "libnvpair.so.3"];
// The numbers are the same in OpenZFS 2.1, 2.2, 2.3 and 2.4; libzfs.so itself has 4, 6 and 7.
#[cfg(not(target_os = "freebsd"))]
const CORE_NAMES: &[&str] = &["libzfs_core.so.3"];
#[cfg(not(target_os = "freebsd"))]
const NVPAIR_NAMES: &[&str] = &["libnvpair.so.3"];

static LIB: OnceLock<Lib> = OnceLock::new();

impl Lib {
    /// Loads both libraries once per process; later calls, from any thread, return the same ones.
    pub(crate) fn get() -> Result<&'static Lib, LoadError> {
        if let Some(lib) = LIB.get() {
            return Ok(lib);
        }
        let (nvpair, nvpair_file) = open_first(NVPAIR_NAMES)?;
        let (core, core_file) = open_first(CORE_NAMES)?;
        let lib = Lib {
            nv: NvPairFns::resolve(&nvpair, nvpair_file)?,
            core: CoreFns::resolve(&core, core_file)?,
            _keep: [nvpair, core],
        };
        // A thread that loses the race drops its own handles; those of the winner keep the library loaded.
        Ok(LIB.get_or_init(|| lib))
    }
}

fn open_first(names: &[&'static str]) -> Result<(Library, &'static str), LoadError> {
    let mut first = None;
    for &name in names {
        // SAFETY: loading runs the initialisers of the library and of its dependencies. These are the host's own
        // OpenZFS libraries, found by the system's search path; their constructors (those of libspl and libtpool) have
        // no preconditions.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok((library, name)),
            Err(source) => {
                first.get_or_insert(LoadError {
                    library: name.to_owned(),
                    source: Arc::new(source),
                });
            }
        }
    }
    Err(first.unwrap_or_else(|| LoadError {
        library: "no library".to_owned(),
        source: Arc::new(libloading::Error::DlOpenUnknown),
    }))
}

/// Returns every declaration of this module, for the test that compares them with the headers.
pub fn declarations() -> impl Iterator<Item = Declaration> {
    NvPairFns::DECLARATIONS
        .iter()
        .chain(CoreFns::DECLARATIONS)
        .copied()
}
