"""Write README.md from nbs/index.ipynb as it stands, outputs included.

Of cells tagged `remove_input` only the output appears, of cells tagged `remove_cell` nothing.
"""
import re
from pathlib import Path

from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]


def readme():
    "README.md as text"
    tags = dict(remove_input_tags={"remove_input"}, remove_cell_tags={"remove_cell"})
    config = Config(TagRemovePreprocessor=dict(enabled=True, **tags))
    text, _ = MarkdownExporter(config=config).from_filename(str(ROOT/"nbs"/"index.ipynb"))
    text = text.replace("](../", "](").replace('src="../', 'src="') # paths from the root instead of from nbs/
    text = "\n".join(line.rstrip() for line in text.strip().splitlines())
    note = "<!-- made from nbs/index.ipynb by `make readme`; edit it there -->"
    return f"{note}\n\n" + re.sub(r"\n{3,}", "\n\n", text) + "\n"


if __name__ == "__main__":
    (ROOT/"README.md").write_text(readme())
