#!/usr/bin/env python3
"""A double of Jenkins' remote API for tests, standard library only.

Written from the behaviour of jenkinsci/jenkins (core/src/main/java):
  hudson/model/Queue.java                         quiet period, merging of equal items, LeftItem and its expiry, cancelItem
  hudson/model/ParametersDefinitionProperty.java  buildWithParameters: 201, 303 for an item that was there already
  jenkins/model/ParameterizedJobMixIn.java        build; 400 without parameters, 409 where nothing can be built
  hudson/security/csrf/*.java                     crumb of user and session id; API tokens need none
  hudson/model/Run/_api.jelly                     logText/progressiveText: X-Text-Size counts the raw log, text has CRLF
It is itself tested by a client that others wrote: prove_jenkins.py.

Usage: jenkins.py [CONFIG.json]   prints `port N` and serves 127.0.0.1 until it is ended.
CONFIG: {"prefix": "/ci", "executors": 2, "left_item_ms": 300000, "users": {"bot": {"password", "token", "may_build"}},
         "jobs": {"folder/name": JOB}}
JOB:    {"parameters": [{"name", "type", "choices", "default"}], "quiet_ms": 0, "buildable": true, "concurrent": false,
         "steps": [[after_ms, "line"]], "hold": false, "result": "SUCCESS", "artifacts": {"path": text or JSON},
         "abort_ms": 0}
Control, without a password: POST /_double/config (merged), GET /_double/state, POST /_double/forget_sessions,
POST /_double/forget_left, POST /_double/release, POST /_double/fault {"path": regex, "how": "close|after|cut|hang|STATUS", "times": n}:
no answer, no answer after the work, half of a body, no answer for half a minute after the work, or a status.
"""
import base64
import hashlib
import json
import re
import secrets
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

NOTE = "\x1b[8mha:////4AABBCCDDEEFF==\x1b[0m"
VALUES = {
    "BooleanParameterDefinition": "BooleanParameterValue",
    "PasswordParameterDefinition": "PasswordParameterValue",
    "TextParameterDefinition": "TextParameterValue",
}


