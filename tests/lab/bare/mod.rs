//! Tests that begin with an empty pool.

mod apply;
mod broken;
mod bulk;
mod clone;
mod contract;
mod crowd;
mod fallback;
mod full;
mod hosts;
mod imports;
mod init;
mod inspector;
mod install;
pub mod kills;
mod luck;
mod machine;
mod merge;
mod others;
mod package;
mod prune;
mod release;
mod releases;
mod texts;
mod track;
mod trouble;
mod update;
