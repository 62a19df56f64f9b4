use sdk::{Origin, Query, types::AllocFileInfo};

use crate::{
    alloc::logs::{print_frames, tail},
    command::{Context, Failure, Outcome},
    format, resolve,
};

/// `alloc fs`.
pub async fn run(context: &Context) -> Outcome {
    let client = context.client();
    let Some(first) = context.args.first() else {
        let what = if context.on("job") { "A job ID is required" } else { "An allocation ID is required" };
        return Err(Failure::usage(what));
    };
    if context.args.len() > 2 {
        return Err(Failure::usage("This command takes one or two arguments: <allocation> [<path>]"));
    }
    let alloc = if context.on("job") {
        resolve::alloc_of_job(&client, first, context.text("group")).await?
    } else {
        resolve::alloc(context, &client, first).await?
    };
    let path = context.args.get(1).map_or("/", String::as_str);
    let query = Query::default().in_namespace(alloc.namespace.as_str());
    let failed = |error: sdk::RequestError| Failure::new(error.to_string());
    let info = client.stat_file(&alloc.id, path, &query).await.map_err(failed)?;
    if context.on("stat") {
        let mut row = row(context, &info);
        row.insert(
            3,
            if info.content_type.is_empty() { "N/A".to_owned() } else { info.content_type.clone() },
        );
        context
            .console
            .out(&format::table(&["Mode", "Size", "Modified Time", "Content Type", "Name"], &[row]));
        return Ok(0);
    }
    if info.is_dir {
        let files = client.list_files(&alloc.id, path, &query).await.map_err(failed)?;
        let rows: Vec<_> = files.iter().map(|file| row(context, file)).collect();
        context.console.out(&format::table(&["Mode", "Size", "Modified Time", "Name"], &rows));
        return Ok(0);
    }
    let (follow, tail) = (context.on("f"), tail(context));
    if !follow && tail.is_none() {
        let mut bytes = client.read_file(&alloc.id, path, &query).await.map_err(failed)?;
        while let Some(piece) = bytes.next().await.map_err(failed)? {
            context.console.raw(&piece);
        }
        return Ok(0);
    }
    let size = i64::try_from(info.size).unwrap_or(i64::MAX);
    let (origin, offset) =
        tail.as_ref().map_or((Origin::Start, 0), |tail| (Origin::End, tail.bytes.min(size)));
    let frames = client.stream_file(&alloc.id, path, origin, offset, follow, &query).await.map_err(failed)?;
    print_frames(context, frames, tail.and_then(|tail| tail.lines), follow, false).await.map_err(failed)?;
    Ok(0)
}

fn row(context: &Context, file: &AllocFileInfo) -> Vec<String> {
    let size = if context.on("H") { file.size.to_string() } else { format::bytes(file.size) };
    let name = if file.is_dir { format!("{}/", file.name) } else { file.name.clone() };
    vec![file.file_mode.clone(), size, format::time(file.mod_time.nanos()), name]
}
