"""Drives an agent through python-nomad, which knows nothing of us. usage: drive.py PORT

Every step asserts what the client's users rely on: types, keys, and its exceptions for what is not there.
"""
import sys
import time

import nomad

n = nomad.Nomad(host="127.0.0.1", port=int(sys.argv[1]), timeout=20)


def until(what, ask):
    end = time.time() + 30
    while time.time() < end:
        value = ask()
        if value:
            return value
        time.sleep(0.1)
    raise SystemExit("waited in vain: " + what)


def refused(exception, call):
    try:
        call()
    except exception:
        return
    raise SystemExit("%s was not raised" % exception.__name__)


JOB = {
    "ID": "py",
    "Name": "py",
    "Type": "service",
    "Datacenters": ["dc1"],
    "TaskGroups": [
        {
            "Name": "g",
            "Count": 2,
            "Tasks": [{"Name": "t", "Driver": "mock_driver", "Config": {"run_for": "1h"}, "Resources": {"CPU": 20, "MemoryMB": 16}}],
        }
    ],
}

# Agent and status
assert n.agent.get_agent()["config"]["Server"]["Enabled"] is True
assert len(n.agent.get_members()["Members"]) == 1
assert ":" in n.status.leader.get_leader()
assert len(n.status.peers.get_peers()) == 1
assert n.regions.get_regions() == ["global"]
assert n.metrics.get_metrics()["Gauges"]
print("agent")

# Nodes
node = n.nodes.get_nodes()[0]
assert node["Status"] == "ready"
assert n.node.get_node(node["ID"])["Attributes"]["kernel.name"] == "linux"
assert node["ID"] in n.nodes and len(n.nodes) == 1
assert n.nodes.get_nodes(prefix=node["ID"][:8])[0]["ID"] == node["ID"]
refused(nomad.api.exceptions.URLNotFoundNomadException, lambda: n.node.get_node("00000000-0000-0000-0000-000000000000"))
print("nodes")

# Jobs
parsed = n.jobs.parse('job "parsed" {\n group "g" {\n task "t" {\n driver = "mock_driver"\n }\n }\n}\n')
assert parsed["ID"] == "parsed", parsed
assert n.validate.validate_job({"Job": JOB}).json()["ValidationErrors"] in (None, [])
plan = n.job.plan_job("py", {"Job": JOB}, diff=True)
assert plan["Diff"]["Type"] == "Added", plan["Diff"]
assert plan["Annotations"]["DesiredTGUpdates"]["g"]["Place"] == 2
registered = n.job.register_job("py", {"Job": JOB})
assert registered["EvalID"] and registered["JobModifyIndex"] > 0
assert "py" in n.jobs and n.jobs["py"]["ID"] == "py"
assert n.job.get_job("py")["Type"] == "service"
assert "py" in [job["ID"] for job in n.jobs.get_jobs(prefix="p")]
refused(nomad.api.exceptions.URLNotFoundNomadException, lambda: n.job.get_job("none"))
print("jobs")

# Evaluations and allocations
evaluation = until("the evaluation is complete", lambda: (lambda e: e if e["Status"] == "complete" else None)(n.evaluation.get_evaluation(registered["EvalID"])))
assert evaluation["JobID"] == "py"
assert registered["EvalID"] in [e["ID"] for e in n.evaluations.get_evaluations()]
allocations = until(
    "both allocations run",
    lambda: (lambda found: found if len(found) == 2 and all(a["ClientStatus"] == "running" for a in found) else None)(n.job.get_allocations("py")),
)
first = n.allocation.get_allocation(allocations[0]["ID"])
assert first["Job"]["ID"] == "py" and first["TaskStates"]["t"]["State"] == "running"
assert len(n.allocations.get_allocations()) == 2
assert {a["ID"] for a in n.evaluation.get_allocations(registered["EvalID"])} == {a["ID"] for a in allocations}
assert len(n.node.get_allocations(node["ID"])) == 2
assert n.job.get_summary("py")["Summary"]["g"]["Running"] == 2
assert len(n.job.get_versions("py")["Versions"]) == 1
assert n.client.stats.read_stats()["CPU"]
assert [entry["Name"] for entry in n.client.ls.list_files(first["ID"])]
print("evaluations and allocations")

# Search
assert n.search.search("p", "jobs")["Matches"]["jobs"] == ["py"]
assert n.search.search(node["ID"][:6], "nodes")["Matches"]["nodes"] == [node["ID"]]
print("search")

# Events
stream, stop, events = n.event.stream.get_stream(topic={"Job": "*"}, index=1)
stream.daemon = True
stream.start()
assert until("an event of the job comes", lambda: [e for e in events.get(timeout=20)["Events"] if e["Topic"] == "Job"])
stop.set()
print("events")

# Raft members, namespaces
assert len(n.operator.get_configuration()["Servers"]) == 1
assert [ns["Name"] for ns in n.namespaces.get_namespaces()] == ["default"]
print("servers and namespaces")

# The end
stopped = n.job.deregister_job("py")
assert stopped["EvalID"]
until("all have ended", lambda: all(a["ClientStatus"] == "complete" for a in n.job.get_allocations("py")))
n.job.deregister_job("py", purge=True)
until("the job is gone", lambda: "py" not in [job["ID"] for job in n.jobs.get_jobs()])
n.system.initiate_garbage_collection()
print("all steps taken")
