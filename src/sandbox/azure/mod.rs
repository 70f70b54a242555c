//! Azure's control plane and the Key Vault data plane.

mod access;
mod cluster_document;
mod path;
mod refusal;
mod roles;
