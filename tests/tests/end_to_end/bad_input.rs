//! What is wrong is said, with its place and what to do; nothing panics, nothing hangs, nothing changes.

use std::net::TcpListener;

use serde_json::{Value, json};
use tests::{Agent, Ended, Kind, agent::text, binary, job, wait};

/// Commands with every argument that they take. Prefixes of them are what people type by mistake.
const COMMANDS: [&str; 26] = [
    "job run -detach -check-index 7 nope.nomad.hcl",
    "job plan -diff=false -verbose nope.nomad.hcl",
    "job validate nope.nomad.hcl",
    "job status -short -namespace default nope",
    "job stop -purge -detach -yes nope",
    "job inspect -json nope",
    "job history -p -version 3 nope",
    "job restart -yes -all-tasks nope",
    "job allocs -verbose nope",
    "job eval -detach nope",
    "job init -short /nowhere/at/all.nomad.hcl",
    "node status -verbose -json nope",
    "alloc status -stats nope",
    "alloc logs -f -tail -n 3 -stderr nope task",
    "alloc fs -stat nope /path",
    "alloc exec -i=false -t=false -task t nope true",
    "alloc stop -detach nope",
    "alloc restart nope task",
    "alloc signal -s SIGHUP nope",
    "eval status -verbose nope",
    "eval list -status nope -per-page x",
    "operator api -X DELETE /v1/job/nope",
    "server members -verbose -json -t x",
    "system gc extra",
    "status nope nope",
    "monitor -log-level=nope",
];

/// Paths with every parameter. Prefixes of them are what programs send by mistake.
const REQUESTS: [&str; 22] = [
    "GET /v1/jobs?prefix=a&per_page=x&filter=ID%20==%20%22x%22",
    "GET /v1/job/nope/allocations?all=maybe",
    "GET /v1/job/nope/versions?diffs=true&diff_version=x",
    "PUT /v1/job/nope/plan?region=global",
    "PUT /v1/job/nope/evaluate",
    "DELETE /v1/job/nope?purge=perhaps&global=1",
    "GET /v1/nodes?prefix=zz&resources=true",
    "GET /v1/node/nope/allocations?index=x&wait=y",
    "GET /v1/allocations?prefix=abc&namespace=*&next_token=zzz",
    "GET /v1/allocation/00000000-0000-0000-0000-000000000000/services",
    "PUT /v1/allocation/00000000-0000-0000-0000-000000000000/stop",
    "GET /v1/client/fs/ls/00000000-0000-0000-0000-000000000000?path=../../..",
    "GET /v1/client/fs/logs/nope?task=t&type=both&follow=maybe&origin=middle&offset=-1",
    "GET /v1/client/allocation/nope/exec?task=t&command=%5B%22x%22%5D&tty=true",
    "PUT /v1/client/allocation/nope/signal",
    "GET /v1/evaluations?status=odd&job=nope&next_token=nope",
    "GET /v1/evaluation/nope/allocations?index=999999999999999999999",
    "GET /v1/event/stream?topic=Nope&index=x",
    "GET /v1/metrics?format=nope&pretty",
    "PUT /v1/jobs/parse?region=nope",
    "PUT /v1/search/fuzzy?namespace=nope",
    "GET /v1/agent/monitor?log_level=nope&node_id=nope",
];

/// Bodies that are no answer to anything.
const BODIES: [&str; 6] = ["", "{", "[]", "{}", "\"x\"", "{\"Job\": {\"ID\": 7, \"TaskGroups\": \"x\"}}"];

#[test]
fn prefixes_of_commands_end_with_a_code_and_a_word() {
    let agent = Agent::start(Kind::Dev);
    let before = agent.get("/v1/jobs");
    let mut chance = Chance::of(0x5eed);
    for _ in 0..100 {
        let words: Vec<&str> = COMMANDS[chance.below(COMMANDS.len())].split(' ').collect();
        let prefix = &words[..=chance.below(words.len())];
        // What ends by itself only when it is told to is stopped by its standard input being at its end, or is bad input.
        if prefix.first() == Some(&"monitor") && prefix.len() == 1 {
            continue;
        }
        let ended = agent.command(prefix);
        let line = prefix.join(" ");
        assert!(
            (0..=255).contains(&ended.code) && ended.code != 101,
            "{line}: exit {}: {}",
            ended.code,
            ended.said()
        );
        assert!(!ended.said().contains("panicked"), "{line}: {}", ended.said());
        assert!(
            !ended.said().trim().is_empty() || ended.code == 0,
            "{line}: exit {} without a word",
            ended.code
        );
    }
    assert_eq!(agent.get("/v1/jobs"), before, "bad input changed something");
}

