#!/usr/bin/env python3
"""A Kubernetes API server as far as kubectl needs one: deployments, replica sets, pods and their logs, with a rollout
controller whose speed and failures can be chosen. Python's standard library only; `--tls` also needs the program openssl.

It prints `ready PORT` and serves until it is killed or its standard input, if that is a pipe, is closed.

    kubernetes.py [--port 0] [--tls FOLDER] [--kubeconfig FILE] [--rules FILE] [--deployment NAME=IMAGE*REPLICAS[@NAMESPACE]]...

The tag of an image decides what becomes of its pods: `bad...` crash-loops, `nopull...` cannot be pulled, `slow...` takes very
long, `unready...` runs and never gets ready, anything else comes up. Who asks is told by the bearer token, over TLS:
`token-of-bot` may do all, `token-of-reader` may only read and not pods, `token-of-deployer` may do all but with pods, `token-of-role`
what the rules in the file of `--rules` allow (the JSON of a Role's), anybody else is refused with 401.

For tests: `GET /_double/set?lag=0.5&step=0.05&ready=0.1&fail=3&hold=1` changes the clockwork (see `Clockwork`), and
`GET /_double/requests` lists what was asked, `METHOD PATH` each.

Written from the API conventions, rollout_status.go, rollback.go and history.go of kubectl, and the deployment controller.
"""

import argparse
import copy
import datetime
import hashlib
import json
import os
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "deployment.kubernetes.io/revision"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
USERS = {"token-of-bot": "bot", "token-of-reader": "reader", "token-of-deployer": "deployer", "token-of-role": "role"}
# What a Role allows, rule by rule.
RULES = []
CRASH_LOG = [
    "shop is starting",
    "reading the configuration",
    "panic: missing env STRIPE_KEY (main.rs:88)",
    "note: run with a backtrace to see more",
    "bye",
]
# By which key the elements of a list are told apart (patchMergeKey in the API's types); other lists are replaced.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
RESOURCES = {
    "": [
        ("namespaces", "namespace", "Namespace", False),
        ("pods", "pod", "Pod", True),
        ("events", "event", "Event", True),
        # What manifests name: there are none of them here, and nobody makes any.
        ("configmaps", "configmap", "ConfigMap", True),
        ("secrets", "secret", "Secret", True),
        ("services", "service", "Service", True),
        ("persistentvolumeclaims", "persistentvolumeclaim", "PersistentVolumeClaim", True),
    ],
    "apps": [("deployments", "deployment", "Deployment", True), ("replicasets", "replicaset", "ReplicaSet", True)],
    "rbac.authorization.k8s.io": [("roles", "role", "Role", True), ("rolebindings", "rolebinding", "RoleBinding", True)],
}
SHORT = {"pods": ["po"], "deployments": ["deploy"], "replicasets": ["rs"], "namespaces": ["ns"]}
KINDS = {name: kind for rows in RESOURCES.values() for (name, _, kind, _) in rows}


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Status(Exception):
    """An answer that is a refusal."""

    def __init__(self, code, reason, message):
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def body(self):
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }


class Clockwork:
    """How fast the world goes. Seconds, or counts."""

    def __init__(self):
        self.lag = 0.0  # the controller sees a change so much later
        self.step = 0.05  # between two steps of a rollout
        self.ready = 0.1  # until a good pod is ready
        self.fail = 0  # so many of the next requests are answered with 503
        self.hold = 0  # 1: the controller does nothing at all


