//! Making, changing and removing certificates in a vault. Contacts and issuers of the vault are never touched, and keys
//! pass through here in one direction only: into the vault, and out of this process's memory.

use std::collections::BTreeMap;
use std::time::Duration;

use azure_core::http::Method;
use serde_json::{Value, json};

use super::answer::Answer;
use super::certificates::{parse, target, vault_url};
use super::key_vaults::tags;
use super::pipeline::{Auth, Call, TRIES_AFTER_LOSS, after_loss, pause};
use super::{Azure, Error, Secret, VaultCertificate};

/// A certificate with everything a vault says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateBundle {
    /// The version.
    pub certificate: VaultCertificate,
    /// How the vault makes it, as JSON; only with the newest version.
    pub policy: Option<Value>,
    /// The version's tags.
    pub tags: BTreeMap<String, String>,
    /// The key's type, `RSA` or `EC`, where the answer says so.
    pub key_type: Option<String>,
}

/// The vault's work on a new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOperation {
    /// Which of the operations that a certificate has had.
    pub request_id: String,
    /// How far it is.
    pub state: OperationState,
    /// Who issues.
    pub issuer: String,
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// Under way; with the vault's words.
    InProgress(String),
    /// The version is there.
    Completed,
    /// There will be none; with code and words.
    Failed(String, String),
    /// Somebody called it off.
    Cancelled,
}

/// What is brought into a vault.
#[derive(Clone, Debug)]
pub struct CertificateUpload {
    /// A PFX in base64, or PEM text with the key before the certificates.
    pub value: Secret,
    /// The PFX's password.
    pub password: Option<Secret>,
    /// `application/x-pkcs12` or `application/x-pem-file`.
    pub content_type: &'static str,
}

impl Azure {
    /// Reads a certificate with its policy and tags: the newest version, or the one named. `None` if there is none; one
    /// whose first version is still being made counts as none.
    ///
    /// # Errors
    /// As [`Azure::certificate`].
    pub async fn certificate_bundle(
        &self,
        vault_uri: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Option<CertificateBundle>, Error> {
        let mut path = vec!["certificates", name];
        path.extend(version);
        let call = self.certificate_call("read certificate", Method::Get, vault_uri, name, &path)?;
        let answer = self.send_to_vault(call).await?;
        let Some(body) = answer.json_if_found()? else {
            return Ok(None);
        };
        if body.get("cer").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Ok(None);
        }
        read_bundle(name, &body, &answer).map(Some)
    }

