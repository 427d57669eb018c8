"""How Sphinx makes the site of the pages in docs/ and reports/; `make docs` runs it.

The source is the root of the repository, so that a link is the same here and on GitHub.
"""

from convbench import __version__

project = "convbench"
author = copyright = "the convbench developers"  # noqa: A001
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = ["*.md", "docs/*.md", "reports/*.md"]
exclude_patterns = [".*", "build"]  # folders that would only be walked through
root_doc = "docs/index"

myst_heading_anchors = 3  # the links to headings that GitHub makes

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # the docstrings have them
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"convbench {release}"
html_additional_pages = {"index": "redirect.html"}  # from the root of the site to its first page
templates_path = ["."]
html_copy_source = False
