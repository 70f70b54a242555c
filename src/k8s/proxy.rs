//! The proxy of the environment, and who is reached without it.

/// What `HTTPS_PROXY` and `NO_PROXY` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// The proxy's URL.
    pub https_proxy: Option<String>,
    /// The list of hosts, domains, addresses and networks reached without it.
    pub no_proxy: Option<String>,
}
