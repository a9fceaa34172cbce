//! The plans, a file for each family of verbs.

mod create;
mod delete;
mod doctor;
mod inventory;
mod run;
mod site;
mod world;
