//! What kubectl says: transcripts as data, played against a world and compared after masking.
//!
//! A transcript is a text: `$ kubectl …` and what it says on stdout, then on stderr behind `! `, then `? STATUS` if that
//! is not zero. Lines before a command that begin with `~` say how it is played:
//!
//! | Line | Means |
//! |---|---|
//! | `~ settle` | waits until nobody has work that is due |
//! | `~ lines N` | the command goes on for ever and is ended after so many lines |
//! | `~ only WORD` | only lines with this word are compared |
//! | `~ fields` | of an explanation, only what is no prose |
//! | `~ known WORDS` | the embedded API is known to answer differently, and has to |
//!
//! They are recorded on a real kube-apiserver: `UPDATE_EXPECT=1 cargo control-plane transcripts`.

#![expect(
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a panic is the test's failure; who runs it says by variables what is left out or recorded"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use kvtls::sandbox::{ControlPlaneKind, Options, Sandbox};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// The variable that leaves out what needs kubectl.
const SKIP: &str = "KVTLS_SKIP_KUBECTL";
const PATIENCE: Duration = Duration::from_secs(60);

/// One command, and what was said.
#[derive(Default)]
struct Step {
    notes: Vec<String>,
    command: String,
    said: String,
}

impl Step {
    fn note(&self, word: &str) -> Option<&str> {
        let mut notes = self.notes.iter();
        notes.find_map(|note| Some(note.strip_prefix(word)?.trim()))
    }
}

/// Plays every transcript on a world of its own and says where it differs from what is written; `None` if there is no
/// kubectl and that is wanted.
pub(crate) async fn differences(kind: ControlPlaneKind) -> Option<String> {
    let update =
        kind == ControlPlaneKind::Real && std::env::var("UPDATE_EXPECT").is_ok_and(|update| update == "1");
    let there = Command::new("kubectl")
        .args(["version", "--client"])
        .output()
        .await;
    if let Err(error) = there {
        assert!(
            std::env::var(SKIP).is_ok_and(|skip| skip == "1"),
            "kubectl does not start ({error}): install it (https://kubernetes.io/docs/tasks/tools/), or set {SKIP}=1"
        );
        return None;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let entries = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    let world = world(kind).await;
    let home = tempfile::tempdir().unwrap();
    let mut player = Player {
        world: &world,
        kind,
        folder: folder.clone(),
        home: home.path().to_owned(),
        found: String::new(),
        played: 0,
    };
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut steps = parse(&text);
        let title = file.file_stem().unwrap().to_string_lossy().into_owned();
        for step in &mut steps {
            player.play(&title, step, update).await;
        }
        if update {
            std::fs::write(&file, print(&steps)).unwrap();
        }
    }
    let Player { found, played, .. } = player;
    world.stop().await;
    assert!(played > 50, "only {played} commands were played");
    Some(found)
}

/// A cluster with the add-on and an Ingress controller.
async fn world(kind: ControlPlaneKind) -> Sandbox {
    let addon = json!({"key": "azureKeyvaultSecretsProvider", "enabled": true});
    let world = json!({"version": 1, "extends": "default", "clusters": {"myAKSCluster": {"objects": [], "addon": addon}}});
    let started = Sandbox::start(Options {
        world,
        control_plane: kind,
        ..Options::default()
    });
    let world = started
        .await
        .unwrap_or_else(|error| panic!("the {kind:?} world does not start: {error}"));
    world.advance(PATIENCE).await.unwrap();
    world
}

struct Player<'a> {
    world: &'a Sandbox,
    kind: ControlPlaneKind,
    folder: PathBuf,
    home: PathBuf,
    found: String,
    played: usize,
}

