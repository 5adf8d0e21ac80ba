"""Names to objects, without importing them.

A registry maps a name to ``"module:attribute"``. Listing names, or describing one, reads source
text only, so that ``densitometer --help`` needs neither JAX nor a second list of what exists.
"""

import ast
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densitometer.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Field:
    """One hyper-parameter as its source states it: name, annotation, default, docstring."""

    name: str
    annotation: str
    default: Any
    doc: str

    @property
    def kinds(self) -> str:
        """What the annotation allows, in words."""
        return re.sub(r", | \| ", " or ", re.sub(r"Literal\[(.*)\]", r"\1", self.annotation))

    def accepts(self, value: Any) -> bool:
        """Whether a value is of a kind that the annotation allows; a whole number is a float."""
        for kind in self.annotation.split(" | "):
            if kind.startswith("Literal["):
                if isinstance(value, str) and repr(value) in kind:
                    return True
            elif kind == "None":
                if value is None:
                    return True
            elif isinstance(value, bool):
                if kind == "bool":
                    return True
            elif isinstance(value, {"int": int, "float": int | float, "str": str}.get(kind, ())):
                return True
        return False


class Registry(Mapping[str, Any]):
    """A lazy mapping from names to the objects they stand for.

    Args:
        kind: what a member is called in messages ("family").
        plural: and several of them ("families").
        members: name -> ``"module:attribute"``.
    """

    def __init__(self, kind: str, plural: str, members: dict[str, str]):
        self.kind = kind
        self.plural = plural
        self._members = dict(members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> Any:
        module, attribute = self._members[self.check(name)].split(":")
        return getattr(importlib.import_module(module), attribute)

    def check(self, name: str) -> str:
        """Return `name` if it is a member.

        Raises:
            UsageError: it is not; the sentence names the nearest member.
        """
        if name in self._members:
            return name
        near = difflib.get_close_matches(name, self._members, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(self)}."
        raise UsageError(f"there is no {self.kind} '{name}'; {hint}")

    def summary(self, name: str) -> str:
        """The first line of the member's docstring, read from its source."""
        return (ast.get_docstring(self._definition(name)) or "").split("\n")[0]

    def fields(self, name: str) -> list[Field]:
        """The annotated fields of a member that is a dataclass, read from its source."""
        body = self._definition(name).body
        fields = []
        for node, after in zip(body, [*body[1:], None], strict=True):
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            annotation = ast.unparse(node.annotation)
            if node.value is None or annotation.startswith("ClassVar"):
                continue
            doc = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                doc = " ".join(str(after.value.value).split())
            default = ast.literal_eval(node.value)
            fields.append(Field(node.target.id, annotation, default, doc))
        return fields

    def _definition(self, name: str) -> ast.ClassDef | ast.FunctionDef:
        module, attribute = self._members[self.check(name)].split(":")
        for node in _source(module).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
                return node
        raise LookupError(f"{module} defines no {attribute}")


@functools.cache
def _source(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)  # imports parent packages, not the module
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
