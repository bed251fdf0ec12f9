"""Say of every committed result whether the code, packages, parameters and inputs of today would give it again.

    python tools/freshness.py            # a table: result, commit, scale, seeds, minutes, fresh or what has changed

Nothing is run. For the results in dvc.lock, DVC compares parameters, inputs and outputs with those it wrote down, and
the digest of the code (tools/code_digest.py) is compared with the one there. dvc.lock remembers one scale; for another,
the code of today is compared with that of the commit in the result's facts. A result is stale if one that it reads is.
What this clone does not have, such as trained networks before `dvc repro`, counts as unchanged.
"""
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import code_digest  # noqa: E402
from stages import fail, load_yaml, read_stages  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CODE = ["nbs/experiments", "simpool", "requirements.lock", "data/stamps/stamps.npz.dvc", "params.yaml", "results"]


def git(*args):
    "What git answers; nothing where it does not know"
    return subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True).stdout


def parse(lines):
    "Digests by name, of the lines that code_digest writes"
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines.splitlines())}


@cache
def code_now(notebook, scale):
    "Digests of an experiment as the files are"
    return code_digest.digests(ROOT/"nbs"/"experiments"/f"{notebook}.ipynb", scale)


@cache
def checkout(commit):
    "A folder with the code of a commit; None if git does not have it"
    there = git("ls-tree", "--name-only", commit, *CODE).split()
    if not there:
        return None
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit, *there], capture_output=True, check=True)
    folder = tempfile.TemporaryDirectory(prefix="freshness-")
    safely = dict(filter="data") if hasattr(tarfile, "data_filter") else {} # from Python 3.11.4 on
    tarfile.open(fileobj=io.BytesIO(archive.stdout)).extractall(folder.name, **safely)
    return folder # removed at the end of this process


@cache
def code_then(notebook, scale, commit):
    "Digests of an experiment as they were at a commit; None if they cannot be had"
    folder = checkout(commit)
    if folder is None:
        return None
    code_digest.ROOT = Path(folder.name)
    try:
        return code_digest.digests(Path(folder.name, "nbs", "experiments", f"{notebook}.ipynb"), scale)
    except (OSError, ValueError, SyntaxError): # the notebook was not there yet, or the house was another
        return None
    finally:
        code_digest.ROOT = ROOT


def differing(now, then):
    "Names of the modules and files whose digests differ"
    now, then = parse(now), parse(then)
    return sorted(name for name in {*now, *then} if now.get(name) != then.get(name))


def changed_since_lock(notebook, scale, commit, locked):
    "Names of what changed since dvc.lock was written, by the commit whose code has the digest that stands there"
    def md5(text):
        return hashlib.md5((text or "").encode()).hexdigest()
    now = code_now(notebook, scale)
    if md5(now) == locked:
        return []
    for candidate in [commit, *lock_commits()]:
        then = code_then(notebook, scale, candidate)
        if md5(then) == locked:
            return differing(now, then)
    return ["code"]


@cache
def lock_commits():
    "The last commits that wrote dvc.lock"
    return git("log", "-8", "--format=%h", "--", "dvc.lock", "studies/dvc.lock").split()


def locked_stages():
    "Stages of dvc.lock and of the studies: name -> entry"
    files = [f for f in (ROOT/"dvc.lock", ROOT/"studies"/"dvc.lock") if f.exists()]
    entries = {(f, name): e for f in files for name, e in load_yaml(f)["stages"].items()}
    return {name if f.parent == ROOT else f"studies/dvc.yaml:{name}": e for (f, name), e in entries.items()}


def dvc_status():
    "What DVC finds changed besides code: name of a stage -> names of files"
    run = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        fail(f"`dvc status` stopped: {run.stderr.strip().splitlines()[-1]}")
    found = {}
    for name, parts in json.loads(run.stdout).items():
        for part in (p for p in parts if isinstance(p, dict)):
            for file, how in [i for changes in part.values() if isinstance(changes, dict) for i in changes.items()]:
                if isinstance(how, dict) or how == "modified" and not file.startswith(".code"):
                    found.setdefault(name, []).append(file)
        found.setdefault(name, []).extend(["command"]*any("changed command" in p for p in parts))
    return found