impl Player<'_> {
    async fn play(&mut self, title: &str, step: &mut Step, update: bool) {
        if step.note("settle").is_some() {
            self.world.settle(PATIENCE).await.unwrap();
        }
        let output = self.run(step).await;
        self.played += 1;
        let said = shown(step, &output);
        let known = step
            .note("known")
            .filter(|_| self.kind == ControlPlaneKind::Embedded);
        if update {
            step.said = said;
        } else if let Some(known) = known {
            if said == step.said {
                writeln!(
                    self.found,
                    "{title}: {}\n  no longer differs ({known}): take the mark away\n",
                    step.command
                )
                .unwrap();
            }
        } else if said != step.said {
            writeln!(
                self.found,
                "{title}: {}\n--- written\n{}--- said\n{said}",
                step.command, step.said
            )
            .unwrap();
        }
    }

    async fn run(&self, step: &Step) -> Output {
        let mut words = words(&step.command).into_iter();
        assert_eq!(words.next().as_deref(), Some("kubectl"), "{}", step.command);
        let mut command = Command::new("kubectl");
        command
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("KUBECONFIG", self.home.join("config"))
            .env("LC_ALL", "C")
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let admin = self.world.dir().join("kubeconfig");
        let text = std::fs::read_to_string(admin).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["current-context"] = json!("myAKSCluster-admin");
        std::fs::write(self.home.join("config"), config.to_string()).unwrap();
        match step.note("lines") {
            None => tokio::time::timeout(PATIENCE, command.output())
                .await
                .unwrap_or_else(|_| panic!("{} does not end", step.command))
                .unwrap(),
            Some(count) => {
                let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
                let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
                let mut stdout = String::new();
                for _ in 0..count.parse::<usize>().unwrap() {
                    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
                    let line = line.unwrap_or_else(|_| panic!("{} says too little: {stdout}", step.command));
                    writeln!(stdout, "{}", line.unwrap().unwrap_or_default()).unwrap();
                }
                child.kill().await.unwrap();
                Output {
                    status: Default::default(),
                    stdout: stdout.into_bytes(),
                    stderr: Vec::new(),
                }
            }
        }
    }
}

/// What a command said, as it is compared.
fn shown(step: &Step, output: &Output) -> String {
    let mut all = String::new();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let only = step.note("only");
    let mut lines: Vec<_> = stdout
        .lines()
        .map(masked)
        .filter(|line| !line.trim().is_empty())
        .collect();
    if step.note("fields").is_some() {
        // A field is a name, a tab and a type; prose is indented otherwise.
        let is_field =
            |line: &String| line.contains('<') && line.starts_with("  ") && !line.starts_with("    ");
        let is_head = |line: &String| {
            ["GROUP:", "KIND:", "VERSION:", "FIELD:"]
                .iter()
                .any(|head| line.starts_with(head))
        };
        lines.retain(|line| is_field(line) || is_head(line));
    }
    // Events of one second come in any order.
    if let Some(at) = lines.iter().position(|line| line == "Events:") {
        let events = lines.split_off((at + 3).min(lines.len()));
        let events: BTreeSet<_> = events.into_iter().collect();
        lines.extend(events);
    }
    for line in lines
        .iter()
        .filter(|line| only.is_none_or(|word| line.contains(word)))
    {
        writeln!(all, "{line}").unwrap();
    }
    for line in stderr.lines() {
        // klog's head holds a time and a process.
        let is_klog = line.starts_with(['I', 'W', 'E']) && line.contains(".go:");
        let words = line.split_once("] ").filter(|_| is_klog);
        writeln!(all, "! {}", masked(words.map_or(line, |(_, words)| words))).unwrap();
    }
    if !output.status.success() {
        writeln!(all, "? {}", output.status.code().unwrap_or(-1)).unwrap();
    }
    all
}

/// The steps of a text.
fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut notes = Vec::new();
    for line in text.lines() {
        if let Some(note) = line.strip_prefix("~ ") {
            notes.push(note.to_owned());
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                notes: std::mem::take(&mut notes),
                command: command.to_owned(),
                said: String::new(),
            });
        } else if let Some(step) = steps.last_mut() {
            let step: &mut Step = step;
            writeln!(step.said, "{line}").unwrap();
        }
    }
    steps
}

fn print(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        for note in &step.notes {
            writeln!(text, "~ {note}").unwrap();
        }
        writeln!(text, "$ {}\n{}", step.command, step.said.trim_end_matches('\n')).unwrap();
        if step.said.is_empty() {
            text.pop();
        }
    }
    text
}

/// The words of a command; quotes hold them together.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// A line without what is never the same; blanks count once, but for those it begins with.
fn masked(line: &str) -> String {
    const DAYS: &[&str] = &["Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,"];
    let body = line.trim_start();
    let mut out = " ".repeat(line.len() - body.len());
    let mut words = body.split_whitespace().peekable();
    let mut first = true;
    while let Some(word) = words.next() {
        if !first {
            out.push(' ');
        }
        first = false;
        if DAYS.contains(&word) {
            for _ in 0..5 {
                words.next();
            }
            out.push_str("TIME");
            continue;
        }
        let masked = mask_word(word);
        // An age may be followed by how often.
        if masked == "AGE" && words.peek().is_some_and(|next| next.starts_with("(x")) {
            for next in words.by_ref() {
                if next.ends_with(')') {
                    break;
                }
            }
        }
        out.push_str(&masked);
        let described = word == "Version:" && body.starts_with("Resource Version:");
        if described || matches!(word, "resourceVersion:" | "\"resourceVersion\":") {
            words.next();
            out.push_str(" VERSION");
        }
    }
    out
}

