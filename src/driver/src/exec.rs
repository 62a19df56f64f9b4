use bytes::Bytes;
use tokio::sync::mpsc;

/// A command to run beside a task.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Program and arguments; at least the program.
    pub command: Vec<String>,
    /// Whether it gets a terminal. With one, all output is standard output.
    pub tty: bool,
    /// The terminal's first size.
    pub size: Option<TermSize>,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermSize {
    /// Lines.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// The two directions of an exec. Both channels are bounded by whoever makes them; a slow reader slows the command.
#[derive(Debug)]
pub struct ExecStreams {
    /// What the user sends. A closed channel means the same as `CloseStdin`.
    pub input: mpsc::Receiver<ExecInput>,
    /// What the command says. When its receiver is gone, the command is killed.
    pub output: mpsc::Sender<ExecOutput>,
}

/// Something that the user sends to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    /// Bytes for its standard input.
    Stdin(Bytes),
    /// The end of its standard input.
    CloseStdin,
    /// The terminal has another size.
    Resize(TermSize),
}

/// Something that a command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// Bytes of its standard output, or of its terminal.
    Stdout(Bytes),
    /// Bytes of its standard error.
    Stderr(Bytes),
}
