"""Fetch ONNX Runtime Web by npm, check it, and put its three files into the package, gzipped.

    python tools/get_onnxruntime_web.py

Only needed for another version: change VERSION and the checksums in nbs/67_explorer.ipynb first. The files are in git.
"""
import gzip
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from simpool.explorer import HERE, RUNTIME, VERSION

NOTICE = """ONNX Runtime Web {version}
https://github.com/microsoft/onnxruntime

{license}"""
LICENSE = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def main():
    npm = shutil.which("npm")
    if not npm:
        sys.exit("get_onnxruntime_web: there is no npm: install Node.js, which brings it")
    with tempfile.TemporaryDirectory() as tmp:
        command = [npm, "pack", "--silent", f"onnxruntime-web@{VERSION}"]
        archive, = subprocess.run(command, cwd=tmp, capture_output=True, text=True, check=True).stdout.split()
        with tarfile.open(Path(tmp)/archive) as tar:
            contents = {name: tar.extractfile(f"package/dist/{name}").read() for name in RUNTIME}
    for name, content in contents.items():
        found = hashlib.sha256(content).hexdigest()
        if found != RUNTIME[name]:
            sys.exit(f"get_onnxruntime_web: {name} has the checksum {found}, not {RUNTIME[name]}")
    (HERE/"runtime").mkdir(exist_ok=True)
    for name, content in contents.items():
        (HERE/"runtime"/f"{name}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
    (HERE/"runtime"/"LICENSE").write_text(NOTICE.format(version=VERSION, license=LICENSE))
    print(f"ONNX Runtime Web {VERSION} is in {HERE/'runtime'}")


if __name__ == "__main__":
    main()
