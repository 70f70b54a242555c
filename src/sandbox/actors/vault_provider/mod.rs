//! The Azure provider of the secrets store: what a mount asks for, fetched from Key Vault with the node's identity or,
//! for a service account that Entra trusts, with somebody else's.
//!
//! Speaks to Azure as the real one does, token over IMDS and objects over HTTPS, so grants, propagation, firewalls
//! and disabled versions act by themselves. Errors are composed in the provider's own words.

mod convert;
mod fetch;
mod parameters;

use std::collections::BTreeMap;

use self::convert::Converted;
pub(super) use self::convert::certificates_and_key;
pub(super) use self::fetch::Vaults;
use self::parameters::{Identity, Object, Request};
use super::mounts::{Files, Versions};

/// What the driver hands over.
pub(super) struct MountRequest {
    pub(super) parameters: BTreeMap<String, String>,
    /// The pod's service account tokens as JSON by audience; empty if the driver was given none.
    pub(super) tokens: String,
    /// Content of the volume's `nodePublishSecretRef`.
    pub(super) secrets: BTreeMap<String, String>,
}

/// The provider.
pub(super) struct VaultProvider {
    vaults: Vaults,
    converted: Converted,
}

impl VaultProvider {
    pub(super) fn new(vaults: Vaults) -> Self {
        Self {
            vaults,
            converted: Converted::default(),
        }
    }

    /// Fetches all objects; an error is the text the provider answers with.
    pub(super) async fn mount(&self, request: &MountRequest) -> Result<(Files, Versions), String> {
        self.objects(request).await.map_err(|error| {
            format!("rpc error: code = Unknown desc = failed to mount objects, error: {error}")
        })
    }

    async fn objects(&self, request: &MountRequest) -> Result<(Files, Versions), String> {
        let wanted = parameters::parse(&request.parameters)?;
        if wanted.objects.is_empty() {
            return Ok(Default::default());
        }
        let identity = wanted.identity(&request.tokens, &request.secrets)?;
        let mut files = Files::new();
        let mut versions = Versions::new();
        for object in &wanted.objects {
            for (id, version, path, content) in self.object(&wanted, &identity, object).await? {
                files.insert(path, content);
                versions.push((id, version));
            }
        }
        Ok((files, versions))
    }

    /// One entry of `objects`: usually one file, with history several. Id, version, path, content.
    async fn object(
        &self,
        request: &Request,
        identity: &Identity,
        object: &Object,
    ) -> Result<Vec<(String, String, String, Vec<u8>)>, String> {
        let failed = |version: &str, error: String| {
            format!(
                "failed to get objectType:{}, objectName:{}, objectVersion:{version}: {error}",
                object.kind, object.name
            )
        };
        let base = format!("{}/{}", object.kind, object.name);
        if object.history <= 1 {
            let fetched = self
                .vaults
                .fetch(request, identity, object, &object.version)
                .await;
            let fetched = fetched.map_err(|error| failed(&object.version, error))?;
            let content = self.converted.content(object, &fetched);
            let content = content.map_err(|error| failed(&object.version, error))?;
            return Ok(vec![(base, fetched.version, object.path().to_owned(), content)]);
        }
        let listed = self.vaults.versions(request, identity, object).await;
        let listed = listed.map_err(|error| failed(&object.version, error))?;
        let first = match object.version.as_str() {
            "" | "latest" => 0,
            version => listed.iter().position(|listed| listed == version).unwrap_or(0),
        };
        let mut all = Vec::new();
        // One more than asked for, as measured on the real provider.
        for (index, version) in listed.iter().skip(first).take(object.history + 1).enumerate() {
            let fetched = self.vaults.fetch(request, identity, object, version).await;
            let fetched = fetched.map_err(|error| failed(version, error))?;
            let content = self.converted.content(object, &fetched);
            let content = content.map_err(|error| failed(version, error))?;
            let path = format!("{}/{index}", object.path());
            all.push((format!("{base}/{index}"), fetched.version, path, content));
        }
        Ok(all)
    }
}
