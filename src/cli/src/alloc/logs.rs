use sdk::{Client, JsonStream, LogKind, LogQuery, Origin, Query, types::StreamFrame};

use crate::{
    command::{Context, Failure, Outcome},
    resolve,
};

/// Bytes that are read for one line of `-tail -n`: lines are rarely longer.
const BYTES_PER_LINE: i64 = 120;

/// Lines of `-tail` unless `-n` or `-c` say otherwise.
const TAIL_LINES: i64 = 10;

/// `alloc logs`.
pub async fn run(context: &Context) -> Outcome {
    let client = context.client();
    let Some(first) = context.args.first() else {
        let what = if context.on("job") { "A job ID is required" } else { "An allocation ID is required" };
        return Err(Failure::usage(what));
    };
    if context.args.len() > 2 {
        return Err(Failure::usage("This command takes one or two arguments: <allocation> [<task>]"));
    }
    let alloc = if context.on("job") {
        resolve::alloc_of_job(&client, first, context.text("group")).await?
    } else {
        resolve::alloc(context, &client, first).await?
    };
    let named = context.args.get(1).map_or(context.text("task"), String::as_str);
    // A task that is named is not looked up here: the agent knows best, and says so.
    let task = if named.is_empty() { resolve::task(&alloc, "")? } else { named.to_owned() };
    let (stdout, stderr) = (context.on("stdout"), context.on("stderr"));
    let kinds = match (stdout, stderr) {
        (true, true) => vec![LogKind::Stdout, LogKind::Stderr],
        (false, true) => vec![LogKind::Stderr],
        _ => vec![LogKind::Stdout],
    };
    let query = Query::default().in_namespace(alloc.namespace.as_str());
    let logs = Logs { context, client: &client, alloc_id: &alloc.id, task: &task, query: &query };
    match kinds.as_slice() {
        [LogKind::Stdout, LogKind::Stderr] => {
            let (out, err) =
                tokio::join!(logs.print(LogKind::Stdout, false), logs.print(LogKind::Stderr, true));
            out.and(err)?;
        }
        [only] => logs.print(*only, false).await?,
        _ => {}
    }
    Ok(0)
}

/// How much of the end is wanted: where to begin reading, and of that, how many lines at most.
pub struct Tail {
    /// Bytes before the end.
    pub bytes: i64,
    /// Lines, if lines are wanted.
    pub lines: Option<usize>,
}

/// Reads `-tail`, `-n` and `-c`; `None` for everything.
pub fn tail(context: &Context) -> Option<Tail> {
    let bytes = context.flags.number("c").filter(|bytes| *bytes >= 0);
    let lines = context.flags.number("n").filter(|lines| *lines >= 0);
    if !context.on("tail") && bytes.is_none() && lines.is_none() {
        return None;
    }
    Some(match (bytes, lines) {
        (Some(bytes), _) => Tail { bytes, lines: None },
        (None, lines) => {
            let lines = lines.unwrap_or(TAIL_LINES);
            Tail { bytes: lines.saturating_mul(BYTES_PER_LINE), lines: usize::try_from(lines).ok() }
        }
    })
}

struct Logs<'a> {
    context: &'a Context,
    client: &'a Client,
    alloc_id: &'a str,
    task: &'a str,
    query: &'a Query,
}

impl Logs<'_> {
    async fn print(&self, kind: LogKind, to_stderr: bool) -> Result<(), Failure> {
        let follow = self.context.on("f");
        let tail = tail(self.context);
        let name = match kind {
            LogKind::Stdout => "stdout",
            LogKind::Stderr => "stderr",
        };
        let log = LogQuery {
            alloc_id: self.alloc_id.to_owned(),
            task: self.task.to_owned(),
            kind,
            follow,
            origin: if tail.is_some() { Origin::End } else { Origin::Start },
            offset: tail.as_ref().map_or(0, |tail| tail.bytes),
        };
        let failed = |error: sdk::RequestError| {
            Failure::new(format!("Failed to read {name} file: error reading file: {error}"))
        };
        let frames = self.client.logs(&log, self.query).await.map_err(failed)?;
        print_frames(self.context, frames, tail.and_then(|tail| tail.lines), follow, to_stderr)
            .await
            .map_err(failed)
    }
}

/// Prints what frames bring; with `lines`, only so many of the last ones of what is there already.
pub async fn print_frames(
    context: &Context,
    mut frames: JsonStream<StreamFrame>,
    lines: Option<usize>,
    follow: bool,
    to_stderr: bool,
) -> Result<(), sdk::RequestError> {
    let write =
        |bytes: &[u8]| if to_stderr { context.console.raw_err(bytes) } else { context.console.raw(bytes) };
    let mut held = lines.map(|_| Vec::new());
    while let Some(frame) = frames.next().await? {
        match &mut held {
            Some(start) if !frame.data.is_empty() => start.extend_from_slice(&frame.data),
            // A heartbeat says that the end is reached: from there on everything is passed on.
            Some(start) if follow => {
                write(last_lines(start, lines.unwrap_or(0)));
                held = None;
            }
            Some(_) => {}
            None => write(&frame.data),
        }
    }
    if let Some(start) = held {
        write(last_lines(&start, lines.unwrap_or(0)));
    }
    Ok(())
}

/// Returns the end of a text, so many lines of it.
fn last_lines(text: &[u8], count: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut seen = 0;
    for (at, byte) in body.iter().enumerate().rev() {
        if *byte == b'\n' {
            seen += 1;
            if seen == count {
                return &text[at + 1..];
            }
        }
    }
    if count == 0 { &[] } else { text }
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn the_last_lines_are_whole() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc", 1), b"c");
        assert_eq!(last_lines(b"a\n", 5), b"a\n");
        assert_eq!(last_lines(b"a\n", 0), b"");
    }
}
