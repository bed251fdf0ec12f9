"nbs/index.ipynb, as it stands with its outputs, to README.md; cells tagged remove_input show their output alone, remove_cell nothing."
import re
from pathlib import Path

from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]


def readme():
    "README.md as text"
    config = Config(TagRemovePreprocessor=dict(enabled=True, remove_input_tags={"remove_input"}, remove_cell_tags={"remove_cell"}))
    text, _ = MarkdownExporter(config=config).from_filename(str(ROOT/"nbs"/"index.ipynb"))
    text = text.replace("](../", "](").replace('src="../', 'src="') # paths from the root instead of from nbs/
    return "<!-- made from nbs/index.ipynb by `make readme`; edit it there -->\n\n" + re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.strip().splitlines())) + "\n"


if __name__ == "__main__":
    (ROOT/"README.md").write_text(readme())
