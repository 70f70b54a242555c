//! What a data source tells of a cluster beyond what bindings need.

use serde_json::Value;

use super::managed_clusters::parse;
use super::{Azure, Cluster, ClusterId, Error};

/// A cluster, and who vouches for its service accounts.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterFacts {
    /// The cluster.
    pub cluster: Cluster,
    /// The OIDC issuer's URL, where it has one.
    pub oidc_issuer: Option<String>,
}

impl Azure {
    /// What is known of a cluster; `None` if it or its resource group does not exist.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn cluster_facts(&self, id: &ClusterId) -> Result<Option<ClusterFacts>, Error> {
        let answer = self.cluster_answer(id).await?;
        let Some(body) = answer.json_if_found()? else {
            return Ok(None);
        };
        let cluster = parse(id, &body).map_err(|reason| answer.unexpected(&reason))?;
        let issuer = body.pointer("/properties/oidcIssuerProfile/issuerURL");
        Ok(Some(ClusterFacts {
            cluster,
            oidc_issuer: issuer.and_then(Value::as_str).map(str::to_owned),
        }))
    }
}
