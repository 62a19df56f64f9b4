//! Commands as scripts use them: exit codes, lines that are parsed, and what passes through.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use tests::{Agent, Ended, Kind, agent::text, binary, wait};

const WEB: &str = r#"job "web" {
  group "g" {
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "echo one; echo two; echo bad >&2; exec sleep 600"]
      }
      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
"#;

#[test]
fn a_job_goes_from_file_to_running_and_away_by_commands() {
    let agent = Agent::start(Kind::Dev);
    let file = agent.file("web.nomad.hcl", WEB);
    assert_eq!(agent.command(&["job", "validate", &file]).worked(), "Job validation successful\n");
    let plan = agent.command(&["job", "plan", &file]);
    assert_eq!(plan.code, 1, "a plan that changes something: {}", plan.said());
    assert!(plan.out.contains("+ Job: \"web\"") && plan.out.contains("Job Modify Index: 0"), "{}", plan.out);

    let run = agent.command(&["job", "run", &file]).worked();
    for line in
        ["Monitoring evaluation", "Evaluation triggered by job \"web\"", "finished with status \"complete\""]
    {
        assert!(run.contains(line), "{line} in {run}");
    }
    let alloc = agent.wait_for("web", "running");
    let id = text(&alloc["ID"]);

    let list = agent.command(&["job", "status"]).worked();
    assert_eq!(
        list.lines().next().map(words),
        Some(vec!["ID", "Type", "Priority", "Status", "Submit", "Date"])
    );
    assert_eq!(
        list.lines().nth(1).map(words).map(|row| row[..4].join(" ")),
        Some("web service 50 running".to_owned())
    );
    let status = agent.command(&["job", "status", "web"]).worked();
    assert!(status.contains("\nAllocations\n") && status.contains(&id[..8]), "{status}");
    let same = agent.command(&["job", "plan", &file]);
    assert_eq!(same.code, 0, "nothing to change: {}", same.said());

    let stop = agent.command(&["job", "stop", "web"]).worked();
    assert!(stop.contains("Monitoring evaluation"), "{stop}");
    assert_eq!(agent.wait_for("web", "complete")["ID"], id);
    assert!(agent.command(&["job", "stop", "-purge", "-detach", "web"]).worked().len() > 10);
    let gone = agent.command(&["job", "status", "web"]);
    assert_eq!((gone.code, gone.err.as_str()), (1, "No job(s) with prefix or ID \"web\" found\n"));
}

#[test]
fn logs_files_and_commands_in_a_task_come_through() {
    let agent = Agent::start(Kind::Dev);
    let file = agent.file("web.nomad.hcl", WEB);
    agent.command(&["job", "run", "-detach", &file]).worked();
    let alloc = agent.wait_for("web", "running");
    let id = text(&alloc["ID"]);
    wait::until("the task wrote", || (agent.output_of(&alloc, "t") == "one\ntwo\n").then_some(()));
    assert_eq!(agent.command(&["alloc", "logs", &id[..8]]).worked(), "one\ntwo\n");
    assert_eq!(agent.command(&["alloc", "logs", "-stderr", id]).worked(), "bad\n");
    assert_eq!(agent.command(&["alloc", "logs", "-tail", "-n", "1", id]).worked(), "two\n");
    assert_eq!(agent.command(&["alloc", "logs", "-job", "web"]).worked(), "one\ntwo\n");
    assert!(agent.command(&["alloc", "fs", id, "alloc/logs/t.stdout.0"]).worked().starts_with("one\n"));
    assert!(agent.command(&["alloc", "status", id]).worked().contains("Client Status"));

    let exec =
        ["alloc", "exec", "-i=false", "-t=false", id, "/bin/sh", "-c", "echo out; echo err >&2; exit 5"];
    let exec = agent.command(&exec);
    assert_eq!((exec.code, exec.out.as_str(), exec.err.as_str()), (5, "out\n", "err\n"));
    let cat = with_input(&agent, &["alloc", "exec", "-i", "-t=false", id, "cat"], "line one\nline two\n");
    assert_eq!(cat.worked(), "line one\nline two\n");
}

