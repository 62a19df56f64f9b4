"""Records command transcripts against a fresh dev agent (no ACL). usage: run_cli.py OUT_DIR"""
import json, os, re, sys, time
sys.path.insert(0, os.path.dirname(__file__))
import harness

harness.SCRUB = json.loads(os.environ.get("SCRUB", "[]"))
OUT = sys.argv[1]
FILES = harness.working_copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli", "files"))
os.makedirs(OUT, exist_ok=True)
a = harness.Agent()
def c(*args, **kw):
    kw.setdefault("cwd", FILES)
    return a.cli(*args, **kw)
def section(n):
    a.save_cli(os.path.join(OUT, n + ".txt")); print(n)
def allocs(job, ok=lambda b: len(b) > 0):
    return a.until("/v1/job/%s/allocations" % job, ok)

NODE = a.until("/v1/nodes", lambda b: b and b[0]["Status"] == "ready")[0]["ID"]
# ------------------------------------------------------------- nothing there yet
for x in ["version", "-version", "--version", "version -json", "status", "job status", "node status", "node status -verbose", "node status -json", "node status -t '{{len .}}'", "alloc status", "eval list", "deployment list", "server members", "server members -verbose", "server members -json",
          "namespace list", "namespace status default", "node pool list", "node pool info default", "node pool nodes default", "node pool jobs default", "var list", "service list", "volume status", "plugin status", "scaling policy list", "quota list", "license get", "sentinel list", "recommendation list",
          "operator raft list-peers", "operator autopilot get-config", "operator autopilot health", "operator scheduler get-config", "operator root keyring list", "operator metrics -pretty", "agent-info", "acl policy list", "acl token self", "ui -show-url",
          "job status nope", "node status nope", "alloc status nope", "alloc status 00000000", "eval status nope", "deployment status nope", "job stop nope", "job inspect nope", "job history nope", "service info nope", "var get nope", "namespace status nope", "node pool info nope", "status nope",
          "nope", "job", "job nope", "job status -nope", "job status a b", "node status -json -t x", "job run", "job run nope.hcl", "job plan nope.hcl", "job validate nope.hcl", "alloc logs", "alloc exec"]:
    import shlex
    c(*shlex.split(x))
c("status", env={"NOMAD_ADDR": "http://127.0.0.1:9"}, note="no agent at the address")
c("status", "-region", "nope")
c("job", "status", "-namespace", "nope")
section("fresh")

# ------------------------------------------------------------- a service job
c("job", "validate", "hello.nomad.hcl")
c("job", "plan", "hello.nomad.hcl")
c("job", "plan", "-verbose", "hello.nomad.hcl")
c("job", "run", "-output", "hello.nomad.hcl")
c("job", "run", "hello.nomad.hcl")
c("job", "status")
c("job", "status", "hello")
c("job", "status", "hel")
c("job", "status", "-short", "hello")
c("job", "status", "-verbose", "hello")
c("job", "status", "-evals", "hello")
c("job", "status", "-all-allocs", "hello")
c("job", "status", "-t", "{{.ID}} {{.Status}}", "hello")
c("job", "status", "-json", "hello")
c("status", "hello")
c("job", "allocs", "hello")
c("job", "allocs", "-verbose", "hello")
c("job", "allocs", "-t", "{{range .}}{{.Name}}\n{{end}}", "hello")
c("job", "deployments", "hello")
c("job", "deployments", "-latest", "hello")
c("job", "deployments", "-verbose", "hello")
c("job", "history", "hello")
c("job", "inspect", "hello")
c("job", "inspect", "-hcl", "hello")
c("job", "inspect", "-t", "{{.Name}}", "hello")
c("job", "plan", "hello.nomad.hcl", note="nothing changed: exit 0")
c("job", "plan", "hello2.nomad.hcl", note="changes: exit 1")
c("job", "plan", "-diff=false", "hello2.nomad.hcl")
c("job", "plan", "-no-color", "hello2.nomad.hcl")
c("job", "plan", "-force-color", "hello2.nomad.hcl")
c("job", "run", "-check-index", "3", "hello2.nomad.hcl")
c("job", "run", "hello2.nomad.hcl")
c("job", "history", "hello")
c("job", "history", "-p", "hello")
c("job", "history", "-p", "-version", "0", "hello")
c("job", "history", "-full", "hello")
c("job", "history", "-json", "hello")
c("job", "tag", "apply", "-name", "gold", "-version", "0", "-description", "d", "hello")
c("job", "tag", "apply", "-name", "gold", "hello")
c("job", "tag", "unset", "-name", "nope", "hello")
c("job", "history", "hello")
c("job", "revert", "-detach", "hello", "9")
c("job", "revert", "hello", "gold")
c("job", "revert", "hello", "0")
c("job", "scale", "-detach", "hello", "web", "1")
c("job", "scale", "hello", "web", "2")
c("job", "scale", "hello", "nope", "2")
c("job", "scaling-events", "hello")
c("job", "scaling-events", "-verbose", "hello")
c("job", "eval", "-detach", "hello")
c("job", "eval", "hello")
c("job", "restart", "-yes", "hello")
c("job", "restart", "-yes", "-reschedule", "hello")
c("job", "promote", "hello")
c("job", "actions", "hello")
c("service", "list")
c("service", "info", "hello")
c("service", "info", "-verbose", "hello")
c("service", "info", "-t", "{{len .}}", "hello")
c("job", "status", "hello")
section("service-job")

