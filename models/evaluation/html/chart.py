"""Drawings: Fréchet distance over time, a line a system; figures with their intervals, a row a system."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from models.evaluation.html.markup import Markup, tag
from models.evaluation.report import Figures, number

COLOURS = (
    "#1f6feb", "#d1495b", "#2a9d6f", "#e08e0b", "#7b4fc9", "#0f9fb5", "#c2477f", "#6b8e23", "#a0522d", "#4a5568",
)  # fmt: skip
"""Told apart with the dashes of `_DASHES` when there are more systems than colours."""
_DASHES = ("", "6 3", "2 3")
_REAL_COLOUR = "#111827"
_WIDTH, _HEIGHT = 860.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 16.0, 14.0, 40.0
_CLIP_S = 4
_LOG_FROM = 20.0
"""Largest over smallest value from which an axis is logarithmic."""


def colour(name: str, names: Sequence[str]) -> tuple[str, str]:
    """Return a system's colour and dashes."""
    if name == "real":
        return _REAL_COLOUR, ""
    place = [n for n in names if n != "real"].index(name)
    return COLOURS[place % len(COLOURS)], _DASHES[place // len(COLOURS) % len(_DASHES)]


def time_chart(over_time: Mapping[str, Sequence[float]]) -> Markup:
    """Return lines of the Fréchet distance of each four seconds; "" if there is nothing to draw."""
    lines = {name: list(values) for name, values in over_time.items() if any(map(_positive, values))}
    if not lines:
        return Markup("")
    axis = _Axis.over([v for values in lines.values() for v in values], _HEIGHT - _BOTTOM, _TOP)
    places = max(map(len, lines.values()))
    step = (_WIDTH - _LEFT - _RIGHT) / max(places - 1, 1)
    parts = [
        *(_horizontal(axis.at(v), f"{v:g}") for v in axis.ticks),
        *(
            tag("text", str(_CLIP_S * i), {"x": f"{_LEFT + i * step:.1f}", "y": f"{_HEIGHT - 20:.1f}", "class": "x"})
            for i in range(places)
        ),
        tag("text", "seconds into the dance", {"x": f"{_WIDTH / 2:.0f}", "y": f"{_HEIGHT - 4:.0f}", "class": "x"}),
    ]
    names = list(lines)
    legend = []
    for index, (name, values) in enumerate(lines.items()):
        ink, dashes = colour(name, names)
        points = [(_LEFT + i * step, axis.at(v), v) for i, v in enumerate(values) if _positive(v)]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        style = {"stroke": ink, "stroke-dasharray": dashes or "none"}
        dots = [
            tag("circle", tag("title", f"{name}, {_CLIP_S * i} s: {number(v)}"),
                {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3.2", "fill": ink,
                  "data-name": name, "data-value": number(v), "data-when": f"{_CLIP_S * i} s"})
            for i, (x, y, v) in enumerate(points)
        ]  # fmt: skip
        parts.append(tag("g", [tag("polyline", "", {"points": way, **style}), *dots], {"data-line": str(index)}))
        swatch = tag("svg", tag("line", "", {"x1": "0", "y1": "6", "x2": "26", "y2": "6", **style}),
                     {"width": "26", "height": "12", "aria-hidden": "true"})  # fmt: skip
        legend.append(tag("li", [swatch, tag("span", name)], {"data-line": str(index), "tabindex": "0"}))
    drawing = tag("svg", parts, {"viewBox": f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", "class": "lines", "role": "img",
                                 "aria-label": "Fréchet distance over time"})  # fmt: skip
    scale = "logarithmic scale" if axis.logarithmic else "from zero"
    caption = tag("figcaption", f"Kinetic Fréchet distance of each four seconds to real training dance, {scale}.")
    return tag("figure", [drawing, tag("ul", legend, {"class": "legend"}), caption], {"class": "over-time"})


def interval_chart(
    systems: Mapping[str, Figures], figure: str, title: str, floor: float = math.nan, chance: str = ""
) -> Markup:
    """Return a row a system: the figure as a dot, its interval as a line, chance as a hollow dot."""
    rows = {n: f[figure] for n, f in systems.items() if figure in f and math.isfinite(f[figure].value)}
    if not rows:
        return Markup("")
    left, width, row = 148.0, 420.0, 19.0
    height = row * len(rows) + 34.0
    by_chance = {n: systems[n][chance].value for n in rows if chance in systems[n]}
    edges = [v for i in rows.values() for v in (i.value, i.low, i.high) if math.isfinite(v)]
    axis = _Axis.over([*edges, *by_chance.values(), *([floor] if math.isfinite(floor) else [])], left, width - 14.0)
    parts = []
    for value in axis.ticks:
        x = f"{axis.at(value):.1f}"
        parts.append(tag("line", "", {"x1": x, "x2": x, "y1": "4", "y2": f"{height - 22:.0f}", "class": "grid"}))
        parts.append(tag("text", f"{value:g}", {"x": x, "y": f"{height - 8:.0f}", "class": "x"}))
    if math.isfinite(floor):
        x = f"{axis.at(floor):.1f}"
        mark = tag("title", f"real against real: {number(floor)}")
        parts.append(tag("line", mark, {"x1": x, "x2": x, "y1": "4", "y2": f"{height - 22:.0f}", "class": "floor"}))
    for place, (name, found) in enumerate(rows.items()):
        ink, _ = colour(name, list(rows))
        y = f"{row * (place + 0.5) + 4.0:.1f}"
        shown = name if len(name) <= 23 else name[:22] + "…"
        parts.append(tag("text", [tag("title", name), shown], {"x": f"{left - 10:.0f}", "y": y, "class": "row"}))
        ends = (found.low, found.high) if math.isfinite(found.low) else (found.value, found.value)
        low, high = (f"{axis.at(v):.1f}" for v in ends)
        parts.append(tag("line", "", {"x1": low, "x2": high, "y1": y, "y2": y, "stroke": ink, "class": "whisker"}))
        if name in by_chance:
            x = f"{axis.at(by_chance[name]):.1f}"
            hint = tag("title", f"{name}, chance: {number(by_chance[name])}")
            parts.append(tag("circle", hint, {"cx": x, "cy": y, "r": "3.4", "class": "hollow"}))
        hint = tag("title", f"{name}: {number(found.value)}")
        parts.append(tag("circle", hint, {"cx": f"{axis.at(found.value):.1f}", "cy": y, "r": "4.2", "fill": ink}))
    drawing = tag("svg", parts, {"viewBox": f"0 0 {width:.0f} {height:.0f}", "class": "intervals", "role": "img",
                                 "aria-label": title})  # fmt: skip
    scale = " (logarithmic)" if axis.logarithmic else ""
    return tag("figure", [tag("figcaption", title + scale), drawing])


class _Axis:
    """Values between two places of a drawing; the lowest, or zero, at the first.

    Args:
        low, high: of the values.
        start, stop: places.
        logarithmic: or from low on evenly.
    """

    def __init__(self, low: float, high: float, start: float, stop: float, logarithmic: bool) -> None:
        self._low, self._high, self._start, self._stop = low, high, start, stop
        self.logarithmic = logarithmic
        self.ticks = [v for v in (_decades(low, high) if logarithmic else _steps(low, high)) if low <= v <= high]

    @staticmethod
    def over(values: Sequence[float], start: float, stop: float) -> _Axis:
        finite = [v for v in values if math.isfinite(v)]
        positive = [v for v in finite if v > 1e-6]
        high = max(finite)
        if positive and min(positive) * _LOG_FROM < high:
            # What is nothing (real dance against itself) must not stretch the scale over many decades.
            return _Axis(max(min(positive), high * 1e-4) * 0.9, high * 1.1, start, stop, True)
        low = min(0.0, min(finite))
        return _Axis(low, max(high, low + 1e-9) * 1.05, start, stop, False)

    def at(self, value: float) -> float:
        """Return the place of a value."""
        value = min(max(value, self._low), self._high)
        if self.logarithmic:
            part = math.log(value / self._low) / math.log(self._high / self._low)
        else:
            part = (value - self._low) / (self._high - self._low)
        return self._start + part * (self._stop - self._start)


def _decades(low: float, high: float) -> list[float]:
    first = math.floor(math.log10(low))
    exponents = range(first, math.ceil(math.log10(high)) + 1)
    steps = (1.0,) if len(exponents) > 4 else (1.0, 3.0)
    return [step * 10.0**e for e in exponents for step in steps]


def _steps(low: float, high: float) -> list[float]:
    rough = (high - low) / 5.0
    size = 10.0 ** math.floor(math.log10(rough))
    size *= next(k for k in (1.0, 2.0, 5.0, 10.0) if k * size >= rough)
    return [size * k for k in range(math.ceil(low / size), math.floor(high / size) + 1)]


def _horizontal(y: float, text: str) -> Markup:
    at = f"{y:.1f}"
    line = tag("line", "", {"x1": f"{_LEFT:.0f}", "x2": f"{_WIDTH - _RIGHT:.0f}", "y1": at, "y2": at, "class": "grid"})
    return Markup(line + tag("text", text, {"x": f"{_LEFT - 8:.0f}", "y": at, "class": "y"}))


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0.0