#[test]
fn prefixes_of_requests_end_with_a_status_and_a_word() {
    let agent = Agent::start(Kind::Dev);
    let mut chance = Chance::of(0x5eed);
    for _ in 0..100 {
        let (method, path) =
            REQUESTS[chance.below(REQUESTS.len())].split_once(' ').expect("a method and a path");
        let end = 1 + chance.below(path.len());
        let body = (method != "GET").then(|| BODIES[chance.below(BODIES.len())]);
        let prefix = &path[..end];
        if prefix.starts_with("/v1/event/stream") && !prefix.contains("index=x")
            || prefix.starts_with("/v1/agent/monitor") && !prefix.contains("log_level=nope")
        {
            continue; // A stream, which has no end.
        }
        let answer = tests::http::request(agent.addr(), method, prefix, body)
            .unwrap_or_else(|error| panic!("{method} {prefix} {body:?}: {error}; {}", agent.log()));
        let status = answer.status;
        assert!((200..=599).contains(&status), "{method} {prefix}: {status}");
        // A path that does not exist is the one thing that gets no word, as on a real one.
        assert!(
            status < 400 || status == 404 || !answer.body.trim().is_empty(),
            "{method} {prefix}: {status} without a word"
        );
    }
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
    assert_eq!(agent.get("/v1/jobs"), json!([]), "bad input changed something");
}

