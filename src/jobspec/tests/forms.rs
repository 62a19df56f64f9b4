//! The forms in which the same thing may be written, those in which it may not, and what each comes out as.

use serde_json::{Value, json};
use std::sync::Arc;

fn parse(text: &str) -> Result<Value, String> {
    let random = Arc::new(|bytes: &mut [u8]| bytes.fill(7));
    let inputs = hcl::Inputs::of_file("f", text, &jobspec::ROOT_BLOCKS, random);
    jobspec::parse_hcl(&inputs).map_err(|problems| problems.to_string())
}

/// A task whose insides begin on the third line.
fn task(inside: &str) -> Result<Value, String> {
    let job = parse(&format!("job \"j\" {{ \n group \"g\" {{\n task \"t\" {{\n{inside}\n}}\n}}\n}}\n"))?;
    Ok(job["TaskGroups"][0]["Tasks"][0].clone())
}

fn refused(inside: &str) -> String {
    let problems = task(inside).expect_err(inside);
    problems.split(';').next().unwrap_or_default().to_owned()
}

#[test]
fn what_a_driver_is_told_has_one_form_however_it_is_written() {
    for (inside, wanted) in [
        ("port_map {\n db = 3306\n}", json!({ "port_map": [{ "db": 3306 }] })),
        ("port_map = { db = 3306 }", json!({ "port_map": [{ "db": 3306 }] })),
        ("labels = {}", json!({ "labels": [{}] })),
        (
            "mounts = [{ type = \"bind\", o = { a = 1 } }]",
            json!({ "mounts": [{ "type": "bind", "o": { "a": 1 } }] }),
        ),
        ("v = merge({ a = 1 }, { b = 2 })", json!({ "v": { "a": 1, "b": 2 } })),
        ("v = ({ a = 1 })", json!({ "v": { "a": 1 } })),
        ("mount {\n a = 1\n}\nmount {\n a = 2\n}", json!({ "mount": [{ "a": 1 }, { "a": 2 }] })),
        ("l \"x\" \"y\" {\n m = { a = 1 }\n}", json!({ "l": [{ "x": [{ "y": [{ "m": [{ "a": 1 }] }] }] }] })),
        ("v = null\nw = [1, \"a\", true, 1.5, null]", json!({ "w": [1, "a", true, 1.5, null] })),
        ("v = 12345678901234567890", json!({ "v": 12345678901234567000_u64 })),
        // Nothing is known of the insides, so nothing is generated in them.
        (
            "dynamic \"mount\" {\n for_each = [\"a\"]\n content {\n source = mount.value\n }\n}",
            json!({ "dynamic": [{ "mount": [{ "for_each": ["a"], "content": [{ "source": "${mount.value}" }] }] }] }),
        ),
    ] {
        let task = task(&format!("config {{\n{inside}\n}}")).expect(inside);
        assert_eq!(task["Config"], wanted, "{inside}");
    }
}

#[test]
fn blocks_that_are_left_to_their_readers_are_those_of_the_table() {
    let mut free: Vec<&str> = Vec::new();
    for (_, block) in jobspec::schema::blocks() {
        free.extend(
            block.fields.iter().filter(|f| matches!(f.kind, jobspec::schema::Kind::Free)).map(|f| f.hcl),
        );
    }
    free.sort_unstable();
    free.dedup();
    assert_eq!(free, jobspec::ROOT_BLOCKS[0].opaque);
}

