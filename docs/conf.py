"""Settings of Sphinx, which makes HTML of the pages that make_site.py gathers. Nothing in the site asks the network."""
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).resolve().parents[1])) # the package, which says its version
from simpool import __version__ as release  # noqa: E402

project = "simpool"
copyright = "the simpool companion authors. Code: Apache-2.0. Pictures: GPL-2 or later"

# Pages are Markdown and notebooks; outputs are those in the files, nothing is executed
extensions = ["myst_nb", "sphinx_copybutton"]
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_ipywidgets_js = {} # else each page would fetch them
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "fieldlist", "html_image"]
myst_heading_anchors = 4 # headings that links may name
suppress_warnings = ["myst.header"] # a page may begin below a first heading

# Reference: one argument per line where a signature is long
maximum_signature_line_length = 70
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = f"simpool {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = dict(
    logo=dict(text="simpool"), navbar_align="left", header_links_before_dropdown=7, show_toc_level=2,
    navigation_with_keys=False, footer_start=["copyright"], footer_end=[], pygments_light_style="tango",
    secondary_sidebar_items=["page-toc"])
copybutton_exclude = ".linenos, .gp, .go"


def formula(self, node, display):
    "Formulas become MathML, which browsers draw by themselves: no script, no fonts to fetch"
    self.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer(
        "mathml", (lambda self, node: formula(self, node, "inline"), None),
        (lambda self, node: formula(self, node, "block"), None))


html_math_renderer = "mathml"
