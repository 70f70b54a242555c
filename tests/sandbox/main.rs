//! The sandbox, judged from outside: over its sockets, its command line and its control API.

mod client;
mod control;
mod entra;
mod front;
mod process;
