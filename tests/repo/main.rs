//! The repository checks itself: who names whom, what the pages promise, what must stand nowhere.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests, too: they end one with words"
)]

mod docs;
mod files;
mod layers;
mod protocol_calls;
mod readme;
mod schema_pages;
mod secrets;
