//! What a probe or an environment says, without anything that runs. Pure.

use serde_json::Value;

use crate::sandbox::actors::objects::{at, flag, list, text};

/// The paths an exec probe of a known form asks for; `None` for every other probe, which passes.
fn asked_paths(probe: &Value) -> Option<Vec<&str>> {
    let command: Vec<_> = list(probe, "/exec/command")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match command.as_slice() {
        [shell, "-c", script] if shell.ends_with("sh") => {
            let parts: Option<Vec<_>> = script
                .split("&&")
                .map(|part| asked_path(&part.split_whitespace().collect::<Vec<_>>()))
                .collect();
            parts
        }
        words => asked_path(words).map(|path| vec![path]),
    }
}

fn asked_path<'a>(words: &[&'a str]) -> Option<&'a str> {
    match words {
        ["test" | "/usr/bin/test", "-s" | "-f" | "-e" | "-r", path]
        | ["[", "-s" | "-f" | "-e" | "-r", path, "]"]
        | ["cat" | "/bin/cat", path, ..] => Some(path.trim_matches(['"', '\''])),
        _ => None,
    }
}

/// Whether a container's probe passes. `size` tells how large a file of a volume is; `None` if the volume is not one
/// whose files are known, `Some(None)` if there is no such file.
pub(super) fn passes(
    container: &Value,
    probe: &Value,
    size: impl Fn(&str, &str) -> Option<Option<usize>>,
) -> Result<(), String> {
    for path in asked_paths(probe).unwrap_or_default() {
        let found = mounted(container, path).and_then(|(volume, file)| size(volume, &file));
        match found {
            Some(None) => return Err(format!("cat: {path}: No such file or directory")),
            Some(Some(0)) => return Err(String::new()),
            _ => {}
        }
    }
    Ok(())
}

/// The volume and the path in it that a path in the container stands for.
fn mounted<'a>(container: &'a Value, path: &str) -> Option<(&'a str, String)> {
    let mounts = list(container, "/volumeMounts").iter();
    let fitting = mounts.filter_map(|mount| {
        let rest = path.strip_prefix(text(mount, "/mountPath").trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then_some((mount, rest.trim_start_matches('/')))
    });
    let (mount, rest) = fitting.max_by_key(|(mount, _)| text(mount, "/mountPath").len())?;
    let inner = format!("{}/{rest}", text(mount, "/subPath"));
    Some((text(mount, "/name"), inner.trim_matches('/').to_owned()))
}

/// A Secret or ConfigMap that a container's environment needs: kind, name, and the key if it is one variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Need<'a> {
    pub(super) secret: bool,
    pub(super) name: &'a str,
    pub(super) key: Option<&'a str>,
}

/// What a container's environment needs before it can start.
pub(super) fn needs(container: &Value) -> Vec<Need<'_>> {
    let variables = list(container, "/env").iter().flat_map(|variable| {
        let from = at(variable, "/valueFrom");
        [
            (true, at(from, "/secretKeyRef")),
            (false, at(from, "/configMapKeyRef")),
        ]
    });
    let sources = list(container, "/envFrom").iter().flat_map(|source| {
        [
            (true, at(source, "/secretRef")),
            (false, at(source, "/configMapRef")),
        ]
    });
    variables
        .chain(sources)
        .filter(|(_, reference)| reference.is_object() && !flag(reference, "/optional"))
        .map(|(secret, reference)| Need {
            secret,
            name: text(reference, "/name"),
            key: reference.get("key").and_then(Value::as_str),
        })
        .collect()
}

/// What is wrong with an image, as the container runtime would say it. Nothing is pulled: only a reference that
/// could not work anywhere fails, which includes every registry under `.invalid`.
pub(super) fn image_error(image: &str) -> Option<(&'static str, String)> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/:@".contains(letter);
    if image.is_empty() || !image.chars().all(plain) {
        let message = format!(
            "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": \
            invalid reference format"
        );
        return Some(("InvalidImageName", message));
    }
    let registry = image.split('/').next().unwrap_or_default();
    let host = registry.split(':').next().unwrap_or_default();
    host.ends_with(".invalid").then(|| {
        let message = format!(
            "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": failed to do \
             request: Head \"https://{registry}/v2/\": dial tcp: lookup {host}: no such host"
        );
        ("ErrImagePull", message)
    })
}

/// Whether a container goes when told to. A shell or `sleep` that is process 1 does not hear SIGTERM, and is killed
/// when the grace period ends.
pub(super) fn hears_sigterm(container: &Value) -> bool {
    let first = list(container, "/command")
        .iter()
        .chain(list(container, "/args"))
        .next();
    let program = first.and_then(Value::as_str).unwrap_or_default();
    !matches!(
        program.rsplit('/').next().unwrap_or_default(),
        "sleep" | "sh" | "tail"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_probe_of_a_known_form_is_judged_on_the_files_of_the_mount() {
        let container = json!({"volumeMounts": [{"name": "tls", "mountPath": "/mnt/secrets"}]});
        let size = |volume: &str, file: &str| {
            (volume == "tls").then(|| {
                [("full", 3), ("empty", 0)]
                    .iter()
                    .find(|(name, _)| *name == file)
                    .map(|(_, size)| *size)
            })
        };
        let judge = |command: Value| passes(&container, &json!({"exec": {"command": command}}), size).is_ok();
        assert!(judge(json!(["test", "-s", "/mnt/secrets/full"])));
        assert!(!judge(json!(["test", "-s", "/mnt/secrets/empty"])));
        assert!(!judge(json!(["cat", "/mnt/secrets/none"])));
        assert!(!judge(json!([
            "/bin/sh",
            "-c",
            "test -s /mnt/secrets/full && test -s /mnt/secrets/none"
        ])));
        assert!(judge(json!(["curl", "localhost"])));
        assert!(judge(json!(["cat", "/elsewhere/none"])));
    }

    #[test]
    fn needs_leave_out_what_is_optional() {
        let container = json!({
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "t", "key": "k", "optional": true}}}],
            "envFrom": [{"configMapRef": {"name": "c"}}]});
        let secret = Need {
            secret: true,
            name: "s",
            key: Some("k"),
        };
        let map = Need {
            secret: false,
            name: "c",
            key: None,
        };
        assert_eq!(needs(&container), [secret, map]);
    }

    #[test]
    fn an_image_that_can_be_nowhere_fails() {
        assert_eq!(image_error("mcr.microsoft.com/oss/kubernetes/pause:3.10"), None);
        assert_eq!(
            image_error("registry.invalid/a:1").map(|(reason, _)| reason),
            Some("ErrImagePull")
        );
        assert_eq!(
            image_error("no spaces").map(|(reason, _)| reason),
            Some("InvalidImageName")
        );
    }
}
