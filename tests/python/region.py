"""A region of three servers and five clients, each agent in a network namespace of its own on one bridge.

Needs root, `ip`, `iptables` and `nsenter`. Everything it makes begins with `wfr` and is removed by `Region.close`.
"""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

NAMES = ["s1", "s2", "s3", "c1", "c2", "c3", "c4", "c5"]
SERVERS = NAMES[:3]
CLIENTS = NAMES[3:]
ADDRESS = {name: f"10.77.0.{number + 1}" for number, name in enumerate(NAMES)}
FORWARD = "FORWARD -i wfrbr -o wfrbr -j ACCEPT"

SERVER = """
server {{
  enabled          = true
  bootstrap_expect = 3
  server_join {{ retry_join = ["{first}"] }}
}}
"""
CLIENT = """
client {{
  enabled = true
  servers = ["{second}"]
}}
plugin "raw_exec" {{
  config {{ enabled = true }}
}}
"""


def shell(command, check=False):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    return done.stdout


class Region:
    """The agents of the region, by name."""

    def __init__(self, binary):
        self.binary = os.path.abspath(binary)
        self.root = tempfile.mkdtemp(prefix="wayfarer-region-")
        self.agents = {}
        self.clear_network()
        shell(f"iptables -I {FORWARD}")
        shell("ip link add wfrbr type bridge && ip link set wfrbr up", check=True)
        shell("ip addr add 10.77.0.254/24 dev wfrbr", check=True)
        for name in NAMES:
            shell(
                f"ip netns add wfr-{name} && ip link add wfr{name} type veth peer name eth0 netns wfr-{name}"
                f" && ip link set wfr{name} master wfrbr up && ip -n wfr-{name} addr add {ADDRESS[name]}/24 dev eth0"
                f" && ip -n wfr-{name} link set eth0 up && ip -n wfr-{name} link set lo up"
                f" && ip -n wfr-{name} route add default via 10.77.0.254",
                check=True,
            )

    def clear_network(self):
        for name in NAMES:
            shell(f"ip netns del wfr-{name}")
        shell("ip link del wfrbr")
        while "wfrbr" in shell(f"iptables -S FORWARD"):
            shell(f"iptables -D {FORWARD}")

    def close(self):
        for name in NAMES:
            self.kill_machine(name)
        self.clear_network()
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self, name):
        directory = os.path.join(self.root, name)
        os.makedirs(directory, exist_ok=True)
        text = f'name = "{name}"\ndata_dir = "{directory}/data"\nbind_addr = "{ADDRESS[name]}"\n'
        text += (SERVER if name in SERVERS else CLIENT).format(first=ADDRESS["s1"], second=ADDRESS["s2"])
        config = os.path.join(directory, "agent.hcl")
        with open(config, "w") as file:
            file.write(text)
        log = open(os.path.join(directory, "log"), "a")
        command = ["nsenter", f"--net=/run/netns/wfr-{name}", self.binary, "agent", "-config", config]
        self.agents[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def start_all(self):
        for name in NAMES:
            self.start(name)
        wait("a leader", lambda: self.leader() is not None)
        wait("five nodes ready", lambda: list(self.statuses().values()).count("ready") == 5)

    def alive(self, name):
        return name in self.agents and self.agents[name].poll() is None

    def kill(self, name):
        """Kills the agent alone; its tasks go on."""
        os.kill(self.agents[name].pid, signal.SIGKILL)
        self.agents[name].wait()

    def kill_machine(self, name):
        """Kills the agent and its tasks."""
        shell(f"ip netns pids wfr-{name} | xargs -r kill -9")

    def inside(self, name, command):
        return shell(f"nsenter --net=/run/netns/wfr-{name} {command}")

    def request(self, name, path, method="GET", body=None, timeout=10):
        """Returns the answer's value and its headers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{ADDRESS[name]}:4646{path}", method=method, data=data)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.loads(answer.read() or b"null"), answer.headers

    def leader(self):
        for name in SERVERS:
            if self.alive(name):
                try:
                    address = self.request(name, "/v1/status/leader", timeout=2)[0].rsplit(":", 1)[0]
                except OSError:
                    continue
                for other in SERVERS:
                    if ADDRESS[other] == address and self.alive(other):
                        return other
        return None

    def statuses(self, through=None):
        nodes, _ = self.request(through or self.leader(), "/v1/nodes")
        return {node["Name"]: node["Status"] for node in nodes}

    def running(self, job, through="s1"):
        allocs, _ = self.request(through, f"/v1/job/{job}/allocations")
        return [alloc for alloc in allocs if alloc["ClientStatus"] == "running"]


def wait(what, condition, limit=60):
    """Waits until a condition holds and prints how long that took; gives up after `limit` seconds."""
    began, error = time.time(), None
    while time.time() - began < limit:
        try:
            if condition():
                print(f"{what}: {time.time() - began:.2f} s", flush=True)
                return
        except (OSError, TypeError) as caught:
            error = caught
        time.sleep(0.05)
    raise SystemExit(f"{what}: not within {limit} s ({error})")


def job(name, count):
    """A service of sleeping processes."""
    task = {
        "Name": "sleep",
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sleep", "args": ["86399"]},
        "Resources": {"CPU": 10, "MemoryMB": 16},
    }
    group = {"Name": "group", "Count": count, "Tasks": [task]}
    return {"Job": {"ID": name, "Name": name, "Type": "service", "Datacenters": ["dc1"], "TaskGroups": [group]}}


def task_pids():
    return sorted(int(pid) for pid in shell("pgrep -f '^/bin/sleep 86399'").split())
