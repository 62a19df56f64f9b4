//! Whatever arrives as a job is answered: never a panic, and never a job out of shape.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Names that the table knows, so that random objects reach deep into it.
const NAMES: [&str; 40] = [
    "ID",
    "Name",
    "Type",
    "TaskGroups",
    "Tasks",
    "Count",
    "Services",
    "Checks",
    "Resources",
    "Networks",
    "DynamicPorts",
    "ReservedPorts",
    "Update",
    "Periodic",
    "Spec",
    "Constraints",
    "Affinities",
    "Spreads",
    "SpreadTarget",
    "Scaling",
    "Templates",
    "Artifacts",
    "GetterOptions",
    "Volumes",
    "VolumeMounts",
    "Identity",
    "Identities",
    "Vault",
    "Connect",
    "SidecarService",
    "Proxy",
    "Config",
    "Env",
    "Meta",
    "LogConfig",
    "RestartPolicy",
    "ReschedulePolicy",
    "Disconnect",
    "Multiregion",
    "ParameterizedJob",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z${}/. ]{0,12}".prop_map(Value::from),
        Just(Value::from("service")),
        Just(Value::from("signal")),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(&NAMES[..]), inner), 0..8).prop_map(|members| {
                Value::Object(
                    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

/// All that is done with a job, one after the other.
fn everything(mut job: Value) {
    jobspec::canonicalise(&mut job);
    jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
    let found = jobspec::validate(&job, &jobspec::Limits::default());
    let _ = (found.error_text(), found.warning_text(), jobspec::refusal(&job));
    let diff = jobspec::diff(None, Some(&job), true);
    assert!(serde_json::to_string(&diff).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn shapeless_jobs_do_no_harm(job in any_json()) {
        everything(job);
    }

    #[test]
    fn shaped_jobs_do_no_harm(job in any_json(), other in any_json()) {
        if let Ok(job) = jobspec::normalise_json(job) {
            let again = jobspec::normalise_json(job.clone());
            prop_assert_eq!(again.as_ref(), Ok(&job));
            let _ = jobspec::diff(Some(&job), Some(&other), false);
            everything(job);
        }
    }
}
