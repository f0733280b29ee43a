"""Figures say whether their goals are met, beside whatever was measured."""

import json
from pathlib import Path

from tools.bench.measure import Figure, at_least, at_most, interleaved, percentile, write_json


def test_a_goal_is_a_bound_or_a_multiple_of_another_server() -> None:
    figure = Figure(
        "produce", 100.0, "MB/s", (at_least(50), at_least(2, "A"), at_most(1, "B")), beside={"A": 60.0, "B": 100.0}
    )
    assert figure.missed() == [at_least(2, "A")]
    assert figure.verdict() == "met >= 50; MISSED >= 2 x A (1.7); met <= 1 x B (1)"


def test_the_goal_of_a_server_that_was_not_measured_is_left_out() -> None:
    figure = Figure("produce", 100.0, "MB/s", (at_least(2, "A"),))
    assert figure.missed() == []
    assert figure.verdict() == ""


def test_cases_take_turns_and_the_best_round_after_the_warm_up_counts() -> None:
    order: list[str] = []

    def case(name: str, costs: list[float]) -> float:
        order.append(name)
        return costs.pop(0)

    a, b = [1.0, 9.0, 8.0], [5.0, 4.0, 6.0]
    assert interleaved({"a": lambda: case("a", a), "b": lambda: case("b", b)}, rounds=2, warm_up=1) == {"a": 8.0, "b": 4.0}
    assert order == ["a", "b"] * 3


def test_percentiles_lie_within_the_values() -> None:
    values = [float(value) for value in range(101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99


def test_figures_are_written_as_json(tmp_path: Path) -> None:
    write_json(tmp_path / "out.json", "title", [Figure("produce", 1.5, "MB/s", (at_least(1),), "note", {"A": 2.0})])
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["figures"] == [
        {"name": "produce", "value": 1.5, "unit": "MB/s", "beside": {"A": 2.0}, "goals": "met >= 1", "note": "note"}
    ]
