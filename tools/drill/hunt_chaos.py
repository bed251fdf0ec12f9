"""ckpt-chaos, as it comes: it kills a training at its file events, in every mode, and runs the same command again.

With two ranks it kills the first one, which writes the files. The second must end too, so that both can begin again.
"""
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from train import METHODS

MODES = "before", "torn", "term", "unsynced"
WRONG = "SILENT_DIVERGENCE" # its other verdicts are of results that did not come


def hunt(tally, rng, share, folder):
    here = Path(__file__).resolve().parent
    runs = [(method, 1) for method in METHODS] + [(METHODS[0], 2)] # two processes take three times as long
    for method, ranks in runs if share > .2 else runs[:1]:
        name, points = f"{method}-{ranks}", max(len(MODES), round(16*share))
        report = folder/f"{name}.xml"
        command = [Path(sys.executable).parent/"ckpt-chaos", "run", "--result-file", "{out}/net.safetensors",
                   "--modes", ",".join(MODES), "--max-points", points, "--timeout", 120, "--grace", 1,
                   "--ranks", ranks, "--work", folder/name, "--junit", report, "--", sys.executable, here/"train.py",
                   method, "{out}"]
        run = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, errors="replace")
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
        if run.returncode or len(cases) < len(MODES):
            tally.note("lost result", name, f"exit code {run.returncode}, {len(cases)} cases: {run.stdout[-300:]}")
        for case in cases:
            tally.cases += 1
            for failure in [*case.findall("failure"), *case.findall("error")]:
                words = f"{failure.get('message')} {failure.text}"
                kind = "silent wrong result" if WRONG in words else "lost result"
                tally.note(kind, f"{name}: {case.get('name')}", words)
