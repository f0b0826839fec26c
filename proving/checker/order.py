"""Promise 3: a company's records stay in order on a keyed platform. Order is that of offsets within one partition."""

from collections import defaultdict
from collections.abc import Iterator
from uuid import UUID

from proving.checker.equations import Violation, name, request
from proving.checker.expected import Index
from proving.checker.facts import KEYED, Coordinates, Receipt


def order(index: Index) -> Iterator[Violation]:
    """First effects of a company at a keyed platform come in the order of its records."""
    firsts: dict[tuple[str, str, str, int], list[tuple[Receipt, Coordinates, UUID]]] = defaultdict(list)
    for event, platform in index.requests:
        effects = index.effects((event, platform))
        if platform in KEYED and effects and event in index.first:
            place, entry = index.first[event]
            firsts[platform, str(entry.company), place[0], place[1]].append((effects[0][0], place, event))
    for (platform, company, _, _), found in firsts.items():
        latest: tuple[Receipt, Coordinates, UUID] | None = None
        for this in sorted(found, key=lambda one: one[0].n):
            if latest is not None and this[1][2] < latest[1][2]:
                what = (
                    f"{name(index, this[2])} at offset {this[1][2]} came to {platform} in {request(this[0])}, after "
                    f"offset {latest[1][2]} of the same company {company} in {request(latest[0])}"
                )
                yield Violation("order", what, this[2], platform)
            else:
                latest = this