#[test]
fn a_broken_job_file_is_refused_with_its_place() {
    let agent = Agent::start(Kind::Dev);
    let cases = [
        ("job \"x\" {\n  group \"g\" {\n", 1, "x.nomad.hcl:"),
        ("job \"x\" {\n  priority = \"many\"\n}\n", 1, "x.nomad.hcl:2"),
        ("job \"x\" {\n  grupe \"g\" {}\n}\n", 1, "x.nomad.hcl:2"),
        ("job \"x\" {\n  name = var.none\n}\n", 1, "x.nomad.hcl:2"),
        ("", 1, ""),
    ];
    for (hcl, code, place) in cases {
        let file = agent.file("x.nomad.hcl", hcl);
        for command in ["validate", "run", "plan"] {
            let ended = agent.command(&["job", command, &file]);
            let expected = if command == "plan" { 255 } else { code };
            assert_eq!(ended.code, expected, "job {command} of {hcl:?}: {}", ended.said());
            let said = ended.said();
            assert!(said.replace(" line ", ":").contains(place), "{place} in {said}");
        }
    }
    let ended = agent.command(&["job", "run", "/nowhere/x.nomad.hcl"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("/nowhere/x.nomad.hcl"), "{}", ended.err);
    assert_eq!(agent.get("/v1/jobs"), json!([]));
}

#[test]
fn a_job_that_says_impossible_things_is_refused_whole() {
    let agent = Agent::start(Kind::Dev);
    let mut job = job::pretended("web", 1);
    job["TaskGroups"][0]["Tasks"][0]["Driver"] = json!("");
    job["TaskGroups"][0]["Count"] = json!(-1);
    job["Priority"] = json!(1_000_000);
    let answer = agent.ask("PUT", "/v1/jobs", Some(&json!({ "Job": job })));
    assert_eq!(answer.status, 500, "{}", answer.body);
    for part in ["Missing task driver", "priority", "count"] {
        assert!(answer.body.to_lowercase().contains(&part.to_lowercase()), "{part} in {}", answer.body);
    }
    assert_eq!(agent.ask("GET", "/v1/job/web", None).status, 404);
}

#[test]
fn a_driver_that_is_not_there_is_named() {
    let agent = Agent::start(Kind::Dev);
    let task = job::task("t", "telepathy", json!({}));
    let answer = agent.ask("PUT", "/v1/jobs", Some(&json!({ "Job": job::of("web", "service", &task) })));
    if answer.status == 200 {
        let eval = wait::until("the evaluation is over", || {
            let eval = agent.get(&format!("/v1/evaluation/{}", text(&answer.json()["EvalID"])));
            (eval["Status"] == "complete").then_some(eval)
        });
        let filtered = &eval["FailedTGAllocs"]["g"]["ConstraintFiltered"];
        assert_eq!(filtered["missing drivers"], 1, "{eval}");
    } else {
        assert!(answer.body.contains("telepathy"), "{}", answer.body);
    }
}

#[test]
fn a_program_that_is_not_there_is_named_in_the_task_s_events() {
    let agent = Agent::start(Kind::Dev);
    let task = job::task("t", "raw_exec", json!({ "command": "/no/such/program" }));
    let mut job = job::of("web", "batch", &task);
    job["TaskGroups"][0]["RestartPolicy"] = json!({ "Attempts": 0, "Mode": "fail" });
    job["TaskGroups"][0]["ReschedulePolicy"] = json!({ "Attempts": 0, "Unlimited": false });
    agent.register(&job);
    let alloc = agent.wait_for("web", "failed");
    let events = alloc["TaskStates"]["t"]["Events"].to_string();
    assert!(events.contains("Driver Failure") && events.contains("/no/such/program"), "{events}");
}

#[test]
fn an_unknown_option_of_a_driver_is_named() {
    let agent = Agent::start(Kind::Dev);
    let task = job::task("t", "raw_exec", json!({ "command": "/bin/true", "comand": "x" }));
    let mut job = job::of("web", "batch", &task);
    job["TaskGroups"][0]["RestartPolicy"] = json!({ "Attempts": 0, "Mode": "fail" });
    job["TaskGroups"][0]["ReschedulePolicy"] = json!({ "Attempts": 0, "Unlimited": false });
    let answer = agent.ask("PUT", "/v1/jobs", Some(&json!({ "Job": job })));
    let said = if answer.status == 200 {
        agent.wait_for("web", "failed")["TaskStates"].to_string()
    } else {
        answer.body
    };
    assert!(said.contains("comand"), "{said}");
}

#[test]
fn a_static_port_that_is_taken_waits_and_says_why() {
    let agent = Agent::start(Kind::Dev);
    let port = tests::agent::free_port();
    let with_port = |id: &str| {
        let mut job = job::pretended(id, 1);
        job["TaskGroups"][0]["Networks"] = json!([{ "ReservedPorts": [{ "Label": "p", "Value": port }] }]);
        job
    };
    agent.register(&with_port("first"));
    assert_eq!(agent.wait_for("first", "running")["JobID"], "first");
    let second = agent.register(&with_port("second"));
    let eval = wait::until("the evaluation is over", || {
        let eval = agent.get(&format!("/v1/evaluation/{}", text(&second["EvalID"])));
        (eval["Status"] == "complete").then_some(eval)
    });
    let why = eval["FailedTGAllocs"]["g"]["DimensionExhausted"].to_string();
    assert!(why.contains("network: reserved port collision") && why.contains(&port.to_string()), "{eval}");
}

#[test]
fn an_agent_on_a_taken_port_says_which() {
    let mut agent = Agent::prepare(binary::path(), Kind::Dev, "");
    let _taken = TcpListener::bind(agent.addr()).expect("the port was free");
    let config = agent.path().join("agent.hcl");
    let ended = agent.command(&["agent", "-dev", "-config", config.to_str().expect("a plain name")]);
    assert_eq!(ended.code, 1, "{}", ended.said());
    assert!(ended.said().contains(&agent.addr().port().to_string()), "{}", ended.said());
    assert!(!ended.said().contains("panicked"), "{}", ended.said());
    drop(_taken);
    agent.launch();
    agent.wait_until_ready();
}

#[test]
fn an_agent_with_a_wrong_configuration_says_what_and_where() {
    let agent = Agent::prepare(binary::path(), Kind::Dev, "");
    let cases = [
        ("unknown.hcl", "datacentre = \"x\"\n", "datacentre"),
        ("broken.hcl", "server {\n  enabled = true\n", "broken.hcl"),
        ("type.hcl", "ports {\n  http = \"many\"\n}\n", "http"),
        ("broken.json", "{\"data_dir\": ", "broken.json"),
    ];
    for (name, content, word) in cases {
        let file = agent.file(name, content);
        for args in [vec!["agent", "-dev", "-config", &file], vec!["config", "validate", &file]] {
            let ended = agent.command(&args);
            assert_eq!(ended.code, 1, "{args:?}: {}", ended.said());
            assert!(ended.said().contains(word), "{args:?}: {word} in {}", ended.said());
        }
    }
    let ended = agent.command(&["agent"]);
    assert_eq!(ended.code, 1);
    assert!(!ended.said().is_empty() && !ended.said().contains("panicked"), "{}", ended.said());
}

#[test]
fn a_command_without_an_agent_says_so() {
    let agent = Agent::prepare(binary::path(), Kind::Dev, "");
    let ended: Ended = agent.command(&["job", "status"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("connection refused"), "{}", ended.err);
    assert!(ended.err.contains(&agent.addr().to_string()), "{}", ended.err);
}

#[test]
fn a_request_that_is_no_http_harms_nobody() {
    use std::io::{Read as _, Write as _};
    let agent = Agent::start(Kind::Dev);
    for bytes in [&b"\0\0\0\0"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", &[0xff; 70_000]] {
        let mut socket = std::net::TcpStream::connect(agent.addr()).expect("the agent listens");
        // It may hang up before it has read everything, which is an answer too.
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let _ = socket.read_to_end(&mut Vec::new());
    }
    assert_eq!(agent.get("/v1/nodes").as_array().map(Vec::len), Some(1));
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}

#[test]
fn a_deep_or_large_job_text_is_refused_and_not_suffered() {
    let agent = Agent::start(Kind::Dev);
    let deep = format!("job \"x\" {{ name = {}1{} }}", "(".repeat(100_000), ")".repeat(100_000));
    let bomb = "job \"x\" { name = join(\"\", [for a in range(1000) : join(\"\", [for b in range(1000) : \"xxxxxxxxxx\"])]) }";
    for hcl in [deep.as_str(), bomb] {
        let answer: Value = json!({ "JobHCL": hcl });
        let (answer, took) = wait::timed(|| agent.ask("PUT", "/v1/jobs/parse", Some(&answer)));
        assert!(answer.status >= 400, "{}", answer.status);
        assert!(took.as_secs() < 10, "{took:?}");
    }
    assert_eq!(agent.get("/v1/nodes").as_array().map(Vec::len), Some(1));
}

/// A row of numbers that a seed repeats.
struct Chance(u64);

impl Chance {
    fn of(seed: u64) -> Self {
        eprintln!("seed {seed:#x}");
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}
