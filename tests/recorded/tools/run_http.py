"""Records HTTP exchanges with a dev agent (no ACL): one file per area.

usage: run_http.py OUT_DIR   (dev agent at 127.0.0.1:4646 with raw_exec, mock_driver and docker; nothing on it yet)
"""
import json, os, sys, time, threading, http.client, base64
sys.path.insert(0, os.path.dirname(__file__))
import harness

harness.SCRUB = json.loads(os.environ.get("SCRUB", "[]"))
OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)
a = harness.Agent()

WEB = '''job "web" {
  group "front" {
    count = 2
    update {
      min_healthy_time = "1s"
      healthy_deadline = "20s"
      progress_deadline = "30s"
    }
    network {
      port "http" {}
    }
    service {
      name = "web"
      port = "http"
      provider = "nomad"
      tags = ["t1"]
      check {
        type = "http"
        path = "/"
        interval = "1s"
        timeout = "1s"
      }
    }
    task "server" {
      driver = "raw_exec"
      config {
        command = "/bin/busybox"
        args = ["httpd", "-f", "-p", "127.0.0.1:${NOMAD_PORT_http}", "-h", "${NOMAD_TASK_DIR}"]
      }
      env {
        VERSION = "1"
      }
      template {
        data = "hello {{ env \\"NOMAD_ALLOC_INDEX\\" }}"
        destination = "local/index.html"
      }
      resources {
        cpu = 50
        memory = 32
      }
    }
  }
}
'''
EVENTS = []


def follow_events(stop):
    c = http.client.HTTPConnection("127.0.0.1", 4646)
    c.request("GET", "/v1/event/stream?topic=*&index=0")
    r = c.getresponse()
    EVENTS.append(("headers", dict(r.getheaders())))
    while not stop.is_set():
        line = r.readline()
        if not line:
            break
        EVENTS.append(("line", line.decode()))
    c.close()


def parse(hcl):
    s, b, _ = harness.parse(a, hcl)
    assert s == 200, (s, b)
    return b


def register(job, wait=True, **extra):
    s, b, _ = a.put("/v1/jobs", dict({"Job": job}, **extra))
    return b


def section(name):
    a.save_http(os.path.join(OUT, name + ".json"))
    print(name)


stop = threading.Event()
t = threading.Thread(target=follow_events, args=(stop,), daemon=True)
t.start()
node = a.until("/v1/nodes", lambda b: b and b[0]["Status"] == "ready")[0]
NODE = node["ID"]

# ---------------------------------------------------------------- agent
for p in ["/v1/agent/self", "/v1/agent/members", "/v1/agent/servers", "/v1/agent/health", "/v1/agent/health?type=client",
          "/v1/agent/health?type=server", "/v1/agent/health?type=x", "/v1/agent/host", "/v1/status/leader", "/v1/status/peers", "/v1/regions",
          "/v1/metrics", "/v1/agent/schedulers", "/v1/agent/schedulers/config", "/.well-known/jwks.json", "/.well-known/openid-configuration",
          "/", "/v1", "/v1/", "/v1/nope", "/nope", "/v1/agent/pprof/nope", "/v1/agent/pprof/cmdline", "/v1/operator/raft/configuration",
          "/v1/operator/autopilot/configuration", "/v1/operator/autopilot/health", "/v1/operator/scheduler/configuration",
          "/v1/operator/keyring/keys", "/v1/operator/license", "/v1/status/leader?region=nope", "/v1/jobs?region=nope",
          "/v1/metrics?format=nope", "/v1/agent/keyring/list", "/v1/agent/self?pretty", "/v1/status/leader?pretty=0"]:
    a.get(p)
