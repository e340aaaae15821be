"""A chart and the table with the same figures, for those who read instead of look. Drawn by unfold's Chart.js."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

# Told apart on white and on near black, and by people who see fewer colours; errors are always the last.
PALETTE = ("#0d9488", "#6366f1", "#f59e0b", "#db2777", "#38bdf8", "#84cc16", "#a855f7")
REST, BAD = "#94a3b8", "#e5484d"
_QUIET = "#7c8594"  # axes and legends, readable on both


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A figure as people read it, and the list behind it ("": none)."""

    text: str
    url: str = ""

    @property
    def html(self) -> SafeString | str:
        return format_html('<a href="{}">{}</a>', self.url, self.text) if self.url else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line or one colour of bars: numbers (or decimal strings) for the drawing, cells for the table."""

    label: str
    colour: str
    values: Sequence[Any]
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing by day; `kind` is bar (stacked) or line."""

    title: str
    note: str
    unit: str
    kind: str
    days: Sequence[date]
    series: Sequence[Series]

    @property
    def component(self) -> str:
        """unfold's template of it."""
        return f"unfold/components/chart/{self.kind}.html"

    @property
    def data(self) -> str:
        return json.dumps(
            {"labels": [f"{day:%d %b}" for day in self.days], "datasets": [self._dataset(one) for one in self.series]}
        )

    def _dataset(self, series: Series) -> dict[str, Any]:
        dataset: dict[str, Any] = {"label": series.label, "data": list(series.values)}
        if self.kind == "bar":
            return {**dataset, "backgroundColor": series.colour, "maxBarThickness": 28}
        # A day without requests is a gap; a single day is a point, since there is no line to draw.
        points = 3 if len(self.days) < 3 else 0
        return {**dataset, "borderColor": series.colour, "backgroundColor": series.colour, "borderWidth": 2,
                "pointRadius": points, "tension": 0.25}  # fmt: skip

    @property
    def options(self) -> str:
        """All of them: given any, unfold leaves its own out."""
        stacked = self.kind == "bar"
        ticks = {"color": _QUIET, "maxTicksLimit": 8, "maxRotation": 0}
        legend = {"color": _QUIET, "usePointStyle": True, "pointStyle": "circle", "boxHeight": 6, "boxWidth": 6}
        return json.dumps(
            {
                "animation": False,
                "responsive": True,
                "maintainAspectRatio": False,
                "interaction": {"mode": "index", "intersect": False},
                "plugins": {"legend": {"position": "bottom", "align": "start", "labels": legend}},
                "scales": {
                    "x": {"stacked": stacked, "offset": True, "grid": {"display": False}, "ticks": ticks},
                    "y": {
                        "stacked": stacked,
                        "beginAtZero": True,
                        "border": {"display": False},
                        "ticks": {**ticks, "maxTicksLimit": 6},
                        "title": {"display": True, "text": self.unit, "color": _QUIET},
                    },
                },
            }
        )

    @property
    def rows(self) -> list[tuple[date, list[Cell]]]:
        """The table, newest day first."""
        columns = [series.cells for series in self.series]
        found = [(day, [cells[place] for cells in columns]) for place, day in enumerate(self.days)]
        return found[::-1]
