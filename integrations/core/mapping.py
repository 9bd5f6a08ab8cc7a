"""Field mappings: Django's template language, cut down to what a mapping may say, over plain dicts.

A template can name values, choose with `if`, repeat with one level of `for`, and use the filters below. It cannot
load, include or call anything, its output is bounded, and it reads the same whatever language the process speaks.
"""

import difflib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, cast

from django.template import Context, Engine, Library, Node, NodeList, Template, TemplateSyntaxError, defaultfilters
from django.template.base import FilterExpression, Lexer, Parser, TextNode, Token, Variable, VariableNode
from django.template.defaulttags import ForNode, IfNode, do_for, do_if
from django.utils import dateformat, translation

from integrations.core.context import NAMES
from integrations.core.documents import Value
from integrations.core.errors import Misconfigured, Unmappable
from integrations.core.ports import FieldRule

MOST = 65_536  # characters, of a template and of what it makes
MOST_PLACES = 9
MOST_SEPARATOR = 100
LITERALS = frozenset({"True", "False", "None"})
LOOP = frozenset(f"forloop.{name}" for name in ("counter", "counter0", "revcounter", "revcounter0", "first", "last"))


def check(kind: str, template: str) -> None:
    """Refuse a template that cannot work for this kind of record: raise Misconfigured naming the mistake."""
    if kind not in NAMES:
        raise Misconfigured(f'unknown kind "{kind}"{near(kind, NAMES)}')
    try:
        _check_names(_compiled(template), NAMES[kind])
    except TemplateSyntaxError as error:
        raise Misconfigured(str(error)) from None
    except RecursionError:
        raise Misconfigured("the template is nested too deeply") from None


