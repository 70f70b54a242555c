//! The repository checks itself: who names whom, what the pages promise, what must stand nowhere.

mod docs;
mod files;
mod layers;
mod readme;
mod secrets;
