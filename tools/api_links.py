"""A Sphinx extension: what a text names in code is, once a page, a link to its entry in the API."""

import re

from docutils import nodes

PAGE = "chapters/appendix_api"
NAMED = re.compile(r"([A-Za-z_]\w*(?:\.\w+)?)(?:\(.*\))?", re.DOTALL)  # RBM, RBM.untie, RBM(500)


def entries(env):
    """Of each name that the API documents, as a text writes it, the identifier of its entry.

    Methods go with the name of their class. Words without a capital or `_` may mean anything.
    """
    found = {}
    for name, entry in env.get_domain("py").objects.items():
        of_class = entry.objtype in ("method", "property", "attribute")
        short = ".".join(name.split(".")[-2 if of_class else -1 :])
        if entry.docname == PAGE and entry.objtype != "module" and re.search("[A-Z_]", short):
            found[short] = entry.node_id
    return found


def link_first_mentions(app, doctree, page):
    if page == PAGE:
        return
    known = entries(app.env)
    for literal in list(doctree.findall(nodes.literal)):
        named = NAMED.fullmatch(literal.astext())
        in_text = not isinstance(literal.parent, (nodes.reference, nodes.title))
        if not named or not in_text or named[1] not in known:
            continue
        address = f"{app.builder.get_relative_uri(page, PAGE)}#{known.pop(named[1])}"
        link = nodes.reference("", "", internal=True, refuri=address, classes=["api"])
        literal.replace_self(link)
        link += literal


def setup(app):
    app.connect("doctree-resolved", link_first_mentions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