# ------------------------------------------------------------- allocations
live = [x for x in allocs("hello") if x["ClientStatus"] == "running"] or [harness.Missing()]
A = live[0]["ID"]
for x in ["alloc status {0}", "alloc status {1}", "alloc status -short {0}", "alloc status -stats {0}", "alloc status -verbose {0}", "alloc status -json {0}", "alloc status -t '{{{{.ClientStatus}}}}' {0}", "alloc checks {0}",
          "alloc logs {0}", "alloc logs {0} server", "alloc logs -stderr {0}", "alloc logs -tail -n 1 {0} server", "alloc logs -tail -c 4 {0}", "alloc logs -task server {0}", "alloc logs -job hello", "alloc logs {0} nope",
          "alloc fs {0}", "alloc fs {0} server/", "alloc fs -stat {0} server/local", "alloc fs -H {0} alloc/logs/", "alloc fs {0} alloc/logs/server.stdout.0", "alloc fs -tail -n 1 {0} alloc/logs/server.stdout.0", "alloc fs {0} nope", "alloc fs -job hello server/",
          "alloc exec {0} echo hi", "alloc exec -task server {0} /bin/sh -c 'echo out; echo err >&2; exit 3'", "alloc exec -i=false -t=false {0} /bin/true", "alloc exec {0} /no/such", "alloc exec -task nope {0} true", "alloc exec -job hello echo job",
          "alloc signal -s SIGUSR2 {0}", "alloc signal -s SIGNOPE {0}", "alloc signal {0} nope", "alloc restart {0}", "alloc restart {0} server", "alloc restart -task nope {0}", "alloc restart -all-tasks {0}", "status {1}", "alloc status {2}", "alloc stop {0}", "alloc stop -detach {0}", "alloc status {0}"]:
    c(*shlex.split(x.format(A, A[:8], A[:1])))
c("alloc", "exec", "-i", "-t=false", ([x for x in allocs("hello", lambda b: any(y["ClientStatus"] == "running" for y in b)) if x["ClientStatus"] == "running"] or [harness.Missing()])[0]["ID"], "cat", stdin="from stdin\nline two\n")
section("allocations")

# ------------------------------------------------------------- batch, failures, blocked, dispatch, periodic, canaries
c("job", "run", "failing.nomad.hcl")
time.sleep(4)
c("job", "status", "failing")
f = allocs("failing")[0]["ID"]
c("alloc", "status", f)
c("alloc", "logs", f)
c("job", "run", "impossible.nomad.hcl", timeout=15)
c("job", "status", "impossible")
c("job", "plan", "huge.nomad.hcl")
c("job", "run", "huge.nomad.hcl", timeout=15)
ev = sorted(a.until("/v1/job/huge/evaluations", lambda b: b), key=lambda e: (e["CreateIndex"], e["TriggeredBy"]))
for e in ev:
    c("eval", "status", e["ID"])
    c("eval", "status", "-verbose", e["ID"])
c("eval", "status", "-json", ev[0]["ID"])
c("eval", "list")
c("eval", "list", "-verbose")
c("eval", "list", "-status", "blocked")
c("eval", "list", "-job", "huge", "-per-page", "1")
c("job", "run", "param.nomad.hcl")
c("job", "dispatch", "param")
c("job", "dispatch", "-meta", "who=me", "param")
c("job", "dispatch", "-detach", "-meta", "who=you", "-id-prefix-template", "x", "param", "-", stdin="payload!\n")
c("job", "dispatch", "hello")
c("job", "status", "param")
c("job", "run", "periodic.nomad.hcl")
c("job", "periodic", "force", "periodic")
c("job", "status", "periodic")
c("job", "run", "sys.nomad.hcl")
c("job", "status", "sys")
c("job", "run", "-detach", "canary.nomad.hcl")
a.until("/v1/job/canary/deployment", lambda b: b and b["Status"] == "successful", 40)
c("job", "run", "-detach", "-var", "v=2", "canary.nomad.hcl")
d = a.until("/v1/job/canary/deployment", lambda b: b and b["JobVersion"] == 1 and b["TaskGroups"]["g"]["HealthyAllocs"] >= 1, 40)
c("job", "status", "canary")
c("deployment", "list")
c("deployment", "status", d["ID"])
c("deployment", "status", "-verbose", d["ID"])
c("deployment", "status", "-json", d["ID"])
c("deployment", "pause", d["ID"])
c("deployment", "status", d["ID"])
c("deployment", "resume", "-detach", d["ID"])
c("deployment", "promote", d["ID"])
c("deployment", "promote", d["ID"])
c("deployment", "fail", d["ID"])
c("job", "run", "-detach", "-var", "v=3", "canary.nomad.hcl")
d = a.until("/v1/job/canary/deployment", lambda b: b and b["JobVersion"] == 2, 40)
c("deployment", "fail", d["ID"])
time.sleep(3)
c("job", "status", "canary")
c("deployment", "unblock", d["ID"])
section("batch-eval-deployment")

