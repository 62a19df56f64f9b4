//! Copies of the state: `operator snapshot save`, `restore`, `inspect`.

use std::{
    fs::File,
    io::{self, BufReader, Write},
    path::Path,
};

use sdk::types::{ArchiveError, SnapshotMeta, read_archive};
use serde_json::json;

use crate::{
    command::{Command, Context, Failure, JSON, OrFail, Outcome, TEMPLATE, command},
    flags::{Kind, flag},
    format, template,
};

/// The commands of this file.
pub const COMMANDS: &[Command] = &[
    command!(
        "operator snapshot save",
        "[options] [<file>]",
        "Write a copy of the state to a file.",
        &[flag("stale", Kind::Bool, "Any server may answer, even when there is no leader.")],
        save
    ),
    command!(
        "operator snapshot restore",
        "<file>",
        "Replace what the region runs by a copy, on all servers.",
        &[],
        restore
    ),
    command!(
        "operator snapshot inspect",
        "[options] <file>",
        "Check a copy and show what it is.",
        &[JSON, TEMPLATE],
        inspect
    ),
];

async fn save(context: &Context) -> Outcome {
    let name = match context.args.as_slice() {
        [] => format!("nomad-state-{}.snap", format::time(format::now()).replace(':', "")),
        [name] => name.clone(),
        _ => return Err(Failure::usage("This command takes one argument: <filename>")),
    };
    let mut body =
        context.client().save_snapshot(context.on("stale")).await.or_fail("Failed to get snapshot file")?;
    // A half-written copy must not look like one: it gets its name when it is whole.
    let part = format!("{name}.part");
    let failed = |error: io::Error| Failure::new(format!("Failed to write {name}: {error}"));
    let mut file = private(Path::new(&part)).map_err(failed)?;
    let received = async {
        while let Some(piece) = body.next().await.or_fail("Failed to get snapshot file")? {
            file.write_all(&piece).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        check(&part).map_err(|error| Failure::new(format!("Error validating snapshot file: {error}")))
    };
    if let Err(failure) = received.await {
        // What could not be removed is named as the part that it is.
        let _ = std::fs::remove_file(&part);
        return Err(failure);
    }
    std::fs::rename(&part, &name).map_err(failed)?;
    context.console.out(&format!("State file written to {name}"));
    Ok(0)
}

/// Makes a file for its owner alone: the state holds what jobs were given.
fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Reads the whole of a copy and compares it with its checksums.
fn check(path: &str) -> Result<SnapshotMeta, ArchiveError> {
    let file = File::open(path).map_err(ArchiveError::Read)?;
    read_archive(BufReader::new(file), &mut io::sink())
}

async fn restore(context: &Context) -> Outcome {
    let name = context.one_arg("<filename>")?;
    let bytes = std::fs::read(name).map_err(|error| {
        Failure::new(format!("Error opening snapshot file: {}", open_error(name, &error)))
    })?;
    context.client().restore_snapshot(bytes.into()).await.or_fail("Failed to get restore snapshot")?;
    context.console.out("Snapshot Restored");
    Ok(0)
}

fn open_error(name: &str, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("open {name}: {why}")
}

async fn inspect(context: &Context) -> Outcome {
    let name = context.one_arg("<filename>")?;
    template::check(context)?;
    if let Err(error) = File::open(name) {
        return Err(Failure::new(format!("Error opening snapshot file: {}", open_error(name, &error))));
    }
    let meta = check(name).map_err(|error| Failure::new(format!("Error inspecting snapshot: {error}")))?;
    if template::print(context, || json!(meta))? {
        return Ok(0);
    }
    let facts = [
        ("Created", format::time(meta.created.nanos())),
        ("ID", meta.id.clone()),
        ("Size", format::bytes(meta.size)),
        ("Index", meta.index.to_string()),
        ("Term", meta.term.to_string()),
        ("Version", meta.version.to_string()),
        ("Region", meta.region.clone()),
        ("Cluster ID", meta.cluster_id.clone()),
        ("Written By", meta.writer.clone()),
    ];
    context.console.out(&format::pairs(&facts));
    let row = |table: &sdk::types::SnapshotTable| {
        vec![table.name.clone(), table.count.to_string(), format::bytes(table.size)]
    };
    let rows: Vec<_> = meta.tables.iter().filter(|table| table.count > 0).map(row).collect();
    context.console.out(&format!("\n{}", format::table(&["Type", "Count", "Size"], &rows)));
    Ok(0)
}
