//! OpenZFS for ezz: libzfs_core and libnvpair loaded at run time, and the channel programs.
