#!/usr/bin/env python3
"""A double of OpenTofu for tests: no provider, no state, only what it says.

Its lines are made after OpenTofu's documented machine-readable UI (version, planned_change, change_summary, diagnostic,
apply_start, apply_complete, apply_errored, outputs) and after what Terraform 1.11.4 printed; the boxes around errors and the
words of a build without -json after Terraform 0.15.0-rc2. What it does stands in double.json in its folder:

    {"changes": [["create", "aws_instance.web"]], "seconds": 0.5, "locked": true, "old": true, "fail": "aws_instance.web",
     "stubborn": true, "locks": true, "workspaces": ["default"], "secret": "value of a sensitive output",
     "outputs": true}

Each call is written to a file calls in its folder, one line each.
"""

import json
import os
import signal
import sys
import time

TOLD = json.load(open("double.json"))
CHANGES = TOLD.get("changes", [])
LOCK = """Error message: ConditionalCheckFailedException: the conditional request failed
Lock Info:
  ID:        9db590f1-b6fe-c5f2-2678-8804f089deba
  Path:      states/prod.tfstate
  Operation: OperationTypeApply
  Who:       lee@build-7
  Version:   1.8.2
  Created:   2026-08-22 14:03:09.530193 +0000 UTC
  Info:

OpenTofu acquires a state lock to protect the state from being written
by multiple users at the same time."""
INTERRUPTED = False


def interrupted(_signal, _frame):
    global INTERRUPTED
    INTERRUPTED = not TOLD.get("stubborn")


def say(kind, message, **more):
    print(json.dumps({"@level": "info", "@message": message, "@module": "tofu.ui", "type": kind, **more}), flush=True)


def fault(as_json, summary, detail, **more):
    if as_json:
        say("diagnostic", "Error: " + summary, diagnostic=dict(more, severity="error", summary=summary, detail=detail))
    else:
        box = ["Error: " + summary, "", *detail.splitlines()]
        print("\n".join(["╷", *("│ " + line for line in box), "╵"]), file=sys.stderr)
    sys.exit(1)


def counts(operation):
    actions = [action for action, _ in CHANGES]
    replaced = actions.count("replace")
    add, remove = actions.count("create") + replaced, actions.count("delete") + replaced
    return {"add": add, "change": actions.count("update"), "remove": remove, "operation": operation}


def announce():
    for action, address in CHANGES:
        say("planned_change", f"{address}: Plan to {action}", change={"resource": {"addr": address}, "action": action})


def plan(as_json, out):
    if TOLD.get("locked") or TOLD.get("locks") and os.path.exists("lock"):
        fault(as_json, "Error acquiring the state lock", LOCK)
    if not out:
        return 0
    open(out, "w").write(json.dumps(CHANGES))
    told = counts("plan")
    if as_json:
        say("version", "OpenTofu 1.8.2", tofu="1.8.2", ui="1.2")
        announce()
        say("change_summary", f"Plan: {told['add']} to add", changes=told)
    else:
        print("Plan: %(add)d to add, %(change)d to change, %(remove)d to destroy." % told)
    return 2 if CHANGES or TOLD.get("outputs") else 0


def step(as_json, action, address):
    hook = {"resource": {"addr": address}, "action": action}
    if as_json:
        say("apply_start", f"{address}: Working...", hook=hook)
    end = time.monotonic() + TOLD.get("seconds", 0)
    while time.monotonic() < end:
        time.sleep(0.05)
    if address == TOLD.get("fail"):
        if as_json:
            say("apply_errored", f"{address}: errored after 1s", hook=hook)
        fault(as_json, "creating EC2 Instance", "VcpuLimitExceeded: You have requested more vCPU.", address=address,
              range={"filename": "main.tf", "start": {"line": 12, "column": 1, "byte": 0}})
    if as_json:
        say("apply_complete", f"{address}: complete after 1s", hook=dict(hook, id_key="id", id_value="i-1"))


def apply(as_json, file):
    if json.load(open(file)) != CHANGES:
        fault(as_json, "Saved plan is stale", "The state was changed after the plan was created.")
    if as_json:
        say("version", "OpenTofu 1.8.2", tofu="1.8.2", ui="1.2")
        announce()
    open("lock", "w").close()
    for action, address in CHANGES:
        for part in ("delete", "create") if action == "replace" else (action,):
            step(as_json, part, address)
            if INTERRUPTED:
                fault(as_json, "execution halted", "")
        with open("state", "a") as state:
            state.write(address + "\n")
    os.remove("lock")
    told = counts("apply")
    secret = TOLD.get("secret", "none")
    if as_json:
        say("change_summary", "Apply complete!", changes=told)
        # A sensitive output still has its value here.
        say("outputs", "Outputs: 1", outputs={"key": {"sensitive": True, "type": "string", "value": secret}})
    else:
        print("Apply complete! Resources: %(add)d added, %(change)d changed, %(remove)d destroyed." % told)
        print(f'\nOutputs:\n\nkey = "{secret}"')
    return 0


def show():
    actions = {"create": ["create"], "delete": ["delete"], "update": ["update"], "replace": ["delete", "create"]}
    listed = [{"address": address, "change": {"actions": actions[action], "after": {"key": TOLD.get("secret")}}}
              for action, address in CHANGES]
    # The stray prefix of 0.15.0-rc2 on what goes to a pipe.
    print("o:" + json.dumps({"format_version": "0.1", "resource_changes": listed}))
    return 0


def main(argv):
    with open("calls", "a") as calls:
        calls.write(" ".join(argv) + "\n")
    signal.signal(signal.SIGINT, interrupted)
    as_json = "-json" in argv
    if as_json and TOLD.get("old") and argv[0] in ("plan", "apply"):
        fault(False, "Failed to parse command-line flags", "flag provided but not defined: -json")
    if argv[0] == "plan":
        return plan(as_json, next((word[5:] for word in argv if word.startswith("-out=")), None))
    if argv[0] == "apply":
        return apply(as_json, argv[-1])
    if argv == ["state", "list"]:
        if not os.path.exists("state"):
            print("No state file was found!", file=sys.stderr)
            return 1
        print(open("state").read(), end="")
        return 0
    if argv[0] == "show":
        return show()
    if argv[:2] == ["workspace", "select"] and argv[-1] not in TOLD.get("workspaces", ["default"]):
        print(f'\nWorkspace "{argv[-1]}" doesn\'t exist.\n', file=sys.stderr)
        return 1
    return 0


sys.exit(main(sys.argv[1:]))
