"""`python -m tests.simulation [--seeds N] [--seed K]`: play seeds, tell which fail, how, and how to see it again."""

import argparse
import gc
import multiprocessing
import os
import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import django
from cryptography.fernet import Fernet

# Before Django reads them. Throw-away keys: what is drawn with them never leaves this process.
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "connector_site.settings",
    "SECRET_KEY": secrets.token_urlsafe(60),
    "FERNET_KEYS": Fernet.generate_key().decode(),
    "DATABASE_URL": "sqlite:///simulation.sqlite3",  # each seed has one of its own
    "PUBLIC_URL": "http://127.0.0.1:8000",
}
django.setup()

from tests.simulation.bugs import BUGS, CALM  # noqa: E402 - after the set-up
from tests.simulation.crash import FLOWS, each  # noqa: E402
from tests.simulation.ground import prepared_ground  # noqa: E402
from tests.simulation.play import Result, Traits, play  # noqa: E402
from tests.simulation.story import CHANGES  # noqa: E402
from tests.simulation.world import template  # noqa: E402


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Play seeds of the deterministic simulation.")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds to play")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this one only, and show its last steps")
    parser.add_argument("--changes", type=int, default=CHANGES, help="changes per seed; a fifth as many objects")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many to play at once")
    parser.add_argument("--steps", type=int, default=40, help="how many of the last steps a failure shows")
    parser.add_argument("--bug", choices=sorted(BUGS), help="put one of the known bugs into production code first")
    parser.add_argument(
        "--find", action="store_true", help="play seeds of that bug's own story, without it and with it, until one finds it"
    )
    parser.add_argument("--trait", action="append", default=[], metavar="NAME=VALUE", help="what all seeds have in common, e.g. death=0.01")
    parser.add_argument("--crash", choices=sorted(FLOWS), help="stop this flow at each commit and call in turn instead")
    parser.add_argument("--share", default="0/1", help="of the crash points only each n-th, as in 1/3")
    parser.add_argument("--until-failure", action="store_true", help="stop at the first seed that fails")
    return parser.parse_args(arguments)


def bug(name: str | None) -> AbstractContextManager[None]:
    """Return what puts a known bug into production code."""
    return BUGS[name].put_in() if name else nullcontext()


def played(seeds: Sequence[int], options: argparse.Namespace) -> Iterator[Result]:
    """Play seeds one after the other in this process."""
    gc.disable()  # cycles are few, and collecting takes a fifth of the time
    with prepared_ground() as ground, template(ground) as made, bug(options.bug):
        gc.freeze()  # what stands now stays, and need not be looked through after each seed
        for seed in seeds:
            result = play(ground, made, seed, traits=_traits(seed, options.trait), changes=options.changes)
            yield result
            gc.collect()
            if result.failure and options.until_failure:
                break


def _traits(seed: int, given: Sequence[str]) -> Traits:
    drawn = Traits.drawn(seed)
    told = dict(entry.split("=", 1) for entry in given)
    kinds: Mapping[type, Callable[[str], object]] = {bool: lambda text: text.lower() in ("1", "true", "yes")}
    return replace(drawn, **{name: kinds.get(kind := type(getattr(drawn, name)), kind)(value) for name, value in told.items()})


def _batch(given: tuple[list[int], argparse.Namespace]) -> list[Result]:
    try:
        return list(played(*given))
    except SystemExit as error:  # would end the process without a word
        raise RuntimeError(f"the set-up ended with {error}") from error


def _all(seeds: Sequence[int], options: argparse.Namespace) -> Iterator[Result]:
    """Play all seeds on several processors; results come as they are ready."""
    size = len(seeds) if options.processes == 1 else max(1, min(10, len(seeds) // options.processes))
    batches = [(list(seeds[start : start + size]), options) for start in range(0, len(seeds), size)]
    if options.processes == 1 or len(batches) == 1:
        for batch in batches:
            yield from played(*batch)
        return
    with multiprocessing.get_context("fork").Pool(options.processes, maxtasksperchild=1) as pool:
        for results in pool.imap_unordered(_batch, batches):
            yield from results


def told(result: Result, options: argparse.Namespace) -> str:
    """Return a result in a line, a failure with its last steps and the way to see it again."""
    line = f"seed {result.seed}: {result.steps} steps, {result.virtual / 3600:.1f} h in {result.seconds:.1f} s, digest {result.digest[:16]}"
    if not result.failure:
        return line
    more = [*(f"--trait {entry}" for entry in options.trait), *([f"--bug {options.bug}"] if options.bug else [])]
    again = f"make simulate SEED={result.seed}" + (f" CHANGES={options.changes}" if options.changes != CHANGES else "")
    if more:
        again = f"{sys.executable} -m tests.simulation --seed {result.seed} --changes {options.changes} {' '.join(more)}"
    latest = "\n".join(result.latest[-options.steps :])
    return f"{line}\nseed {result.seed} FAILED at step {result.steps}: {result.failure}\n{latest}\nTo see it again: {again}\n"


def tallied(happened: Mapping[str, int]) -> str:
    """Return what happened how often in all seeds, and what could have and did not."""
    counts = [f"{count} {name}" for name, count in sorted(happened.items(), key=lambda item: -item[1]) if count]
    never = [name for name, count in happened.items() if not count]
    return f"happened: {', '.join(counts)}\nnever: {', '.join(never) or 'nothing'}"


def crashed(options: argparse.Namespace) -> int:
    """Stop a flow at each of its points, tell where it did not recover, and return the exit code."""
    gc.disable()
    share, shares = map(int, options.share.split("/"))
    looked_at, wrong = 0, 0
    with prepared_ground() as ground, template(ground) as made, bug(options.bug):
        gc.freeze()
        for number, point, failure in each(ground, made, options.crash, share=share, shares=shares):
            looked_at += 1
            if failure:
                wrong += 1
                sys.stdout.write(f"{options.crash}, stopped {point} ({number}): {failure}\n")
            gc.collect()
    sys.stdout.write(f"{options.crash}: {looked_at} points looked at, {wrong} failed\n")
    return 1 if wrong or not looked_at else 0


def found(options: argparse.Namespace) -> int:
    """Play a bug's own story until a seed finds it that passes without it; return the exit code."""
    gc.disable()
    known = BUGS[options.bug]
    with prepared_ground() as ground, template(ground) as made:
        gc.freeze()
        for seed in range(options.first, options.first + options.seeds):
            traits = replace(Traits.drawn(seed), **{**CALM, **known.traits})
            for name in (None, options.bug):
                with bug(name):
                    result = play(ground, made, seed, traits=traits, changes=known.changes)
                gc.collect()
                sys.stdout.write(f"seed {seed} {f'with {name}' if name else 'as it is'}: {result.failure or 'clean'}\n")
                if result.failure:
                    return 0 if name and re.search(known.says, result.failure) else 1
    return 1


def main(arguments: Sequence[str]) -> int:
    """Play what was asked for and return the exit code."""
    options = parsed(arguments)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    if options.crash:
        return crashed(options)
    if options.find:
        return found(options)
    begun, failed, happened = time.time(), [], Counter[str]()
    for result in _all(seeds, options):
        sys.stdout.write(f"{told(result, options)}\n")
        sys.stdout.flush()
        failed += [result.seed] if result.failure else []
        happened.update(result.happened)
    if len(seeds) > 1:
        sys.stdout.write(f"{tallied(happened)}\n")
    sys.stdout.write(f"{len(seeds)} seeds in {time.time() - begun:.0f} s, failed: {sorted(failed) or 'none'}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