# ------------------------------------------------------------- nodes
for x in ["node status", "node status -allocs", "node status -os", "node status -quiet", "node status -per-page 1", "node status -filter 'Status == \"ready\"'", "node status {0}", "node status -self", "node status -short {0}", "node status -stats {0}", "node status -verbose {0}", "node status -t '{{{{.Name}}}}' {0}", "node config -servers",
          "node eligibility -disable {0}", "node eligibility -enable -self", "node eligibility {0}", "node meta apply -node-id {0} a=b c=d", "node meta read -node-id {0}", "node meta read -json", "node meta apply -unset a",
          "node drain -enable -yes -deadline 30s -m upkeep {0}", "node drain -status {0}", "node drain -disable -yes {0}", "node drain -disable -yes -keep-ineligible {0}", "node eligibility -enable {0}", "node drain {0}", "node pool apply pool.hcl", "node pool list", "node pool info gold", "node pool info -json gold", "node pool delete gold", "node pool delete default"]:
    c(*shlex.split(x.format(NODE)))
section("nodes")

# ------------------------------------------------------------- namespaces, variables, operator, files
for x in ["namespace apply ns.hcl", "namespace apply -description d2 -quota '' team", "namespace list", "namespace list -json", "namespace status team", "namespace inspect team", "namespace delete team", "namespace delete default",
          "var put app/db user=u pass=p", "var put -force app/db user=v", "var put app/db user=w", "var put -check-index 1 app/db user=w", "var get app/db", "var get -item user app/db", "var get -out json app/db", "var get -out hcl app/db", "var get -out go-template -template '{{{{.Path}}}}' app/db", "var put @spec.nv.hcl", "var list", "var list app", "var list -out json", "var list -out terse", "var purge app/db", "var purge nope", "var put", "var init", "var put app/x novalue", "var put 'bad path' a=b",
          "operator scheduler set-config -scheduler-algorithm=spread", "operator scheduler get-config", "operator scheduler get-config -json", "operator scheduler set-config -scheduler-algorithm=binpack -memory-oversubscription=true", "operator autopilot set-config -cleanup-dead-servers=false", "operator autopilot get-config", "operator root keyring rotate", "operator root keyring list", "operator root keyring list -verbose", "operator root keyring remove nope", "operator gossip keyring list", "operator api /v1/status/leader", "operator api -X POST /v1/search -d '{{\"Prefix\":\"he\"}}'", "operator api -verbose -dryrun /v1/jobs", "operator api /v1/nope", "operator raft remove-peer -peer-id nope", "operator raft transfer-leadership -peer-id nope",
          "operator snapshot save snap.bin", "operator snapshot inspect snap.bin", "operator snapshot inspect hello.nomad.hcl", "operator snapshot restore hello.nomad.hcl", "operator gossip keyring generate", "system gc", "system reconcile summaries", "server join 127.0.0.1:1", "server force-leave nope", "scaling policy list", "volume init", "quota init", "fmt -check unformatted.nomad.hcl", "fmt -write=false unformatted.nomad.hcl", "fmt -list=true -write=false unformatted.nomad.hcl", "fmt - ", "fmt -check hello.nomad.hcl", "job init -short short.nomad.hcl", "job init -short short.nomad.hcl", "tls ca create", "config validate nope.hcl", "config validate ns.hcl", "setup nope"]:
    c(*shlex.split(x.format("")), stdin='a   = 1\nb= "x"\n' if x.startswith("fmt - ") else None)
section("operator-and-files")

# ------------------------------------------------------------- stopping
c("job", "stop", "hel")
c("job", "status", "hello")
c("job", "stop", "-purge", "-detach", "hello")
c("job", "stop", "-yes", "-detach", "sys", "canary")
c("job", "stop", "-purge", "-yes", "huge")
c("job", "start", "-detach", "sys")
c("job", "start", "nope")
c("job", "stop", "-global", "impossible")
c("job", "status")
section("stopping")