a.get("/v1/metrics?format=prometheus")
for m, p, b in [("PUT", "/v1/agent/join?address=127.0.0.1:1", None), ("PUT", "/v1/agent/join", None), ("GET", "/v1/agent/join", None),
                ("PUT", "/v1/agent/force-leave?node=nope", None), ("PUT", "/v1/agent/force-leave", None), ("PUT", "/v1/agent/reload", None),
                ("POST", "/v1/status/leader", None), ("DELETE", "/v1/regions", None), ("PUT", "/v1/system/gc", None), ("POST", "/v1/system/gc", None), ("GET", "/v1/system/gc", None),
                ("PUT", "/v1/system/reconcile/summaries", None),
                ("DELETE", "/v1/operator/raft/peer?id=nope", None), ("DELETE", "/v1/operator/raft/peer", None), ("DELETE", "/v1/operator/raft/peer?address=1.2.3.4:5", None), ("GET", "/v1/operator/raft/peer", None),
                ("PUT", "/v1/operator/raft/transfer-leadership?id=nope", None),
                ("PUT", "/v1/operator/scheduler/configuration", {"SchedulerAlgorithm": "spread", "PreemptionConfig": {"SystemSchedulerEnabled": True, "ServiceSchedulerEnabled": True}}),
                ("GET", "/v1/operator/scheduler/configuration", None),
                ("PUT", "/v1/operator/scheduler/configuration?cas=1", {"SchedulerAlgorithm": "binpack", "PreemptionConfig": {"SystemSchedulerEnabled": True}}),
                ("PUT", "/v1/operator/scheduler/configuration", {"SchedulerAlgorithm": "nope"}),
                ("PUT", "/v1/operator/scheduler/configuration", {"SchedulerAlgorithm": "binpack", "PreemptionConfig": {"SystemSchedulerEnabled": True}}),
                ("PUT", "/v1/operator/autopilot/configuration?cas=1", {"CleanupDeadServers": False}),
                ("PUT", "/v1/operator/autopilot/configuration", {"CleanupDeadServers": True, "LastContactThreshold": "500ms", "MaxTrailingLogs": 300, "ServerStabilizationTime": "5s"}),
                ("GET", "/v1/operator/autopilot/configuration", None),
                ("PUT", "/v1/operator/keyring/rotate", None), ("GET", "/v1/operator/keyring/keys", None), ("DELETE", "/v1/operator/keyring/key/nope", None),
                ("PUT", "/v1/operator/license", {}), ("POST", "/v1/operator/utilization", None), ("GET", "/v1/operator/upgrade-check/vault-workload-identity", None),
                ("GET", "/v1/quotas", None), ("GET", "/v1/sentinel/policies", None), ("GET", "/v1/recommendations", None), ("GET", "/v1/quota/x", None)]:
    a.http(m, p, b)
a.get("/v1/jobs", headers={"Accept-Encoding": "gzip"}, note="the body is gzip; headers are what matters")
section("agent")

# ---------------------------------------------------------------- lists when empty
for p in ["/v1/jobs", "/v1/allocations", "/v1/evaluations", "/v1/deployments", "/v1/nodes", "/v1/services", "/v1/vars", "/v1/namespaces", "/v1/node/pools",
          "/v1/volumes", "/v1/volumes?type=csi", "/v1/volumes?type=host", "/v1/volumes?type=x", "/v1/plugins", "/v1/plugins?type=csi", "/v1/scaling/policies", "/v1/jobs/statuses",
          "/v1/volumes/claims", "/v1/evaluations/count", "/v1/acl/policies", "/v1/acl/tokens", "/v1/acl/token/self", "/v1/acl/roles", "/v1/acl/auth-methods", "/v1/acl/binding-rules",
          "/v1/job/none", "/v1/job/none/allocations", "/v1/job/none/evaluations", "/v1/job/none/summary", "/v1/job/none/versions", "/v1/job/none/deployments", "/v1/job/none/deployment",
          "/v1/job/none/services", "/v1/job/none/scale", "/v1/job/none/submission?version=0", "/v1/job/none/submission", "/v1/job/none/actions", "/v1/job/none/what",
          "/v1/allocation/none", "/v1/allocation/00000000-0000-0000-0000-000000000000", "/v1/evaluation/00000000-0000-0000-0000-000000000000", "/v1/evaluation/00000000-0000-0000-0000-000000000000/allocations",
          "/v1/deployment/00000000-0000-0000-0000-000000000000", "/v1/deployment/allocations/00000000-0000-0000-0000-000000000000", "/v1/node/00000000-0000-0000-0000-000000000000", "/v1/node/nope",
          "/v1/node/00000000-0000-0000-0000-000000000000/allocations", "/v1/namespace/none", "/v1/node/pool/none", "/v1/node/pool/none/jobs", "/v1/node/pool/none/nodes", "/v1/var/none", "/v1/service/none", "/v1/scaling/policy/none",
          "/v1/client/fs/ls/00000000-0000-0000-0000-000000000000", "/v1/client/fs/logs/00000000-0000-0000-0000-000000000000?task=t&type=stdout", "/v1/client/allocation/00000000-0000-0000-0000-000000000000/stats",
          "/v1/client/stats?node_id=00000000-0000-0000-0000-000000000000", "/v1/client/stats?node_id=nope", "/v1/volume/csi/none", "/v1/volume/host/none", "/v1/plugin/csi/none", "/v1/acl/policy/none", "/v1/acl/token/none"]:
    a.get(p)
