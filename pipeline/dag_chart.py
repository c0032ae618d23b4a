"""The DAG as inline SVG: layers along one axis, nodes of a layer beside each other, arrows between.

A layered drawing in four steps (Sugiyama et al., 1981): leave out arrows that follow from others, give each
node the length of its longest path from a source as its layer, order each layer by the mean place of its
neighbours, and place the nodes near their parents.  An arrow that skips layers gets an invisible node in each, so
that it passes beside the boxes.  The same layout runs from left to right for a wide page and from top to bottom
for a narrow one.

Rejected: Graphviz, a program that would have to be installed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from markupsafe import Markup

from pipeline.charts import tag

_BOX_WIDTH, _BOX_HEIGHT = 128, 50
_GAP = 24
_SWEEPS = 6


@dataclass(frozen=True)
class Box:
    """A node of the drawing."""

    name: str
    upstream: tuple[str, ...]
    lines: tuple[str, ...]
    """What stands in the box; the first line is the heading."""
    description: str = ""
    done: bool = True


Edge = tuple[str, str]
Place = tuple[float, float]
"""Layer and position within it, in boxes."""


def draw(boxes: Sequence[Box], name: str, downwards: bool) -> Markup:
    """The drawing of ``boxes``; ``name`` must be unique on the page."""
    if not boxes:
        return Markup("")
    paths, places = layout({box.name: box.upstream for box in boxes})
    across = [position for _, position in places.values()]
    at = {node: _pixels((layer, position - min(across)), downwards) for node, (layer, position) in places.items()}
    width = max(x for x, _ in at.values()) + _BOX_WIDTH / 2 + 1
    height = max(y for _, y in at.values()) + _BOX_HEIGHT / 2 + 1
    arrow = tag("path", d="M0,0 L7,3.5 L0,7 z", class_="arrow")
    head = tag(
        "marker", arrow, id=f"{name}-head", viewBox="0 0 7 7", refX=7, refY=3.5,
        markerWidth=7, markerHeight=7, orient="auto",
    )  # fmt: skip
    return tag(
        "svg",
        tag("defs", head),
        *(_arrow([at[node] for node in path], name, downwards) for path in paths),
        *(_box(box, at[box.name]) for box in boxes),
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label="the stages and what they read from each other",
        class_=f"dag {name}",
        style=f"max-width:{width * 1.1:.0f}px",
    )


def layout(upstream: Mapping[str, Sequence[str]]) -> tuple[list[list[str]], dict[str, Place]]:
    """Each arrow as the nodes that it passes, and the place of every node, invisible ones included."""
    edges = direct_edges(upstream)
    layer = _layers(upstream)
    paths = [_path(edge, layer) for edge in edges]
    layers: list[list[str]] = [[] for _ in range(max(layer.values()) + 1)]
    for node in dict.fromkeys([*upstream, *(node for path in paths for node in path)]):
        layers[layer[node]].append(node)
    links = [(a, b) for path in paths for a, b in pairwise(path)]
    _untangle(layers, links)
    return paths, _positions(layers, links)


def direct_edges(upstream: Mapping[str, Sequence[str]]) -> list[Edge]:
    """The arrows that don't follow from others (the transitive reduction)."""

    @cache
    def ancestors(node: str) -> frozenset[str]:
        parents = [parent for parent in upstream[node] if parent in upstream]
        return frozenset(parents).union(*map(ancestors, parents))

    return [
        (parent, node)
        for node, parents in upstream.items()
        for parent in parents
        if parent in upstream and not any(parent in ancestors(other) for other in parents if other in upstream)
    ]


