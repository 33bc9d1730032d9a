"""The rules of a plan being edited: as one form a rule, or as the document itself. Nothing typed is lost on the way between."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flask_babel import gettext
from markupsafe import Markup
from werkzeug.datastructures import MultiDict

from app.commissions.plans import MAX_RULES
from app.views.rule_forms import RuleForm

_PLACE = re.compile(r"[0-9]{1,4}")
_PATH = re.compile(r"rules\[(\d+)\]\.?(.*)")


def parsed(text: str) -> tuple[Any, str]:
    """The document that a text is, and why it is none where it cannot be read."""
    try:
        return json.loads(text), ""
    except json.JSONDecodeError as error:
        problem = gettext("Line %(line)s, column %(column)s cannot be read as JSON.", line=error.lineno, column=error.colno)
    except RecursionError:
        problem = gettext("These rules are nested too deeply.")
    except ValueError:
        problem = gettext("A number in these rules has too many digits.")
    return None, problem


def written(document: list[dict[str, Any]]) -> str:
    """A rules document as people edit it: a line a field, in the order of the documentation."""
    return "[\n" + ",\n".join(f"  {_object(rule, '  ')}" for rule in document) + "\n]"


def _object(fields: dict[str, Any], indent: str) -> str:
    lines = (
        f"{indent}  {json.dumps(name)}: "
        + (_object(value, indent + "  ") if name == "filter" else json.dumps(value, ensure_ascii=False))
        for name, value in fields.items()
    )
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


class RuleEditor:
    """Rules as forms (`cards`), or as text when it is the document that is edited (`is_text`)."""

    def __init__(self, cards: Sequence[RuleForm] = (), text: str | None = None) -> None:
        self.cards = list(cards)
        self.text = text
        self.problems: list[str] = []

    @classmethod
    def of(cls, document: Sequence[Mapping[str, Any]]) -> RuleEditor:
        """Stored rules, with all defaults written out."""
        return cls([RuleForm(number, rule=rule) for number, rule in enumerate(document)])

    @classmethod
    def typed(cls, posted: MultiDict[str, str]) -> RuleEditor:
        """What a browser sent: the text, or the forms in the order in which they stand on the page."""
        if "rules" in posted:
            return cls(text=posted["rules"])
        # One more than there may be, so that the rules are refused rather than the last ones lost.
        numbers = [int(number) for number in posted.getlist("rule") if _PLACE.fullmatch(number)][: MAX_RULES + 1]
        return cls([RuleForm(number, posted) for number in dict.fromkeys(numbers)])

    @property
    def is_text(self) -> bool:
        return self.text is not None

    def document(self) -> Any:
        """The rules as a document; None for text that cannot be read, and `problems` then say where."""
        if self.text is None:
            return [card.document() for card in self.cards]
        document, problem = parsed(self.text)
        self.problems = [problem] if problem else []
        return document

    def act(self, action: str) -> bool:
        """Add, copy, move or remove a rule, such as by up-2; False when it is something else that was asked for."""
        verb, _, number = action.partition("-")
        index = next((index for index, card in enumerate(self.cards) if str(card.number) == number), None)
        if verb in ("add", "refresh") and not number:
            if verb == "add":
                self._insert(len(self.cards), {}, f"rule-{len(self.cards) + 1}")
        elif index is None or verb not in ("duplicate", "remove", "up", "down"):
            return False
        elif verb == "duplicate":
            copied = self.cards[index].document()
            self._insert(index + 1, copied, f"{copied.get('key', '')}-copy"[:40])
        elif verb == "remove":
            self.cards.pop(index)
        else:
            other = min(max(index + (1 if verb == "down" else -1), 0), len(self.cards) - 1)
            self.cards[index], self.cards[other] = self.cards[other], self.cards[index]
        return True

    def _insert(self, index: int, rule: Mapping[str, Any], key: str) -> None:
        number = max((card.number for card in self.cards), default=-1) + 1
        self.cards.insert(index, RuleForm(number, rule={**rule, "key": key}))

    def show(self, problems: Mapping[str, str]) -> None:
        """Write problems of the rules beside their fields, and all of them in `problems`; of text, with their paths."""
        for path, message in problems.items():
            found = _PATH.fullmatch(path)
            if self.is_text or found is None or int(found[1]) >= len(self.cards):
                self.problems.append(message if path == "rules" else f"{path}: {message}")
                continue
            card = self.cards[int(found[1])]
            which = re.search(r"\[(\d+)\]", found[2])
            beside = gettext("No. %(number)s: %(problem)s", number=int(which[1]) + 1, problem=message) if which else message
            where = card.show(found[2], beside)
            link = Markup('<a href="#rule-{}">{}</a>').format(card.number, card.key.data or gettext("Rule"))
            self.problems.append(Markup("{}, {}: {}").format(link, where, beside))