section("empty-and-missing")

# ---------------------------------------------------------------- conventions
for p in ["/v1/jobs?index=abc", "/v1/jobs?index=1&wait=abc", "/v1/jobs?stale=maybe", "/v1/jobs?stale", "/v1/jobs?per_page=x", "/v1/jobs?per_page=-1", "/v1/jobs?filter=x%20%3D%3D", "/v1/jobs?filter=Nope%20%3D%3D%20%22x%22",
          "/v1/allocations?prefix=abc", "/v1/allocations?prefix=zz", "/v1/nodes?prefix=abc", "/v1/jobs?namespace=nope", "/v1/jobs?namespace=*", "/v1/evaluations?status=blocked&filter=x", "/v1/jobs?pretty", "/v1/jobs?next_token=zzz", "/v1/allocations?next_token=zzz"]:
    a.get(p)
a.get("/v1/jobs?index=999999&wait=200ms", note="a blocking query that times out")
a.get("/v1/jobs", headers={"X-Nomad-Token": "00000000-0000-0000-0000-000000000000"}, note="a token while ACLs are off")
a.get("/v1/jobs", headers={"Authorization": "Bearer nope"})
a.put("/v1/jobs", None, note="no body")
a.http("PUT", "/v1/jobs", raw="{", note="broken JSON")
a.http("PUT", "/v1/jobs", raw="[]")
a.http("PUT", "/v1/jobs", raw="{}")
a.put("/v1/jobs", {"Job": {}})
a.put("/v1/jobs", {"Job": {"ID": "x"}})
a.put("/v1/job/other", {"Job": {"ID": "x"}})
a.put("/v1/jobs", {"job": {"id": "case-insensitive", "type": "batch", "taskgroups": [{"name": "g", "tasks": [{"name": "t", "driver": "mock_driver", "config": {"run_for": "0s"}}]}]}, "unknown_field": 1}, note="keys in any case, unknown keys ignored, almost everything defaulted")
a.get("/v1/job/case-insensitive")
a.http("PUT", "/v1/jobs/parse", raw="{", note="broken JSON")
a.put("/v1/jobs/parse", {})
a.put("/v1/jobs/parse", {"JobHCL": "job \"x\" {"})
a.put("/v1/jobs/parse", {"JobHCL": 'job "x" {}', "Canonicalize": False})
a.put("/v1/jobs/parse", {"JobHCL": 'variable "v" {}\njob "x" { name = var.v }', "Variables": "v = \"from-vars\"", "Canonicalize": True})
a.put("/v1/jobs/parse", {"JobHCL": 'job "x" { name = file("/etc/hostname") }'})
a.get("/v1/jobs/parse")
a.put("/v1/validate/job", {})
a.put("/v1/validate/job", {"Job": {"ID": "x", "Type": "nope"}})
section("conventions")

# ---------------------------------------------------------------- a service job's life
job = parse(WEB)
a.put("/v1/validate/job", {"Job": job})
a.put("/v1/job/web/plan", {"Job": job, "Diff": True}, note="plan of a new job")
reg = register(job, Submission={"Source": WEB, "Format": "hcl2"})
a.get("/v1/evaluation/" + reg["EvalID"])
allocs = a.until("/v1/job/web/allocations", lambda b: len(b) == 2 and all(x["ClientStatus"] == "running" for x in b))
a.until("/v1/job/web/deployment", lambda b: b and b["Status"] == "successful", 40)
A0 = sorted(allocs, key=lambda x: x["Name"])[0]["ID"]
for p in ["/v1/jobs", "/v1/jobs?prefix=we", "/v1/jobs?filter=Status%20%3D%3D%20%22running%22", "/v1/jobs?meta=true", "/v1/jobs?per_page=1", "/v1/job/web", "/v1/job/web?pretty", "/v1/job/web/allocations", "/v1/job/web/allocations?all=true", "/v1/job/web/evaluations",
          "/v1/job/web/summary", "/v1/job/web/versions", "/v1/job/web/versions?diffs=true", "/v1/job/web/deployments", "/v1/job/web/deployment", "/v1/job/web/scale", "/v1/job/web/services", "/v1/job/web/submission?version=0", "/v1/job/web/submission?version=7", "/v1/job/web/submission?version=x", "/v1/job/web/actions",
          "/v1/jobs/statuses", "/v1/services", "/v1/service/web", "/v1/service/web?choose=1|k", "/v1/service/web?choose=x", "/v1/allocations", "/v1/allocations?resources=true", "/v1/allocations?task_states=false", "/v1/allocation/" + A0, "/v1/allocation/%s/services" % A0, "/v1/allocation/%s/checks" % A0, "/v1/client/allocation/%s/checks" % A0,
          "/v1/evaluations", "/v1/evaluations?status=complete", "/v1/evaluations?job=web", "/v1/evaluation/%s?related=true" % reg["EvalID"], "/v1/evaluation/%s/allocations" % reg["EvalID"], "/v1/deployments", "/v1/node/%s/allocations" % NODE]:
    a.get(p)
