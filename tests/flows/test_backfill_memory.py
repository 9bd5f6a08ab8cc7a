"""Memory stays flat, whatever the number of records: from page to page and from batch to batch nothing is left behind."""

import gc
import sys

from integrations.bench import endless
from integrations.bench.endless import PAGE
from tests.flows.backfilling import bring
from tests.flows.world import World

INVOICES = 7 * PAGE
WARM = 3  # pages after which what is made once has been made


def test_a_backfill_holds_nothing_of_a_page_that_it_has_passed(world: World) -> None:
    """Counted in the interpreter's blocks of memory: one held string per record would be one block, and a set's entry a fraction."""
    held: list[int] = []

    def note() -> None:
        gc.collect()
        held.append(sys.getallocatedblocks())

    with endless.registered(INVOICES) as source:
        source.pages = staticmethod(note)
        sweep = bring(world, "zendesk")
    assert sweep.figures["done"] == INVOICES + INVOICES // endless.EACH
    listed, batched = held[WARM : INVOICES // PAGE], held[-INVOICES // PAGE + WARM :]
    for pages in (listed, batched):
        assert (pages[-1] - pages[0]) / (PAGE * len(pages)) < 0.5, "blocks per record"
