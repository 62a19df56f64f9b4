//! Commands about namespaces.

use std::{collections::BTreeMap, io::Read};

use sdk::{
    Query,
    types::{Namespace, NamespaceCapabilities},
};
use serde_json::Value;

use crate::{
    command::{Command, Context, FILTER, Failure, JSON, OrFail, Outcome, TEMPLATE, command},
    flags::{Kind, flag},
    format, go_api, template,
};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!("namespace list", "[options]", "List namespaces.", &[FILTER, JSON, TEMPLATE], list),
    command!("namespace status", "[options] <namespace>", "Show a namespace.", &[JSON, TEMPLATE], status),
    command!(
        "namespace inspect",
        "[options] <namespace>",
        "Print a namespace as it is stored.",
        &[TEMPLATE],
        inspect
    ),
    command!(
        "namespace apply",
        "[options] <namespace|file>",
        "Make or change a namespace.",
        &[
            flag("description", Kind::Text, "What it is for."),
            flag("quota", Kind::Text, "Accepted and ignored."),
            flag("json", Kind::Bool, "The file is JSON."),
        ],
        apply
    ),
    command!("namespace delete", "<namespace>", "Delete a namespace.", &[], delete),
];

/// Reads a file of one kind of object, `kind "name" { ... }` or bare attributes; `-` is standard input.
///
/// # Errors
///
/// When it can not be read.
pub fn read_spec(path: &str, json: bool, kind: &str) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = if path == "-" {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).map(|_| ())
    };
    read.map_err(|error| Failure::new(format!("Error reading file {path:?}: {error}")))?;
    if json {
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("Error parsing {path}: {error}")))?;
        return Ok(lower_keys(value));
    }
    let body = hcl::parse_plain(path, &text).map_err(|problems| {
        let mut sources = hcl::Sources::default();
        sources.add(path, &text);
        Failure::new(problems.render(&sources).trim_end().to_owned())
    })?;
    let named = body.blocks.iter().find(|block| block.kind == kind);
    let mut value = object_of(named.map_or(&body, |block| &block.body));
    if let Some((label, _)) = named.and_then(|block| block.labels.first()) {
        value["name"] = Value::String(label.clone());
    }
    Ok(value)
}

