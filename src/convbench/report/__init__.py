"""One page that shows everything measured of a commit: ``convbench report``.

`data` reads the files, once. Each section is a function ``parts(data)`` in a file of its own: it
says in words, tables and charts what it has to say, and `page` makes HTML of them. `charts` draws:
one definition of a chart serves the page, SVG and PNG. docs/report.md describes the page.

To add a section, write its file and name it in `page.SECTIONS`.
"""
