"""How much memory a backfill takes: the largest a process of its own ever was, with few records and with many."""

import json
import os
import resource
import subprocess
import sys
import time

from django.conf import settings

from integrations import backfill
from integrations.bench import endless, ground
from integrations.bench.scale import Bench
from integrations.bench.site import standing
from integrations.bench.tables import Cell, Table
from integrations.models import Sweep

FEW, MANY, MOST_GROWTH = 1_000, 100_000, 1.3
ASKED = "BENCH_MEMORY"  # in the environment of the process that is measured: how many records


def run(bench: Bench) -> list[Table]:
    """Run a backfill of each size in a process of its own, with a source and a destination that hold nothing."""
    if ASKED in os.environ:
        return [_one(bench, int(os.environ[ASKED]))]
    sizes = (bench.most(FEW), bench.most(MANY))
    rows: list[tuple[Cell, ...]] = [(f"{size:,}", *_measured(size)) for size in sizes]
    growth = float(rows[1][1]) / float(rows[0][1])
    wrong = [f"{growth:.2f} times the memory"] if growth > MOST_GROWTH else []
    title = f"Memory of a backfill, {growth:.2f} times with {sizes[1] // sizes[0]} times the records (at most {MOST_GROWTH} times)"
    return [Table("memory", title, ("records", "largest, MiB", "CPU ms per record"), rows, wrong)]


def _measured(records: int) -> tuple[float, float]:
    """Return MiB and milliseconds per record, from a bench of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in (ground.FOLDER, "DATABASE_URL")}
    command = [sys.executable, "manage.py", "bench", "memory", "--json"]
    done = subprocess.run(  # noqa: S603 - ourselves
        command, cwd=settings.BASE_DIR, env={**environment, ASKED: str(records)}, capture_output=True, text=True, check=True
    )
    [table] = json.loads(done.stdout.splitlines()[-1])
    _, largest, pace = table["rows"][0]
    return float(largest), float(pace)


def _one(bench: Bench, records: int) -> Table:
    invoices = records * endless.EACH // (endless.EACH + 1)
    with standing(bench.clock) as site, endless.registered(invoices):
        sweep, _ = backfill.begin(site.route("zendesk"), started_by="bench")
        began = time.process_time()
        while sweep.state == Sweep.State.RUNNING:
            backfill.carry_on(sweep, deadline=time.monotonic() + 3600)
            sweep.refresh_from_db()
        pace = 1000 * (time.process_time() - began) / records
    brought = int(sweep.figures.get("done", 0))
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    missing = [f"{brought} of {records} records brought ({sweep.state}: {sweep.problem})"] if brought < invoices else []
    return Table("memory", "A backfill's largest process", ("records", "MiB", "CPU ms per record"), [(brought, largest, pace)], missing)
