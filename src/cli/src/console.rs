//! Where commands print, and how they ask.

use std::io::{self, IsTerminal, Write};

/// The two outputs of the process, with or without colours.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    color: bool,
}

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    /// Bold.
    Bold,
    /// Good.
    Green,
    /// Bad.
    Red,
    /// To be looked at.
    Yellow,
    /// Changed.
    LightYellow,
    /// Changed where it is.
    Cyan,
    /// Moved.
    Blue,
}

impl Console {
    /// Decides about colours: a flag, the environment, else only on a terminal.
    pub fn of_process(words: &[String]) -> Self {
        let given = |names: [&str; 2]| words.iter().any(|word| names.contains(&word.as_str()));
        let set = |name: &str| {
            ["WAYFARER", "NOMAD"].iter().any(|prefix| {
                std::env::var_os(format!("{prefix}_CLI_{name}")).is_some_and(|value| !value.is_empty())
            })
        };
        let forced = given(["-force-color", "--force-color"]) || set("FORCE_COLOR");
        let refused =
            given(["-no-color", "--no-color"]) || set("NO_COLOR") || std::env::var_os("NO_COLOR").is_some();
        Self { color: forced || (!refused && io::stdout().is_terminal()) }
    }

    /// Prints a text and a line end. A reader that went away is no error: there is nobody to tell.
    pub fn out(&self, text: &str) {
        let _ = writeln!(io::stdout().lock(), "{text}"); // see above
    }

    /// Prints bytes as they are.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush()); // as in `out`
    }

    /// Prints bytes to standard error as they are.
    pub fn raw_err(&self, bytes: &[u8]) {
        let mut out = io::stderr().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush()); // as in `out`
    }

    /// Prints a text and a line end to standard error.
    pub fn err(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}"); // as in `out`
    }

    /// Gives a text its colour.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Green => "32",
            Style::Red => "31",
            Style::Yellow => "33",
            Style::LightYellow => "93",
            Style::Cyan => "36",
            Style::Blue => "34",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Prints a heading and a body.
    pub fn section(&self, heading: &str, body: &str) {
        self.out(&format!("\n{}\n{body}", self.paint(Style::Bold, heading)));
    }

    /// Asks a question and returns the answer, without its line end.
    ///
    /// # Errors
    ///
    /// `EOF` when standard input is at its end.
    pub fn ask(&self, question: &str) -> Result<String, String> {
        self.raw(format!("{question} ").as_bytes());
        let mut line = String::new();
        match io::stdin().read_line(&mut line) {
            Ok(0) => Err("EOF".to_owned()),
            Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