def shown(value):
    """A value as Java writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class Refused(Exception):
    def __init__(self, status, text, headers=()):
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


class Job:
    def __init__(self, name):
        self.name, self.spec, self.builds, self.next = name, {}, {}, 1

    def path(self):
        return "".join(f"job/{quote(part, safe='')}/" for part in self.name.split("/"))

    def definitions(self):
        return self.spec.get("parameters") or []


class Item:
    def __init__(self, number, job, params, user, due):
        self.id, self.job, self.params, self.user, self.due = number, job, params, user, due
        self.since, self.left, self.cancelled, self.build = time.time(), None, False, None


class Build:
    def __init__(self, number, item, started):
        self.number, self.item, self.job, self.started = number, item, item.job, started
        self.stopped, self.ended, self.result, self.released = None, None, None, None

    def script(self):
        """The raw log as (time, text): what Jenkins has on disk, with the notes that are not shown."""
        out = [(self.started, f"{NOTE}Started by user {self.item.user}\n"), (self.started, "Building in workspace /w\n")]
        at = self.started
        for after, line in self.job.spec.get("steps") or []:
            at += after / 1000
            text = re.sub(r"\$\{(\w+)\}", lambda m: shown(self.item.params.get(m[1], "")), line)
            out.append((at, text if text.endswith("\\c") else text + "\n"))
        return [(when, text.removesuffix("\\c")) for when, text in out], at

    def settle(self, now):
        script, done = self.script()
        if self.job.spec.get("hold"):
            done = max(done, self.released) if self.released else float("inf")
        if self.ended is not None:
            return
        if self.stopped is not None:
            end = self.stopped + self.job.spec.get("abort_ms", 0) / 1000
            if now >= end and end < done:
                self.ended, self.result = end, "ABORTED"
                return
        if now >= done:
            self.ended, self.result = done, self.job.spec.get("result", "SUCCESS")

    def raw(self, now):
        until = now if self.ended is None else self.ended
        if self.stopped is not None:
            until = min(until, self.stopped)
        text = "".join(text for at, text in self.script()[0] if at <= until)
        if self.ended is not None:
            if self.result == "ABORTED":
                text += f"Build was aborted\nAborted by {NOTE}{self.item.user}\n"
            text += f"Finished: {self.result}\n"
        return text.encode()


class Jenkins:
    def __init__(self):
        self.lock = threading.RLock()
        self.config = {"prefix": "", "executors": 2, "left_item_ms": 300000, "users": {}}
        self.jobs, self.queue, self.left, self.next_id = {}, [], {}, 1
        self.sessions, self.salt = set(), secrets.token_hex(16)
        self.faults, self.requests = [], []

    def configure(self, given):
        for name, spec in (given.pop("jobs", None) or {}).items():
            self.jobs.setdefault(name, Job(name)).spec = spec
        self.config.update(given)

    def settle(self):
        """Everything that time has brought about since the last request."""
        now = time.time()
        for job in self.jobs.values():
            for build in job.builds.values():
                build.settle(now)
        for item in sorted(self.queue, key=lambda item: item.due):
            if self.why(item, now) is None:
                build = Build(item.job.next, item, now)
                item.job.next += 1
                item.job.builds[build.number] = build
                item.build = build
                self.leave(item)
                build.settle(now)
        keep = self.config["left_item_ms"] / 1000
        self.left = {number: item for number, item in self.left.items() if time.time() - item.left < keep}

    def leave(self, item):
        self.queue.remove(item)
        item.left = time.time()
        self.left[item.id] = item

    def running(self):
        return [build for job in self.jobs.values() for build in job.builds.values() if build.ended is None]

    def why(self, item, now):
        if now < item.due:
            return f"In the quiet period. Expires in {item.due - now:.1f} sec"
        mine = [build for build in self.running() if build.job is item.job]
        if mine and not item.job.spec.get("concurrent"):
            return f"Build #{mine[0].number} is already in progress (ETA: N/A)"
        if len(self.running()) >= self.config["executors"]:
            return "Waiting for next available executor"
        return None

    def schedule(self, job, params, user):
        """As Queue.scheduleInternal: an item for the same job with equal parameters takes the new one in."""
        for item in self.queue:
            if item.job is job and item.params == params:
                item.due = min(item.due, time.time() + job.spec.get("quiet_ms", 0) / 1000)
                return item, False
        item = Item(self.next_id, job, params, user, time.time() + job.spec.get("quiet_ms", 0) / 1000)
        self.next_id += 1
        self.queue.append(item)
        return item, True


def tree_of(text):
    """Parses a tree expression: name[sub,sub]{from,to},..."""
    at = 0

    def names():
        nonlocal at
        out = {}
        while at < len(text) and text[at] != "]":
            name = re.match(r"[\w*]+", text[at:])
            if not name:
                raise Refused(400, f"tree: {text[at:]!r}")
            at += name.end()
            sub, span = None, None
            if text[at:at + 1] == "[":
                at += 1
                sub = names()
                at += 1
            cut = re.match(r"\{(\d*),(\d*)\}", text[at:])
            if cut:
                span = slice(int(cut[1] or 0), int(cut[2]) if cut[2] else None)
                at += cut.end()
            out[name[0]] = (sub, span)
            if text[at:at + 1] == ",":
                at += 1
        return out

    return names()


def pick(value, tree):
    if tree is None:
        return value
    if isinstance(value, list):
        return [pick(one, tree) for one in value]
    if not isinstance(value, dict):
        return value
    out = {"_class": value["_class"]} if "_class" in value else {}
    for name, (sub, span) in tree.items():
        if name in value:
            one = value[name]
            out[name] = pick(one[span] if span and isinstance(one, list) else one, sub)
    return out


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    jenkins: Jenkins

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def answer(self, status, body=b"", kind="text/html;charset=utf-8", headers=()):
        if isinstance(body, str):
            body = body.encode()
        self.send_response(status)
        self.send_header("X-Jenkins", "2.528")
        for name, value in list(self.extra) + list(headers):
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body[:len(body) // 2] if self.cut else body)

    def json(self, value):
        tree = self.form.get("tree")
        value = pick(value, tree_of(tree[0])) if tree else value
        self.answer(200, json.dumps(value), "application/json;charset=utf-8")

    def redirect(self, status, path):
        where = path if path == "." else self.root() + path
        self.answer(status, headers=[("Location", where)])

    def root(self):
        return f"http://{self.headers.get('Host')}{self.jenkins.config['prefix']}/"

    def serve(self):
        self.extra, self.cut, self.hangs = [], False, False
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        split = urlsplit(self.path)
        self.form = parse_qs(split.query, keep_blank_values=True)
        if "urlencoded" in (self.headers.get("Content-Type") or ""):
            for name, values in parse_qs(body.decode(), keep_blank_values=True).items():
                self.form.setdefault(name, []).extend(values)
        with self.jenkins.lock:
            self.jenkins.settle()
            try:
                if split.path.startswith("/_double/"):
                    return self.control(split.path.removeprefix("/_double/"), json.loads(body or b"{}"))
                self.faulty(split, lambda: self.route(split.path))
            except Refused as refused:
                self.answer(refused.status, f"<html><body><h2>HTTP ERROR {refused.status} {refused.text}</h2></body></html>",
                            headers=refused.headers)
        if self.hangs:
            # Others are served meanwhile.
            time.sleep(30)

    def faulty(self, split, work):
        self.jenkins.requests.append(f"{self.command} {split.path}")
        for fault in self.jenkins.faults:
            if fault["times"] > 0 and re.search(fault["path"], f"{self.command} {self.path}"):
                fault["times"] -= 1
                if fault["how"] in ("after", "hang"):
                    self.hangs = fault["how"] == "hang"
                    self.answer = lambda *a, **k: None
                    try:
                        work()
                    finally:
                        del self.answer
                elif fault["how"] == "cut":
                    self.cut = True
                    work()
                elif fault["how"] != "close":
                    raise Refused(int(fault["how"]), "told so")
                self.close_connection = True
                if not self.hangs:
                    self.connection.shutdown(2)
                return
        work()

    def control(self, what, given):
        jenkins = self.jenkins
        if what == "config":
            jenkins.configure(given)
        elif what == "forget_sessions":
            jenkins.sessions.clear()
        elif what == "forget_left":
            jenkins.left.clear()
        elif what == "fault":
            jenkins.faults.append({"times": 1, "how": "close", **given})
        elif what == "release":
            for build in jenkins.running():
                build.released = time.time()
        elif what != "state":
            raise Refused(404, what)
        builds = [
            {"job": job.name, "number": build.number, "result": build.result, "params": build.item.params}
            for job in jenkins.jobs.values() for build in job.builds.values()
        ]
        queue = [{"id": item.id, "job": item.job.name, "params": item.params} for item in jenkins.queue]
        self.answer(200, json.dumps({"builds": builds, "queue": queue, "requests": jenkins.requests}), "application/json")

    # Who is there.

    def session(self):
        """The session of the request, made if there is none: as HttpServletRequest.getSession()."""
        for part in (self.headers.get("Cookie") or "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == "JSESSIONID.double" and value in self.jenkins.sessions:
                return value
        value = "node0" + secrets.token_hex(12)
        self.jenkins.sessions.add(value)
        self.extra.append(("Set-Cookie", f"JSESSIONID.double={value}; Path=/; HttpOnly"))
        return value

    def crumb(self):
        return hashlib.sha256(f"{self.user};{self.session()}{self.jenkins.salt}".encode()).hexdigest()

    def enter(self):
        kind, _, text = (self.headers.get("Authorization") or "").partition(" ")
        if kind.lower() != "basic":
            raise Refused(403, "Forbidden", [("X-You-Are-Authenticated-As", "anonymous"),
                                            ("X-Required-Permission", "hudson.model.Hudson.Read")])
        name, _, secret = base64.b64decode(text).decode().partition(":")
        user = self.jenkins.config["users"].get(name)
        if not user or secret not in (user.get("password"), user.get("token")):
            raise Refused(401, "Unauthorized", [("WWW-Authenticate", 'Basic realm="Jenkins"')])
        self.user, self.rights = name, user
        by_token = secret == user.get("token")
        if self.command == "POST" and not by_token:
            if self.headers.get("Jenkins-Crumb") != self.crumb():
                raise Refused(403, "No valid crumb was included in the request")

    def need_post(self):
        if self.command != "POST":
            raise Refused(405, "Method Not Allowed")

    # What is there.

    def route(self, path):
        prefix = self.jenkins.config["prefix"]
        self.enter()
        if not path.startswith(prefix + "/"):
            raise Refused(404, "Not Found")
        parts = [unquote(part) for part in path[len(prefix):].split("/") if part]
        name = []
        while len(parts) > 1 and parts[0] == "job":
            name.append(parts[1])
            parts = parts[2:]
        if name:
            return self.job("/".join(name), parts)
        match parts:
            case ["crumbIssuer", "api", "json"]:
                self.json({"_class": "hudson.security.csrf.DefaultCrumbIssuer", "crumb": self.crumb(),
                           "crumbRequestField": "Jenkins-Crumb"})
            case ["api", "json"]:
                self.json({"_class": "hudson.model.Hudson", "mode": "NORMAL", "jobs": [
                    {"name": job.name, "url": self.root() + job.path()} for job in self.jenkins.jobs.values()]})
            case ["queue", "api", "json"]:
                items = [self.item(item) for item in reversed(self.jenkins.queue)]
                self.json({"_class": "hudson.model.Queue", "discoverableItems": [], "items": items})
            case ["queue", "item", number, "api", "json"]:
                self.json(self.item(self.found(number)))
            case ["queue", "cancelItem"]:
                self.need_post()
                item = self.found((self.form.get("id") or ["0"])[0])
                if item.left is None:
                    item.cancelled = True
                    self.jenkins.leave(item)
                    return self.answer(204)
                raise Refused(404, f"Provided id ({item.id}) not found")
            case _:
                raise Refused(404, "Not Found")

    def found(self, number):
        items = {item.id: item for item in self.jenkins.queue} | self.jenkins.left
        item = items.get(int(number)) if number.isdigit() else None
        if item is None:
            raise Refused(404, "Not Found")
        return item

    def actions(self, item):
        kinds = {one["name"]: VALUES.get(one["type"], "StringParameterValue") for one in item.job.definitions()}
        cause = {"_class": "hudson.model.CauseAction", "causes": [
            {"_class": "hudson.model.Cause$UserIdCause", "shortDescription": f"Started by user {item.user}",
             "userId": item.user, "userName": item.user}]}
        params = []
        for name, value in (item.params or {}).items():
            kind = kinds.get(name, "StringParameterValue")
            one = {"_class": f"hudson.model.{kind}", "name": name}
            params.append(one if kind == "PasswordParameterValue" else one | {"value": value})
        return ([{"_class": "hudson.model.ParametersAction", "parameters": params}] if params else []) + [cause, {}]

    def item(self, item):
        kind = "LeftItem" if item.left else "WaitingItem" if time.time() < item.due else "BlockedItem"
        job = item.job
        out = {
            "_class": f"hudson.model.Queue${kind}", "actions": self.actions(item), "blocked": kind == "BlockedItem",
            "buildable": False, "id": item.id, "inQueueSince": int(item.since * 1000),
            "params": "".join(f"\n{name}={shown(value)}" for name, value in (item.params or {}).items()), "stuck": False,
            "task": {"_class": "hudson.model.FreeStyleProject", "name": job.name.split("/")[-1],
                     "url": self.root() + job.path(), "color": "blue"},
            "url": f"queue/item/{item.id}/", "why": None if item.left else self.jenkins.why(item, time.time()),
        }
        if item.left:
            out["cancelled"] = item.cancelled
            build = item.build
            out["executable"] = build and {"_class": "hudson.model.FreeStyleBuild", "number": build.number,
                                           "url": f"{self.root()}{job.path()}{build.number}/"}
        return out

    def job(self, name, parts):
        job = self.jenkins.jobs.get(name)
        if job is None:
            raise Refused(404, "Not Found")
        match parts:
            case []:
                self.answer(200, f"<html><body>Project {len(job.builds)}</body></html>")
            case ["api", "json"]:
                self.json(self.project(job))
            case ["build"] | ["buildWithParameters"]:
                self.need_post()
                self.trigger(job, parts[0] == "buildWithParameters")
            case [number, *rest] if number.isdigit() and int(number) in job.builds:
                self.build(job.builds[int(number)], rest)
            case _:
                raise Refused(404, "Not Found")

    def project(self, job):
        newest = [{"_class": "hudson.model.FreeStyleBuild", **self.facts(job.builds[number])}
                  for number in sorted(job.builds, reverse=True)]
        properties = [{"_class": "hudson.plugins.jira.JiraProjectProperty"}]
        if job.definitions():
            properties.append({"_class": "hudson.model.ParametersDefinitionProperty", "parameterDefinitions": [
                {"_class": f"hudson.model.{one['type']}", "name": one["name"], "type": one["type"], "description": None,
                 "defaultParameterValue": {"name": one["name"], "value": self.default(one)}}
                | ({"choices": one["choices"]} if "choices" in one else {}) for one in job.definitions()]})
        return {"_class": "hudson.model.FreeStyleProject", "name": job.name.split("/")[-1], "fullName": job.name,
                "url": self.root() + job.path(), "buildable": job.spec.get("buildable", True), "property": properties,
                "builds": newest[:100], "allBuilds": newest, "nextBuildNumber": job.next,
                "lastBuild": newest[0] if newest else None}

    def default(self, one):
        if "default" in one:
            return one["default"]
        if one["type"] == "ChoiceParameterDefinition":
            return one["choices"][0]
        return False if one["type"] == "BooleanParameterDefinition" else ""

    def trigger(self, job, with_parameters):
        if not self.rights.get("may_build", True):
            raise Refused(403, f"{self.user} is missing the Job/Build permission",
                          [("X-You-Are-Authenticated-As", self.user), ("X-Required-Permission", "hudson.model.Item.Build")])
        if not job.spec.get("buildable", True):
            raise Refused(409, f"{job.name} is not buildable")
        if with_parameters and not job.definitions():
            raise Refused(400, f"{job.name} is not parameterized")
        if not with_parameters and job.definitions():
            raise Refused(400, "This page expects a form submission but had only {}")
        params = {}
        for one in job.definitions():
            values = self.form.get(one["name"])
            if values is None:
                params[one["name"]] = self.default(one)
                continue
            if len(values) != 1:
                raise Refused(500, f"Illegal number of parameter values for {one['name']}: {len(values)}")
            if one["type"] == "ChoiceParameterDefinition" and values[0] not in one["choices"]:
                raise Refused(500, f"Illegal choice for parameter {one['name']}: {values[0]}")
            is_bool = one["type"] == "BooleanParameterDefinition"
            params[one["name"]] = values[0].lower() == "true" if is_bool else values[0]
        item, created = self.jenkins.schedule(job, params, self.user)
        # Without parameters the status does not tell whether the item was there (JENKINS-66105).
        self.redirect(201 if created or not with_parameters else 303, f"queue/item/{item.id}/")

    def facts(self, build):
        now = time.time()
        ended = build.ended
        files = (build.job.spec.get("artifacts") or {}) if ended else {}
        return {
            "actions": self.actions(build.item), "building": ended is None, "number": build.number,
            "id": str(build.number), "result": build.result, "queueId": build.item.id,
            "duration": int((ended - build.started) * 1000) if ended else 0, "timestamp": int(build.started * 1000),
            "estimatedDuration": -1, "inProgress": ended is None, "displayName": f"#{build.number}",
            "fullDisplayName": f"{build.job.name} #{build.number}",
            "url": f"{self.root()}{build.job.path()}{build.number}/",
            "artifacts": [{"displayPath": path.split("/")[-1], "fileName": path.split("/")[-1], "relativePath": path}
                          for path in files],
            "executor": {} if ended is None and now else None,
        }

    def build(self, build, rest):
        match rest:
            case []:
                self.answer(200, f"<html><body>Build #{build.number}</body></html>")
            case ["api", "json"]:
                self.json({"_class": "hudson.model.FreeStyleBuild", **self.facts(build)})
            case ["stop"]:
                self.need_post()
                if build.ended is None and build.stopped is None:
                    build.stopped = time.time()
                    self.jenkins.settle()
                self.redirect(302, ".")
            case ["consoleText"]:
                text = build.raw(time.time()).decode().replace(NOTE, "")
                self.answer(200, text, "text/plain;charset=utf-8")
            case ["logText", "progressiveText"]:
                self.progressive(build)
            case ["artifact", *path]:
                files = build.job.spec.get("artifacts") or {}
                if build.ended is None or "/".join(path) not in files:
                    raise Refused(404, "Not Found")
                body = files["/".join(path)]
                self.answer(200, body if isinstance(body, str) else json.dumps(body), "application/octet-stream")
            case _:
                raise Refused(404, "Not Found")

    def progressive(self, build):
        raw = build.raw(time.time())
        start = int((self.form.get("start") or ["0"])[0])
        if start > len(raw):
            start = 0
        part = raw[start:]
        headers = []
        if build.ended is None:
            # Of a log that grows only whole lines are given.
            part = part[:part.rfind(b"\n") + 1]
            headers.append(("X-More-Data", "true"))
        text = part.decode().replace(NOTE, "").replace("\n", "\r\n")
        self.answer(200, text, "text/plain;charset=utf-8", headers + [("X-Text-Size", str(start + len(part)))])


def main():
    jenkins = Jenkins()
    if len(sys.argv) > 1:
        with open(sys.argv[1], encoding="utf-8") as file:
            jenkins.configure(json.load(file))
    Handler.jenkins = jenkins
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"port {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
