#!/usr/bin/env python3
"""failover.py BINARY [KILLS]: kills the leader again and again while clients register jobs and one watches.

Prints how long writes were away, and fails when an acknowledged write is lost, a task was restarted, or a watcher saw
indexes out of order.
"""
import sys
import threading
import time

from region import Region, job, task_pids, wait


def main(binary, kills):
    region = Region(binary)
    try:
        region.start_all()
        region.request("c1", "/v1/jobs", "PUT", job("base", 10))
        wait("ten tasks running", lambda: len(region.running("base", "c2")) == 10)
        pids = task_pids()
        acknowledged, durations, indexes, stop = [], [], [], threading.Event()

        def write():
            number = 0
            while not stop.is_set():
                number += 1
                began, name = time.time(), f"write-{number}"
                while not stop.is_set():
                    try:
                        region.request(["c1", "c2", "c3"][number % 3], "/v1/jobs", "PUT", job(name, 0))
                        acknowledged.append(name)
                        break
                    except OSError:
                        time.sleep(0.02)
                durations.append(time.time() - began)
                time.sleep(0.05)

        def watch():
            index = 0
            while not stop.is_set():
                try:
                    path = f"/v1/jobs?index={index}&wait=5s"
                    index = int(region.request("c4", path, timeout=15)[1]["X-Nomad-Index"])
                    indexes.append(index)
                except OSError:
                    time.sleep(0.05)

        threads = [threading.Thread(target=write), threading.Thread(target=watch)]
        for thread in threads:
            thread.start()
        longest = []
        for number in range(kills):
            time.sleep(1.5)
            wait("a leader", lambda: region.leader() is not None)
            leader, written = region.leader(), len(durations)
            region.kill(leader)
            time.sleep(0.8)
            region.start(leader)
            wait("writes", lambda: len(durations) >= written + 3)
            longest.append(max(durations[written:]))
            print(f"leader {number + 1}, {leader}, killed: longest write {longest[-1] * 1000:.0f} ms", flush=True)
        stop.set()
        for thread in threads:
            thread.join()
        longest.sort()
        print(f"longest write: median {longest[len(longest) // 2]:.2f} s, most {longest[-1]:.2f} s")
        wait("a leader", lambda: region.leader() is not None)
        there = {row["ID"] for row in region.request(region.leader(), "/v1/jobs")[0]}
        lost = [name for name in acknowledged if name not in there]
        print(f"{len(acknowledged)} writes acknowledged, {len(lost)} lost; {len(indexes)} indexes seen")
        in_order = all(before <= after for before, after in zip(indexes, indexes[1:]))
        if lost or not in_order or task_pids() != pids:
            raise SystemExit(f"lost {lost}; in order: {in_order}; tasks the same: {task_pids() == pids}")
        victim = region.running("base")[0]["NodeID"]
        names = {node["ID"]: node["Name"] for node in region.request("s1", "/v1/nodes")[0]}
        region.kill_machine(names[victim])
        elsewhere = lambda: sum(alloc["NodeID"] != victim for alloc in region.running("base"))
        wait(f"all of {names[victim]} running elsewhere", lambda: elsewhere() == 10)
    finally:
        region.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20)
