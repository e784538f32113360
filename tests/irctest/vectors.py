"""How other bots do with the parser vectors of tests/vectors: `vectors.py limnoria` or `vectors.py sopel`, where pip has installed
that bot and PyYAML."""

import pathlib
import sys

import yaml

VECTORS = pathlib.Path(__file__).parent.parent / "vectors"


def vectors(name):
    return yaml.safe_load((VECTORS / f"{name}.yaml").read_text())["tests"]


def tags(of):
    """A tag without a value is the same as one with an empty value."""
    return {key: value or "" for key, value in (of or {}).items()}


def wanted(atoms):
    return atoms.get("verb", "").upper(), atoms.get("params", []), atoms.get("source") or "", tags(atoms.get("tags"))


def limnoria():
    from supybot import ircmsgs, ircutils

    def split(line):
        it = ircmsgs.IrcMsg(line + "\r\n")
        return it.command.upper(), list(it.args), it.prefix or "", tags(it.server_tags)

    def join(atoms):
        it = ircmsgs.IrcMsg(
            prefix=atoms.get("source", ""),
            command=atoms["verb"],
            args=atoms.get("params", []),
            server_tags=atoms.get("tags"),
        )
        return str(it).rstrip("\r\n")

    return split, join, ircutils.hostmaskPatternEqual


def sopel():
    from sopel.tools import Identifier
    from sopel.trigger import PreTrigger

    def split(line):
        it = PreTrigger(Identifier("chief"), line)
        return (it.event or "").upper(), list(it.args), it.hostmask or "", tags(it.tags)

    # It composes lines in several places and matches masks with expressions of its own.
    return split, None, None


def count(name, cases, passes):
    good = 0
    for case in cases:
        try:
            passed = passes(case)
        except Exception:  # noqa: BLE001 what a bot raises is no answer
            passed = False
        good += passed
        if not passed:
            print("not:", case.get("input") or case.get("desc") or case.get("mask"))
    print(f"{name}: {good} of {len(cases)}")


split, join, match = {"limnoria": limnoria, "sopel": sopel}[sys.argv[1]]()
count("msg-split", vectors("msg-split"), lambda case: split(case["input"]) == wanted(case["atoms"]))
if join:
    count("msg-join", vectors("msg-join"), lambda case: join(case["atoms"]) in case["matches"])
if match:
    count(
        "mask-match",
        vectors("mask-match"),
        lambda case: all(match(case["mask"], text) for text in case.get("matches", []))
        and not any(match(case["mask"], text) for text in case.get("fails", [])),
    )
