"""A Sphinx extension: all of "Ising [1925]" is one link, whose name then says who wrote."""

from dataclasses import dataclass

from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle
from sphinxcontrib.bibtex.style.template import join, reference, year


@dataclass
class WholeCitation(AuthorYearReferenceStyle):
    def inner(self, role_name):
        if role_name != "t":  # the others are whole
            return super().inner(role_name)
        author = self.person.author_or_editor_or_title(full=False)
        return reference[join[author, " [", year, "]"]]


def setup(app):
    register_plugin("sphinxcontrib.bibtex.style.referencing", "whole_citation", WholeCitation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