dep = a.until("/v1/job/web/deployment", lambda b: True)
a.get("/v1/deployment/" + dep["ID"])
a.get("/v1/deployment/allocations/" + dep["ID"])
a.put("/v1/deployment/promote/" + dep["ID"], {"DeploymentID": dep["ID"], "All": True}, note="nothing to promote")
a.put("/v1/deployment/fail/" + dep["ID"], {"DeploymentID": dep["ID"]}, note="already over")
a.put("/v1/deployment/pause/" + dep["ID"], {"DeploymentID": dep["ID"], "Pause": True})
a.put("/v1/jobs", {"Job": job, "EnforceIndex": True, "JobModifyIndex": 1}, note="check-index conflict")
a.put("/v1/jobs", {"Job": job, "EnforceIndex": True, "JobModifyIndex": 0}, note="check-index: must be new")
a.put("/v1/job/web/plan", {"Job": job, "Diff": True}, note="plan without a change")
j2 = json.loads(json.dumps(job))
j2["TaskGroups"][0]["Count"] = 3
j2["Meta"] = {"who": "me"}
j2["TaskGroups"][0]["Tasks"][0]["Env"]["VERSION"] = "2"
j2["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = 48
a.put("/v1/job/web/plan", {"Job": j2, "Diff": True}, note="plan: count, meta, env, memory")
j3 = json.loads(json.dumps(job))
j3["TaskGroups"][0]["Count"] = 4000
j3["TaskGroups"][0]["Constraints"] = [{"LTarget": "${attr.kernel.name}", "RTarget": "windows", "Operand": "="}]
a.put("/v1/job/web/plan", {"Job": j3, "Diff": True}, note="plan that cannot be placed: constraint")
j3["TaskGroups"][0]["Constraints"] = []
a.put("/v1/job/web/plan", {"Job": j3, "Diff": False}, note="plan that cannot be placed: exhausted")
register(j2)
a.until("/v1/job/web/deployment", lambda b: b and b["Status"] == "successful" and b["JobVersion"] == 1, 60)
a.get("/v1/job/web/versions?diffs=true")
a.get("/v1/job/web/versions?diff_version=0")
a.put("/v1/job/web/versions/gold/tag", {"Version": 0, "Description": "first"})
a.put("/v1/job/web/versions/gold/tag", {"Version": 1}, note="a tag that is taken")
a.get("/v1/job/web/versions?diff_tag=gold")
a.delete("/v1/job/web/versions/nope/tag")
a.put("/v1/job/web/revert", {"JobID": "web", "JobVersion": 1}, note="revert to the current version")
a.put("/v1/job/web/revert", {"JobID": "web", "JobVersion": 99})
a.put("/v1/job/web/revert", {"JobID": "nope", "JobVersion": 0})
a.put("/v1/job/web/revert", {"JobID": "web", "JobVersion": 0, "EnforcePriorVersion": 7})
a.put("/v1/job/web/revert", {"JobID": "web", "JobVersion": 0})
a.until("/v1/job/web/deployment", lambda b: b and b["Status"] == "successful" and b["JobVersion"] == 2, 60)
a.put("/v1/job/web/stable", {"JobID": "web", "JobVersion": 0, "Stable": True})
a.put("/v1/job/web/evaluate", {"JobID": "web", "EvalOptions": {"ForceReschedule": True}})
a.put("/v1/job/nope/evaluate", {"JobID": "nope"})
a.put("/v1/job/web/scale", {"Count": 1, "Target": {"Group": "front"}, "Message": "less"})
a.put("/v1/job/web/scale", {"Count": 1, "Target": {"Group": "nope"}})
a.put("/v1/job/web/scale", {"Count": -1, "Target": {"Group": "front"}})
a.put("/v1/job/web/scale", {"Target": {"Group": "front"}, "Message": "only a note", "Error": True, "Meta": {"k": "v"}})
a.put("/v1/job/nope/scale", {"Count": 1, "Target": {"Group": "front"}})
time.sleep(2)
a.get("/v1/job/web/scale")
a.get("/v1/job/web")
section("service-job")

# ---------------------------------------------------------------- allocation: files, logs, stats, stop
al = ([x for x in a.until("/v1/job/web/allocations", lambda b: True) if x["ClientStatus"] == "running"] or [harness.Missing()])[0]
A1 = al["ID"]
for p in ["/v1/client/fs/ls/%s", "/v1/client/fs/ls/%s?path=/", "/v1/client/fs/ls/%s?path=server", "/v1/client/fs/ls/%s?path=server/local", "/v1/client/fs/ls/%s?path=nope", "/v1/client/fs/ls/%s?path=../..", "/v1/client/fs/ls/%s?path=server/secrets", "/v1/client/fs/stat/%s?path=server/local/index.html", "/v1/client/fs/stat/%s?path=nope", "/v1/client/fs/stat/%s",
          "/v1/client/fs/cat/%s?path=server/local/index.html", "/v1/client/fs/cat/%s?path=server/local", "/v1/client/fs/cat/%s?path=server/secrets/nomad_token", "/v1/client/fs/readat/%s?path=server/local/index.html&offset=1&limit=3", "/v1/client/fs/readat/%s?path=server/local/index.html&offset=1", "/v1/client/fs/stream/%s?path=server/local/index.html&follow=false", "/v1/client/fs/stream/%s?path=nope&follow=false", "/v1/client/fs/stream/%s?path=server/local/index.html&origin=middle",
          "/v1/client/fs/logs/%s?task=server&type=stdout&follow=false", "/v1/client/fs/logs/%s?task=server&type=stdout&follow=false&plain=true", "/v1/client/fs/logs/%s?task=nope&type=stdout", "/v1/client/fs/logs/%s?task=server&type=nope", "/v1/client/fs/logs/%s?task=server", "/v1/client/fs/logs/%s?type=stdout", "/v1/client/allocation/%s/stats", "/v1/client/allocation/%s/stats?task=server", "/v1/client/allocation/%s/nope"]:
    a.get(p % A1)
def up():
    a.until("/v1/allocation/" + A1, lambda b: b["ClientStatus"] == "running" and b["TaskStates"]["server"]["State"] == "running")
    time.sleep(1)
a.put("/v1/client/allocation/%s/signal" % A1, {"Signal": "SIGCONT", "TaskName": "server"})
a.put("/v1/client/allocation/%s/signal" % A1, {"Signal": "SIGCONT", "TaskName": "nope"})
a.put("/v1/client/allocation/%s/signal" % A1, {"Signal": "SIGCONT"})
a.put("/v1/client/allocation/%s/restart" % A1, {"TaskName": "nope"})
a.put("/v1/client/allocation/%s/restart" % A1, {"TaskName": "server"})
up()
a.put("/v1/client/allocation/%s/restart" % A1, {"AllTasks": True})
up()
a.put("/v1/client/allocation/%s/restart" % A1, {"TaskName": "server", "AllTasks": True})
a.get("/v1/allocation/" + A1)
st = a.put("/v1/allocation/%s/stop" % A1)[1]
a.put("/v1/allocation/00000000-0000-0000-0000-000000000000/stop")
a.until("/v1/allocation/" + A1, lambda b: b["ClientStatus"] == "complete")
time.sleep(1)
a.get("/v1/allocation/" + A1, note="stopped by a user and replaced")
a.get("/v1/evaluation/" + st["EvalID"])
a.get("/v1/client/allocation/%s/gc" % A1)
a.get("/v1/client/allocation/%s/gc" % A1)
section("allocation")

# ---------------------------------------------------------------- batch, failing, blocked
def mock(name, typ="batch", count=1, extra=None, group=None, cfg=None):
    return dict({"ID": name, "Type": typ, "TaskGroups": [dict({"Name": "g", "Count": count, "Tasks": [{"Name": "t", "Driver": "mock_driver", "Config": cfg or {"run_for": "100ms"}, "Resources": {"CPU": 20, "MemoryMB": 16}}]}, **(group or {}))]}, **(extra or {}))


register(mock("ok"))
register(mock("bad", cfg={"run_for": "100ms", "exit_code": 3}, group={"RestartPolicy": {"Attempts": 1, "Delay": 1000000000, "Interval": 86400000000000, "Mode": "fail"}, "ReschedulePolicy": {"Attempts": 1, "Interval": 86400000000000, "Delay": 5000000000, "DelayFunction": "constant", "Unlimited": False}}))
register(mock("start-error", cfg={"start_error": "boom"}, group={"RestartPolicy": {"Attempts": 0, "Delay": 1000000000, "Interval": 86400000000000, "Mode": "fail"}, "ReschedulePolicy": {"Attempts": 0, "Unlimited": False}}))
register(mock("no-room", typ="service", group={"Tasks": [{"Name": "t", "Driver": "mock_driver", "Config": {"run_for": "1h"}, "Resources": {"CPU": 20, "MemoryMB": 99999999}}]}))
register(mock("no-driver", typ="service", group={"Tasks": [{"Name": "t", "Driver": "java", "Config": {"class": "x"}}]}))
register(mock("no-node", typ="service", extra={"Constraints": [{"LTarget": "${meta.gpu}", "RTarget": "yes", "Operand": "="}], "Datacenters": ["dc1"]}))
register(mock("no-dc", typ="service", extra={"Datacenters": ["mars"]}))
register(mock("no-pool", typ="service", extra={"NodePool": "nope"}))
register(mock("no-ns", typ="service", extra={"Namespace": "nope"}))
register(mock("sys", typ="system", cfg={"run_for": "1h"}))
register(mock("sysb", typ="sysbatch"))
time.sleep(10)
for n in ["ok", "bad", "start-error", "no-room", "no-driver", "no-node", "no-dc", "sys", "sysb"]:
    a.get("/v1/job/" + n)
    a.get("/v1/job/%s/summary" % n)
    ev = a.get("/v1/job/%s/evaluations" % n)[1]
    als = a.get("/v1/job/%s/allocations" % n)[1]
    for x in sorted(als if isinstance(als, list) else [], key=lambda x: (x["CreateIndex"], x["Name"]))[:2]:
        a.get("/v1/allocation/" + x["ID"])
a.get("/v1/evaluations?status=blocked")
a.put("/v1/jobs", {"Job": mock("per", extra={"Periodic": {"Spec": "*/15 * * * *", "SpecType": "cron", "Enabled": True, "ProhibitOverlap": True}})})
a.get("/v1/job/per")
a.put("/v1/job/per/periodic/force")
a.put("/v1/job/ok/periodic/force", note="not periodic")
a.put("/v1/job/nope/periodic/force")
register(mock("par", extra={"ParameterizedJob": {"Payload": "optional", "MetaRequired": ["who"], "MetaOptional": ["why"]}}))
a.get("/v1/job/par")
first = a.put("/v1/job/par/dispatch", {"Payload": base64.b64encode(b"hi").decode(), "Meta": {"who": "me"}})[1]
a.put("/v1/job/par/dispatch", {"Meta": {}}, note="required meta missing")
a.put("/v1/job/par/dispatch", {"Meta": {"who": "x", "zzz": "y"}}, note="meta that is not allowed")
a.put("/v1/job/par/dispatch?idempotency_token=tok", {"Meta": {"who": "once"}})
a.put("/v1/job/par/dispatch?idempotency_token=tok", {"Meta": {"who": "once"}}, note="the same token again")
a.put("/v1/job/par/dispatch", {"Meta": {"who": "t"}, "IdPrefixTemplate": "nick", "Priority": 80})
a.put("/v1/job/par/dispatch", {"Payload": base64.b64encode(b"x" * 17000).decode(), "Meta": {"who": "big"}})
a.put("/v1/job/ok/dispatch", {}, note="not parameterized")
a.put("/v1/job/nope/dispatch", {})
time.sleep(2)
a.get("/v1/jobs")
a.get("/v1/jobs?prefix=par/")
a.get("/v1/jobs/statuses?include_children=true")
kid = first["DispatchedJobID"]
a.get("/v1/job/" + kid.replace("/", "%2F"))
a.get("/v1/job/" + kid)
a.get("/v1/job/par/summary")
section("batch-and-failures")

# ---------------------------------------------------------------- deletion
a.delete("/v1/job/ok")
a.get("/v1/job/ok")
a.delete("/v1/job/ok?purge=true")
a.get("/v1/job/ok")
a.delete("/v1/job/nope")
a.delete("/v1/job/no-room?purge=true")
a.delete("/v1/job/par?purge=true")
a.delete("/v1/job/sys?no_shutdown_delay=true&eval_priority=77")
section("delete")

# ---------------------------------------------------------------- nodes
for p in ["/v1/nodes", "/v1/nodes?resources=true", "/v1/nodes?os=true", "/v1/nodes?prefix=" + NODE[:4], "/v1/nodes?prefix=" + NODE[:5], "/v1/nodes?per_page=1", "/v1/node/" + NODE, "/v1/client/stats", "/v1/client/stats?node_id=" + NODE, "/v1/client/metadata?node_id=" + NODE, "/v1/client/identity?node_id=" + NODE, "/v1/node/pools", "/v1/node/pool/default", "/v1/node/pool/default/nodes", "/v1/node/pool/default/jobs", "/v1/node/pool/all"]:
    a.get(p)
a.http("POST", "/v1/client/metadata?node_id=" + NODE, {"NodeID": NODE, "Meta": {"rack": "r1", "gone": None}})
a.get("/v1/client/metadata?node_id=" + NODE)
a.put("/v1/node/%s/eligibility" % NODE, {"NodeID": NODE, "Eligibility": "ineligible"})
a.put("/v1/node/%s/eligibility" % NODE, {"NodeID": NODE, "Eligibility": "maybe"})
a.put("/v1/node/%s/eligibility" % NODE, {"NodeID": NODE, "Eligibility": "eligible"})
a.put("/v1/node/%s/evaluate" % NODE)
a.put("/v1/node/%s/drain" % NODE, {"NodeID": NODE, "DrainSpec": {"Deadline": 60000000000, "IgnoreSystemJobs": True}, "Meta": {"message": "upkeep"}})
a.get("/v1/node/" + NODE)
a.until("/v1/node/" + NODE, lambda b: b["DrainStrategy"] is None, 60)
a.get("/v1/node/" + NODE, note="drained")
a.put("/v1/node/%s/drain" % NODE, {"NodeID": NODE, "DrainSpec": None, "MarkEligible": True})
a.get("/v1/node/" + NODE)
a.put("/v1/node/00000000-0000-0000-0000-000000000000/drain", {"DrainSpec": None})
a.get("/v1/client/gc?node_id=" + NODE)
a.put("/v1/node/pool/gold", {"Name": "gold", "Description": "d", "Meta": {"a": "b"}})
a.put("/v1/node/pools", {"Name": "silver"})
a.put("/v1/node/pool/default", {"Name": "default", "Description": "x"}, note="a built-in pool")
a.put("/v1/node/pool/bad%20name", {"Name": "bad name"})
a.get("/v1/node/pool/gold")
a.get("/v1/node/pools?prefix=go")
a.delete("/v1/node/pool/gold")
a.delete("/v1/node/pool/all")
a.delete("/v1/node/pool/nope")
section("nodes")

# ---------------------------------------------------------------- namespaces, variables, search, volumes, scaling policies
a.put("/v1/namespace/team", {"Name": "team", "Description": "a team", "Meta": {"x": "y"}, "Capabilities": {"EnabledTaskDrivers": ["docker", "mock_driver"]}})
a.put("/v1/namespace", {"Name": "other"})
a.put("/v1/namespace/bad%20name", {"Name": "bad name"})
a.put("/v1/namespace/x", {"Name": "y"})
a.get("/v1/namespaces")
a.get("/v1/namespaces?prefix=te")
a.get("/v1/namespace/team")
a.put("/v1/jobs?namespace=team", {"Job": mock("teamjob", typ="service", cfg={"run_for": "1h"}, extra={"Namespace": "team"})})
a.put("/v1/jobs?namespace=team", {"Job": {"ID": "rawteam", "Namespace": "team", "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t", "Driver": "raw_exec", "Config": {"command": "true"}}]}]}}, note="a driver that the namespace does not allow")
a.until("/v1/jobs?namespace=team", lambda b: b and b[0]["Status"] == "running" and b[0]["JobSummary"]["Summary"]["g"]["Running"] == 1)
a.get("/v1/jobs?namespace=team")
a.get("/v1/jobs?namespace=*")
a.delete("/v1/namespace/team")
a.delete("/v1/namespace/other")
a.delete("/v1/namespace/default")
a.delete("/v1/namespace/nope")
section("namespaces")

