"""What the documentation's site is made of beside the pages in `docs/`.

MkDocs calls `site_pages.hook` (see mkdocs.yml): generated pages, pages of other
folders, links between them, formulas. Nothing of the package itself needs it.
"""