def fill(rules: Sequence[FieldRule], context: Mapping[str, Any]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return what the rules make of a context, by target: what is compared, and what is only sent along.

    A template that names anything of `trace` belongs to the latter. Raises Unmappable naming the rule.
    """
    known = frozenset(f"{group}.{name}" for group, values in context.items() for name in values)
    compared: dict[str, Value] = {}
    sent_along: dict[str, Value] = {}
    with translation.override(None):
        for rule in rules:
            template, value = _filled(rule, context, known)
            (sent_along if _mentions(template, "trace.") else compared)[rule.target] = value
    return compared, sent_along


def _filled(rule: FieldRule, context: Mapping[str, Any], known: frozenset[str]) -> tuple[Template, Value]:
    row = f"field mapping {rule.kind} {rule.target}"
    try:
        template = _compiled(rule.template)
        _check_names(template, known)
        return template, _value(template, Context(dict(context), autoescape=False, use_l10n=False, use_tz=False))
    except TemplateSyntaxError as error:
        raise Unmappable(f"{row}: {error}", code="bad_template") from None
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Only the class: the text of such an error may quote the record.
        raise Unmappable(f"{row}: its template cannot work with this record ({type(error).__name__})") from None


def _value(template: Template, context: Context) -> Value:
    only = _only_variable(template)
    if only is None:
        # The slice makes a plain str of Django's SafeString.
        return template.render(context)[:MOST]
    value = only.resolve(context)
    return value[:MOST] if isinstance(value, str) else value


def _only_variable(template: Template) -> FilterExpression | None:
    parts = [node for node in template.nodelist if not (isinstance(node, TextNode) and not node.s.strip())]
    return parts[0].filter_expression if len(parts) == 1 and isinstance(parts[0], VariableNode) else None


def _mentions(template: Template, group: str) -> bool:
    return any(name.startswith(group) for expression, _ in _expressions(template.nodelist) for name in _names(expression))


def shows_customer(rules: Iterable[FieldRule]) -> bool:
    """Tell whether any of the templates names something of the customer; a template with a mistake names nothing."""
    return any(_mentions_customer(rule.template) for rule in rules)


def _mentions_customer(template: str) -> bool:
    try:
        return _mentions(_compiled(template), "customer.")
    except (TemplateSyntaxError, RecursionError):
        return False


# -- names ---------------------------------------------------------------------------------------------------------------------------


def _check_names(template: Template, known: frozenset[str]) -> None:
    for expression, loop in _expressions(template.nodelist):
        for name in _names(expression):
            if name not in known | loop | LITERALS:
                raise TemplateSyntaxError(f'unknown name "{name}"{near(name, known | loop)}')


def _names(expression: FilterExpression) -> Iterator[str]:
    arguments = [argument for _, pairs in expression.filters for is_variable, argument in pairs if is_variable]
    for variable in (expression.var, *arguments):
        if isinstance(variable, Variable) and variable.lookups is not None:
            yield ".".join(variable.lookups)


def _expressions(nodes: Iterable[Node], loop: frozenset[str] = frozenset()) -> Iterator[tuple[FilterExpression, frozenset[str]]]:
    """Yield every expression with the names that the loop around it adds."""
    for node in nodes:
        if isinstance(node, VariableNode):
            yield node.filter_expression, loop
        elif isinstance(node, IfNode):
            for condition, body in node.conditions_nodelists:
                yield from ((operand, loop) for operand in _operands(condition))
                yield from _expressions(body, loop)
        elif isinstance(node, ForNode):
            if loop:
                # The work would grow with every level: a record's text to the power of the depth.
                raise TemplateSyntaxError('"for" inside "for" is not possible in a mapping')
            yield cast(FilterExpression, node.sequence), loop
            yield from _expressions(cast(NodeList, node.nodelist_loop), LOOP | frozenset(node.loopvars))
            yield from _expressions(cast(NodeList, node.nodelist_empty))


def _operands(condition: Any) -> Iterator[FilterExpression]:
    # An `else` has no condition; a leaf of a condition holds `value`, an operator `first` and `second`.
    if isinstance(getattr(condition, "value", None), FilterExpression):
        yield condition.value
    elif condition is not None:
        yield from _operands(getattr(condition, "first", None))
        yield from _operands(getattr(condition, "second", None))


def near(word: str, known: Iterable[str]) -> str:
    """Return ' (did you mean "x"?)' for the nearest known word, or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


# -- filters -------------------------------------------------------------------------------------------------------------------------


def _date(value: Any, form: str = "Y-m-d") -> str:
    """Write a date in Django's date letters; what is no date becomes nothing."""
    return dateformat.format(value, str(form)) if isinstance(value, date) else ""


def _floatformat(value: Any, places: Any = -1) -> str:
    """Round a number; "u" keeps Django from writing it in the language of the process."""
    if not -MOST_PLACES <= int(places) <= MOST_PLACES:
        raise ValueError
    return str(defaultfilters.floatformat(value, f"{int(places)}u"))


def _join(value: Any, separator: Any) -> str:
    """Join lines or characters; the separator is short, for joins can be chained."""
    return str(separator)[:MOST_SEPARATOR].join(_text(item) for item in value)[:MOST]


def _lines(value: Any) -> list[str]:
    """Split text into lines, for `for` and `join`."""
    return _text(value).splitlines()


FROM_DJANGO = (
    "capfirst",
    "cut",
    "default",
    "default_if_none",
    "first",
    "last",
    "length",
    "lower",
    "title",
    "truncatechars",
    "upper",
    "yesno",
)
OWN: Mapping[str, Callable[..., Any]] = {"date": _date, "floatformat": _floatformat, "join": _join, "lines": _lines}

_library = Library()
_library.tags |= {"if": do_if, "for": do_for}
_library.filters |= {name: defaultfilters.register.filters[name] for name in FROM_DJANGO} | dict(OWN)


# -- the engine ----------------------------------------------------------------------------------------------------------------------


class _Engine(Engine):
    """An engine that knows our tags and filters only, and has no files to read."""

    def get_template_builtins(self, builtins: Any) -> list[Library]:
        return [_library]


class _Template(Template):
    """A template that is read by our own parser."""

    def compile_nodelist(self) -> NodeList:
        parser = _Parser(Lexer(self.source).tokenize(), {}, [_library], self.origin)
        return parser.parse()


class _Parser(Parser):
    """Django's parser, with our own nodes for text and variables, and words that help."""

    def extend_nodelist(self, nodelist: NodeList, node: Node, token: Token) -> None:
        if isinstance(node, VariableNode):
            node = _Shown(node.filter_expression)
        elif isinstance(node, TextNode):
            node = _Text(node.s)
        super().extend_nodelist(nodelist, node, token)

    def find_filter(self, filter_name: str) -> Any:
        if filter_name not in _library.filters:
            raise TemplateSyntaxError(f'unknown filter "{filter_name}"{near(filter_name, _library.filters)}')
        return super().find_filter(filter_name)

    def invalid_block_tag(self, token: Token, command: str, parse_until: Any = None) -> Any:
        known = [*_library.tags, *(parse_until or ())]
        raise TemplateSyntaxError(f'unknown tag "{command}"{near(command, known)}: known are {", ".join(known)}')


class _Text(TextNode):
    """Text between tags, within the limit."""

    def render_annotated(self, context: Context) -> str:
        return _within_limit(context, self.s)


class _Shown(VariableNode):
    """A value as text, within the limit."""

    def render(self, context: Context) -> Any:
        return _within_limit(context, _text(self.filter_expression.resolve(context)))


def _within_limit(context: Context, text: str) -> str:
    """Cut what goes beyond the limit while it is made: a loop must not fill the memory first."""
    left = int(context.render_context.get("left", MOST) or 0)
    context.render_context["left"] = max(0, left - len(text))
    return text[:left]


def _text(value: Any) -> str:
    # Django would write None as "None" and dates as "Nov. 20, 2026".
    if value is None:
        return ""
    if isinstance(value, date):
        return value.isoformat()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


_engine = _Engine(autoescape=False, loaders=[])


@functools.lru_cache(maxsize=512)
def _compiled(source: str) -> Template:
    if len(source) > MOST:
        raise TemplateSyntaxError(f"the template is longer than {MOST} characters")
    return _Template(source, engine=_engine)
