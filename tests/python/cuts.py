#!/usr/bin/env python3
"""cuts.py BINARY: cuts clients off in several ways and prints when they count as down and when they are back."""
import os
import signal
import sys
import time

from region import Region, job, task_pids, wait

TRANSPORT = ["INPUT -p udp --sport 4647", "INPUT -p udp --dport 4647", "OUTPUT -p udp --sport 4647", "OUTPUT -p udp --dport 4647"]
GOSSIP = ["INPUT -p udp --dport 4648", "OUTPUT -p udp --dport 4648"]
EVERYTHING = ["INPUT ! -i lo", "OUTPUT ! -o lo"]
LOSS = "-m statistic --mode random --probability 0.1"


def cut(region, name, what, rules, seconds):
    for rule in rules:
        region.inside(name, f"iptables -A {rule} -j DROP")
    began, seen = time.time(), []
    while time.time() - began < seconds:
        status = region.statuses("s1")[name]
        if not seen or seen[-1][1] != status:
            seen.append((round(time.time() - began, 1), status))
        time.sleep(0.1)
    region.inside(name, "iptables -F")
    print(f"{what}: " + ", ".join(f"{status} after {after} s" for after, status in seen), flush=True)
    wait(f"{what} healed", lambda: region.statuses("s1")[name] == "ready")


def main(binary):
    region = Region(binary)
    try:
        region.start_all()
        region.request("c1", "/v1/jobs", "PUT", job("base", 10))
        wait("ten tasks running", lambda: len(region.running("base")) == 10)
        cut(region, "c1", "gossip cut", GOSSIP, 15)
        cut(region, "c2", "transport cut", TRANSPORT, 15)
        cut(region, "c3", "machine cut off", EVERYTHING, 12)
        cut(region, "c4", "machine heard by nobody", EVERYTHING[1:], 12)
        wait("no double work", lambda: len(region.running("base")) == 10 and len(task_pids()) == 10)
        for chain in ("INPUT", "OUTPUT"):
            region.inside("c5", f"iptables -A {chain} {LOSS} -j DROP")
        began, stopped, false_downs = time.time(), False, 0
        while time.time() - began < 60:
            into = (time.time() - began) % 30
            if stopped != (5 < into < 10):
                stopped = not stopped
                os.kill(region.agents["c1"].pid, signal.SIGSTOP if stopped else signal.SIGCONT)
            false_downs += any(status != "ready" for status in region.statuses("s2").values())
            time.sleep(0.2)
        print(f"10 % loss and an agent stopped for 5 s of each 30 s: {false_downs} false downs")
    finally:
        region.close()


if __name__ == "__main__":
    main(sys.argv[1])