V = "/v1/var/"
a.put(V + "app/db", {"Path": "app/db", "Items": {"user": "u", "pass": "p"}})
a.get(V + "app/db")
a.put(V + "app/db?cas=0", {"Path": "app/db", "Items": {"user": "x"}}, note="conflict")
idx = a.until(V + "app/db", lambda b: True)["ModifyIndex"]
idx = idx if isinstance(idx, int) else 1
a.put(V + "app/db?cas=%d" % idx, {"Path": "app/db", "Items": {"user": "y"}})
a.put(V + "app/db", {"Path": "app/db", "Items": {}})
a.put(V + "app/db", {"Path": "other", "Items": {"a": "b"}})
a.put(V + "bad%20path", {"Path": "bad path", "Items": {"a": "b"}})
a.put(V + "nomad/x", {"Path": "nomad/x", "Items": {"a": "b"}})
a.put(V + "nomad/jobs/web", {"Path": "nomad/jobs/web", "Items": {"a": "b"}})
a.put(V + "big", {"Path": "big", "Items": {"a": "x" * 70000}})
a.post(V + "app/two", {"Items": {"k": "v"}})
a.get("/v1/vars")
a.get("/v1/vars?prefix=app")
a.get("/v1/vars?prefix=app&per_page=1")
a.http("POST", V + "app/two", {"Items": {}})
lock = a.put(V + "lock/a?lock-acquire", {"Path": "lock/a", "Items": {"o": "1"}, "Lock": {"TTL": "15s", "LockDelay": "1s"}})[1]
a.put(V + "lock/a?lock-acquire", {"Path": "lock/a", "Items": {"o": "2"}, "Lock": {"TTL": "15s"}}, note="taken")
a.put(V + "lock/a", {"Path": "lock/a", "Items": {"o": "3"}}, note="write to a locked variable without its lock")
if isinstance(lock, dict) and lock.get("Lock"):
    a.put(V + "lock/a?lock-renew", {"Path": "lock/a", "Lock": {"ID": lock["Lock"]["ID"]}})
    a.put(V + "lock/a?lock-release", {"Path": "lock/a", "Lock": {"ID": lock["Lock"]["ID"]}})
