"""What a measurement comes to: a table with its title, printed as text, Markdown or JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

Cell = str | int | float


@dataclass(frozen=True, slots=True)
class Table:
    """One printed table; `wrong` says what is above its minimum or bound, and makes the command fail."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return the table as plain values."""
        return asdict(self)

    def as_text(self) -> str:
        """Return the table for a terminal."""
        lines = _told(self)
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        drawn = [
            "  " + "  ".join(_set(cell, width, place) for place, (cell, width) in enumerate(zip(line, widths, strict=True)))
            for line in lines
        ]
        return "\n".join([self.title, *(line.rstrip() for line in drawn), *(f"  ABOVE: {one}" for one in self.wrong), ""])

    def as_markdown(self) -> str:
        """Return the table for a page of documentation."""
        head, *body = _told(self)
        ruler = ["---", *("---:" for _ in head[1:])]
        lines = ["| " + " | ".join(line) + " |" for line in (head, ruler, *body)]
        return "\n".join([f"### {self.title}", "", *lines, *(["", *(f"ABOVE: {one}" for one in self.wrong)] if self.wrong else []), "", ""])


def _told(table: Table) -> list[Sequence[str]]:
    return [table.columns, *(tuple(_written(cell) for cell in row) for row in table.rows)]


def _written(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:,.2f}" if abs(cell) < 100 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _set(cell: str, width: int, place: int) -> str:
    return cell.rjust(width) if place else cell.ljust(width)
