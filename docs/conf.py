"""Settings of Sphinx, which makes HTML of the pages that make_site.py gathers. Nothing in the site asks the network."""
import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

sys.path.insert(0, str(Path(__file__).resolve().parents[1])) # the package, which says its version
from simpool import __version__ as release  # noqa: E402

project = "simpool"
language = "en"
smartquotes_action = "D" # dashes only: options in quotes can be copied
copyright = "the simpool companion authors. Code: Apache-2.0. Pictures: GPL-2 or later"

# Pages are Markdown and notebooks; outputs are those in the files, nothing is executed
extensions = ["myst_nb", "sphinx_copybutton"]
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_ipywidgets_js = {} # else each page would fetch them
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "fieldlist", "html_image"]
myst_heading_anchors = 4 # headings that links may name
lexers["mermaid"] = TextLexer() # the map of CONTRIBUTING, which GitHub draws, stays text here
suppress_warnings = ["myst.header"] # a page may begin below a first heading

# Reference: one argument per line where a signature is long
maximum_signature_line_length = 70
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_context = dict(default_mode="auto") # light or dark, as the reader's system
html_title = f"simpool {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
ALONE = "howto", "long_runs", "which_pooling", "command_line", "explorer" # nothing is below them
html_sidebars = {page: [] for page in ALONE}
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False # from disk a browser may not read the pages that were found
html_theme_options = dict(
    logo=dict(text="simpool"), navbar_align="left", header_links_before_dropdown=6, show_toc_level=2,
    navigation_with_keys=False, footer_start=["copyright"], footer_end=[],
    secondary_sidebar_items=["page-toc"])
copybutton_exclude = ".linenos, .gp, .go"


def mathml(tex, display="inline"):
    "A formula as MathML, which browsers draw by themselves: no script, no fonts to fetch"
    tex = re.sub(r"\\[Bb]ig([(\[])", r"\\left\1", tex) # in words that the converter knows
    tex = re.sub(r"\\[Bb]ig([)\]])", r"\\right\1", tex)
    tex = tex.replace("{aligned}", "{align*}").replace(r"\arg", r"\operatorname{arg}")
    return convert(tex, display=display)


def draw_inline(self, node):
    "What Sphinx does with a formula inside a line"
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def draw_block(self, node):
    "What Sphinx does with a formula on lines of its own"
    self.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (draw_inline, None), (draw_block, None))


html_math_renderer = "mathml"
