"""The DAG of the stages: its order, the arrows worth drawing, and where boxes and arrows lie.

networkx leaves out the arrows that follow from others and gives the order; grandalf lays out in layers (Sugiyama et
al., 1981), with a lane through each layer that an arrow skips, so that arrows pass beside boxes.  Both are there for
DVC anyway.  The same layout runs from left to right on a wide page and downwards on a narrow one; the template draws
it as SVG, which needs no script, follows the page's colours and prints sharp.

Rejected: Graphviz (a program to be installed), networkx' own ``multipartite_layout`` (arrows through boxes and
crossings), and Bokeh for this drawing (nothing to zoom, and gone without scripts).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import networkx as nx

BOX_WIDTH, BOX_HEIGHT = 132, 50
_BETWEEN_LAYERS, _BESIDE, _LANE = 26, 14, 10  # pixels

Point = tuple[float, float]


class Stage(Protocol):
    """A node of the DAG, as whoever knows the wiring hands it in."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def upstream(self) -> tuple[str, ...]: ...


@dataclass
class _Size:
    """What grandalf knows of a box, and where it puts its centre: across the layers, along them."""

    w: float
    h: float
    xy: Point = (0.0, 0.0)


@dataclass
class _Route:
    """The points that an arrow passes, as grandalf tells them."""

    points: list[Point] = field(default_factory=list)

    def setpath(self, points: list[Point]) -> None:
        """Called by grandalf, under this name, with the arrow's way."""
        self.points = points


@dataclass(frozen=True)
class Layout:
    """Where everything lies, in pixels from the upper left corner."""

    width: float
    height: float
    centres: dict[str, Point]
    """Stage → the middle of its box."""
    arrows: list[str]
    """Each as the ``d`` of an SVG path."""


def graph(stages: Sequence[Stage]) -> "nx.DiGraph":
    """The stages and the arrows that don't follow from others; of a graph with a cycle, all arrows.

    An upstream stage that isn't among ``stages`` is left out.
    """
    whole = nx.DiGraph()
    whole.add_nodes_from(stage.name for stage in stages)
    whole.add_edges_from((above, stage.name) for stage in stages for above in stage.upstream if above in whole)
    if not nx.is_directed_acyclic_graph(whole):
        return whole
    reduced = nx.DiGraph()
    reduced.add_nodes_from(whole)
    reduced.add_edges_from(sorted(nx.transitive_reduction(whole).edges))
    return reduced


def order(stages: Sequence[Stage]) -> list[str]:
    """The names, each stage after those that it reads from; as they are given where that leaves a choice."""
    given = {stage.name: place for place, stage in enumerate(stages)}
    arrows = graph(stages)
    if not nx.is_directed_acyclic_graph(arrows):
        return list(given)
    return list(nx.lexicographical_topological_sort(arrows, key=given.__getitem__))


def layout(stages: Sequence[Stage], downwards: bool) -> Layout:
    """Boxes in layers, those that depend on nothing first; parts that aren't joined lie beside each other."""
    across, along = (BOX_WIDTH, BOX_HEIGHT) if downwards else (BOX_HEIGHT, BOX_WIDTH)
    places: dict[str, Point] = {}
    routes: list[list[Point]] = []
    for part in _parts(graph(stages), across, along):
        start = max((x for x, _ in places.values()), default=-across / 2 - _BESIDE) + across + _BESIDE
        _place(part, start, places, routes)
    arrows = [_path(points, along, downwards) for points in routes]
    centres = {name: _turned(place, downwards) for name, place in places.items()}
    width = max((x for x, _ in centres.values()), default=0.0) + BOX_WIDTH / 2
    height = max((y for _, y in centres.values()), default=0.0) + BOX_HEIGHT / 2
    return Layout(width, height, centres, arrows)


def _parts(arrows: "nx.DiGraph", across: float, along: float) -> Sequence[Any]:
    """grandalf's graphs, one for each part whose boxes are joined."""
    from grandalf.graphs import Edge, Graph, Vertex

    vertices = {name: Vertex(name) for name in arrows.nodes}
    for vertex in vertices.values():
        vertex.view = _Size(across, along)
    edges = [Edge(vertices[a], vertices[b]) for a, b in arrows.edges]
    for edge in edges:
        edge.view = _Route()
    return list(Graph(list(vertices.values()), edges).C)


def _place(part: Any, start: float, places: dict[str, Point], routes: list[list[Point]]) -> None:
    """Lay out one part, its leftmost centre at ``start``; adds to ``places`` and ``routes``."""
    from grandalf.layouts import SugiyamaLayout

    sugiyama = SugiyamaLayout(part)
    sugiyama.xspace, sugiyama.yspace, sugiyama.dw = _BESIDE, _BETWEEN_LAYERS, _LANE
    sugiyama.init_all()
    sugiyama.draw(3)
    boxes = [vertex.view for vertex in part.sV]
    lanes = [point for edge in part.sE for point in edge.view.points]
    left = min(x for x, _ in [*(box.xy for box in boxes), *lanes])
    top = min(box.xy[1] - box.h / 2 for box in boxes)
    places |= {vertex.data: (vertex.view.xy[0] - left + start, vertex.view.xy[1] - top) for vertex in part.sV}
    routes += [[(x - left + start, y - top) for x, y in edge.view.points] for edge in part.sE]


# --- arrows -----------------------------------------------------------------------------------------------


def _path(points: Sequence[Point], along: float, downwards: bool) -> str:
    """A line that bends only between the layers, and passes straight beside the boxes of a layer."""
    (x0, y0), *lanes, (x1, y1) = points
    beside = [(x, y + side) for x, y in lanes for side in (-along / 2, along / 2)]
    return " ".join(_bends([(x0, y0 + along / 2), *beside, (x1, y1 - along / 2 - 1)], downwards))


def _bends(points: Sequence[Point], downwards: bool) -> Iterator[str]:
    yield f"M{_text(points[0], downwards)}"
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        yield f"C{' '.join(_text(point, downwards) for point in ((x0, middle), (x1, middle), (x1, y1)))}"


def _text(point: Point, downwards: bool) -> str:
    x, y = _turned(point, downwards)
    return f"{x:.1f},{y:.1f}"


def _turned(point: Point, downwards: bool) -> Point:
    """(across, along) → (x, y) on the page."""
    return point if downwards else (point[1], point[0])