def _layers(upstream: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Node → length of its longest path from a source."""

    @cache
    def depth(node: str) -> int:
        return max((depth(parent) + 1 for parent in upstream[node] if parent in upstream), default=0)

    return {node: depth(node) for node in upstream}


def _path(edge: Edge, layer: dict[str, int]) -> list[str]:
    """The edge's ends with an invisible node in each layer between; notes those in ``layer``."""
    start, end = edge
    between = {f"{start} → {end} {i}": i for i in range(layer[start] + 1, layer[end])}
    layer.update(between)
    return [start, *between, end]


def _untangle(layers: list[list[str]], links: Sequence[Edge]) -> None:
    """Sort each layer by the mean place of its neighbours in the layer before, then after, a few times."""
    forwards = {node: [a for a, b in links if b == node] for nodes in layers for node in nodes}
    backwards = {node: [b for a, b in links if a == node] for nodes in layers for node in nodes}
    for sweep in range(_SWEEPS):
        neighbours = backwards if sweep % 2 else forwards
        place = {node: i - len(nodes) / 2 for nodes in layers for i, node in enumerate(nodes)}
        for nodes in layers:
            nodes.sort(key=lambda node: _mean([place[n] for n in neighbours[node]], place[node]))


def _positions(layers: Sequence[Sequence[str]], links: Sequence[Edge]) -> dict[str, Place]:
    """Each node as near to its parents' middle as its neighbours in the layer allow."""
    places: dict[str, Place] = {}
    for layer, nodes in enumerate(layers):
        wanted = [_mean([places[a][1] for a, b in links if b == node], 0.0) for node in nodes]
        found: list[float] = []
        for position in wanted:
            found.append(max(position, found[-1] + 1) if found else position)
        shift = _mean([w - f for w, f in zip(wanted, found, strict=True)], 0.0)
        places |= {node: (layer, position + shift) for node, position in zip(nodes, found, strict=True)}
    return places


def _pixels(place: Place, downwards: bool) -> Place:
    """The centre of a box on the drawing."""
    layer, position = place
    x, y = (position, layer) if downwards else (layer, position)
    gap_x, gap_y = (8, _GAP) if downwards else (_GAP, 14)
    return x * (_BOX_WIDTH + gap_x) + _BOX_WIDTH / 2 + 1, y * (_BOX_HEIGHT + gap_y) + _BOX_HEIGHT / 2 + 1


def _arrow(points: Sequence[Place], name: str, downwards: bool) -> Markup:
    """A line that bends only between the layers, and passes straight beside the boxes of a layer."""
    half = (_BOX_HEIGHT if downwards else _BOX_WIDTH) / 2
    beside = [_moved(point, side, downwards) for point in points[1:-1] for side in (-half, half)]
    ends = [_moved(points[0], half, downwards), *beside, _moved(points[-1], -half - 1, downwards)]
    curve = [f"M{ends[0][0]:g},{ends[0][1]:g}", *_bends(ends, downwards)]
    return tag("path", d=" ".join(curve), class_="edge", marker_end=f"url(#{name}-head)")


def _bends(points: Sequence[Place], downwards: bool) -> Iterator[str]:
    for start, end in pairwise(points):
        reach = (end[1] - start[1] if downwards else end[0] - start[0]) / 2
        a, b = _moved(start, reach, downwards), _moved(end, -reach, downwards)
        yield f"C{a[0]:g},{a[1]:g} {b[0]:g},{b[1]:g} {end[0]:g},{end[1]:g}"


def _moved(point: Place, distance: float, downwards: bool) -> Place:
    return (point[0], point[1] + distance) if downwards else (point[0] + distance, point[1])


def _box(box: Box, centre: Place) -> Markup:
    x, y = centre
    top = y - 7 * (len(box.lines) - 1) + 4.5
    return tag(
        "g",
        tag("title", f"{box.name}: {box.description}" if box.description else box.name),
        tag("rect", x=x - _BOX_WIDTH / 2, y=y - _BOX_HEIGHT / 2, width=_BOX_WIDTH, height=_BOX_HEIGHT, rx=8),
        *(
            tag("text", line, x=x, y=top + 14 * i, text_anchor="middle", class_="" if i else "name")
            for i, line in enumerate(box.lines)
        ),
        class_="box" if box.done else "box waiting",
    )


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