def within(path, folders):
    "Whether a path is one of these, in one of them, or holds one of them"
    return any(path == f or path.startswith(f + "/") or f.startswith(path + "/") for f in folders)


def facts_files():
    "Facts of the committed results, as paths: of tables facts.json, of trainings one file a pooling"
    paths = [Path(p) for p in git("ls-files", "results").splitlines()]
    return [p for p in paths if p.suffix == ".json" and p.name != "metrics.json"
            and len(p.parts) > 3 and p.parts[1] != "bench"] # whose speeds hold for their machine


def own_changes(path, facts, locked, status):
    "(stage of dvc.lock or None, what changed for a result, why that cannot be known)"
    scale, name, commit = path.parts[1], path.parent.name, facts["commit"]
    stage = next((s for s, e in locked.items() if within(str(path), [o["path"] for o in e.get("outs", [])])), None)
    notebook = read_stages(scale)[name].notebook.stem
    if stage:
        digest = next(d["md5"] for d in locked[stage]["deps"] if d["path"] == f".code/{notebook}.txt")
        return stage, changed_since_lock(notebook, scale, commit, digest) + status.get(stage, []), ""
    then = code_then(notebook, scale, commit)
    if commit.endswith("+"): # a commit and edits
        return None, [], "made from edited files"
    if then is None:
        return None, [], f"{commit} has no such notebook"
    return None, differing(code_now(notebook, scale), then), ""


def freshness():
    "A row for each committed result: its facts, fresh (None: unknown), and what changed"
    locked, status, rows = locked_stages(), dvc_status(), []
    for path in facts_files():
        facts = json.loads((ROOT/path).read_text())
        stage, changed, unknown = own_changes(path, facts, locked, status)
        name = "/".join(path.parent.parts[1:]) + (f"/{path.stem}" if path.stem != "facts" else "")
        seeds = facts.get("seeds", facts.get("seed"))
        rows.append(dict(result=name, stage=stage, commit=facts["commit"], scale=facts.get("scale"), seeds=seeds,
                         minutes=facts.get("minutes"), fresh=None if unknown else not changed,
                         changed=[unknown] if unknown else changed))
    return pass_on(rows, locked)


def pass_on(rows, locked):
    "Call stale what reads a stale result"
    stale = {r["stage"]: r["result"] for r in rows if r["stage"] and r["fresh"] is False}
    before = None
    while before != len(stale):
        before = len(stale)
        for row in (r for r in rows if r["stage"] and r["stage"] not in stale):
            read = [d["path"] for d in locked[row["stage"]].get("deps", [])]
            for other in [s for s in stale if within_any(locked[s], read)]:
                row["fresh"], row["changed"] = False, [f"reads {stale[other]}"]
                stale[row["stage"]] = row["result"]
                break
    return rows


def within_any(entry, paths):
    "Whether a stage writes one of these paths"
    return any(within(out["path"], paths) for out in entry.get("outs", []))


def table(rows):
    "The rows as lines of text"
    head = ["result", "commit", "scale", "seeds", "minutes", "state"]
    body = [[r["result"], r["commit"], r["scale"] or "", ",".join(map(str, r["seeds"])) if isinstance(r["seeds"], list)
             else "" if r["seeds"] is None else str(r["seeds"]), str(r["minutes"] or ""), state(r)] for r in rows]
    width = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, width)).rstrip() for row in [head, *body])


def state(row):
    "fresh, stale with the reason, or unknown"
    names = row["changed"]
    words = ", ".join(names[:3]) + f" and {len(names) - 3} more"*(len(names) > 3)
    return "fresh" if row["fresh"] else f"{'unknown' if row['fresh'] is None else 'stale'}: {words}"


def summary(rows):
    "The number that counts"
    fresh, unknown = sum(r["fresh"] is True for r in rows), sum(r["fresh"] is None for r in rows)
    return f"{fresh} of {len(rows)} results fresh" + f" ({unknown} cannot be told)"*bool(unknown)


if __name__ == "__main__":
    found = freshness()
    print(table(found), summary(found), sep="\n")
