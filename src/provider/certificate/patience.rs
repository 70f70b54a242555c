//! Waits for what a new vault and a new role need: a minute until the name is known everywhere, ten until the role is.
//! Where neither is new, a refusal is a refusal at once.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::azure::ids::VaultId;
use crate::azure::{Azure, Error, KeyVault};

/// A vault younger than this may not be everywhere yet.
const YOUNG: time::Duration = time::Duration::minutes(30);
/// How long is waited at most; Azure promises that a role has spread by then.
const MOST: Duration = Duration::from_secs(10 * 60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What may be waited for at one vault.
pub(super) struct Patience<'a> {
    azure: &'a Azure,
    id: &'a VaultId,
    young: bool,
}

impl<'a> Patience<'a> {
    pub(super) fn with(azure: &'a Azure, id: &'a VaultId, vault: &KeyVault) -> Self {
        let young = vault.created_at.is_some_and(|made| vault.seen_at - made < YOUNG);
        Self { azure, id, young }
    }

    /// The result of `work`, which is tried again while the vault or a role is too new for it.
    pub(super) async fn wait<T, F>(&self, work: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let end = Instant::now() + MOST;
        let mut pause = FIRST_PAUSE;
        let mut lately = None;
        loop {
            let error = match work().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let spreads = match &error {
                Error::Unreachable { .. } => self.young,
                Error::Forbidden { code, .. } if code == "ForbiddenByRbac" || code == "AccessDenied" => {
                    if lately.is_none() && !self.young {
                        lately = Some(self.azure.was_granted_lately(self.id).await.unwrap_or(false));
                    }
                    self.young || lately == Some(true)
                }
                _ => false,
            };
            if !spreads || Instant::now() + pause > end {
                return Err(error);
            }
            tracing::debug!(vault = self.id.name(), %error, "the vault or a role is new; asking again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
