//! From a kubeconfig to a connection.

use async_trait::async_trait;

/// Where tokens come from. Asked before each request, so it keeps them itself.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token that is valid now.
    ///
    /// # Errors
    /// Why there is none, in words a practitioner can act on.
    async fn token(&self) -> Result<String, String>;
}

/// How to reach the API server, beyond what the kubeconfig says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectSettings {
    /// An HTTP proxy; wins over the environment and over the kubeconfig.
    pub proxy_url: Option<String>,
    /// The User-Agent.
    pub user_agent: String,
}
