"""Follow a job from a program: read the lines of `zlb-submit --json`. Prints the three smallest hits of a range."""

import json
import subprocess
from pathlib import Path

SUBMIT = Path(__file__).resolve().parent.parent / "bin" / "zlb-submit"
JOB = ["--range", ":200k", "--difficulty", "14", "--all", "--json", "--quiet"]

hits = []
with subprocess.Popen([SUBMIT, *JOB], stdout=subprocess.PIPE, text=True) as job:
    assert job.stdout is not None
    for line in job.stdout:
        event = json.loads(line)
        if event["event"] == "hit":
            hits.append(int(event["n"]))  # integers travel as strings: JavaScript would round them

for n in sorted(hits)[:3]:
    print(n)
