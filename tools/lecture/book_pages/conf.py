"""Settings of the book, which Sphinx reads. `tools/lecture/book.py` puts its pages together."""

import json
import os

from docutils import nodes

from tools.lecture import book, lesson

project, author, html_title = "rcnn-tutorial", "The rcnn-tutorial authors", "Two-stage object detection"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
templates_path = ["templates"]
exclude_patterns = ["contents.md"]
html_theme = "sphinx_book_theme"
html_theme_options = {"show_toc_level": 2}
html_context = {"default_mode": "light"}
if repository := os.environ.get("REPOSITORY"):  # its address gives the pages their buttons for Binder and Colab
    launch = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
    html_theme_options |= {"repository_url": repository, "use_repository_button": True, "launch_buttons": launch}
html_static_path, html_css_files = ["static"], ["book.css"]
html_math_renderer = "mathml"  # MathJax would come from a network
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # outputs as committed
nb_ipywidgets_js = {}  # the scripts of sliders, which need a kernel, would come from a network
autosummary_generate, add_module_names, autodoc_typehints = True, False, "description"
napoleon_use_ivar = True  # attributes of a NamedTuple are described once
suppress_warnings = ["ref.python"]  # a name of an attribute that several classes have
default_role = "code"


def fold(app, docname, source):
    if str(app.env.doc2path(docname)).endswith(".ipynb"):
        notebook = json.loads(source[0])
        app.env.metadata[docname]["alt"] = book.fold(notebook)
        source[0] = json.dumps(notebook)


def describe(app, tree):
    """Gives each picture of a notebook its words."""
    words = app.env.metadata[app.env.docname].get("alt", [])
    outputs = tree.findall(lambda node: isinstance(node, nodes.container) and "cell_output" in node["classes"])
    images = [image for output in outputs for image in output.findall(nodes.image)]
    for image, alt in zip(images, words, strict=True):
        image["alt"] = alt


def plain(app, what, name, obj, options, lines):
    lines[:] = book.plain(lines)


def formula(display):
    def visit(self, node):
        self.body.append(lesson.formula(node.astext(), display))
        raise nodes.SkipNode

    return visit, None


def setup(app):
    app.connect("source-read", fold)
    app.connect("doctree-read", describe)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon's
    app.add_html_math_renderer("mathml", formula("inline"), formula("block"))
