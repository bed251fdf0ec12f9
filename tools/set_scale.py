"""Write the scale into params.yaml, as `make repro SCALE=smoke` does.

    python tools/set_scale.py smoke

`dvc exp run -S scale=smoke` would do that too, but then DVC deletes the results of the scale that it leaves.
"""
import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from stages import ROOT, read_params, section  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scale", help="a scale of params.yaml: smoke, mini, small, paper")
    scale = parser.parse_args().scale
    section(read_params(), scale) # stops with the names there are if it is none of them
    path = ROOT/"params.yaml"
    path.write_text(re.sub(r"^scale: \w+", f"scale: {scale}", path.read_text(), count=1, flags=re.M))


if __name__ == "__main__":
    main()