#[test]
fn names_and_texts_of_a_task_are_a_block_or_an_argument() {
    for inside in ["env {\n a = 1\n}", "env = { a = 1 }", "env = { \"a\" : true ? 1 : 2 }"] {
        assert_eq!(task(inside).expect(inside)["Env"], json!({ "a": "1" }), "{inside}");
    }
    assert_eq!(task("meta = { \"a.b\" = true }").expect("a map")["Meta"], json!({ "a.b": "true" }));
    assert_eq!(task("env = null").expect("nothing")["Env"], Value::Null);
    assert_eq!(refused("env = { a = 1 }\nenv {\n b = 1\n}"), "f:5,1-4: Duplicate env block");
    assert_eq!(refused("meta {\n a = 1\n}\nmeta {\n a = 1\n}"), "f:7,1-5: Duplicate meta block");
    assert_eq!(refused("env {\n \"a\" = 1\n}"), "f:5,2-3: Invalid argument name");
    assert_eq!(refused("meta {\n a {\n b = 1\n }\n}"), "f:5,4-5: Unsuitable value type");
    // Elsewhere a map is a block and nothing else.
    assert_eq!(refused("service {\n meta = { a = 1 }\n}"), "f:5,2-6: Unsupported argument");
    assert_eq!(
        refused("artifact {\n source = \"x\"\n options = { a = 1 }\n}"),
        "f:6,2-9: Unsupported argument"
    );
    assert_eq!(refused("config = { a = 1 }"), "f:4,1-7: Unsupported argument");
}

#[test]
fn a_null_is_nothing_where_a_field_can_be_unset_and_wrong_elsewhere() {
    assert_eq!(task("kill_signal = \"SIGINT\"\nleader = false").expect("unset")["KillTimeout"], Value::Null);
    // Durations are read by a decoder of their own, which knows no null.
    assert_eq!(refused("kill_timeout = null"), "f:4,16-20: Unsuitable value type");
    assert_eq!(task("resources {\n cpu = null\n}").expect("unset")["Resources"]["CPU"], Value::Null);
    assert_eq!(task("constraint {\n attribute = null\n}").expect("unset")["Constraints"][0]["LTarget"], "");
    assert_eq!(refused("user = null"), "f:4,8-12: Unsuitable value type");
    assert_eq!(refused("meta = { a = null }"), "f:4,8-9: Unsuitable value type");
    assert_eq!(refused("env {\n a = null\n}"), "f:5,6-10: Unsuitable value type");
    assert_eq!(refused("service {\n tags = [null]\n}"), "f:5,9-10: Unsuitable value type");
}

#[test]
fn scaling_policies_are_one_for_each_resource() {
    assert_eq!(
        refused("scaling \"cpu\" {}\nscaling \"CPU\" {}"),
        "f:5,1-14: Duplicate scaling \"cpu\" block"
    );
    assert_eq!(refused("scaling \"disk\" {}"), "f:4,9-15: Invalid scaling policy name");
    let group =
        |inside: &str| parse(&format!("job \"j\" {{\n group \"g\" {{\n scaling {{\n{inside}\n}}\n}}\n}}\n"));
    assert!(group("max = 3\ntype = \"horizontal\"").is_ok());
    let problems = group("max = 3\ntype = \"vertical\"").expect_err("of the wrong kind");
    assert!(problems.starts_with("f:5,8-18: Invalid group scaling type;"), "{problems}");
    let problems = group("min = 3").expect_err("without a maximum");
    assert!(problems.starts_with("f:3,10-10: Missing required argument;"), "{problems}");
}

#[test]
fn comparisons_take_any_simple_value() {
    let task = task("affinity {\n attribute = 3\n value = true\n weight = \"7.9\"\n}").expect("an affinity");
    assert_eq!(
        task["Affinities"][0],
        json!({ "LTarget": "3", "Operand": "=", "RTarget": "true", "Weight": 7 })
    );
    assert_eq!(refused("affinity {\n weight = \"x\"\n}"), "f:5,11-14: Incorrect attribute value type");
}

