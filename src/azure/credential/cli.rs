//! Whoever is logged in with the Azure CLI.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::entra::number;
use super::{Credential, CredentialSettings, Token, Wanted, claims_of};

/// How long the CLI may take: it is a Python program that may have to renew its own login.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of what it says is repeated.
const LONGEST: usize = 600;

struct Cli {
    tenant_id: Option<String>,
    subscription_id: Option<String>,
}

pub(super) fn set_up(settings: &CredentialSettings) -> Result<Box<dyn Credential>, String> {
    if !settings.use_cli {
        return Err(
            "switched off; to use it, set use_cli = true (ARM_USE_CLI) and run `az login`".to_owned(),
        );
    }
    Ok(Box::new(Cli {
        tenant_id: settings.tenant_id.clone(),
        subscription_id: settings.subscription_id.clone(),
    }))
}

#[async_trait::async_trait]
impl Credential for Cli {
    async fn token(&self, wanted: &Wanted<'_>) -> Result<Token, String> {
        // No shell is in between, so nothing needs quoting.
        let mut command = Command::new(if cfg!(windows) { "az.cmd" } else { "az" });
        command.args([
            "account",
            "get-access-token",
            "--output",
            "json",
            "--scope",
            wanted.scope,
        ]);
        // The CLI takes one of the two.
        match (wanted.tenant.or(self.tenant_id.as_deref()), &self.subscription_id) {
            (Some(tenant), _) => command.args(["--tenant", tenant]),
            (None, Some(subscription)) => command.args(["--subscription", subscription]),
            (None, None) => &mut command,
        };
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output =
            output.map_err(|_elapsed| format!("`az` did not answer within {} s", PATIENCE.as_secs()))?;
        let output = output.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "`az` is not on PATH; install it and run `az login`".to_owned(),
            _ => format!("`az` does not start ({error})"),
        })?;
        if !output.status.success() {
            return Err(refusal(&String::from_utf8_lossy(&output.stderr)));
        }
        parse(&output.stdout).ok_or_else(|| "`az account get-access-token` printed no token".to_owned())
    }
}

/// What the CLI said, without its colours and hints to people in front of it.
fn refusal(stderr: &str) -> String {
    let line = stderr
        .lines()
        .map(|line| line.trim().trim_start_matches("ERROR: "))
        .filter(|line| !line.is_empty() && !line.starts_with("WARNING"))
        .collect::<Vec<_>>()
        .join(" ");
    let line: String = line.chars().take(LONGEST).collect();
    match (line.is_empty(), line.contains("az login")) {
        (true, _) => "`az` failed without saying why; is `az login` done?".to_owned(),
        (false, true) => line,
        (false, false) => format!("{line}; is `az login` done?"),
    }
}

/// `expiresOn` is a local time that nobody else can read; `expires_on` came with version 2.54. Before that, the token
/// itself knows.
fn parse(stdout: &[u8]) -> Option<Token> {
    let body: Value = serde_json::from_slice(stdout).ok()?;
    let token = body.get("accessToken")?.as_str()?;
    let ends_at = number(body.get("expires_on"))
        .or_else(|| claims_of(token).and_then(|claims| number(claims.get("exp"))));
    Some(match ends_at {
        Some(ends_at) => Token::until(token, ends_at),
        // Nobody says: asked again soon.
        None => Token::of_life(token, Duration::from_secs(120)),
    })
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn the_unix_time_counts_and_not_the_local_one() {
        let end = OffsetDateTime::now_utc().unix_timestamp() + 3600;
        let printed = format!(
            r#"{{"accessToken":"secret","expiresOn":"2001-01-01 00:00:00.000000","expires_on":{end},"tokenType":"Bearer"}}"#
        );
        let token = parse(printed.as_bytes()).unwrap();
        assert_eq!(token.secret.expose(), "secret");
        assert!((token.ends_at.unix_timestamp() - end).abs() <= 1);
        assert!(token.renew_at < token.ends_at);
    }

    #[test]
    fn an_old_cli_s_token_says_itself_when_it_ends() {
        use base64::Engine as _;
        let end = OffsetDateTime::now_utc().unix_timestamp() + 1800;
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{end}}}"#));
        let printed = format!(r#"{{"accessToken":"h.{claims}.s","expiresOn":"2001-01-01 00:00:00.000000"}}"#);
        let token = parse(printed.as_bytes()).unwrap();
        assert!((token.ends_at.unix_timestamp() - end).abs() <= 1);
    }

    #[test]
    fn what_the_cli_says_is_repeated_with_the_way_out() {
        let rows = [
            (
                "ERROR: Please run 'az login' to setup account.\n",
                "Please run 'az login' to setup account.",
            ),
            (
                "WARNING: x\nERROR: AADSTS70043: expired\n",
                "AADSTS70043: expired; is `az login` done?",
            ),
            ("", "`az` failed without saying why; is `az login` done?"),
        ];
        for (stderr, expected) in rows {
            assert_eq!(refusal(stderr), expected);
        }
    }
}
