"""Settings of Sphinx, which builds the site from the pages of this folder."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
# Pages of the site whose text stands at the top of the repository.
AT_THE_TOP = {"index": "README.md", "contributing": "CONTRIBUTING.md"}

project = "lyricgen"
html_title = "lyricgen"
html_theme = "furo"
html_static_path = html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
smartquotes_action = "D"  # only the dashes of autodoc
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
viewcode_follow_imported_members = True

myst_heading_anchors = 3  # as GitHub makes them
nb_execution_mode = "off"  # scripts/run_notebooks.py runs the notebooks
nb_merge_streams = True

napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
python_use_unqualified_type_names = True

nitpicky = True
default_role = "py:obj"  # `single` quotes: a link if the site has the object, else code
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    ("py:(class|exc|data)", r"(?!lyricgen).*"),
    ("py:class", r"lyricgen\.(data|generation|models|reporting|runs)\..*"),  # not public
]


def take_from_the_top(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put README and CONTRIBUTING on their pages, and lead the links of all pages there."""
    if docname in AT_THE_TOP:
        path = ROOT / AT_THE_TOP[docname]
        app.env.note_dependency(str(path))
        source[0] = path.read_text("utf-8").replace("](docs/", "](") + source[0]
    for page, name in AT_THE_TOP.items():
        source[0] = re.sub(rf"\]\((\.\./)?{name}", f"]({page}.md", source[0])


def name_publicly(*given: Any) -> None:
    """Give errors their public name in a docstring, whose lines are the last argument."""
    lines = given[-1]
    lines[:] = [re.sub(r"\bUserError\b", "Error", line) for line in lines]


def annotate_publicly(*given: Any) -> tuple[str | None, str | None]:
    """Give classes their public names in a signature, the last two arguments."""
    inside, public = r"~?(lyricgen\.api\.models\.)?WritingModel", "~lyricgen.TrainedModel"
    arguments, result = (one and re.sub(inside, public, one) for one in given[-2:])
    return arguments, result


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", take_from_the_top)
    app.connect("autodoc-process-docstring", name_publicly)
    app.connect("autodoc-process-signature", annotate_publicly)
