use sdk::Query;
use serde_json::json;

use crate::{
    command::{Context, OrFail, Outcome},
    format, resolve, template,
};

/// `alloc checks`.
pub async fn run(context: &Context) -> Outcome {
    template::check(context)?;
    let client = context.client();
    let alloc = resolve::alloc_stub(context, &client, context.one_arg("<allocation>")?).await?;
    let query = Query::default().in_namespace(alloc.namespace.as_str());
    let checks = client.allocation_checks(&alloc.id, &query).await.or_fail("Error querying allocation")?;
    if template::print(context, || json!(checks))? {
        return Ok(0);
    }
    context.console.out(&format!("Status of {} Nomad Service Checks\n", checks.len()));
    let mut checks: Vec<_> = checks.into_values().collect();
    checks.sort_by(|a, b| {
        (&a.group, &a.task, &a.service, &a.check).cmp(&(&b.group, &b.task, &b.service, &b.check))
    });
    let text = |check: &sdk::types::CheckResult| {
        let mut pairs =
            vec![("ID", check.id.clone()), ("Name", check.check.clone()), ("Group", check.group.clone())];
        if !check.task.is_empty() {
            pairs.push(("Task", check.task.clone()));
        }
        pairs.extend([("Service", check.service.clone()), ("Status", check.status.clone())]);
        if check.status_code > 0 {
            pairs.push(("StatusCode", check.status_code.to_string()));
        }
        pairs.push(("Mode", check.mode.clone()));
        pairs.push(("Timestamp", format::time(check.timestamp.saturating_mul(1_000_000_000))));
        pairs.push(("Output", check.output.clone()));
        format!("{}\n", format::pairs(&pairs))
    };
    for check in &checks {
        context.console.out(&text(check));
    }
    Ok(0)
}
