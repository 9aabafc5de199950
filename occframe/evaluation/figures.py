"""How figures are called and written, the same in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_TITLES = {
    "tar": "TAR",
    "dir": "DIR",
    "eer": "EER",
    "auc": "AUC",
    "d-prime": "d′",
    "psnr_db": "PSNR",
    "psnr_db_inside": "PSNR under the mask",
    "psnr_db_outside": "PSNR outside the mask",
    "ssim": "SSIM",
    "ssim_inside": "SSIM under the mask",
    "ssim_outside": "SSIM outside the mask",
    "cosine": "cosine to the reference",
    "cosine_lowest": "cosine, mean of the lowest 5 %",
    "glasses_seen": "glasses still seen",
    "false_accepts": "false accepts at the first condition's threshold",
}
_LOWER_IS_BETTER = ("eer", "glasses_seen", "false_accepts", "harmed")
_PLAIN = ("d-prime", "cosine", "ssim", "psnr_db")
_MOST_DB = 50.0  # of a bar; above, no eye sees a difference


def headline_names(metrics: Mapping[str, float], count: int) -> list[str]:
    """The first ``count`` figures that stand on their own: protocols give the most important first."""
    return [name for name in metrics if not name.endswith("_std") and not is_threshold(name)][:count]


def is_threshold(name: str) -> bool:
    """Thresholds are cosines, for use in an application rather than for judging a system."""
    return name.startswith("threshold")


def is_share(name: str) -> bool:
    """Whether it is a fraction, shown in per cent; thresholds, cosines, SSIM, decibels and d′ are plain numbers."""
    return not is_threshold(name) and not name.startswith(_PLAIN)


def bar_length(name: str, value: float) -> float:
    """0..1: of a fraction or cosine the value, of decibels a share of 50."""
    return min(1.0, max(0.0, value / _MOST_DB if _is_db(name) else value))


def _is_db(name: str) -> bool:
    return "_db" in name


def lower_is_better(name: str) -> bool:
    return name in _LOWER_IS_BETTER


def title(name: str) -> str:
    """``tar@far=1e-3`` -> ``TAR @ FAR 1e-3``; an unknown figure keeps its name."""
    figure, at, place = name.partition("@")
    if at:
        shown = place.replace("far=", "FAR ").replace("fpir=", "FPIR ").replace("eer", "EER").replace("=", " ")
        return f"{_TITLES.get(figure, figure)} @ {shown}"
    return _TITLES.get(name, name)


def sentence(text: str) -> str:
    """With a capital, to stand at the beginning; a symbol stays as it is."""
    return text if text.startswith(_TITLES["d-prime"]) else text[:1].upper() + text[1:]


def signed(number: str) -> str:
    """With a minus sign in place of the hyphen."""
    return number.replace("-", "−")


def value_text(metrics: Mapping[str, float], name: str) -> str:
    """``98.72 ± 0.45 %``, ``0.312`` for a threshold, ``31.2 dB``; a dash where the figure is missing."""
    if name not in metrics:
        return "–"
    if not is_share(name):
        return signed(f"{metrics[name]:.1f} dB" if _is_db(name) else f"{metrics[name]:.3f}")
    spread = f" ± {100 * metrics[name + '_std']:.2f}" if name + "_std" in metrics else ""
    return f"{100 * metrics[name]:.2f}{spread} %"


def interval_text(name: str, low: float, high: float) -> str:
    """``[98.10, 99.21]``, in the unit of the figure."""
    scale, digits = (100, 2) if is_share(name) else (1, 1 if _is_db(name) else 3)
    return signed(f"[{scale * low:.{digits}f}, {scale * high:.{digits}f}]")


def side_by_side(results: Mapping[str, Mapping[str, Mapping[str, float]]], count: int = 3) -> Sequence[str]:
    """Lines of a small table for a terminal, one column a condition. results: metrics by protocol and condition."""
    conditions = list(dict.fromkeys(condition for by_condition in results.values() for condition in by_condition))
    rows = [["", *conditions]]
    for protocol, by_condition in results.items():
        merged = {name: 0.0 for metrics in by_condition.values() for name in metrics}
        for name in headline_names(merged, count):
            values = [value_text(by_condition.get(condition, {}), name) for condition in conditions]
            rows.append([f"{protocol} {title(name)}", *values])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
