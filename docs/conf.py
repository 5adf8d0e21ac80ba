"""The documentation site: these pages, and the reference from the docstrings (`make docs`).

It is built with warnings as errors: a link that leads nowhere fails, and so does a public name that
has no place in the reference, because it has no docstring or its module is on no page.
"""

import ast
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

typing.GENERATING_DOCUMENTATION = "densitometer"  # type: ignore[attr-defined]  # told to jaxtyping

import densitometer
from densitometer.families import FAMILIES
from densitometer.targets import TARGETS

SOURCE = Path(densitometer.__file__).parent

project = "densitometer"
version = release = densitometer.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nb_execution_mode = "off"  # the tutorial is kept executed, by `make tutorial`
nb_merge_streams = True
myst_heading_anchors = 3
highlight_language = "none"
pygments_dark_style = "one-dark"

html_theme = "furo"
html_title = f"densitometer {version}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

add_module_names = False
# `__all__` is what is promised (docs/interface.md); the reference has every public name.
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
toc_object_entries = False

# `name` is a link where there is such a name, and code where there is none.
default_role = "py:obj"
# The names of other packages are no links, so that the site is built without a network.
nitpick_ignore_regex = [("py:obj", ".*"), ("py:.*", r"(?!densitometer\.).*|.*\.T")]


def legible(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A docstring as its author wrote it: indented formulas keep their lines, | is only |."""
    if lines and lines[0].startswith("Alias for field number"):  # Python's, not ours
        lines.clear()
        return
    # Napoleon would take what stands before a colon in the first line of an attribute for its
    # type; an empty comment is no such line.
    shown, outside = ["..", ""] if what in ("attribute", "data", "property") else [], True
    for i, line in enumerate(lines):
        starts = line.startswith(" ") and i > 0 and not lines[i - 1].strip()
        if starts and outside:
            shown += ["::", ""]
            outside = False
        elif line.strip() and not line.startswith(" "):
            outside = not line.endswith(":") or not (lines[i + 1 : i + 2] or [""])[0].strip()
        if outside:
            line = re.sub(r"(`+[^`]*`+)|\|", lambda m: m[1] or r"\|", line)
        shown.append(line)
    lines[:] = shown


def as_written(
    app: Sphinx,
    what: str,
    name: str,
    thing: Any,
    options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Scalars and keys by the names under which the source knows them."""
    scalar = r"jaxlib\._jax\.Array, ' *'\]"

    def renamed(text: str | None) -> str | None:
        text = text and re.sub(rf"Key\[{scalar}", "Key[Scalar, '']", text)
        return text and re.sub(rf"Shaped\[{scalar}", "Scalar", text)

    return renamed(signature), renamed(returns)


def tidied(app: Sphinx, doctree: nodes.document) -> None:
    """Strings in signatures in the quotes of the source; not every class told that it is one."""
    for node in doctree.findall(addnodes.desc_sig_literal_string):
        node.children = [nodes.Text(re.sub("^'(.*)'$", r'"\1"', node.astext()))]
    for node in list(doctree.findall(nodes.paragraph)):
        if node.astext() == "Bases: object":
            node.parent.remove(node)


def public_names() -> Iterator[str]:
    """Modules, classes, functions, methods and properties; hyper-parameters and parameters of laws.

    They are read from the source, so nothing can hide from the reference.
    """
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[-1] != "__main__":
            yield module
            yield from _defined(ast.parse(path.read_text(encoding="utf-8")), module)
    for registry in (FAMILIES, TARGETS):
        for name in registry:
            kind = registry[name]
            for field in registry.fields(name):
                yield f"{kind.__module__}.{kind.__qualname__}.{field.name}"


def _defined(scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for node in scope.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield f"{prefix}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _defined(node, f"{prefix}.{node.name}")


def complete(app: Sphinx, env: BuildEnvironment) -> None:
    """Complain about public names without a place in the reference."""
    there = env.domains.python_domain.objects
    for name in public_names():
        if name not in there and name != "densitometer":
            logging.getLogger(__name__).warning(
                "%s is public and not in the reference: give it a docstring, or put its module on "
                "a page of docs/api.",
                name,
            )


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", legible, priority=400)  # napoleon comes at 500
    app.connect("autodoc-process-signature", as_written)
    app.connect("doctree-read", tidied)
    app.connect("env-check-consistency", complete)
