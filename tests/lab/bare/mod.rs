//! Tests that begin with an empty pool.

mod init;
mod install;
mod track;
mod trouble;