class World:
    """All objects, and the history of their changes for whoever watches."""

    def __init__(self):
        self.lock = threading.Condition(threading.RLock())
        self.objects = {name: {} for name in KINDS}
        self.version = 100
        self.events = []  # (version, resource, type, object)
        self.clock = Clockwork()
        self.requests = []
        self.serial = 0
        self.changed_at = {}  # uid of a deployment -> when its generation changed
        self.stepped_at = {}
        self.progress_at = {}
        for name in ("default", "web"):
            self.put("namespaces", "ADDED", {"metadata": {"name": name}, "status": {"phase": "Active"}})

    def put(self, resource, kind, thing):
        with self.lock:
            self.version += 1
            meta = thing["metadata"]
            meta["resourceVersion"] = str(self.version)
            if kind == "ADDED":
                self.serial += 1
                meta.setdefault("uid", f"00000000-0000-4000-8000-{self.serial:012d}")
                meta.setdefault("creationTimestamp", now())
            thing["kind"] = KINDS[resource]
            thing["apiVersion"] = "apps/v1" if resource in ("deployments", "replicasets") else "v1"
            self.objects[resource][(meta.get("namespace", ""), meta["name"])] = thing
            self.events.append((self.version, resource, kind, copy.deepcopy(thing)))
            self.lock.notify_all()

    def drop(self, resource, thing):
        with self.lock:
            meta = thing["metadata"]
            self.objects[resource].pop((meta.get("namespace", ""), meta["name"]), None)
            self.version += 1
            gone = copy.deepcopy(thing)
            gone["metadata"]["resourceVersion"] = str(self.version)
            self.events.append((self.version, resource, "DELETED", gone))
            self.lock.notify_all()

    def owned(self, resource, owner):
        uid = owner["metadata"]["uid"]
        things = self.objects[resource].values()
        return [t for t in things if any(o["uid"] == uid for o in t["metadata"].get("ownerReferences", []))]


# === The deployment controller ===


def pruned(value):
    """Without nulls and empty maps, which clients send and a typed API drops."""
    if isinstance(value, dict):
        inner = {k: pruned(v) for k, v in value.items()}
        return {k: v for k, v in inner.items() if v is not None and v != {}}
    return [pruned(one) for one in value] if isinstance(value, list) else value


def template_hash(template):
    plain = pruned(template)
    (plain.get("metadata", {}).get("labels") or {}).pop("pod-template-hash", None)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]


def revision_of(thing):
    return int(thing["metadata"].get("annotations", {}).get(REVISION, "0"))


def owner_of(kind, thing):
    meta = thing["metadata"]
    return [{"apiVersion": "apps/v1", "kind": kind, "name": meta["name"], "uid": meta["uid"], "controller": True}]


def fate(template):
    """What becomes of a pod: good, bad, nopull, slow, unready."""
    for container in template["spec"]["containers"]:
        tag = container["image"].rpartition(":")[2]
        for kind in ("bad", "nopull", "slow", "unready"):
            if tag.startswith(kind):
                return kind
    return "good"


def sync_sets(world, deployment):
    """Finds or makes the replica set of the template and gives it the newest revision."""
    sets = world.owned("replicasets", deployment)
    wanted = template_hash(deployment["spec"]["template"])
    current = next((s for s in sets if s["metadata"]["labels"]["pod-template-hash"] == wanted), None)
    newest = max((revision_of(s) for s in sets), default=0)
    meta = deployment["metadata"]
    carried = {k: v for k, v in meta.get("annotations", {}).items() if k not in (LAST_APPLIED, REVISION)}
    if current is None:
        template = copy.deepcopy(deployment["spec"]["template"])
        labels = dict(template.get("metadata", {}).get("labels") or {}, **{"pod-template-hash": wanted})
        template.setdefault("metadata", {})["labels"] = labels
        current = {
            "metadata": {
                "name": f"{meta['name']}-{wanted}",
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": dict(carried, **{REVISION: str(newest + 1)}),
                "ownerReferences": owner_of("Deployment", deployment),
                "generation": 1,
            },
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
            "status": {"replicas": 0},
        }
        world.put("replicasets", "ADDED", current)
        sets.append(current)
        world.progress_at[meta["uid"]] = time.monotonic()
    else:
        if revision_of(current) < newest:
            carried[REVISION] = str(newest + 1)
            world.progress_at[meta["uid"]] = time.monotonic()
        else:
            carried[REVISION] = str(newest)
        if current["metadata"]["annotations"] != carried:
            current["metadata"]["annotations"] = carried
            world.put("replicasets", "MODIFIED", current)
    meta.setdefault("annotations", {})[REVISION] = current["metadata"]["annotations"][REVISION]
    return current, [s for s in sets if s is not current]


