"""After a list of everything, memory that nothing needs goes back."""

from __future__ import annotations

import gc
import weakref

from coppice_operator.heap import give_back


class _Ring:
    def __init__(self) -> None:
        self.itself = self


def test_what_only_refers_to_itself_is_gone_even_with_the_collector_off() -> None:
    gc.disable()
    try:
        ring = weakref.ref(_Ring())
        assert ring() is not None
        give_back()
        assert ring() is None
    finally:
        gc.enable()
