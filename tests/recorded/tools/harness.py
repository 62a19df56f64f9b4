"""Drives one agent over HTTP and its CLI, and writes down what it answered.

Used against a real Nomad to make these recordings, and against ours to ask the same. Starts no agent: the caller does.
"""
import atexit, http.client, json, os, re, shutil, subprocess, sys, tempfile, time, urllib.parse

# What the agent does not do yet is not waited for as long as a real one takes.
PATIENCE = float(os.environ.get("RECORDED_PATIENCE", "20"))


class Missing:
    """Stands for an object that did not come: its parts are an id that nothing has."""

    def __getitem__(self, key):
        return Missing() if isinstance(key, int) else "00000000-0000-0000-0000-000000000000"

    def __iter__(self):
        return iter([self])


class Text(str):
    """An answer that is no JSON: asked for a part, it has an id that nothing has."""

    def __getitem__(self, key):
        return "00000000-0000-0000-0000-000000000000" if isinstance(key, str) else str.__getitem__(self, key)


SCRUB = []  # (regex, replacement) pairs: machine paths never reach a recording


def scrub(text):
    for pat, rep in SCRUB:
        text = re.sub(pat, rep, text)
    return text


def working_copy(folder):
    """A copy of `folder` that commands may write into; gone at exit."""
    d = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, d, True)
    return shutil.copytree(folder, os.path.join(d, "files"))


class Agent:
    def __init__(self, addr="127.0.0.1:4646", binary="nomad", token=None):
        self.host, self.port = addr.split(":")
        self.binary, self.token = binary, token
        self.exchanges, self.transcript = [], []

    # --- HTTP -----------------------------------------------------------------
    def http(self, method, path, body=None, headers=None, note=None, raw=None, record=True, timeout=60):
        """One exchange. `body` is JSON-encoded; `raw` is sent as it is."""
        h = dict(headers or {})
        if self.token and "X-Nomad-Token" not in h:
            h["X-Nomad-Token"] = self.token
        data = raw if raw is not None else (json.dumps(body) if body is not None else None)
        c = http.client.HTTPConnection(self.host, int(self.port), timeout=timeout)
        c.request(method, path, body=data, headers=h)
        r = c.getresponse()
        payload = r.read()
        c.close()
        text = payload.decode("utf-8", "replace")
        try:
            parsed = json.loads(text) if text else None
            is_json = bool(text) and r.getheader("Content-Type", "").startswith("application/json")
        except ValueError:
            parsed, is_json = None, False
        ex = {"request": {"method": method, "path": path}}
        if h:
            ex["request"]["headers"] = h
        if data is not None:
            ex["request"]["body"] = body if raw is None else raw
        if note:
            ex["note"] = note
        keep = {k: v for k, v in r.getheaders() if k.lower() not in ("date",)}
        ex["response"] = {"status": r.status, "headers": keep}
        if is_json:
            ex["response"]["json"] = parsed
        else:
            ex["response"]["text"] = text
        if record:
            self.exchanges.append(ex)
        return r.status, (parsed if is_json else Text(text)), dict((k.lower(), v) for k, v in r.getheaders())

    def get(self, path, **kw):
        return self.http("GET", path, **kw)

    def put(self, path, body=None, **kw):
        return self.http("PUT", path, body=body, **kw)

    def post(self, path, body=None, **kw):
        return self.http("POST", path, body=body, **kw)

    def delete(self, path, **kw):
        return self.http("DELETE", path, **kw)

    # --- CLI ------------------------------------------------------------------
    def cli(self, *args, stdin=None, note=None, cwd=None, env=None, timeout=120, record=True):
        e = {k: v for k, v in os.environ.items() if not k.startswith("NOMAD_")}
        e["NOMAD_ADDR"] = "http://%s:%s" % (self.host, self.port)
        if self.token:
            e["NOMAD_TOKEN"] = self.token
        e.update(env or {})
        try:
            p = subprocess.run([self.binary, *args], input=stdin, capture_output=True, text=True, cwd=cwd, env=e, timeout=timeout)
            code, out, err = p.returncode, p.stdout, p.stderr
        except subprocess.TimeoutExpired as t:
            code, out, err = "still running after %d s" % timeout, (t.stdout or b"").decode(), (t.stderr or b"").decode()
        if record:
            self.transcript.append((args, stdin, note, code, out, err))
        return code, out, err

    # --- waiting --------------------------------------------------------------
    def until(self, path, ok, seconds=30):
        """Waits for an answer that is fine. One that does not come is told and the steps go on: what depends on it will differ."""
        end = time.time() + min(seconds, PATIENCE)
        while True:
            s, b, _ = self.http("GET", path, record=False)
            try:
                if s == 200 and ok(b):
                    return b
            except (TypeError, KeyError, IndexError, AttributeError):
                pass  # a part that is not there is not fine yet
            if time.time() > end:
                print("waited in vain on %s: %s %s" % (path, s, str(b)[:200]), file=sys.stderr)
                return b if b and not isinstance(b, str) else Missing()
            time.sleep(0.1)

    # --- writing --------------------------------------------------------------
    def save_http(self, file):
        with open(file, "w") as f:
            f.write(scrub(json.dumps(self.exchanges, indent=1, ensure_ascii=False)) + "\n")
        self.exchanges = []

    def save_cli(self, file):
        with open(file, "w") as f:
            for args, stdin, note, code, out, err in self.transcript:
                if note:
                    f.write("# " + note + "\n")
                quoted = " ".join(a if re.fullmatch(r"[\w@%+=:,./-]+", a) else "'" + a.replace("'", "'\\''") + "'" for a in args)
                f.write("$ nomad " + scrub(quoted) + "\n")
                if stdin:
                    f.write("".join("< " + l + "\n" for l in stdin.splitlines()))
                f.write("".join("1| " + l + "\n" for l in scrub(without_usage(out)).splitlines()))
                if out and not out.endswith("\n"):
                    f.write("1~ (no newline at the end)\n")
                f.write("".join("2| " + l + "\n" for l in scrub(without_usage(err)).splitlines()))
                f.write("= %s\n\n" % code)
        self.transcript = []


def without_usage(text):
    """Usage texts are prose that no program reads: only that one was printed is kept."""
    lines = text.splitlines()
    at = next((i for i, l in enumerate(lines) if l.startswith("Usage: nomad")), None)
    return text if at is None else "\n".join(lines[:at] + ["(the usage text)", ""])


def parse(agent, hcl, variables="", canonicalize=True, record=False):
    return agent.http("POST", "/v1/jobs/parse", {"JobHCL": hcl, "Canonicalize": canonicalize, "Variables": variables}, record=record)
