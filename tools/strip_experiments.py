"Remove the outputs of the experiment notebooks: running one in JupyterLab then changes nothing that git sees."
from pathlib import Path

import nbformat

for path in sorted((Path(__file__).resolve().parents[1]/"nbs"/"experiments").glob("*.ipynb")):
    nb = nbformat.read(path, 4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    nbformat.write(nb, path)
