"""``python -m tools.faults.mutate [--sample N]``: changes one thing in a module and sees whether its tests notice.

What lives here: the changes (comparisons, arithmetic, booleans, numbers, conditions), a copy of the project to make them
in, and the tests that belong to each module. What may not: judging survivors; they are told for a person to look at.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_LOG_TESTS = ("tests/log/test_recovery.py", "tests/log/test_damage.py", "tests/log/test_crash_states.py")
_LEASE_TESTS = ("tests/queues/test_leases.py", "tests/queues/test_lease_model.py")
TARGETS: dict[str, Sequence[str]] = {
    "logbroker/records/batch.py": ("tests/records/test_batch.py", "tests/records/test_hostile_batches.py"),
    "logbroker/log/recovery.py": _LOG_TESTS,
    "logbroker/log/torn.py": _LOG_TESTS,
    "logbroker/log/checkpoint.py": _LOG_TESTS,
    "logbroker/queues/leases.py": _LEASE_TESTS,
    "logbroker/queues/settle.py": _LEASE_TESTS,
}
_SECONDS = 90
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


class Mutant(NamedTuple):
    """One change of one module."""

    path: str
    line: int
    change: str
    source: str


def mutants(path: str) -> Iterator[Mutant]:
    """Every change of a module. Docstrings and annotations are left alone."""
    text = (ROOT / path).read_text(encoding="utf-8")
    count = sum(1 for _ in _places(ast.parse(text)))
    lines = text.splitlines()
    for number in range(count):
        tree = ast.parse(text)
        node = list(_places(tree))[number]
        before = lines[node.lineno - 1].strip()
        changed = _change(node)
        yield Mutant(path, node.lineno, f"{changed} in `{before}`", ast.unparse(ast.fix_missing_locations(tree)))


def _places(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    noted = (node.annotation for node in ast.walk(tree) if isinstance(node, ast.AnnAssign))
    annotations = {id(part) for annotation in noted for part in ast.walk(annotation)}
    for node in ast.walk(tree):
        if id(node) not in annotations and _can_change(node):
            assert isinstance(node, ast.expr | ast.stmt)
            yield node


def _can_change(node: ast.AST) -> bool:
    match node:
        case ast.Compare():
            return type(node.ops[0]) in _COMPARISONS
        case ast.BinOp():
            return type(node.op) in _ARITHMETIC and not isinstance(node.left, ast.Name | ast.Constant)
        case ast.UnaryOp():
            return isinstance(node.op, ast.Not)
        case ast.Constant():
            return type(node.value) is int
    return isinstance(node, ast.BoolOp | ast.If)


def _change(node: ast.expr | ast.stmt) -> str:
    """Change the node in its tree and say how."""
    if isinstance(node, ast.Compare):
        old, node.ops[0] = node.ops[0], _COMPARISONS[type(node.ops[0])]()
        return f"{type(old).__name__} becomes {type(node.ops[0]).__name__}"
    if isinstance(node, ast.BinOp):
        was, node.op = node.op, _ARITHMETIC[type(node.op)]()
        return f"{type(was).__name__} becomes {type(node.op).__name__}"
    if isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return f"becomes {type(node.op).__name__}"
    if isinstance(node, ast.If):
        node.test = ast.UnaryOp(ast.Not(), copy.deepcopy(node.test))
        return "the condition is turned round"
    if isinstance(node, ast.UnaryOp):
        node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
        return "not is dropped"
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    node.value += 1
    return f"{node.value - 1} becomes {node.value}"


def survives(mutant: Mutant, project: Path) -> bool:
    """Whether the module's tests pass with the change. One that runs too long is noticed."""
    file = project / mutant.path
    original = file.read_text(encoding="utf-8")
    file.write_text(mutant.source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", *TARGETS[mutant.path]]
    try:
        done = subprocess.run(
            command,
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project)},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        file.write_text(original, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.faults.mutate", description=__doc__)
    parser.add_argument("--sample", type=int, default=60, help="how many changes, chosen at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3_600, help="stop after this time with what was reached")
    arguments = parser.parse_args()
    everything = [mutant for path in TARGETS for mutant in mutants(path)]
    chosen = random.Random(arguments.seed).sample(everything, min(arguments.sample, len(everything)))
    begin, caught, tried = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="logbroker-mutants-") as directory:
        project = Path(directory) / "project"
        shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__"))
        for mutant in chosen:
            if time.monotonic() - begin > arguments.seconds:
                break
            tried += 1
            if survives(mutant, project):
                print(f"survived: {mutant.path}:{mutant.line} {mutant.change}", flush=True)
            else:
                caught += 1
    print(f"{caught} of {tried} caught ({len(everything)} possible), seed {arguments.seed}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
