//! The plans, a file for each family of verbs.

mod create;
mod delete;
mod doctor;
mod doctor_facts;
mod fleet;
mod follow;
mod intent;
mod inventory;
mod power;
mod preflight;
mod site;
mod ways;
mod world;
