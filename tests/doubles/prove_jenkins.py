#!/usr/bin/env python3
"""Proves the double of Jenkins with a client that others wrote: python-jenkins from PyPI, password and crumb.

Usage: prove_jenkins.py   starts jenkins.py beside it; prints `proven` and ends with 0, or fails with what is wrong.
"""
import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

# The client has the name of the double beside this file, and it is the client that is meant.
sys.path = [folder for folder in sys.path if pathlib.Path(folder or ".").resolve() != pathlib.Path(__file__).parent.resolve()]
import jenkins  # noqa: E402

CONFIG = {
    "executors": 2,
    "users": {"bot": {"password": "secret-pass", "token": "11aa"}},
    "jobs": {
        "shop/image": {
            "parameters": [
                {"name": "TAG", "type": "StringParameterDefinition", "default": "latest"},
                {"name": "ENV", "type": "ChoiceParameterDefinition", "choices": ["dev", "prod"]},
            ],
            "quiet_ms": 700,
            "steps": [[50, "building ${TAG} for ${ENV}"]],
            "artifacts": {"out/mc-output.json": {"IMAGE": "shop:7"}},
        },
        "long": {"hold": True, "steps": [[0, "waiting"]]},
    },
}


def until(what, check):
    for _ in range(200):
        value = check()
        if value:
            return value
        time.sleep(0.05)
    raise SystemExit(f"{what} did not happen")


def refused(status, work):
    try:
        work()
    except urllib.error.HTTPError as fault:
        assert fault.code == status, f"{fault.code} instead of {status}"
        return
    raise SystemExit(f"{status} was expected")


def prove(url):
    refused(403, lambda: urllib.request.urlopen(url + "/api/json"))
    refused(401, lambda: jenkins_request(url, "POST", "job/long/build", "wrong"))
    refused(403, lambda: jenkins_request(url, "POST", "job/long/build", "secret-pass"))
    refused(400, lambda: jenkins_request(url, "POST", "job/long/buildWithParameters", "11aa"))

    server = jenkins.Jenkins(url, username="bot", password="secret-pass")
    assert server.job_exists("shop/image") and not server.job_exists("shop/nothing")
    item = server.build_job("shop/image", {"TAG": "7", "ENV": "prod"})
    waiting = server.get_queue_item(item)
    assert waiting["why"].startswith("In the quiet period"), waiting
    assert [one["id"] for one in server.get_queue_info()] == [item]
    # An equal one is merged into it, another is not. The page of an item is no page: whoever follows the 303 gets 404.
    equal = jenkins.requests.Request("POST", server.build_job_url("shop/image", {"TAG": "7", "ENV": "prod"}))
    server.maybe_add_crumb(equal)
    merged = server._session.send(server._session.prepare_request(equal), allow_redirects=False)
    assert merged.status_code == 303 and merged.headers["Location"] == f"{url}/queue/item/{item}/", merged.headers
    other = server.build_job("shop/image", {"TAG": "8", "ENV": "prod"})
    assert other != item
    server.cancel_queue(other)
    assert server.get_queue_item(other)["cancelled"] is True
    number = until("the start", lambda: (server.get_queue_item(item).get("executable") or {}).get("number"))
    info = until("the end", lambda: (lambda info: not info["building"] and info)(server.get_build_info("shop/image", number)))
    assert info["result"] == "SUCCESS" and info["queueId"] == item, info
    console = server.get_build_console_output("shop/image", number)
    assert console == "Started by user bot\nBuilding in workspace /w\nbuilding 7 for prod\nFinished: SUCCESS\n", console
    assert server.get_build_artifact("shop/image", number, "out/mc-output.json") == {"IMAGE": "shop:7"}

    item = server.build_job("long")
    number = until("the start", lambda: (server.get_queue_item(item).get("executable") or {}).get("number"))
    assert [build["number"] for build in server.get_job_info("long")["builds"]] == [number]
    server.stop_build("long", number)
    until("the abort", lambda: server.get_build_info("long", number)["result"] == "ABORTED")
    by_token = jenkins.Jenkins(url, username="bot", password="11aa")
    by_token.crumb = False
    by_token.build_job("long")


def jenkins_request(url, method, path, secret):
    request = urllib.request.Request(f"{url}/{path}", method=method)
    request.add_header("Authorization", "Basic " + base64.b64encode(f"bot:{secret}".encode()).decode())
    return urllib.request.urlopen(request)


def main():
    here = pathlib.Path(__file__).parent
    for prefix in ("", "/ci"):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
            json.dump({**CONFIG, "prefix": prefix}, config)
            config.flush()
            double = subprocess.Popen([sys.executable, str(here / "jenkins.py"), config.name], stdout=subprocess.PIPE, text=True)
            try:
                port = double.stdout.readline().split()[1]
                prove(f"http://127.0.0.1:{port}{prefix}")
            finally:
                double.kill()
                double.wait()
    print("proven")


if __name__ == "__main__":
    main()
