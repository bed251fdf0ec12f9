"""Write the scale into params.yaml, as `make repro-all SCALE=smoke` does.

    python tools/set_scale.py smoke

`dvc exp run -S scale=smoke` would do that too, but then DVC deletes the results of the scale that it leaves.
"""
import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from stages import ROOT, did_you_mean, fail, read_params  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scale", help="a scale of params.yaml: smoke, mini, small, paper, rehearsal")
    scale = parser.parse_args().scale
    scales = [k for k, v in read_params().items() if isinstance(v, dict)]
    if scale not in scales:
        fail(f"params.yaml has no scale {scale!r}" + did_you_mean(scale, scales))
    path = ROOT/"params.yaml"
    text, n = re.subn(r"^scale:[ \t]*[^#\s]+", f"scale: {scale}", path.read_text(), flags=re.M)
    if n != 1:
        fail(f"params.yaml has {n} lines that begin with `scale:`, not one")
    path.write_text(text)


if __name__ == "__main__":
    main()