/// JSON files use the API's names.
fn lower_keys(value: Value) -> Value {
    let Value::Object(map) = value else { return value };
    let snake = |name: String| {
        let mut out = String::new();
        for (at, c) in name.char_indices() {
            if c.is_ascii_uppercase() && at > 0 {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    };
    map.into_iter().map(|(name, value)| (snake(name), value)).collect()
}

fn object_of(body: &hcl::Body) -> Value {
    let mut map = serde_json::Map::new();
    for attribute in &body.attributes {
        map.insert(attribute.name.clone(), attribute.value.to_json());
    }
    for block in &body.blocks {
        map.insert(block.kind.clone(), object_of(&block.body));
    }
    Value::Object(map)
}

/// Returns a text of a file's object.
pub fn text(body: &Value, name: &str) -> String {
    body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Returns a map of texts of a file's object.
pub fn map(body: &Value, name: &str) -> BTreeMap<String, String> {
    let entries = body.get(name).and_then(Value::as_object).into_iter().flatten();
    entries
        .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect()
}

async fn list(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let (namespaces, _) =
        context.client().namespaces(&context.list_query()).await.or_fail("Error retrieving namespaces")?;
    if template::print(context, || {
        // Theirs shows the newest first here, and in the table the names in order.
        let mut newest: Vec<&Namespace> = namespaces.iter().collect();
        newest.sort_by_key(|namespace| std::cmp::Reverse(namespace.create_index));
        Value::Array(newest.into_iter().map(go_api::namespace).collect())
    })? {
        return Ok(0);
    }
    if namespaces.is_empty() {
        context.console.out("No namespaces found");
        return Ok(0);
    }
    context.console.out(&names_table(&namespaces));
    Ok(0)
}

fn names_table(namespaces: &[Namespace]) -> String {
    let mut rows: Vec<_> = namespaces
        .iter()
        .map(|namespace| vec![namespace.name.clone(), namespace.description.clone()])
        .collect();
    rows.sort();
    format::table(&["Name", "Description"], &rows)
}

/// Finds the one namespace whose name begins so, or is so.
async fn find(context: &Context) -> Result<Namespace, Failure> {
    let prefix = context.one_arg("<namespace>")?;
    let failed = "Error retrieving namespaces";
    let (mut found, _) = context.client().namespaces(&Query::prefix(prefix)).await.or_fail(failed)?;
    if let Some(at) = found.iter().position(|namespace| namespace.name == prefix) {
        return Ok(found.swap_remove(at));
    }
    match found.len() {
        0 => {
            Err(Failure::new(format!("{failed}: Namespace {} matched no namespaces", format::quoted(prefix))))
        }
        1 => Ok(found.swap_remove(0)),
        _ => Err(Failure::new(format!("Prefix matched multiple namespaces\n\n{}", names_table(&found)))),
    }
}

async fn status(context: &Context) -> Outcome {
    template::check(context)?;
    let namespace = find(context).await?;
    if template::print(context, || go_api::namespace(&namespace))? {
        return Ok(0);
    }
    let capabilities = namespace.capabilities.clone().unwrap_or_default();
    let all = |list: &[String]| if list.is_empty() { "*".to_owned() } else { list.join(",") };
    let pairs = [
        ("Name", namespace.name.clone()),
        ("Description", namespace.description.clone()),
        ("Quota", namespace.quota.clone()),
        ("Enabled Drivers", all(&capabilities.enabled_task_drivers)),
        ("Disabled Drivers", capabilities.disabled_task_drivers.join(",")),
        ("Enabled Network Modes", all(&capabilities.enabled_network_modes)),
        ("Disabled Network Modes", capabilities.disabled_network_modes.join(",")),
    ];
    context.console.out(&format::pairs(&pairs));
    if !namespace.meta.is_empty() {
        context.console.section("Metadata", &format::pairs(&namespace.meta.iter().collect::<Vec<_>>()));
    }
    Ok(0)
}

async fn inspect(context: &Context) -> Outcome {
    let namespace = find(context).await?;
    let value = go_api::namespace(&namespace);
    let text = if context.text("t").is_empty() {
        template::json(&value)
    } else {
        template::render(context.text("t"), &value)?
    };
    context.console.out(&text);
    Ok(0)
}

async fn apply(context: &Context) -> Outcome {
    let name = context.one_arg("<input>")?;
    let client = context.client();
    let namespace = if name == "-" || std::path::Path::new(name).is_file() {
        from_file(name, context.on("json"))?
    } else {
        // What is there stays, apart from what the flags say.
        let known = client.namespace(name).await;
        let mut namespace = match known {
            Ok(namespace) => namespace,
            Err(error) if error.is_not_found() => Namespace { name: name.to_owned(), ..Namespace::default() },
            Err(error) => return Err(Failure::new(format!("Error looking up namespace: {error}"))),
        };
        if let Some(description) = context.flags.text("description") {
            namespace.description = description.to_owned();
        }
        if let Some(quota) = context.flags.text("quota") {
            namespace.quota = quota.to_owned();
        }
        namespace
    };
    client.apply_namespace(&namespace).await.or_fail("Error applying namespace")?;
    context.console.out(&format!("Successfully applied namespace {}!", format::quoted(&namespace.name)));
    Ok(0)
}

fn from_file(path: &str, json: bool) -> Result<Namespace, Failure> {
    let body = read_spec(path, json, "namespace")?;
    let empty = Value::Null;
    let capabilities = body.get("capabilities").unwrap_or(&empty);
    let list = |name: &str| {
        let items = capabilities.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let namespace = Namespace {
        name: text(&body, "name"),
        description: text(&body, "description"),
        quota: text(&body, "quota"),
        meta: map(&body, "meta"),
        capabilities: capabilities.is_object().then(|| NamespaceCapabilities {
            disabled_network_modes: list("disabled_network_modes"),
            disabled_task_drivers: list("disabled_task_drivers"),
            enabled_network_modes: list("enabled_network_modes"),
            enabled_task_drivers: list("enabled_task_drivers"),
        }),
        ..Namespace::default()
    };
    if namespace.name.is_empty() {
        return Err(Failure::new(format!("{path}: a namespace needs a name = \"...\"")));
    }
    Ok(namespace)
}

async fn delete(context: &Context) -> Outcome {
    let name = context.one_arg("<namespace>")?;
    context.client().delete_namespace(name).await.or_fail("Error deleting namespace")?;
    context.console.out(&format!("Successfully deleted namespace {}!", format::quoted(name)));
    Ok(0)
}