def new_pod(world, replica_set):
    world.serial += 1
    meta = replica_set["metadata"]
    suffix = hashlib.sha256(str(world.serial).encode()).hexdigest()[:5]
    containers = replica_set["spec"]["template"]["spec"]["containers"]
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    statuses = [
        {"name": c["name"], "image": c["image"], "ready": False, "restartCount": 0, "state": waiting, "lastState": {}}
        for c in containers
    ]
    pod = {
        "metadata": {
            "name": f"{meta['name']}-{suffix}",
            "namespace": meta["namespace"],
            "labels": dict(meta["labels"]),
            "ownerReferences": owner_of("ReplicaSet", replica_set),
        },
        "spec": copy.deepcopy(replica_set["spec"]["template"]["spec"]),
        "status": {"phase": "Pending", "containerStatuses": statuses, "conditions": ready_condition(False)},
        "_born": time.monotonic(),
    }
    world.put("pods", "ADDED", pod)
    return pod


def ready_condition(ready):
    return [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now()}]


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])


def age_pod(world, pod):
    age, kind = time.monotonic() - pod["_born"], fate({"spec": pod["spec"]})
    before = json.dumps(pod["status"], sort_keys=True)
    ready_after = world.clock.ready
    for status in pod["status"]["containerStatuses"]:
        if kind in ("good", "unready") and age >= ready_after and "running" not in status["state"]:
            status.update(state={"running": {"startedAt": now()}}, ready=kind == "good")
            pod["status"].update(phase="Running", conditions=ready_condition(kind == "good"))
        elif kind == "bad" and age >= ready_after:
            ended = {"exitCode": 2, "reason": "Error", "startedAt": pod["metadata"]["creationTimestamp"], "finishedAt": pod["metadata"]["creationTimestamp"]}
            message = f"back-off 40s restarting failed container={status['name']} pod={pod['metadata']['name']}"
            status.update(
                state={"waiting": {"reason": "CrashLoopBackOff", "message": message}},
                lastState={"terminated": ended},
                restartCount=4,
            )
            pod["status"]["phase"] = "Running"
        elif kind == "nopull" and age >= ready_after:
            message = f'Back-off pulling image "{status["image"]}": manifest unknown'
            status["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
    if json.dumps(pod["status"], sort_keys=True) != before:
        world.put("pods", "MODIFIED", pod)


def share(value, replicas, up):
    if isinstance(value, str) and value.endswith("%"):
        part = replicas * int(value[:-1])
        return -(-part // 100) if up else part // 100
    return int(value)


def step_rollout(world, deployment, current, old):
    """One step: a new pod more, or an old one less. Gives whether something was done."""
    spec = deployment["spec"]
    replicas = spec.get("replicas", 1)
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge", "25%"), replicas, True)
    unavailable = share(rolling.get("maxUnavailable", "25%"), replicas, False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    new_pods = world.owned("pods", current)
    old_pods = [pod for s in old for pod in world.owned("pods", s)]
    available = sum(is_ready(pod) for pod in new_pods + old_pods)
    if len(new_pods) > replicas:
        world.drop("pods", new_pods[-1])
        return True
    done = False
    sick = [pod for pod in old_pods if not is_ready(pod)]
    if sick:
        world.drop("pods", sick[0])
        old_pods.remove(sick[0])
        done = True
    elif old_pods and available > replicas - unavailable:
        world.drop("pods", old_pods.pop())
        done = True
    if len(new_pods) < replicas and len(new_pods) + len(old_pods) < replicas + surge:
        new_pod(world, current)
        done = True
    return done


def condition(kind, status, reason, message):
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastUpdateTime": now(), "lastTransitionTime": now()}


def sync_status(world, deployment, current, old):
    replicas = deployment["spec"].get("replicas", 1)
    uid = deployment["metadata"]["uid"]
    new_pods = world.owned("pods", current) if current else []
    old_pods = [pod for s in old for pod in world.owned("pods", s)]
    ready = sum(is_ready(pod) for pod in new_pods + old_pods)
    status = {"observedGeneration": deployment["metadata"]["generation"]}
    counts = {
        "replicas": len(new_pods) + len(old_pods),
        "updatedReplicas": len(new_pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, replicas - ready),
    }
    before = deployment.get("status", {})
    progress = ("updatedReplicas", "replicas", "availableReplicas")
    if any(counts[k] != before.get(k, 0) for k in progress):
        world.progress_at[uid] = time.monotonic()
    # As in Go's JSON, a zero is left out.
    status.update({k: v for k, v in counts.items() if v})
    name = current["metadata"]["name"] if current else ""
    waited = time.monotonic() - world.progress_at.get(uid, time.monotonic())
    whole = len(new_pods) == replicas and not old_pods and ready == replicas
    held = next((c for c in before.get("conditions", []) if c["type"] == "Progressing"), {})
    if deployment["spec"].get("paused"):
        progressing = condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    elif whole:
        progressing = condition("Progressing", "True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
    elif waited > deployment["spec"].get("progressDeadlineSeconds", 600) or (
        held.get("reason") == "ProgressDeadlineExceeded" and before.get("observedGeneration") == status["observedGeneration"]
    ):
        progressing = condition("Progressing", "False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.')
    else:
        progressing = condition("Progressing", "True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    available = condition("Available", "True" if ready >= replicas - replicas // 4 else "False", "MinimumReplicas", "")
    status["conditions"] = [available, progressing]

    def plain(value):
        value = copy.deepcopy(value)
        for one in value.get("conditions", []):
            one.pop("lastUpdateTime", None)
            one.pop("lastTransitionTime", None)
        return value

    if plain(status) != plain(before):
        deployment["status"] = status
        return True
    return False


def sync(world, deployment):
    """One round of the controller for one deployment."""
    uid, clock = deployment["metadata"]["uid"], world.clock
    for replica_set in world.owned("replicasets", deployment):
        for pod in world.owned("pods", replica_set):
            age_pod(world, pod)
    seen = deployment.get("status", {}).get("observedGeneration", 0)
    late = seen < deployment["metadata"]["generation"] and time.monotonic() - world.changed_at.get(uid, 0) < clock.lag
    if clock.hold or late:
        return
    had = deployment["metadata"].get("annotations", {}).get(REVISION)
    if deployment["spec"].get("paused"):
        sets = world.owned("replicasets", deployment)
        current = max(sets, key=revision_of, default=None)
        old = [s for s in sets if s is not current]
    else:
        current, old = sync_sets(world, deployment)
        if time.monotonic() - world.stepped_at.get(uid, 0) >= clock.step and step_rollout(world, deployment, current, old):
            world.stepped_at[uid] = time.monotonic()
    for replica_set in [current, *old] if current else []:
        pods = world.owned("pods", replica_set)
        counts = {"replicas": len(pods), "readyReplicas": sum(is_ready(pod) for pod in pods)}
        if replica_set["status"] != counts:
            replica_set["status"] = counts
            replica_set["spec"]["replicas"] = len(pods)
            world.put("replicasets", "MODIFIED", replica_set)
    if sync_status(world, deployment, current, old) or deployment["metadata"].get("annotations", {}).get(REVISION) != had:
        world.put("deployments", "MODIFIED", deployment)


def control(world):
    while True:
        time.sleep(0.02)
        with world.lock:
            for deployment in list(world.objects["deployments"].values()):
                sync(world, deployment)


def settle(world, name, image, replicas, namespace):
    """A deployment as it is after its first rollout."""
    body = {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": image}]},
            },
        },
    }
    deployment = create(world, "deployments", namespace, body)
    current, _ = sync_sets(world, deployment)
    for _ in range(replicas):
        pod = new_pod(world, current)
        pod["_born"] -= 3600
        age_pod(world, pod)
    sync_status(world, deployment, current, [])
    world.put("deployments", "MODIFIED", deployment)


# === Requests ===


def create(world, resource, namespace, body):
    meta = body.setdefault("metadata", {})
    if (namespace, meta["name"]) in world.objects[resource]:
        raise Status(409, "AlreadyExists", f'{resource} "{meta["name"]}" already exists')
    if resource != "namespaces":
        if ("", namespace) not in world.objects["namespaces"]:
            raise Status(404, "NotFound", f'namespaces "{namespace}" not found')
        meta["namespace"] = namespace
    if resource == "deployments":
        meta["generation"] = 1
        body["spec"] = pruned(body["spec"])
        body["spec"].setdefault("replicas", 1)
        body["spec"].setdefault("progressDeadlineSeconds", 600)
        body["spec"].setdefault("strategy", {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        body["status"] = {}
    world.put(resource, "ADDED", body)
    if resource == "deployments":
        world.changed_at[meta["uid"]] = time.monotonic()
    return body


def merge(target, patch, key=None, strategic=False):
    """A JSON merge patch (RFC 7386), or a strategic one, whose lists are merged by key."""
    if isinstance(patch, dict):
        if strategic and patch.get("$patch") == "replace":
            return {k: v for k, v in patch.items() if k != "$patch"}
        target = dict(target) if isinstance(target, dict) else {}
        for name, value in patch.items():
            if strategic and name.startswith("$"):
                continue
            if value is None:
                target.pop(name, None)
            else:
                target[name] = merge(target.get(name), value, name, strategic)
        return target
    by = MERGE_KEYS.get(key) if strategic else None
    if isinstance(patch, list) and by and all(isinstance(one, dict) for one in patch):
        out = list(target or [])
        for one in patch:
            at = next((i for i, old in enumerate(out) if old.get(by) == one.get(by)), None)
            if one.get("$patch") == "delete":
                out = [old for old in out if old.get(by) != one.get(by)]
            elif at is None:
                out.append(merge({}, one, None, strategic))
            else:
                out[at] = merge(out[at], one, None, strategic)
        return out
    return patch


def json_patch(target, operations):
    """RFC 6902 without move and copy."""
    for operation in operations:
        *parents, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
        place = target
        try:
            for name in parents:
                place = place[int(name)] if isinstance(place, list) else place[name]
            kind = operation["op"]
            if kind == "test":
                if (place[int(last)] if isinstance(place, list) else place.get(last)) != operation["value"]:
                    raise Status(422, "Invalid", "the server rejected our request due to an error in our request")
            elif kind == "remove":
                del place[int(last) if isinstance(place, list) else last]
            elif kind == "replace" and last not in place and not isinstance(place, list):
                raise KeyError(last)
            elif isinstance(place, list):
                place.insert(len(place) if last == "-" else int(last), operation["value"])
            else:
                place[last] = operation["value"]
        except (KeyError, IndexError, ValueError, TypeError) as fault:
            raise Status(422, "Invalid", f"the path {operation['path']} is missing") from fault
    return target


def labels_match(thing, selector):
    labels = thing["metadata"].get("labels") or {}
    for part in filter(None, (selector or "").split(",")):
        name, _, value = part.replace("==", "=").partition("=")
        if name.endswith("!"):
            if labels.get(name[:-1]) == value:
                return False
        elif labels.get(name) != value:
            return False
    return True


def fields_match(thing, selector):
    for part in filter(None, (selector or "").split(",")):
        name, _, value = part.partition("=")
        place = thing
        for step in name.split("."):
            place = place.get(step, "") if isinstance(place, dict) else ""
        if str(place) != value.lstrip("="):
            return False
    return True


def outside(thing):
    return {k: v for k, v in thing.items() if not k.startswith("_")}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = None
    secure = False

    def log_message(self, *args):
        pass

    def answer(self, body, code=200, kind="application/json"):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle_any(self):
        world = self.world
        url = urllib.parse.urlsplit(self.path)
        query = {k: v[-1] for k, v in urllib.parse.parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        try:
            if url.path.startswith("/_double/"):
                return self.double(url.path, query)
            with world.lock:
                world.requests.append(f"{self.command} {url.path}")
                if world.clock.fail > 0:
                    world.clock.fail -= 1
                    raise Status(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            user = self.who()
            if self.discovery(url.path):
                return None
            return self.resource(user, url.path, query, raw)
        except Status as refusal:
            return self.answer(refusal.body(), refusal.code)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any

    def who(self):
        if not self.secure:
            return "bot"
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in USERS:
            raise Status(401, "Unauthorized", "Unauthorized")
        return USERS[token]

    def double(self, path, query):
        world = self.world
        with world.lock:
            if path == "/_double/set":
                # kubectl adds a timeout of its own to every query.
                for name, value in [(k, v) for k, v in query.items() if hasattr(world.clock, k)]:
                    setattr(world.clock, name, type(getattr(world.clock, name))(float(value)))
                return self.answer({"ok": True})
            if path == "/_double/requests":
                return self.answer("\n".join(world.requests) + "\n", kind="text/plain")
        return self.answer({"ok": False}, 404)

    def discovery(self, path):
        if path == "/version":
            version = {"major": "1", "minor": "32", "gitVersion": "v1.32.4", "platform": "linux/amd64"}
            self.answer(version)
        elif path == "/api":
            self.answer({"kind": "APIVersions", "versions": ["v1"]})
        elif path == "/apis":
            versions = [(name, {"groupVersion": f"{name}/v1", "version": "v1"}) for name in RESOURCES if name]
            groups = [{"name": name, "versions": [one], "preferredVersion": one} for (name, one) in versions]
            self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        elif path == "/api/v1" or path in [f"/apis/{name}/v1" for name in RESOURCES if name]:
            group = path.split("/")[2] if path.startswith("/apis/") else ""
            verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
            rows = [
                {"name": name, "singularName": one, "kind": kind, "namespaced": spaced, "verbs": verbs, "shortNames": SHORT.get(name, [])}
                for (name, one, kind, spaced) in RESOURCES[group]
            ]
            version = f"{group}/v1" if group else "v1"
            self.answer({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": rows})
        else:
            return False
        return True

    def resource(self, user, path, query, raw):
        parts = path.strip("/").split("/")
        parts = parts[3:] if parts[0] == "apis" else parts[2:]
        namespace = ""
        if parts and parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        if not parts or parts[0] not in KINDS:
            raise Status(404, "NotFound", "the server could not find the requested resource")
        resource, name, sub = parts[0], (parts[1:] + [""])[0], (parts[2:] + [""])[0]
        verb = {"PATCH": "patch", "POST": "create", "PUT": "update", "DELETE": "delete"}.get(self.command)
        verb = verb or ("get" if name else "list")
        hidden = user != "bot" and resource in ("pods", "namespaces")
        if user == "role":
            group, whole = ("apps" if resource in ("deployments", "replicasets") else ""), f"{resource}/{sub}" if sub else resource
            allows = lambda rule: group in rule["apiGroups"] and whole in rule["resources"] and verb in rule["verbs"]
            hidden = not any(allows(rule) for rule in RULES)
        if hidden or (user == "reader" and self.command != "GET"):
            group = "apps" if resource in ("deployments", "replicasets") else ""
            full = f"{resource}.apps" if group else resource
            target = f' "{name}"' if name else ""
            raise Status(
                403,
                "Forbidden",
                f'{full}{target} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group "{group}" in the namespace "{namespace}"',
            )
        if self.command == "GET" and not name:
            if query.get("watch") in ("true", "1"):
                return self.watch(resource, namespace, query)
            return self.list(resource, namespace, query)
        world = self.world
        with world.lock:
            if self.command == "POST":
                return self.answer(outside(create(world, resource, namespace, json.loads(raw))), 201)
            thing = world.objects[resource].get((namespace, name))
            if thing is None:
                full = f"{resource}.apps" if resource in ("deployments", "replicasets") else resource
                raise Status(404, "NotFound", f'{full} "{name}" not found')
            if sub == "log":
                return self.log(thing, query)
            if self.command == "PATCH":
                thing = self.patch(resource, thing, raw)
            elif self.command == "DELETE":
                world.drop(resource, thing)
            elif self.command != "GET":
                raise Status(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            return self.answer(outside(thing))

    def list(self, resource, namespace, query):
        world = self.world
        with world.lock:
            items = self.chosen(resource, namespace, query)
            items = [{k: v for k, v in outside(one).items() if k not in ("kind", "apiVersion")} for one in items]
            version = "apps/v1" if resource in ("deployments", "replicasets") else "v1"
            meta = {"resourceVersion": str(world.version)}
            # kubectl and its informers want the kind of a list.
            return self.answer({"kind": KINDS[resource] + "List", "apiVersion": version, "metadata": meta, "items": items})

    def chosen(self, resource, namespace, query):
        return [one for one in self.world.objects[resource].values() if self.fits(one, namespace, query)]

    @staticmethod
    def fits(thing, namespace, query):
        inside = not namespace or thing["metadata"].get("namespace") == namespace
        return inside and labels_match(thing, query.get("labelSelector")) and fields_match(thing, query.get("fieldSelector"))

    def watch(self, resource, namespace, query):
        world = self.world
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def send(kind, thing):
            data = json.dumps({"type": kind, "object": outside(thing)}).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        try:
            since = int(query.get("resourceVersion") or 0)
            if query.get("sendInitialEvents") == "true" or since == 0:
                with world.lock:
                    first, since = copy.deepcopy(self.chosen(resource, namespace, query)), world.version
                for thing in first:
                    send("ADDED", thing)
                mark = {"annotations": {"k8s.io/initial-events-end": "true"}, "resourceVersion": str(since)}
                version = "apps/v1" if resource in ("deployments", "replicasets") else "v1"
                if query.get("allowWatchBookmarks") == "true":
                    send("BOOKMARK", {"kind": KINDS[resource], "apiVersion": version, "metadata": mark})
            until = time.monotonic() + float(query.get("timeoutSeconds") or 300)
            while time.monotonic() < until:
                with world.lock:
                    if not world.events or world.events[-1][0] <= since:
                        world.lock.wait(0.2)
                    fresh = [e for e in world.events if e[0] > since]
                    since = world.version if fresh else since
                for _, what, kind, thing in fresh:
                    if what == resource and self.fits(thing, namespace, query):
                        send(kind, thing)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def log(self, pod, query):
        kind = fate({"spec": pod["spec"]})
        status = pod["status"]["containerStatuses"][0]
        if kind == "bad":
            # What runs now has not come so far yet; what ran before has said why it ended.
            lines = CRASH_LOG if query.get("previous") == "true" else CRASH_LOG[:1]
        elif query.get("previous") == "true":
            raise Status(400, "BadRequest", f'previous terminated container "{status["name"]}" in pod "{pod["metadata"]["name"]}" not found')
        elif "waiting" in status["state"]:
            reason = f'container "{status["name"]}" in pod "{pod["metadata"]["name"]}" is waiting to start: trying and failing to pull image'
            raise Status(400, "BadRequest", reason)
        elif kind == "unready":
            lines = ["shop is starting", "cannot reach the database at db:5432: connection refused"]
        else:
            lines = ["shop is starting", "listening on :8080"]
        tail = int(query.get("tailLines") or len(lines))
        text = "".join(line + "\n" for line in lines[-tail:] if tail)
        return self.answer(text, kind="text/plain")

    def patch(self, resource, thing, raw):
        world, before = self.world, copy.deepcopy(thing)
        body = json.loads(raw)
        kind = self.headers.get("Content-Type", "").split(";")[0]
        fresh = copy.deepcopy(thing)
        if kind == "application/json-patch+json":
            fresh = json_patch(fresh, body)
        elif kind in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            fresh = merge(fresh, body, strategic="strategic" in kind)
        else:
            raise Status(415, "UnsupportedMediaType", f"the body of the request was in an unknown format - {kind}")
        fresh["status"] = before.get("status", {})
        if resource == "deployments":
            fresh["spec"] = pruned(fresh["spec"])
        if json.dumps(fresh, sort_keys=True, default=str) == json.dumps(before, sort_keys=True, default=str):
            return thing
        if resource == "deployments" and fresh["spec"] != before["spec"]:
            fresh["metadata"]["generation"] = before["metadata"]["generation"] + 1
            world.changed_at[fresh["metadata"]["uid"]] = time.monotonic()
            world.progress_at[fresh["metadata"]["uid"]] = time.monotonic()
        world.put(resource, "MODIFIED", fresh)
        return fresh


# === The start ===


def certificate(folder):
    """A certificate for 127.0.0.1, which is also the authority that proves it."""
    key, cert = os.path.join(folder, "double.key"), os.path.join(folder, "double.crt")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=kubernetes-double", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return key, cert


def kubeconfig(path, server, authority):
    """One context for each user; `unproven` does not know the authority."""
    known = {"server": server, "certificate-authority": authority} if authority else {"server": server}
    names = {"prod": "bot", "reader": "reader", "deployer": "deployer", "role": "role", "nobody": "nobody"}
    contexts = {name: (f"token-of-{user}", "here") for name, user in names.items()}
    contexts["unproven"] = ("token-of-bot", "unproven")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": known}, {"name": "unproven", "cluster": {"server": server}}],
        "users": [{"name": name, "user": {"token": token}} for name, (token, _) in contexts.items()],
        "contexts": [{"name": name, "context": {"cluster": cluster, "user": name}} for name, (_, cluster) in contexts.items()],
        "current-context": "prod",
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)


def end_with_parent():
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        sys.stdin.buffer.read()
        os._exit(0)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        fault = sys.exc_info()[1]
        # Whoever goes away in the middle is no fault of ours.
        if not isinstance(fault, (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", metavar="FOLDER")
    parser.add_argument("--kubeconfig", metavar="FILE")
    parser.add_argument("--deployment", action="append", default=[])
    parser.add_argument("--rules", metavar="FILE")
    chosen = parser.parse_args()
    if chosen.rules:
        RULES.extend(json.load(open(chosen.rules, encoding="utf-8")))
    world = World()
    for row in chosen.deployment:
        row, _, namespace = row.partition("@")
        name, _, image = row.partition("=")
        image, _, replicas = image.partition("*")
        settle(world, name, image, int(replicas or 1), namespace or "default")
    Handler.world, Handler.secure = world, bool(chosen.tls)
    server = Server(("127.0.0.1", chosen.port), Handler)
    authority = None
    if chosen.tls:
        key, authority = certificate(chosen.tls)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority, key)
        # The handshake belongs into the thread of the connection, or one bad client stops all.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    port = server.server_address[1]
    if chosen.kubeconfig:
        kubeconfig(chosen.kubeconfig, f"{'https' if chosen.tls else 'http'}://127.0.0.1:{port}", authority)
    threading.Thread(target=control, args=(world,), daemon=True).start()
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(f"ready {port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
