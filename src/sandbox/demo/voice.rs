//! How the demo speaks: headings, commands, what they printed, and progress while it waits.

use std::io::{BufRead as _, Write};

/// Where the demo's words go. A terminal that went away is no reason to stop: cleaning up matters more.
pub(super) struct Voice {
    out: Box<dyn Write + Send>,
    waiting: bool,
}

impl Voice {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, waiting: false }
    }

    /// A step begins.
    pub(super) fn heading(&mut self, number: usize, of: usize, title: &str) {
        self.line("");
        self.line(&format!("━━ {number}/{of}  {title} "));
    }

    /// What is run, as a person would type it.
    pub(super) fn command(&mut self, command: &str) {
        self.line(&format!("$ {command}"));
    }

    /// A line of the command's own output, or of ours.
    pub(super) fn line(&mut self, text: &str) {
        self.end_of_wait();
        drop(writeln!(self.out, "{text}"));
        drop(self.out.flush());
    }

    /// Something was observed.
    pub(super) fn seen(&mut self, text: &str) {
        self.line(&format!("✓ {text}"));
    }

    /// A wait begins.
    pub(super) fn wait(&mut self, what: &str) {
        self.end_of_wait();
        drop(write!(self.out, "  {what} "));
        drop(self.out.flush());
        self.waiting = true;
    }

    /// The wait goes on.
    pub(super) fn dot(&mut self) {
        if self.waiting {
            drop(write!(self.out, "."));
            drop(self.out.flush());
        }
    }

    /// Waits for Enter on the terminal.
    pub(super) fn pause(&mut self) {
        drop(write!(self.out, "  (Enter to go on) "));
        drop(self.out.flush());
        let mut line = String::new();
        // Without a terminal there is nobody to wait for.
        drop(std::io::stdin().lock().read_line(&mut line));
    }

    fn end_of_wait(&mut self) {
        if std::mem::take(&mut self.waiting) {
            drop(writeln!(self.out));
        }
    }
}