    /// The newest operation on a certificate; `None` if it never had one, as after an import.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn certificate_operation(
        &self,
        vault_uri: &str,
        name: &str,
    ) -> Result<Option<CertificateOperation>, Error> {
        let path = ["certificates", name, "pending"];
        let operation = "read certificate operation";
        let call = self.certificate_call(operation, Method::Get, vault_uri, name, &path)?;
        let answer = self.send_to_vault(call).await?;
        let Some(body) = answer.json_if_found()? else {
            return Ok(None);
        };
        Ok(Some(read_operation(&body)))
    }

    /// Has the vault make a new version by this policy. An answer that is lost is looked after.
    ///
    /// # Errors
    /// [`Error::Conflict`] with `ObjectIsDeletedButRecoverable`, `ObjectIsBeingDeleted` or, while another operation is
    /// under way, `CertificateRequestPending`; those of writing.
    pub async fn create_certificate(
        &self,
        vault_uri: &str,
        name: &str,
        policy: &Value,
        enabled: bool,
        tags: &BTreeMap<String, String>,
    ) -> Result<CertificateOperation, Error> {
        let path = ["certificates", name, "create"];
        let body = json!({"policy": policy, "attributes": {"enabled": enabled}, "tags": tags});
        let call = self
            .certificate_call("create certificate", Method::Post, vault_uri, name, &path)?
            .body(body);
        let before = self.certificate_operation(vault_uri, name).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.send_to_vault(call.clone()).await {
                Ok(answer) if answer.is_success() => return Ok(read_operation(&answer.json()?)),
                Ok(answer) if answer.is_doubtful() => answer.refusal(),
                Ok(answer) => return Err(answer.refusal()),
                Err(error @ Error::Unreachable { .. }) => error,
                Err(error) => return Err(error),
            };
            let known = |operation: &CertificateOperation| {
                before
                    .as_ref()
                    .is_some_and(|before| before.request_id == operation.request_id)
            };
            match self.certificate_operation(vault_uri, name).await? {
                Some(operation) if !known(&operation) => return Ok(operation),
                _ if tries < TRIES_AFTER_LOSS => after_loss(tries).await,
                _ => return Err(failure),
            }
        }
    }

    /// Brings a certificate with its key into a vault, as a new version. An answer that is lost is looked after.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the vault cannot read it; [`Error::Conflict`] as [`Azure::create_certificate`]; those of
    /// writing.
    pub async fn import_certificate(
        &self,
        vault_uri: &str,
        name: &str,
        upload: &CertificateUpload,
        enabled: bool,
        tags: &BTreeMap<String, String>,
    ) -> Result<CertificateBundle, Error> {
        let path = ["certificates", name, "import"];
        let call = self
            .certificate_call("import certificate", Method::Post, vault_uri, name, &path)?
            .secret_body(upload_body(upload, enabled, tags));
        let newest = async || {
            let bundle = self.certificate_bundle(vault_uri, name, None).await?;
            Ok::<_, Error>(bundle)
        };
        let version = |bundle: &Option<CertificateBundle>| {
            bundle.as_ref().map(|bundle| bundle.certificate.version.clone())
        };
        let before = version(&newest().await?);
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.send_to_vault(call.clone()).await {
                Ok(answer) if answer.is_success() => return read_bundle(name, &answer.json()?, &answer),
                Ok(answer) if answer.is_doubtful() => answer.refusal(),
                Ok(answer) => return Err(answer.refusal()),
                Err(error @ Error::Unreachable { .. }) => error,
                Err(error) => return Err(error),
            };
            let now = newest().await?;
            match now.filter(|now| Some(&now.certificate.version) != before.as_ref()) {
                Some(bundle) => return Ok(bundle),
                None if tries < TRIES_AFTER_LOSS => after_loss(tries).await,
                None => return Err(failure),
            }
        }
    }

    /// Sets whether a version may be used, and its tags as a whole.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn change_certificate(
        &self,
        vault_uri: &str,
        name: &str,
        version: &str,
        enabled: bool,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let path = ["certificates", name, version];
        let call = self
            .certificate_call("change certificate", Method::Patch, vault_uri, name, &path)?
            .body(json!({"attributes": {"enabled": enabled}, "tags": tags}))
            .repeatable();
        self.send_to_vault(call).await?.json().map(|_| ())
    }

    /// Deletes a certificate with all its versions, so that it can be recovered. What is not there is no error.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn delete_certificate(&self, vault_uri: &str, name: &str) -> Result<(), Error> {
        let path = ["certificates", name];
        let call = self
            .certificate_call("delete certificate", Method::Delete, vault_uri, name, &path)?
            .repeatable();
        self.send_to_vault(call).await?.json_if_found().map(|_| ())
    }

    /// Forgets the newest operation on a certificate; one that is under way ends. What is not there is no error.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn forget_certificate_operation(&self, vault_uri: &str, name: &str) -> Result<(), Error> {
        let path = ["certificates", name, "pending"];
        let operation = "delete certificate operation";
        let call = self
            .certificate_call(operation, Method::Delete, vault_uri, name, &path)?
            .repeatable();
        self.send_to_vault(call).await?.json_if_found().map(|_| ())
    }

    /// Whether a certificate of this name was deleted and can be recovered.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn certificate_is_deleted(&self, vault_uri: &str, name: &str) -> Result<bool, Error> {
        let path = ["deletedcertificates", name];
        let operation = "read deleted certificate";
        let call = self.certificate_call(operation, Method::Get, vault_uri, name, &path)?;
        Ok(self.send_to_vault(call).await?.json_if_found()?.is_some())
    }

    /// Brings a deleted certificate back and waits until it is there. The caller bounds the wait by dropping it.
    ///
    /// # Errors
    /// Those of writing and reading.
    pub async fn recover_certificate(&self, vault_uri: &str, name: &str) -> Result<(), Error> {
        let path = ["deletedcertificates", name, "recover"];
        let operation = "recover certificate";
        let call = self
            .certificate_call(operation, Method::Post, vault_uri, name, &path)?
            .repeatable();
        // Asked twice, the second time there is nothing to recover any more.
        self.send_to_vault(call).await?.json_if_found()?;
        while self.certificate_bundle(vault_uri, name, None).await?.is_none() {
            pause(Some(Duration::from_secs(2))).await;
        }
        Ok(())
    }

    /// Removes a deleted certificate for good, and waits for it. The caller bounds the wait by dropping it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the right, or if the vault's purge protection forbids it; those of writing.
    pub async fn purge_certificate(&self, vault_uri: &str, name: &str) -> Result<(), Error> {
        // The deletion itself takes a moment.
        while !self.certificate_is_deleted(vault_uri, name).await? {
            pause(Some(Duration::from_secs(1))).await;
        }
        let path = ["deletedcertificates", name];
        let call = self
            .certificate_call("purge certificate", Method::Delete, vault_uri, name, &path)?
            .repeatable();
        let answer = self.send_to_vault(call).await?;
        if !answer.is_success() && answer.status != 404 {
            return Err(answer.refusal());
        }
        while self.certificate_is_deleted(vault_uri, name).await? {
            pause(Some(Duration::from_secs(2))).await;
        }
        Ok(())
    }

    fn certificate_call(
        &self,
        operation: &'static str,
        method: Method,
        vault_uri: &str,
        name: &str,
        path: &[&str],
    ) -> Result<Call, Error> {
        let (target, url) = (target(vault_uri, name), vault_url(vault_uri, path)?);
        Ok(match method {
            Method::Get => Call::get(operation, target, url, Auth::Anonymous),
            method => Call::write(operation, target, method, url, Auth::Anonymous),
        })
    }
}

