//! Azure's ways of saying no, read into one shape. Pure.
//!
//! Azure Resource Manager and Key Vault wrap an error in `error`, AKS does not, operations put theirs beside a status,
//! Entra speaks OAuth, and gateways answer HTML.

use serde_json::Value;

/// What an answer said in place of what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope {
    /// The code; the inner one where the outer one is only a class (`Forbidden`).
    pub(super) code: String,
    /// The words.
    pub(super) message: String,
}

/// How much of an answer that is no envelope is shown.
const SNIPPET: usize = 300;

impl Envelope {
    /// Reads any body.
    pub(super) fn parse(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::of_json(&value),
            Err(_) => Self {
                code: String::new(),
                message: snippet(&String::from_utf8_lossy(body)),
            },
        }
    }

    /// Reads a JSON body.
    pub(super) fn of_json(value: &Value) -> Self {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        // Entra: {"error": "invalid_client", "error_description": "AADSTS…"}
        if let (Some(code), Some(message)) = (text(value, "error"), text(value, "error_description")) {
            return Self { code, message };
        }
        let inner = value
            .get("error")
            .filter(|inner| inner.is_object())
            .unwrap_or(value);
        let outer_code = text(inner, "code").unwrap_or_default();
        let inner_code = inner.get("innererror").and_then(|inner| text(inner, "code"));
        let is_class = ["forbidden", "conflict", "badrequest", "badparameter"]
            .contains(&outer_code.to_ascii_lowercase().as_str());
        let code = inner_code.filter(|_| is_class).unwrap_or(outer_code);
        let message = text(inner, "message").unwrap_or_else(|| snippet(&value.to_string()));
        let details = inner
            .get("details")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let details = details
            .filter_map(|detail| text(detail, "message"))
            .filter(|detail| !message.contains(detail));
        let message = details.fold(message.clone(), |message, detail| format!("{message} ({detail})"));
        Self {
            code,
            message: one_line(&message),
        }
    }

    /// The action a refusal is about, as role definitions name it.
    pub(super) fn action(&self) -> Option<String> {
        // The linked form names two actions: the one that is allowed first, the missing one after "does not have".
        let from = self.message.find("does not have").unwrap_or(0);
        let rest = &self.message[from..];
        let after = ["perform action(s) '", "perform action '", "Action: '"];
        if let Some(start) = after
            .iter()
            .find_map(|words| rest.find(words).map(|at| at + words.len()))
        {
            return rest[start..].split('\'').next().map(str::to_owned);
        }
        // A vault's control plane: "Details: oid=…; action=Microsoft.Authorization/roleAssignments/write; resource=…".
        if let Some((_, action)) = rest.split_once("; action=") {
            return action.split(';').next().map(str::to_owned);
        }
        // Access policies: "does not have secrets get permission on key vault".
        let before = rest
            .strip_prefix("does not have ")?
            .split_once(" permission on key vault")?
            .0;
        (before.split(' ').count() == 2).then(|| before.to_owned())
    }
}

fn snippet(text: &str) -> String {
    let without_tags: String = text
        .split('<')
        .map(|piece| piece.split_once('>').map_or(piece, |(_, rest)| rest))
        .collect::<Vec<_>>()
        .join(" ");
    let line = one_line(&without_tags);
    if line.is_empty() {
        return "the answer was empty".to_owned();
    }
    match line.char_indices().nth(SNIPPET) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_shape_of_refusal_is_read() {
        let rows = [
            (
                json!({"error": {"code": "ResourceNotFound", "message": "gone"}}),
                "ResourceNotFound",
                "gone",
            ),
            (
                json!({"code": "EtagMismatch", "message": "Operation is not allowed", "subcode": "x",
                       "details": [{"code": "Unspecified", "message": "Etag mismatched"}]}),
                "EtagMismatch",
                "Operation is not allowed (Etag mismatched)",
            ),
            (
                json!({"name": "1", "status": "Failed", "error": {"code": "ResourceOperationFailure", "message": "bad"}}),
                "ResourceOperationFailure",
                "bad",
            ),
            (
                json!({"error": {"code": "Forbidden", "message": "no\r\nreally", "innererror": {"code": "ForbiddenByRbac"}}}),
                "ForbiddenByRbac",
                "no really",
            ),
            (
                json!({"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret"}),
                "invalid_client",
                "AADSTS7000215: Invalid client secret",
            ),
        ];
        for (body, code, message) in rows {
            let envelope = Envelope::parse(body.to_string().as_bytes());
            assert_eq!(
                (envelope.code.as_str(), envelope.message.as_str()),
                (code, message)
            );
        }
        let html = b"<html><head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1></body></html>";
        assert_eq!(Envelope::parse(html).message, "502 Bad Gateway 502 Bad Gateway");
        assert_eq!(Envelope::parse(b"").message, "the answer was empty");
        assert_eq!(
            Envelope::parse("ü".repeat(400).as_bytes())
                .message
                .chars()
                .count(),
            SNIPPET + 1
        );
    }

    #[test]
    fn the_missing_action_is_found() {
        let rows = [
            (
                "The client 'a' with object id 'b' does not have authorization to perform action \
                 'Microsoft.ContainerService/managedClusters/write' over scope '/subscriptions/x' or the scope is invalid.",
                Some("Microsoft.ContainerService/managedClusters/write"),
            ),
            (
                "The client 'a' has permission to perform action 'Microsoft.ContainerService/managedClusters/write' on scope \
                 '/x'; however, it does not have permission to perform action(s) \
                 'Microsoft.OperationalInsights/workspaces/sharedkeys/read' on the linked scope(s) '/y'",
                Some("Microsoft.OperationalInsights/workspaces/sharedkeys/read"),
            ),
            (
                "Caller is not authorized to perform action on resource. Caller: appid=x Action: \
                 'Microsoft.KeyVault/vaults/certificates/read' Resource: '/x'",
                Some("Microsoft.KeyVault/vaults/certificates/read"),
            ),
            (
                "The user, group or application 'appid=a;oid=b' does not have certificates get permission on key vault \
                 'kv;location=x'.",
                Some("certificates get"),
            ),
            (
                "Caller is not allowed to change permission model. Details: oid=b; \
                 action=Microsoft.Authorization/roleAssignments/write; resource=/x; decision=NotAllowed;",
                Some("Microsoft.Authorization/roleAssignments/write"),
            ),
            (
                "Client address is not authorized and caller is not a trusted service.",
                None,
            ),
        ];
        for (message, action) in rows {
            let envelope = Envelope {
                code: String::new(),
                message: message.to_owned(),
            };
            assert_eq!(envelope.action().as_deref(), action, "{message}");
        }
    }
}
