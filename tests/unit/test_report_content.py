"""What the report says of an evaluation: differences with their sense, tables of any number of conditions, curves."""

from __future__ import annotations

import numpy as np
import pytest

from occframe.evaluation.figures import side_by_side, title, value_text
from occframe.evaluation.report.charts import protocol_chart
from occframe.evaluation.report.content import cards, charts, mistake_groups, tables
from occframe.evaluation.results import Evaluation
from occframe.step import Artefact
from occframe.types import Curve, Mistake, ProtocolResult

REFERENCE = Artefact("faces", "embeddings", "nowhere", {})


def result(accuracy: float, eer: float, *notes: str, mistakes: int = 0) -> ProtocolResult:
    return ProtocolResult(
        metrics={"accuracy": accuracy, "accuracy_std": 0.01, "eer": eer, "threshold@eer": -0.25},
        counts={"genuine pairs": 3000},
        notes=notes,
        mistakes=[Mistake("false reject", f"a{n}", f"b{n}", n / 10) for n in range(mistakes)],
    )


def evaluation(**conditions: ProtocolResult) -> Evaluation:
    return Evaluation(REFERENCE, dict.fromkeys(conditions, REFERENCE), {"verification": conditions})


def test_a_difference_has_a_sense() -> None:
    table = tables(evaluation(clean=result(0.9, 0.1), occluded=result(0.85, 0.2), masked=result(0.9, 0.05)))[0]
    assert table.columns == ["clean", "occluded", "difference, points", "masked", "difference, points"]
    accuracy, eer, threshold = table.rows
    assert [(cell.text, cell.verdict) for cell in accuracy.cells] == [
        ("90.00 ± 1.00 %", ""),
        ("85.00 ± 1.00 %", ""),
        ("−5.00", "worse"),
        ("90.00 ± 1.00 %", ""),
        ("+0.00", ""),
    ]
    assert [(cell.text, cell.verdict) for cell in eer.cells[2::2]] == [("+10.00", "worse"), ("−5.00", "better")]
    assert threshold.minor
    assert [cell.text for cell in threshold.cells] == ["−0.250", "−0.250", "", "−0.250", ""]


def test_one_condition_is_compared_with_nothing() -> None:
    only = evaluation(clean=result(0.9, 0.1))
    assert tables(only)[0].columns == ["clean"]
    assert [card.difference for card in cards(only)] == ["", ""]


def test_notes_name_the_condition_where_they_differ() -> None:
    table = tables(evaluation(clean=result(0.9, 0.1, "all"), occluded=result(0.8, 0.1, "all", "hard")))[0]
    assert table.notes == ["3,000 genuine pairs", "all", "occluded: hard"]


def test_a_figure_that_one_condition_lacks_is_a_dash() -> None:
    short = ProtocolResult(metrics={"eer": 0.3})
    both = evaluation(clean=result(0.9, 0.1), occluded=short)
    assert [cell.text for cell in tables(both)[0].rows[0].cells] == ["90.00 ± 1.00 %", "–", ""]
    assert [bar.condition for bar in cards(both)[0].bars] == ["clean"]
    lines = side_by_side({"verification": {name: of.metrics for name, of in both.results["verification"].items()}})
    assert lines[1].split() == ["verification", "accuracy", "90.00", "±", "1.00", "%", "–"]
    assert len(set(map(len, lines))) == 1


def test_many_mistakes_do_not_fill_the_report() -> None:
    many = evaluation(**{f"condition-{n}": result(0.5, 0.5, mistakes=40) for n in range(20)})
    groups = mistake_groups(many, lambda condition, name: None)
    assert len(groups) == 20
    assert {len(group.pairs) for group in groups} == {3}
    few = mistake_groups(evaluation(clean=result(0.5, 0.5, mistakes=40)), lambda condition, name: None)
    assert len(few[0].pairs) == 8


def test_names_of_figures() -> None:
    assert title("tar@far=1e-3") == "TAR @ FAR 1e-3"
    assert title("threshold@eer") == "threshold @ EER"
    assert title("rank-5") == "rank-5"
    assert value_text({"auc": 0.98765}, "auc") == "98.77 %"


def test_a_roc_on_a_log_axis_is_read_as_steps() -> None:
    """Between FAR 0.1 and 1 no threshold gives more than 60 %: the line between the corners is no claim."""
    curve = Curve("ROC", np.array([0, 0.1, 1.0]), np.array([0, 0.6, 1.0]))
    chart = protocol_chart("roc", "verification", "ROC", {"clean": curve})
    assert chart.summary == "true accept rate over false accept rate: clean from 60.0% at 0.1 to 100.0% at 1"


@pytest.mark.parametrize("name", ["CMC", "score histogram"])
def test_any_curve_of_a_protocol_is_drawn(name: str) -> None:
    drawn = ProtocolResult(metrics={"x": 0.5}, curves={name: Curve(name, np.arange(1, 4), np.array([0.5, 0.7, 0.9]))})
    made = charts(Evaluation(REFERENCE, {"clean": REFERENCE}, {"mine": {"clean": drawn}}))
    assert [chart.title for chart in made] == [f"{name}, mine"]
    assert made[0].item["root_id"]