#[test]
fn old_files_are_still_read() {
    let job = parse(
        "job web-1 {\n datacenters = [\"dc1\"]\n task \"t\" {\n driver = \"docker\"\n config {\n image = \"x:1\"\n \
         logging {\n type = \"syslog\"\n config {\n tag = \"t\"\n }\n }\n }\n resources {\n iops = 1\n disk = 5\n \
         network {\n mbits = 10\n port \"http\" {}\n port \"admin\" { static = \"80\" }\n }\n }\n \
         template {\n data = <<EOH\n{{ key \"a\" }} $${A} ${NOMAD_PORT_http}\nEOH\n destination = \"local/x\"\n \
         vault_grace = \"5s\"\n }\n }\n}\n",
    )
    .expect("an old job");
    assert_eq!((&job["ID"], &job["TaskGroups"][0]["Name"]), (&json!("web-1"), &json!("t")));
    let task = &job["TaskGroups"][0]["Tasks"][0];
    assert_eq!(task["Config"]["logging"], json!([{ "type": "syslog", "config": [{ "tag": "t" }] }]));
    let network = &task["Resources"]["Networks"][0];
    assert_eq!((&network["MBits"], &network["DynamicPorts"][0]["Label"]), (&json!(10), &json!("http")));
    assert_eq!(network["ReservedPorts"][0]["Value"], 80);
    assert_eq!(task["Templates"][0]["EmbeddedTmpl"], "{{ key \"a\" }} ${A} ${NOMAD_PORT_http}\n");
}

fn group(inside: &str) -> Result<Value, String> {
    let job = parse(&format!("job \"j\" {{ \n group \"g\" {{\n{inside}\n}}\n}}\n"))?;
    Ok(job["TaskGroups"][0].clone())
}