a.delete(V + "app/db?cas=1")
a.delete(V + "app/db")
a.delete(V + "app/db")
a.get(V)
section("variables")

a.put("/v1/search", {"Prefix": "we", "Context": "jobs"})
a.put("/v1/search", {"Prefix": NODE[:6], "Context": "nodes"})
a.put("/v1/search", {"Prefix": "w", "Context": "all"})
a.put("/v1/search", {"Prefix": "w"})
a.put("/v1/search", {"Prefix": "w", "Context": "nope"})
a.put("/v1/search/fuzzy", {"Text": "serv", "Context": "all"})
a.put("/v1/search/fuzzy", {"Text": "x"})
a.put("/v1/search/fuzzy", {"Text": "web", "Context": "jobs"})
s = parse(open(os.path.join(os.path.dirname(__file__), "../jobs/scaling.nomad.hcl")).read())
s["TaskGroups"][0]["Tasks"][0]["ScalingPolicies"] = None
register(s)
pol = a.get("/v1/scaling/policies")[1]
a.get("/v1/scaling/policies?job=elastic&type=horizontal")
if isinstance(pol, list) and pol:
    a.get("/v1/scaling/policy/" + pol[0]["ID"])
a.put("/v1/job/elastic/scale", {"Count": 50, "Target": {"Group": "g"}}, note="above max")
v = a.put("/v1/volume/host/create", {"Volume": {"Name": "vol1", "PluginID": "mkdir", "NodeID": NODE, "RequestedCapabilities": [{"AttachmentMode": "file-system", "AccessMode": "single-node-writer"}]}})[1]
time.sleep(2)
a.get("/v1/volumes?type=host")
if isinstance(v, dict) and v.get("Volume"):
    a.get("/v1/volume/host/" + v["Volume"]["ID"])
    a.delete("/v1/volume/host/" + v["Volume"]["ID"])
a.put("/v1/volume/host/create", {"Volume": {"Name": "", "PluginID": "nope"}})
section("search-scaling-volumes")

time.sleep(1)
stop.set()
with open(os.path.join(OUT, "events.txt"), "w") as f:
    for kind, x in EVENTS:
        f.write(harness.scrub(x if kind == "line" else json.dumps(x) + "\n"))
print(len(EVENTS), "event lines")
