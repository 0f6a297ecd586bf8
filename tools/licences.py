#!/usr/bin/env python3
"""Writes the licences of all crates that are linked into the program to stdout, each text once.

Most of them ask that their notice goes where the program goes. The crates' sources are those that cargo has fetched
for the build.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = "throughline-daemon"
NOTICE = re.compile(r"(licen[cs]e|copying|notice|copyright)([-._].*)?", re.IGNORECASE)


def metadata():
    cargo = os.environ.get("CARGO", "cargo")
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True)).group(1)
    command = [cargo, "metadata", "--format-version=1", "--locked", f"--filter-platform={host}"]
    for more in (["--offline"], []):
        found = subprocess.run([*command, *more], cwd=ROOT, text=True, capture_output=True)
        if found.returncode == 0:
            return json.loads(found.stdout)
    sys.exit(found.stderr)


def linked(graph):
    """The ids of the packages that are linked in: not what only tests or build scripts need."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    open_ids = [package["id"] for package in graph["packages"] if package["name"] == PROGRAM]
    seen = set(open_ids)
    while open_ids:
        for dependency in nodes[open_ids.pop()]["deps"]:
            if dependency["pkg"] not in seen and any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                seen.add(dependency["pkg"])
                open_ids.append(dependency["pkg"])
    return seen


def main():
    graph = metadata()
    wanted = linked(graph)
    crates = [package for package in graph["packages"] if package["id"] in wanted and package["source"]]
    crates.sort(key=lambda package: (package["name"], package["version"]))
    texts = {}
    print("Throughline contains these crates, each under the licence named beside it. Their texts follow.\n")
    for crate in crates:
        name = f"{crate['name']} {crate['version']}"
        of = ", ".join(filter(None, [crate["repository"], *crate["authors"]]))
        print(f"{name}: {crate['license']}; {of}")
        folder = pathlib.Path(crate["manifest_path"]).parent
        for file in sorted(folder.iterdir()):
            if file.is_file() and NOTICE.fullmatch(file.name):
                text = file.read_text(encoding="utf-8", errors="replace").strip()
                texts.setdefault(" ".join(text.split()), (text, []))[1].append(f"{name} ({file.name})")
    for text, files in texts.values():
        print("\n" + "=" * 80)
        print("\n".join(files))
        print("-" * 80)
        print(text)


main()
