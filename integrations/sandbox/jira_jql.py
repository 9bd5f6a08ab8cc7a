"""A small JQL: read a query into a test of issues and a sort, refusing what Jira refuses.

https://support.atlassian.com/jira-software-cloud/docs/use-advanced-search-with-jira-query-language-jql/
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from integrations.sandbox import jira_adf
from integrations.sandbox.jira_site import Field, Issue, RefusedError, Site

MOST_SORT_FIELDS = 7
_TOKEN = re.compile(r"""\s*(?:"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|(!=|!~|>=|<=|[=~<>(),])|([^\s=!~<>(),"']+))""")
_EQUAL = ("=", "!=", "in", "not in")
_EMPTY = ("is", "is not")
_ORDER = (">", ">=", "<", "<=")
_OPERATORS = {
    "choice": (*_EQUAL, *_EMPTY),
    "text": ("~", "!~", *_EMPTY),
    "ordered": (*_EQUAL, *_EMPTY, *_ORDER),
}
# How fields of a kind can be asked for; all others are texts, which refuse "=".
_KINDS = {"labels": "choice", "select": "choice", "priority": "choice", "float": "ordered", "datepicker": "ordered"}

Test = Callable[[Issue], bool]


@dataclass(frozen=True, slots=True)
class Token:
    """A word, operator or quoted text of a query."""

    text: str
    quoted: bool

    def __str__(self) -> str:
        """Return a keyword or operator in lower case, "" for quoted text."""
        return "" if self.quoted else self.text.lower()


@dataclass(frozen=True, slots=True)
class Clause:
    """What a name means in a query: its kind, an issue's values, and the check of a literal."""

    name: str
    kind: str  # choice | text | ordered
    values: Callable[[Issue], list[Any]]
    literal: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query: which issues, in which order (value of an issue, descending?)."""

    test: Test
    order: Sequence[tuple[Callable[[Issue], Any], bool]]

    def run(self, issues: list[Issue]) -> list[Issue]:
        """Return the matching issues in order; without ORDER BY the newest comes first."""
        found = sorted((issue for issue in issues if self.test(issue)), key=lambda issue: int(issue.id), reverse=True)
        for value, descending in reversed(self.order):
            found.sort(key=value, reverse=descending)
        return found


def parse(site: Site, text: str) -> Query:
    """Read a query; raise RefusedError 400 when it is unbounded, malformed or names what does not exist."""
    parser = _Parser(site, _tokens(text))
    if str(parser.peek()) in ("", "order") and not parser.peek().quoted:
        raise RefusedError(400, "Unbounded JQL queries are not allowed here. Please add a search restriction to your query.")
    test = parser.either()
    order = parser.order()
    if parser.peek().text:
        raise RefusedError(400, f"Error in the JQL Query: Expecting either 'OR' or 'AND' but got '{parser.peek().text}'.")
    return Query(test, order)


def _tokens(text: str) -> list[Token]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise RefusedError(400, f"Error in the JQL Query: The character at position {at} is not understood.")
        quoted = match[1] if match[1] is not None else match[2]
        tokens.append(Token(re.sub(r"\\(.)", r"\1", quoted), True) if quoted is not None else Token(match[3] or match[4], False))
        at = match.end()
    return tokens


class _Parser:
    def __init__(self, site: Site, tokens: list[Token]) -> None:
        self.site, self.tokens, self.at = site, tokens, 0

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("", False)

    def take(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def took(self, word: str) -> bool:
        found = str(self.peek()) == word
        self.at += found
        return found

    def expect(self, word: str) -> None:
        if not self.took(word):
            raise RefusedError(400, f"Error in the JQL Query: Expecting '{word}' but got '{self.peek().text}'.")

    def either(self) -> Test:
        tests = [self.both()]
        while self.took("or"):
            tests.append(self.both())
        return lambda issue: any(test(issue) for test in tests)

    def both(self) -> Test:
        tests = [self.single()]
        while self.took("and"):
            tests.append(self.single())
        return lambda issue: all(test(issue) for test in tests)

    def single(self) -> Test:
        if self.took("not"):
            test = self.single()
            return lambda issue: not test(issue)
        if self.took("("):
            test = self.either()
            self.expect(")")
            return test
        return self.clause()

    def clause(self) -> Test:
        clause = find_clause(self.site, self.take().text)
        operator = self.operator()
        if operator not in _OPERATORS[clause.kind]:
            raise RefusedError(400, f"The operator '{operator}' is not supported by the '{clause.name}' field.")
        operands = self.operands(operator)
        if operator in _EMPTY:
            return lambda issue: (not clause.values(issue)) == (operator == "is")
        return _test(clause, operator, [clause.literal(operand) for operand in operands])

    def operator(self) -> str:
        word = str(self.take())
        if word == "not":
            self.expect("in")
            return "not in"
        if word == "is" and self.took("not"):
            return "is not"
        if word not in {*_EQUAL, *_EMPTY, *_ORDER, "~", "!~"}:
            raise RefusedError(400, f"Error in the JQL Query: Expecting an operator but got '{word}'.")
        return word

    def operands(self, operator: str) -> list[str]:
        if operator in _EMPTY:
            if not self.took("empty"):
                self.expect("null")
            return []
        if operator not in ("in", "not in"):
            return [self.operand()]
        self.expect("(")
        found = [self.operand()]
        while self.took(","):
            found.append(self.operand())
        self.expect(")")
        return found

    def operand(self) -> str:
        token = self.take()
        if not token.quoted and str(token) in {"", "(", ")", ",", "and", "or", "not", "order", "in", "is"}:
            raise RefusedError(400, f"Error in the JQL Query: Expecting a value but got '{token.text}'.")
        return token.text

    def order(self) -> list[tuple[Callable[[Issue], Any], bool]]:
        found: list[tuple[Callable[[Issue], Any], bool]] = []
        if not self.took("order"):
            return found
        self.expect("by")
        while not found or self.took(","):
            clause = find_clause(self.site, self.take().text)
            descending = self.took("desc")
            self.at += not descending and str(self.peek()) == "asc"
            found.append((_sort_key(clause), descending))
        if len(found) > MOST_SORT_FIELDS:
            raise RefusedError(400, f"The ORDER BY clause can contain at most {MOST_SORT_FIELDS} fields.")
        return found


def _sort_key(clause: Clause) -> Callable[[Issue], Any]:
    return lambda issue: (not clause.values(issue), clause.values(issue)[:1])


def _test(clause: Clause, operator: str, wanted: list[Any]) -> Test:
    if operator in ("~", "!~"):
        words = set(re.findall(r"\w+", wanted[0].lower()))
        return lambda issue: (words <= set(re.findall(r"\w+", " ".join(clause.values(issue)).lower()))) == (operator == "~")
    if operator in ("=", "in"):
        return lambda issue: any(value in wanted for value in clause.values(issue))
    if operator in ("!=", "not in"):
        # An empty field is not "different": Jira leaves such issues out.
        return lambda issue: bool(clause.values(issue)) and not any(value in wanted for value in clause.values(issue))
    return lambda issue: any(_compare(operator, value, wanted[0]) for value in clause.values(issue))


def _compare(operator: str, left: Any, right: Any) -> bool:
    return bool({">": left > right, ">=": left >= right, "<": left < right, "<=": left <= right}[operator])


def find_clause(site: Site, name: str) -> Clause:
    """Return what a name means in a query; raise RefusedError 400 for an unknown one."""
    low = name.lower()
    build = _BUILT_IN.get(low)
    if build is not None:
        return build(site, name)
    for entry in site.fields.values():
        names = (f"cf[{entry.id.removeprefix('customfield_')}]", entry.name.lower()) if entry.custom else (entry.id,)
        if low in names and (entry.searcher or not entry.custom):
            return _field_clause(entry, name)
    raise RefusedError(400, f"Field '{name}' does not exist or you do not have permission to view it.")


def _field_clause(entry: Field, name: str) -> Clause:
    literal: Callable[[str], Any] = {"datepicker": _date, "float": _number}.get(entry.kind, str)
    return Clause(name, _KINDS.get(entry.kind, "text"), lambda issue: _plain(entry, issue.values.get(entry.id)), literal)


def _plain(entry: Field, value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    return [jira_adf.plain_text(value) if entry.kind == "textarea" else value]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RefusedError(400, f"The value '{text}' is not a number.") from None


def _date(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise RefusedError(400, f"Date value '{text}' is invalid. Valid formats include: 'yyyy-MM-dd'.")
    return text


def _time(text: str) -> str:
    try:
        return datetime.fromisoformat(text.replace("/", "-")).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        raise RefusedError(400, f"Date value '{text}' is invalid. Valid formats include: 'yyyy-MM-dd HH:mm'.") from None


def _known(name: str, names: dict[str, str]) -> Callable[[str], str]:
    def literal(text: str) -> str:
        if text.lower() not in names:
            raise RefusedError(400, f"The value '{text}' does not exist for the field '{name}'.")
        return names[text.lower()]

    return literal


def _project_clause(site: Site, name: str) -> Clause:
    names = {alias.lower(): project.key for project in site.visible_projects() for alias in (project.id, project.name, project.key)}
    return Clause(name, "choice", lambda issue: [issue.project], _known(name, names))


def _type_clause(site: Site, name: str) -> Clause:
    names = {alias.lower(): kind for kind, number in site.types.items() for alias in (number, kind)}
    return Clause(name, "choice", lambda issue: [issue.type], _known(name, names))


def _status_clause(site: Site, name: str) -> Clause:
    names = {alias.lower(): status.name for status in site.statuses.values() for alias in (status.id, status.name)}
    return Clause(name, "choice", lambda issue: [issue.status], _known(name, names))


def _key_clause(site: Site, name: str) -> Clause:
    numbers = site.keys | {number: number for number in site.issues}
    # Padded, so that text sorts as the numbers do.
    names = {alias.lower(): number.zfill(12) for alias, number in numbers.items()}
    return Clause(name, "ordered", lambda issue: [issue.id.zfill(12)], _known(name, names))


def _created_clause(site: Site, name: str) -> Clause:
    return Clause(name, "ordered", lambda issue: [issue.created.strftime("%Y-%m-%d %H:%M")], _time)


def _updated_clause(site: Site, name: str) -> Clause:
    return Clause(name, "ordered", lambda issue: [issue.updated.strftime("%Y-%m-%d %H:%M")], _time)


_BUILT_IN: dict[str, Callable[[Site, str], Clause]] = {
    "project": _project_clause,
    "issuetype": _type_clause,
    "type": _type_clause,
    "status": _status_clause,
    "key": _key_clause,
    "issuekey": _key_clause,
    "issue": _key_clause,
    "id": _key_clause,
    "created": _created_clause,
    "updated": _updated_clause,
    "due": lambda site, name: _field_clause(site.fields["duedate"], name),
}
