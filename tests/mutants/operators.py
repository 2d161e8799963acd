"""What is changed: cosmic-ray's operators, the few of them that say something, and three that it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from parso.python.tree import Name

FROM_COSMIC_RAY = (
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "BitAnd_BitOr")),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub"),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer"),
    *("RemoveDecorator", "ZeroIterationForLoop"),
)


class _Own(Operator):  # type: ignore[misc]
    """An operator that changes a node into another text, and what stands before it stays."""

    def becomes(self, node: Any) -> str | None:
        """The text in place of the node, None where there is nothing to change."""
        raise NotImplementedError

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        if self.becomes(node) is not None:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        assert index == 0
        return Name(self.becomes(node), node.start_pos, node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class RemoveStatement(_Own):
    """A call whose result nobody takes, a raise, and an assignment to an attribute or an item: gone."""

    def becomes(self, node: Any) -> str | None:
        if node.parent is None or node.parent.type != "simple_stmt":
            return None
        if node.type in ("raise_stmt", "atom_expr") or node.get_first_leaf().value == "raise":
            return "pass"
        if node.type == "expr_stmt" and (node.children[0].type == "atom_expr" or node.children[1].type == "operator"):
            stored = node.children[0].type == "atom_expr" or node.children[1].value != "="
            return "pass" if stored else None
        return None


class ReturnNone(_Own):
    """``return x`` gives None; not where x is false already."""

    def becomes(self, node: Any) -> str | None:
        known = node.type == "return_stmt" and node.children[1].get_code().strip() not in ("None", "False")
        return "return None" if known else None


class InOrNot(_Own):
    """``in`` is ``not in``, and the other way round."""

    def becomes(self, node: Any) -> str | None:
        if node.parent is None or node.parent.type != "comparison":
            return None
        return {"in": "not in", "not in": "in"}.get(node.get_code().strip())


OWN = (RemoveStatement, ReturnNone, InOrNot)


def _operator(name: str) -> Operator:
    own = {known.__name__: known for known in OWN}
    return own[name]() if name in own else OperatorProvider()[name]()


def mutated(source: str, name: str, occurrence: int) -> str:
    """The source with one change made.  Raises SyntaxError where the operator cannot make it."""
    try:
        text: str = mutate_code(source, _operator(name), occurrence)
    except AttributeError as error:  # ExceptionReplacer, for what is no name: ``except (A, *B)``
        raise SyntaxError(f"{name} cannot change this") from error
    return text


def positions(source: str) -> Iterator[tuple[str, int, int]]:
    """Each change that can be made: the operator's name, the occurrence to ask it for, and the line."""
    nodes = list(_nodes(parso.parse(source)))
    lines = source.splitlines()
    for name in (*FROM_COSMIC_RAY, *(own.__name__ for own in OWN)):
        operator, occurrence = _operator(name), 0
        for node in nodes:
            for (line, _), _ in operator.mutation_positions(node):
                # That values are frozen and have slots, mypy knows.
                if not lines[line - 1].startswith("@dataclass"):
                    yield name, occurrence, line
                occurrence += 1


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in getattr(node, "children", ()):
        yield from _nodes(child)
