"""Prices that were worked out before: most calls of a batch ask for the same, but for the prompt.

A price is worked out from some fields of a request's body. Which ones is not said anywhere but in the code that reads
them, so it is watched: two bodies that agree in every field that was ever read for an endpoint have the same price,
whatever else they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from budgetguard.model import Quote

__all__ = ["PriceMemo"]

_QUOTES_MAX = 512
"""Prices that are remembered for an endpoint."""
_TEXT_MAX = 64
"""Characters of a text that is remembered as part of what a price depends on."""
_PLAIN = frozenset({str, int, float, bool, type(None)})


class PriceMemo:
    """Remembers the prices of one list. Safe to share between threads: what is lost in a race is worked out again.

    Args:
        price: Works a price out from an endpoint and a body, and from nothing else.
    """

    __slots__ = ("_known", "_price")

    def __init__(self, price: Callable[[str, Any], Quote]) -> None:
        self._price = price
        self._known: dict[str, tuple[tuple[str, ...], dict[tuple[Any, ...], Quote]]] = {}
        """By endpoint: the fields that were ever read, and the prices by the values of these fields, with their kinds:
        1, 1.0 and True are equal, and not the same."""

    def quote(self, path: str, document: Any) -> Quote:
        """Price a request.

        Raises:
            UnknownPrice: As *price* does; that is not remembered.
        """
        if type(document) is not dict:
            return self._price(path, document)
        known = self._known.get(path)
        if known is not None:
            values = tuple(map(document.get, known[0]))
            try:
                found = known[1].get((*values, *map(type, values)))
            except TypeError:  # lists and objects are not remembered
                found = None
            if found is not None:
                return found
        watched = _Watched(document)
        quote = self._price(path, watched)
        if not watched.whole:
            self._learn(path, document, watched.read, quote)
        return quote

    def _learn(self, path: str, document: dict[str, Any], read: set[str], quote: Quote) -> None:
        fields, quotes = self._known.get(path, ((), {}))
        if not read.issubset(fields) or len(quotes) >= _QUOTES_MAX:
            # With more fields the old prices are found no more. Both are changed at once, for other threads.
            fields, quotes = self._known[path] = tuple(sorted(read.union(fields))), {}
        values = tuple(map(document.get, fields))
        kinds = tuple(map(type, values))
        if _PLAIN.issuperset(kinds) and not any(type(value) is str and len(value) > _TEXT_MAX for value in values):
            quotes[*values, *kinds] = quote


class _Watched(Mapping[str, Any]):
    """A body that notes which of its fields are read."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self.read: set[str] = set()
        self.whole = False
        """Whether it was looked at as a whole, so that anything may have mattered."""

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self._fields[name]

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        self.whole = True
        return iter(self._fields)

    def __len__(self) -> int:
        self.whole = True
        return len(self._fields)
