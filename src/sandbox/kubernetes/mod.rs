//! A Kubernetes API server, as far as its clients can tell.
//!
//! One generic engine, driven by data: `schema.json` says how every kind is typed, listed and merged, the table in
//! `kinds` says under which names and verbs it is served, and custom resource definitions add to both while it
//! runs. A request goes through the same stations as in the original: authentication, authorization, decoding and
//! defaulting, admission, ownership of fields, strategy, validation, storage, watch.
//!
//! Everything happens under one lock and without waiting, so an answer is always the truth of one revision; only
//! watches and port-forwards outlive their request.
//!
//! Read next: `server` (the stations), `store` (revisions), `apply` (server-side apply).

mod access;
mod account_key;
mod admission;
mod apply;
mod authentication;
mod bootstrap;
mod crd;
mod defaults;
mod discovery;
mod fields;
mod ingress_nginx;
mod kinds;
mod managed;
mod open_api;
mod patch;
mod pod_security;
mod protobuf;
mod quantity;
mod refusal;
mod request;
mod reviews;
mod safeguards;
mod scale;
mod schema;
mod selectors;
mod server;
mod shaping;
mod store;
mod stream;
mod swagger;
mod table;
mod validation;
mod watch;
mod writes;

#[cfg(test)]
mod tests;

pub(crate) use access::{AzureRbac, Deed, review as access_review};
pub(crate) use account_key::{AccountKey, issuer_document};
pub(crate) use admission::{WEBHOOK, review as admission_review};
pub(crate) use authentication::ISSUER;
pub(crate) use server::{ApiServer, ApiSettings, Forwarder, Identity, Judge};
pub(crate) use stream::forward_to_pod;
