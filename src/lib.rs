//! `terraform-provider-kvtls`: serve HTTPS from AKS with a certificate that lives in Azure Key Vault, and keep it true.
//!
//! One direction of data: configuration and prior state become a *desired* binding, the world becomes an
//! *observation*, a pure plan turns the two into *steps*, executing the steps yields *receipts*, and the world is
//! observed again before anything is reported.
//!
//! The rooms, lowest first; each names only what stands above it here as its own documentation says:
//!
//! - [`duration`]: durations as practitioners write them
//! - [`go_plugin`]: a plugin's process life
//! - [`framework`]: Terraform's words, no Azure in it
//! - [`tfplugin6`]: the wire, translation only
//! - [`tls`]: certificates as vocabulary, pure
//! - [`azure`], [`k8s`]: clients
//! - [`binding`]: the domain
//! - [`provider`]: what Terraform sees
//! - [`sandbox`]: beside all of it, a world on loopback; the provider never names it

pub mod azure;
pub mod binding;
pub mod duration;
pub mod framework;
pub mod go_plugin;
pub mod k8s;
pub mod provider;
#[cfg(unix)] // it starts and ends processes of others and keeps its files from them
pub mod sandbox;
pub mod tfplugin6;
pub mod tls;
