"""What can be measured, by name. A new theme is a module with `run(bench) -> list[Table]` and one line here."""

from collections.abc import Callable, Mapping

from integrations.bench import backfilling, changes, growth, memory, outage, pacing, reconciling, serving
from integrations.bench.scale import Bench
from integrations.bench.tables import Table

THEMES: Mapping[str, Callable[[Bench], list[Table]]] = {
    "changes": changes.run,
    "backfill": backfilling.run,
    "quota": pacing.run,
    "memory": memory.run,
    "reconcile": reconciling.run,
    "outage": outage.run,
    "neighbour": outage.run_neighbour,
    "serving": serving.run,
    "growth": growth.run,
}