fn mask_word(word: &str) -> String {
    let bare = word.trim_matches(['"', ',', '(', ')', '\'']);
    let has = |at: usize, byte: u8| bare.as_bytes().get(at) == Some(&byte);
    if bare.len() == 10 && has(4, b'-') && has(7, b'-') || has(2, b':') && has(5, b':') {
        return word.replace(bare, "TIME");
    }
    // A world whose clock was moved is ahead of kubectl's.
    if is_age(bare) || bare == "<invalid>" {
        return word.replace(bare, "AGE");
    }
    if bare.starts_with("eyJ") {
        return word.replace(bare, "TOKEN");
    }
    if bare.len() >= 20 && bare.as_bytes()[4] == b'-' && bare.as_bytes()[10] == b'T' {
        return word.replace(bare, "TIME");
    }
    if let Some((scheme, _)) = bare
        .split_once("://")
        .filter(|(scheme, _)| *scheme == "containerd")
    {
        return format!("{scheme}://ID");
    }
    if let Some((image, _)) = bare.split_once("@sha256:") {
        return format!("{image}@sha256:ID");
    }
    suffixes(&addresses(&uids(word)))
}

/// `40d`, `2m3s`.
fn is_age(word: &str) -> bool {
    let mut digits = false;
    !word.is_empty()
        && word.chars().all(|letter| match letter {
            '0'..='9' => {
                digits = true;
                true
            }
            'd' | 'h' | 'm' | 's' => std::mem::take(&mut digits),
            _ => false,
        })
        && !digits
}

fn uids(word: &str) -> String {
    let mut out = word.to_owned();
    let is = |text: &str| {
        text.char_indices().all(|(at, letter)| match at {
            8 | 13 | 18 | 23 => letter == '-',
            _ => letter.is_ascii_hexdigit(),
        })
    };
    let found = (0..word.len()).find(|at| word.get(*at..at + 36).is_some_and(is));
    if let Some(at) = found {
        out.replace_range(at..at + 36, "UID");
    }
    out
}

/// Addresses, and ports behind them.
fn addresses(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let end = from
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(from.len());
        let (number, after) = from.split_at(end);
        if number.split('.').filter(|part| !part.is_empty()).count() == 4 {
            out.push_str("IP");
            let port = after
                .strip_prefix(':')
                .map(|port| port.trim_start_matches(|l: char| l.is_ascii_digit()));
            rest = match port.filter(|port| port.len() + 1 < after.len()) {
                Some(left) => {
                    out.push_str(":PORT");
                    left
                }
                None => after,
            };
        } else {
            out.push_str(number);
            rest = after;
        }
    }
    out + rest
}

/// Names that were made by a generator: `web-5d4f9c7b8-x2k4q`, `kube-api-access-x2k4q`, `csi-x2k4q`.
fn suffixes(word: &str) -> String {
    const LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";
    let is_random = |part: &str| part.len() == 5 && part.chars().all(|letter| LETTERS.contains(letter));
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let mut out = String::new();
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let parts: Vec<_> = name.split('-').collect();
        let is_hash = |part: &str| {
            let plain = |letter: char| letter.is_ascii_digit() || letter.is_ascii_lowercase();
            (8..=10).contains(&part.len()) && part.chars().all(plain)
        };
        let has_digit = |part: &str| part.contains(|letter: char| letter.is_ascii_digit());
        let ends_random = parts.len() > 2 && parts.last().is_some_and(|last| is_random(last));
        let masked = parts.iter().enumerate().map(|(index, part)| match *part {
            part if index > 0 && index + 1 == parts.len() && is_random(part) => "RANDOM",
            part if is_hash(part) && (has_digit(part) || ends_random && index + 2 == parts.len()) => "HASH",
            part => part,
        });
        out.push_str(&masked.collect::<Vec<_>>().join("-"));
        let mut chars = after.chars();
        out.extend(chars.next());
        rest = chars.as_str();
    }
    out
}