#[test]
fn secrets_come_to_a_task_from_its_group_and_its_job_behind_its_own() {
    let secret = |name: &str| format!("secret \"{name}\" {{\n provider = \"nomad\"\n}}\n");
    let job = parse(&format!(
        "job \"j\" {{\n{}group \"g\" {{\n{}task \"t\" {{\n{}}}\n}}\n}}\n",
        secret("of-job"),
        secret("of-group"),
        secret("own")
    ));
    let job = job.expect("a job");
    let secrets = job["TaskGroups"][0]["Tasks"][0]["Secrets"].as_array().expect("secrets");
    let names: Vec<_> = secrets.iter().map(|secret| secret["Name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["own", "of-group", "of-job"]);
}

#[test]
fn the_first_identity_without_a_name_is_the_task_s_own() {
    let task =
        task("identity {\n env = true\n}\nidentity {\n name = \"default\"\n}\nidentity {\n name = \"x\"\n}");
    let task = task.expect("a task");
    assert_eq!(task["Identity"]["Env"], true);
    let names: Vec<_> = task["Identities"].as_array().expect("others").iter().map(|i| &i["Name"]).collect();
    assert_eq!(names, ["default", "x"]);
    assert_eq!(self::task("identity {}").expect("a task")["Identities"], json!([]));
}

#[test]
fn numbers_keep_to_the_width_of_their_field() {
    let out_of = |inside: &str| group(inside).expect_err(inside);
    let problem = out_of("spread {\n weight = 128\n}");
    assert_eq!(
        problem,
        "f:4,11-14: Unsuitable value type; Unsuitable value: value must be a whole number, between -128 and 127"
    );
    let problem = out_of("spread {\n target \"a\" {\n percent = 256\n }\n}");
    assert_eq!(
        problem,
        "f:5,12-15: Unsuitable value type; Unsuitable value: value must be a whole number, between 0 and 255 inclusive"
    );
    assert!(group("spread {\n weight = -128\n target \"a\" {\n percent = 255\n }\n}").is_ok());
    let wide = json!({ "TaskGroups": [{ "Spreads": [{ "Weight": 128 }] }] });
    let problem = jobspec::normalise_json(wide).expect_err("too wide").to_string();
    assert!(
        problem.contains("cannot unmarshal number 128") && problem.ends_with("of type int8"),
        "{problem}"
    );
}

#[test]
fn what_is_required_is_missed_where_its_block_begins() {
    assert_eq!(refused("lifecycle {\n}"), "f:4,11-11: Missing required argument");
    assert_eq!(refused("action \"a\" {\n}"), "f:4,12-12: Missing required argument");
    assert!(task("lifecycle {\n hook = \"prestart\"\n}\naction \"a\" {\n command = \"x\"\n}").is_ok());
}

#[test]
fn labels_of_generated_blocks_are_those_that_their_kind_has() {
    let generated = |kind: &str, labels: &str| {
        let found = group(&format!("dynamic \"{kind}\" {{\n for_each = [1, 2]\n{labels}\n content {{}}\n}}"));
        found.err().map(|problems| problems.split(';').next().unwrap_or_default().to_owned())
    };
    assert_eq!(generated("task", "labels = [\"a${task.value}\"]"), None);
    assert_eq!(generated("constraint", ""), None);
    // Told once, although there are two of them.
    assert_eq!(generated("task", "").as_deref(), Some("f:3,16-16: Missing required argument"));
    assert_eq!(generated("constraint", "labels = [\"a\"]").as_deref(), Some("f:5,1-7: Unsupported argument"));
    assert_eq!(
        generated("task", "labels = []").as_deref(),
        Some("f:5,10-12: Insufficient dynamic block labels")
    );
    let several = generated("task", "labels = [\"a\", \"b\"]");
    assert_eq!(several.as_deref(), Some("f:5,16-19: Extraneous dynamic block label"));
    assert_eq!(generated("task", "labels = upper(\"a\")").as_deref(), Some("f:5,10-16: Invalid expression"));
}

#[test]
fn only_the_first_of_several_single_blocks_is_looked_at() {
    assert_eq!(refused("logs {\n}\nlogs {\n nothing = 1\n}"), "f:6,1-5: Duplicate logs block");
    assert_eq!(refused("config \"label\" {\n}"), "f:4,8-15: Extraneous label for config");
    // A group's `vault` is read in another way there: the last one counts.
    let group =
        group("vault {\n role = \"a\"\n}\nvault {\n role = \"b\"\n}\ntask \"t\" {}").expect("a group");
    assert_eq!(group["Tasks"][0]["Vault"]["Role"], "b");
}

#[test]
fn ports_may_be_reserved_under_their_own_name() {
    let ports = |inside: &str| {
        let group = group(&format!("network {{\n{inside}\n}}")).expect("a network");
        let list = |key: &str| group["Networks"][0][key].as_array().map_or(0, Vec::len);
        (list("ReservedPorts"), list("DynamicPorts"))
    };
    assert_eq!(ports("reserved_ports \"a\" {\n static = 80\n}"), (1, 0));
    assert_eq!(ports("reserved_ports \"a\" {\n static = 80\n}\nport \"b\" {}"), (0, 1));
    assert_eq!(ports("port \"a\" {\n static = 80\n}\nport \"b\" {}"), (1, 1));
}

#[test]
fn the_canonical_form_leaves_to_the_job_what_groups_inherit() {
    let mut job = parse("job \"j\" {\n migrate {\n max_parallel = 3\n}\n periodic {\n cron = \"@daily\"\n time_zone = \"\"\n}\n group \"g\" {\n service {\n meta {}\n check_restart {\n limit = 1\n}\n weights {\n passing = 5\n}\n}\n}\n}\n").expect("a job");
    jobspec::canonicalise(&mut job);
    assert_eq!(
        job["Migrate"],
        json!({ "MaxParallel": 3, "HealthCheck": null, "MinHealthyTime": null, "HealthyDeadline": null })
    );
    assert_eq!(job["TaskGroups"][0]["Migrate"]["HealthCheck"], "checks");
    assert_eq!(job["Periodic"]["TimeZone"], "UTC");
    let service = &job["TaskGroups"][0]["Services"][0];
    assert_eq!((&service["Meta"], &service["CheckRestart"]["Grace"]), (&Value::Null, &Value::Null));
    assert_eq!(service["Weights"], json!({ "Passing": 5, "Warning": 1 }));
}

#[test]
fn blocks_and_mistakes_in_the_json_syntax_are_where_hcl_has_them() {
    let parse = |inside: &str| parse(&format!("{{\"job\": {{\"j\": {{\n{inside}\n}}}}}}"));
    let job = parse("\"constraint\": [], \"group\": {\"g\": {\"service\": []}}").expect("a job");
    assert_eq!((&job["Constraints"], &job["TaskGroups"][0]["Services"]), (&Value::Null, &Value::Null));
    let refused = |inside: &str| {
        let problems = parse(inside).expect_err(inside);
        problems.split(';').next().unwrap_or_default().to_owned()
    };
    assert_eq!(refused("\"priority\": [1, 2]"), "f:2,13-14: Unsuitable value type");
    assert_eq!(refused("\"nothing\": [1, 2]"), "f:2,1-10: Extraneous JSON object property");
    assert_eq!(
        refused("\"group\": {\"g\": {\"scaling\": {\"min\": 1}}}"),
        "f:2,37-38: Missing required argument"
    );
    // A list of bodies is several blocks, a list within it one block of all their members.
    let groups = parse(
        "\"group\": [{\"a\": [{\"count\": 1}, {\"count\": 2}]}, {\"b\": [[{\"count\": 3}, {\"meta\": {}}]]}]",
    );
    let groups = groups.expect("three groups")["TaskGroups"].clone();
    let names: Vec<_> = groups.as_array().into_iter().flatten().map(|g| (&g["Name"], &g["Count"])).collect();
    assert_eq!(names, [(&json!("a"), &json!(1)), (&json!("a"), &json!(2)), (&json!("b"), &json!(3))]);
    for (inside, wanted) in [
        ("\"group\": {}", "f:2,10-11: Missing block label"),
        ("\"group\": [\"g\"]", "f:2,11-14: Incorrect JSON value type"),
        ("\"group\": {\"g\": 1}", "f:2,16-17: Incorrect JSON value type"),
        ("\"group\": {\"//\": \"a comment is no name\"}", "f:2,17-39: Incorrect JSON value type"),
        ("\"name\": \"a\", \"name\": \"b\"", "f:2,14-20: Duplicate argument"),
        ("\"update\": \"${{}}\"", "f:2,11-18: Incorrect JSON value type"),
        (
            "\"group\": {\"g\": {\"task\": {\"t\": {\"scaling\": {\"cpu\": [{\"max\": 1, \"type\": \"x\"}]}}}}}",
            "f:2,51-52: Invalid scaling policy type",
        ),
    ] {
        assert_eq!(refused(inside), wanted, "{inside}");
    }
}

#[test]
fn comments_in_the_json_syntax_are_none_within_values() {
    let job =
        parse("{\"job\": {\"j\": {\"//\": \"${nope(1)}\", \"meta\": {\"//\": \"kept\"}}}}").expect("a job");
    assert_eq!(job["Meta"], json!({ "//": "kept" }));
    let dynamic = |elements: u32| {
        let content = "\"group\": {\"for_each\": \"${setproduct(range(N), range(100))}\", \"labels\": [\"g${group.value[0]}-${group.value[1]}\"], \"content\": {\"count\": 1}}";
        let content = content.replace('N', &elements.to_string());
        parse(&format!("{{\"job\": {{\"j\": {{\"dynamic\": {{{content}}}}}}}}}"))
    };
    assert_eq!(dynamic(1).expect("many groups")["TaskGroups"][2]["Name"], "g0-2");
    assert!(dynamic(101).expect_err("too many").contains("10000 blocks"));
}

#[test]
fn what_a_task_says_of_itself_stays_in_the_canonical_form() {
    let mut job = parse("job \"j\" {\n group \"g\" {\n task \"t\" {\n lifecycle {\n hook = \"\"\n}\n resources {\n cores = 0\n}\n}\n}\n}\n").expect("a job");
    jobspec::canonicalise(&mut job);
    let task = &job["TaskGroups"][0]["Tasks"][0];
    assert_eq!(task["Lifecycle"], json!({ "Hook": "", "Sidecar": false }));
    assert_eq!((&task["Resources"]["CPU"], &task["Resources"]["Cores"]), (&json!(0), &json!(0)));
}
