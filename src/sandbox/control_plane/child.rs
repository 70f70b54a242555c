//! Processes that do not outlive the sandbox, however it ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A shell that runs the program and kills it when its own input ends: the kernel closes the pipe even after SIGKILL
/// of the sandbox. It ends, with the program's status, when the program does; after a kill the folder of its files is
/// of no use to anybody.
const KEEPER: &str = r#"exec 3<&0
folder=$1
shift
"$@" </dev/null 3<&- &
child=$!
{ cat <&3 >/dev/null; kill -KILL $child; } &
keeper=$!
exec 3<&-
wait $child
status=$?
kill $keeper 2>/dev/null
[ $status -ne 137 ] || rm -rf "$folder"
exit $status"#;

/// A running program whose output goes to a file.
pub(super) struct Child {
    log: PathBuf,
    process: Mutex<std::process::Child>,
}

impl Child {
    /// Starts a program; both outputs are appended to a log in `folder`, which is removed when it is killed.
    pub(super) fn start(program: &Path, arguments: &[String], folder: &Path) -> io::Result<Self> {
        let mut log = folder.join(program.file_name().unwrap_or_default());
        log.set_extension("log");
        let out = OpenOptions::new().create(true).append(true).open(&log)?;
        let process = Command::new("/bin/sh")
            .args(["-c", KEEPER, "kvtls-control-plane"])
            .arg(folder)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            // Ctrl-C in a terminal is for the sandbox, which ends its actors first.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            log,
            process: Mutex::new(process),
        })
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(process.try_wait(), Ok(None))
    }

    /// The last lines of its output.
    pub(super) fn last_words(&self, lines: usize) -> String {
        let text = File::open(&self.log)
            .and_then(io::read_to_string)
            .unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        let last = all.get(all.len().saturating_sub(lines)..).unwrap_or_default();
        last.join("\n")
    }

    /// Kills it and waits until it is gone: some milliseconds.
    pub(super) fn end(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        drop(process.stdin.take());
        // It may have ended long ago.
        let _ended = process.wait().is_ok();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
