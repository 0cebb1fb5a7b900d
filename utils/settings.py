"""Settings with validation: dataclass fields, each with a rule for its values."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from utils.errors import UserError


@dataclass(frozen=True)
class Rule:
    """A condition on a value, and the words of its error message, "KEY is VALUE; WORDS"."""

    holds: Callable[[Any], bool]
    words: str


def at_least(least: float) -> Rule:
    return Rule(lambda value: value >= least, f"it must be at least {least}")


def one_of(*names: str) -> Rule:
    return Rule(lambda value: value in names, f"use one of {', '.join(names)}")


ABOVE_ZERO = Rule(lambda value: value > 0, "it must be above 0")
SHARE = Rule(lambda value: 0 <= value <= 1, "it must be a share, from 0 to 1")
SHARE_BELOW_ONE = Rule(lambda value: 0 <= value < 1, "it must be a share below 1")


def setting(default: Any, rule: Rule) -> Any:
    """Make a dataclass field with this ``default`` whose values must satisfy ``rule``."""
    return field(default_factory=lambda: copy.copy(default), metadata={"rule": rule})


def check_rules(settings: Any, prefix: str) -> None:
    """Raise UserError for the first field of the dataclass ``settings`` that violates its rule; None is valid."""
    for each in fields(settings):
        rule, value = each.metadata.get("rule"), getattr(settings, each.name)
        if rule and value is not None and not rule.holds(value):
            raise UserError(f"{prefix}{each.name} is {value!r}; {rule.words}")
