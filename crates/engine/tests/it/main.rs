//! The engine from outside: properties over random inputs, scenarios that a person can read, and the
//! answers to "why".

mod explain;
mod fixture;
mod naive;
mod properties;
mod scenarios;
mod world;
