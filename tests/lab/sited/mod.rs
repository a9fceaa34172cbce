//! Tests that begin with a site and a real Debian world.

mod accounts;
mod apt;
mod attacks;
mod console;
mod create;
mod doctor;
mod doctor_looks;
mod hostile;
mod inspector;
mod kills;
mod limits;
mod nested;
mod output;
mod preflight;
mod run;
mod security;
mod site;
mod worlds;
