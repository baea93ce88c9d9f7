"""Settings of the book, which Sphinx reads. `tools/lecture/book.py` puts its pages together."""

import json
import os
import re

from docutils import nodes
from latex2mathml.converter import convert

project, author, html_title = "rcnn-tutorial", "The rcnn-tutorial authors", "Two-stage object detection"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
templates_path = ["templates"]
html_copy_source, html_show_sourcelink = True, False
html_theme = "sphinx_book_theme"
repository = os.environ.get("REPOSITORY", "")  # its address gives the pages their buttons for Binder and Colab
html_theme_options = {"show_toc_level": 2, "use_download_button": True}
if repository:
    launch = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
    html_theme_options |= {"repository_url": repository, "use_repository_button": True, "launch_buttons": launch}
html_math_renderer = "mathml"  # MathJax would come from a network
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # outputs as committed
nb_ipywidgets_js = {}  # the scripts of sliders, which need a kernel, would come from a network
autosummary_generate, add_module_names, autodoc_typehints = True, False, "description"
napoleon_use_ivar = True  # attributes of a NamedTuple are described once
default_role = "code"
exclude_patterns = ["contents.md", "docs/*.json"]
FOLDS = {(True, True): "hide-cell", (True, False): "hide-input", (False, True): "hide-output"}


def fold(app, docname, source):
    """JupyterLab's folding, as tags that the page understands; outputs of sliders go."""
    if not str(app.env.doc2path(docname)).endswith(".ipynb"):
        return
    notebook, words = json.loads(source[0]), []
    title = docname
    for cell in notebook["cells"]:
        folded = cell["metadata"].get("jupyter", {})
        key = (folded.get("source_hidden", False), folded.get("outputs_hidden", False))
        if key in FOLDS:
            cell["metadata"].setdefault("tags", []).append(FOLDS[key])
        first = "".join(cell["source"]).partition("\n")[0]
        if cell["cell_type"] == "markdown":
            title = first.lstrip("# ") if first.startswith("#") else title
            continue
        cell["outputs"] = [o for o in cell["outputs"] if not any("widget" in kind for kind in o.get("data", {}))]
        for output in cell["outputs"]:
            kinds = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
            words += [output.get("metadata", {}).get(kind, {}).get("alt", title) for kind in kinds]
    app.env.metadata[docname]["alt"] = words
    source[0] = json.dumps(notebook)


def describe(app, tree):
    """The words of each picture of a notebook, in place of nothing."""
    words = app.env.metadata[app.env.docname].get("alt", [])
    outputs = tree.findall(lambda node: isinstance(node, nodes.container) and "cell_output" in node["classes"])
    images = [image for output in outputs for image in output.findall(nodes.image)]
    for image, alt in zip(images, words, strict=True):
        image["alt"] = alt


def escaped(text):
    return re.sub(r"([*|]|_\b)", r"\\\1", text)


def plain(app, what, name, obj, options, lines):
    """Docstrings are plain text: tables, lists and sums stay as they were typed, and no sign in a sentence is markup."""
    result = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip()):
        if re.match(r"(Args|Returns|Raises|Yields|Attributes):\n", block):
            result += escaped(block).split("\n")
        elif re.search(r"^(\s|- |\d\. |\|)", block, re.MULTILINE):
            result += ["::", "", *("    " + line for line in block.split("\n"))]
        else:
            result += escaped(block).split("\n")
        result.append("")
    lines[:] = result


def formula(display):
    def visit(self, node):
        self.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit, None


def setup(app):
    app.connect("source-read", fold)
    app.connect("doctree-read", describe)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon's
    app.add_html_math_renderer("mathml", formula("inline"), formula("block"))
