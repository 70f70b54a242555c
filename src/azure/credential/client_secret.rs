//! An application that shows its secret.

use super::entra::{Entra, Proof};
use super::{CLIENT_ID, Credential, CredentialSettings, TENANT_ID, Token, Wanted, missing};
use crate::azure::Secret;

struct ClientSecret {
    entra: Entra,
    tenant_id: String,
    client_id: String,
    secret: Secret,
}

pub(super) fn set_up(settings: &CredentialSettings, entra: &Entra) -> Result<Box<dyn Credential>, String> {
    let inputs = (&settings.client_secret, &settings.client_id, &settings.tenant_id);
    let (Some(secret), Some(client_id), Some(tenant_id)) = inputs else {
        let inputs = [
            (
                settings.client_secret.is_some(),
                "client_secret (ARM_CLIENT_SECRET)",
            ),
            (settings.client_id.is_some(), CLIENT_ID),
            (settings.tenant_id.is_some(), TENANT_ID),
        ];
        return Err(missing(&inputs).unwrap_or_default());
    };
    Ok(Box::new(ClientSecret {
        entra: entra.clone(),
        tenant_id: tenant_id.clone(),
        client_id: client_id.clone(),
        secret: secret.clone(),
    }))
}

#[async_trait::async_trait]
impl Credential for ClientSecret {
    async fn token(&self, wanted: &Wanted<'_>) -> Result<Token, String> {
        let tenant = wanted.tenant.unwrap_or(&self.tenant_id);
        let proof = Proof::Secret(self.secret.clone());
        self.entra.token(wanted, tenant, &self.client_id, &proof).await
    }
}
