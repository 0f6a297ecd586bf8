//! What channels whose provider has an HTTP API share: reading its JSON and its forms, what is found in its requests,
//! calling it part by part, and files that it fetches from us.

pub mod api;
pub mod found;
pub mod piece;
pub mod query;
pub mod read;
pub mod serve;