#[test]
fn answers_have_a_form_for_programs() {
    let agent = Agent::start(Kind::Dev);
    let nodes = agent.command(&["node", "status", "-json"]).worked();
    let nodes: serde_json::Value = serde_json::from_str(&nodes).expect("JSON");
    assert_eq!(nodes[0]["Status"], "ready");
    assert_eq!(
        agent.command(&["node", "status", "-t", "{{range .}}{{.Status}}{{end}}"]).worked().trim(),
        "ready"
    );
    let id = text(&nodes[0]["ID"]);
    assert!(agent.command(&["node", "status", &id[..8]]).worked().contains(id.get(..8).expect("an id")));
    assert!(agent.command(&["node", "status", "-verbose", id]).worked().contains(id));
    let leader = agent.command(&["operator", "api", "/v1/status/leader"]).worked();
    assert!(serde_json::from_str::<String>(leader.trim()).is_ok(), "{leader}");
    assert!(agent.command(&["version"]).worked().starts_with("Wayfarer v"));
    assert!(agent.command(&["server", "members"]).worked().contains("alive"));
}

#[test]
fn under_the_name_of_nomad_it_is_the_same() {
    let agent = Agent::start(Kind::Dev);
    let link = agent.path().join("nomad");
    std::os::unix::fs::symlink(binary::path(), &link).expect("a link can be made");
    let ask = |env: &str| {
        let mut command = Command::new(&link);
        command
            .args(["node", "status"])
            .env_remove("NOMAD_ADDR")
            .env(env, format!("http://{}", agent.addr()));
        Ended::of(&command.output().expect("the link starts")).worked()
    };
    assert_eq!(ask("NOMAD_ADDR"), agent.command(&["node", "status"]).worked());
    assert_eq!(ask("WAYFARER_ADDR"), ask("NOMAD_ADDR"));
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn with_input(agent: &Agent, args: &[&str], input: &str) -> Ended {
    let mut command = Command::new(binary::path());
    command.args(args).env("NOMAD_ADDR", format!("http://{}", agent.addr()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the built binary starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    stdin.write_all(input.as_bytes()).expect("the command reads");
    drop(stdin);
    Ended::of(&child.wait_with_output().expect("the command ends"))
}

#[test]
fn a_launched_job_is_waited_for_and_its_end_is_the_commands() {
    let agent = Agent::start(Kind::Dev);
    let mut job = tests::job::batch("sum", "test $NOMAD_META_good = yes");
    job["ParameterizedJob"] = serde_json::json!({ "MetaRequired": ["good"] });
    agent.register(&job);
    let dispatch =
        |good: &str| agent.command(&["job", "dispatch", "-wait", "-meta", &format!("good={good}"), "sum"]);
    let good = dispatch("yes").worked();
    assert!(good.contains("Dispatched Job ID") && good.contains("completed"), "{good}");
    let bad = dispatch("no");
    assert_eq!(bad.code, 1, "{}", bad.said());
    assert!(bad.err.contains("did not complete") && bad.err.contains("failed"), "{}", bad.err);
}

#[test]
fn a_bundle_for_those_who_look_for_faults_holds_state_and_logs() {
    let agent = Agent::start(Kind::Dev);
    agent.register(&tests::job::pretended("there", 1));
    assert_eq!(agent.wait_for("there", "running")["JobID"], "there");
    let folder = agent.path().join("bundles");
    let place = folder.to_str().expect("a plain name");
    let times = ["-duration", "5s", "-interval", "2500ms", "-event-topic", "Job"];
    let said = agent.command(&[&["operator", "debug", "-output", place][..], &times[..]].concat()).worked();
    assert!(said.contains("Created debug directory") && said.contains("Capture interval 0001"), "{said}");
    let made =
        std::fs::read_dir(&folder).expect("it was made").next().expect("one bundle").expect("an entry");
    let read = |name: &str| std::fs::read_to_string(made.path().join(name)).expect(name);
    assert!(read("nomad/0000/jobs.json").contains("\"there\""));
    assert!(read("cluster/agent-self.json").contains("\"config\""));
    let index: serde_json::Value = serde_json::from_str(&read("index.json")).expect("it is JSON");
    assert_eq!(index["Problems"], serde_json::json!([]), "{index:#}");
    let node = text(&agent.get("/v1/nodes")[0]["ID"]).to_owned();
    assert!(
        read(&format!("client/{node}/monitor.log")).contains("GET"),
        "the commands' own questions are logged"
    );
    assert!(read(&format!("server/{}/agent-host.json", text(&index["Servers"][0]))).contains("OS"));
    let wrong = agent.command(&["operator", "debug", "-duration", "1s", "-interval", "2s"]);
    assert!(wrong.code == 1 && wrong.err.contains("is greater than duration"), "{}", wrong.said());
}
