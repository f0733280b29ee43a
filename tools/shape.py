#!/usr/bin/env python3
"""Checks the budgets of size: 500 lines a file (600 a test file), 50 lines a function, 6 parameters a constructor.

Soft limits (300 lines, 30 lines) are printed by ``--soft`` and fail nothing. Docstrings do not count into functions.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_HARD, TEST_FILE_HARD, FILE_SOFT = 500, 600, 300
FUNCTION_HARD, FUNCTION_SOFT = 50, 30
CONSTRUCTOR_PARAMETERS = 6
ROOT = Path(__file__).resolve().parent.parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def length(function: Function) -> int:
    """Lines of a function without its docstring and decorators."""
    body = function.body
    first = body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(body) > 1
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def over_budget(path: Path, soft: bool) -> Iterator[str]:
    """What is too large in one file."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    hard = TEST_FILE_HARD if name.parts[0] == "tests" else FILE_HARD
    lines = text.count("\n")
    if lines > (FILE_SOFT if soft else hard):
        yield f"{name}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, Function):
            continue
        if length(node) > (FUNCTION_SOFT if soft else FUNCTION_HARD):
            yield f"{name}:{node.lineno}: {node.name} has {length(node)} lines"
        parameters = len(node.args.args) + len(node.args.kwonlyargs) - 1
        if node.name == "__init__" and parameters > CONSTRUCTOR_PARAMETERS:
            yield f"{name}:{node.lineno}: a constructor takes {parameters} parameters"


def main() -> int:
    soft = "--soft" in sys.argv[1:]
    files = sorted(path for folder in ("logbroker", "tests", "tools") for path in (ROOT / folder).rglob("*.py"))
    found = [line for path in files for line in over_budget(path, soft)]
    print("\n".join(found) if found else f"{len(files)} files within their budgets")
    return 1 if found and not soft else 0


if __name__ == "__main__":
    sys.exit(main())