/// The body of an import, put together without a copy of the key that stays in memory.
fn upload_body(upload: &CertificateUpload, enabled: bool, tags: &BTreeMap<String, String>) -> Secret {
    let policy = json!({
        "key_props": {"exportable": true},
        "secret_props": {"contentType": upload.content_type},
    });
    let rest = format!(
        "\"policy\":{policy},\"attributes\":{},\"tags\":{}",
        json!({"enabled": enabled}),
        json!(tags)
    );
    let value = quoted(&upload.value);
    let mut text = String::with_capacity(value.expose().len() + rest.len() + 256);
    text.push_str("{\"value\":");
    text.push_str(value.expose());
    if let Some(password) = &upload.password {
        text.push_str(",\"pwd\":");
        text.push_str(quoted(password).expose());
    }
    text.push(',');
    text.push_str(&rest);
    text.push('}');
    Secret::from(text)
}

/// A text as a JSON string.
fn quoted(secret: &Secret) -> Secret {
    let text = secret.expose();
    let mut quoted = String::with_capacity(text.len() * 2 + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Secret::from(quoted)
}

fn read_bundle(name: &str, body: &Value, answer: &Answer) -> Result<CertificateBundle, Error> {
    let kind = body.pointer("/policy/key_props/kty").and_then(Value::as_str);
    Ok(CertificateBundle {
        certificate: parse(name, body, answer)?,
        policy: body.get("policy").cloned(),
        tags: tags(body.get("tags")),
        key_type: kind.map(|kind| kind.trim_end_matches("-HSM").to_owned()),
    })
}

fn read_operation(body: &Value) -> CertificateOperation {
    let text = |pointer: &str| {
        body.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let state = match text("/status").to_ascii_lowercase().as_str() {
        "completed" => OperationState::Completed,
        "failed" => OperationState::Failed(text("/error/code"), text("/error/message")),
        "cancelled" | "canceled" => OperationState::Cancelled,
        _ => OperationState::InProgress(text("/status_details")),
    };
    CertificateOperation {
        request_id: text("/request_id"),
        state,
        issuer: text("/issuer/name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_json_whatever_the_key_and_the_password_hold() {
        let upload = CertificateUpload {
            value: Secret::new("-----BEGIN X-----\nab\"\\\r\n"),
            password: Some(Secret::new("p\u{1}\"ä")),
            content_type: "application/x-pem-file",
        };
        let tags = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        let body = upload_body(&upload, false, &tags);
        let read: Value = serde_json::from_str(body.expose()).unwrap();
        assert_eq!(read["value"], upload.value.expose());
        assert_eq!(read["pwd"], "p\u{1}\"ä");
        assert_eq!(read["attributes"]["enabled"], false);
        assert_eq!(
            read["policy"]["secret_props"]["contentType"],
            "application/x-pem-file"
        );
        assert_eq!(read["tags"]["team"], "shop");
        assert!(!format!("{upload:?}").contains("BEGIN"));
    }

    #[test]
    fn an_operation_tells_how_far_it_is() {
        let rows = [
            (
                json!({"status": "inProgress", "status_details": "wait"}),
                OperationState::InProgress("wait".into()),
            ),
            (json!({"status": "completed"}), OperationState::Completed),
            (json!({"status": "cancelled"}), OperationState::Cancelled),
            (
                json!({"status": "failed", "error": {"code": "C", "message": "m"}}),
                OperationState::Failed("C".into(), "m".into()),
            ),
        ];
        for (body, state) in rows {
            assert_eq!(read_operation(&body).state, state, "{body}");
        }
    }
}
