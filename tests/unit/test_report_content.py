"""What the report says of an evaluation: differences with their sense, tables of any number of conditions, curves."""

from __future__ import annotations

import numpy as np
import pytest

from occframe.evaluation.figures import side_by_side, title, value_text
from occframe.evaluation.report.charts import det_chart, histogram_chart, protocol_chart
from occframe.evaluation.report.content import (
    cards,
    charts,
    group_tables,
    main_results,
    matrix,
    sweep_charts,
    sweep_tables,
    tables,
)
from occframe.evaluation.report.mistakes import mistake_groups
from occframe.evaluation.results import Evaluation, Sweep
from occframe.step import Artefact
from occframe.types import Curve, Group, Histogram, Interval, Mistake, ProtocolResult

REFERENCE = Artefact("faces", "embeddings", "nowhere", {})


def result(accuracy: float, eer: float, *notes: str, mistakes: int = 0) -> ProtocolResult:
    return ProtocolResult(
        metrics={"accuracy": accuracy, "accuracy_std": 0.01, "eer": eer, "threshold@eer": -0.25},
        counts={"genuine pairs": 3000},
        notes=notes,
        mistakes=[Mistake("false reject", f"a{n}", f"b{n}", n / 10) for n in range(mistakes)],
    )


def of(**conditions: ProtocolResult) -> dict[str, dict[str, ProtocolResult]]:
    return {"verification": conditions}


def test_a_difference_has_a_sense() -> None:
    table = tables(of(clean=result(0.9, 0.1), occluded=result(0.85, 0.2), masked=result(0.9, 0.05)))[0]
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
    only = of(clean=result(0.9, 0.1))
    assert tables(only)[0].columns == ["clean"]
    assert [card.difference for card in cards(only)] == ["", ""]


def test_notes_name_the_condition_where_they_differ() -> None:
    table = tables(of(clean=result(0.9, 0.1, "all"), occluded=result(0.8, 0.1, "all", "hard")))[0]
    assert table.notes == ["3,000 genuine pairs", "all", "occluded: hard"]


def test_a_figure_that_one_condition_lacks_is_a_dash() -> None:
    short = ProtocolResult(metrics={"eer": 0.3})
    both = of(clean=result(0.9, 0.1), occluded=short)
    assert [cell.text for cell in tables(both)[0].rows[0].cells] == ["90.00 ± 1.00 %", "–", ""]
    assert [bar.line for bar in cards(both)[0].bars] == ["clean"]
    lines = side_by_side({"verification": {name: of.metrics for name, of in both["verification"].items()}})
    assert lines[1].split() == ["verification", "accuracy", "90.00", "±", "1.00", "%", "–"]
    assert len(set(map(len, lines))) == 1


def test_many_mistakes_do_not_fill_the_report() -> None:
    many = {("verification", f"condition-{n}"): result(0.5, 0.5, mistakes=40) for n in range(20)}
    groups = mistake_groups(many, {})
    assert len(groups) == 20
    assert {len(group.pairs) for group in groups} == {3}
    few = mistake_groups({("verification", "clean"): result(0.5, 0.5, mistakes=40)}, {})
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
    made = list(charts({"mine": {"clean": drawn}}, {"clean": "#2f7ed8"}))
    assert [chart.title for chart in made] == [f"{name[0].upper()}{name[1:]}, mine"]
    assert made[0].item["root_id"]


def with_interval(value: float) -> ProtocolResult:
    return ProtocolResult(
        metrics={"tar@far=1e-3": value, "eer": 1 - value},
        intervals={"tar@far=1e-3": Interval(value - 0.02, value + 0.01, np.empty(0))},
        groups=[
            Group("hidden_eyes", "0..0.1", {"tar@far=1e-3": 0.9}, {"genuine pairs": 1200, "impostor pairs": 9}, 0, 0.1),
            Group("hidden_eyes", "0.1..1", {}, {"genuine pairs": 0, "impostor pairs": 0}, 0.1, 1.0),
        ],
    )


def test_a_figure_stands_with_its_interval() -> None:
    table = tables(of(clean=with_interval(0.9)))[0]
    assert [(cell.text, cell.detail) for row in table.rows for cell in row.cells] == [
        ("90.00 %", "[88.00, 91.00]"),
        ("10.00 %", ""),
    ]
    assert table.notes == ["In brackets: 95 % confidence intervals, bootstrapped over people."]
    assert cards(of(clean=with_interval(0.9)))[0].bars[0].detail == "[88.00, 91.00]"


def test_many_conditions_are_rows_of_a_table() -> None:
    table = tables(of(**{f"c{n}": result(0.9 - n / 100, 0.1) for n in range(4)}))[0]
    assert [row.heading for row in table.rows] == ["c0", "c1", "c2", "c3"]
    assert table.columns == ["Accuracy", "EER"]


def test_a_matrix_marks_the_best_of_each_column() -> None:
    by_condition = {"clean": {"a": result(0.9, 0.1), "b": result(0.8, 0.2)}, "masks": {"b": result(0.7, 0.3)}}
    for figure in ("accuracy", "eer"):
        table = matrix("caption", figure, by_condition, "system")
        assert [[cell.verdict for cell in row.cells] for row in table.rows] == [["best", ""], ["", ""]]
    assert table.rows[0].cells[1].text == "–"


def test_groups_that_nobody_is_in_are_left_out() -> None:
    (table,) = group_tables(of(clean=with_interval(0.9)))
    assert table.caption == "Verification: TAR @ FAR 1e-3 by hidden eyes"
    assert [(row.heading, row.cells[0].detail) for row in table.rows] == [("0 to 0.1", "1,200 genuine pairs")]


def test_points_of_a_sweep_are_a_curve_and_no_conditions() -> None:
    names = {"clean": 0.9, "box-1": 0.8, "box-2": 0.6}
    sweep = Sweep("box", "severity", "probe", [(0.1, "box-1"), (0.2, "box-2")])
    swept = Evaluation(
        REFERENCE,
        dict.fromkeys(names, REFERENCE),
        {"verification": {name: with_interval(value) for name, value in names.items()}},
        sweeps=[sweep],
    )
    assert list(main_results(swept)["verification"]) == ["clean"]
    first, second = sweep_charts(swept)
    assert first.title == "TAR @ FAR 1e-3 over severity, verification"
    assert first.summary.endswith("box from 80.0% at 0.1 to 60.0% at 0.2")
    assert first.note == "bands: confidence intervals"
    assert second.note == ""
    (table,) = sweep_tables(swept)
    assert [row.heading for row in table.rows] == ["0.1", "0.2"]


def test_a_det_curve_is_what_a_roc_leaves() -> None:
    curve = Curve("ROC", np.array([0, 0.01, 0.1, 1]), np.array([0, 0.8, 0.9, 1]), supported=(0.01, 1.0))
    chart = det_chart("det", "verification", {"clean": curve})
    assert chart.summary == "false reject rate over false accept rate: clean from 20.0% at 0.01 to 0.0% at 1"
    assert chart.note == "shaded: what the data supports, from 1.0e-02"


def test_scores_of_few_pairs_stand_in_wide_bins() -> None:
    edges = np.linspace(-1, 1, 201)
    counts = {
        name: np.histogram(np.full(n, at), edges)[0] for name, n, at in (("genuine", 10, 0.62), ("impostor", 90, 0))
    }
    chart = histogram_chart("scores", "verification", {"clean": Histogram(edges, counts)})
    assert chart.summary == "clean, genuine: most at 0.60; clean, impostor: most at 0.00"
    assert chart.note == "solid: genuine, dashed: impostor"
