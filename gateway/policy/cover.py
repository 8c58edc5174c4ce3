"""Whether one rule is met by every request that another one is met by, judged by form.

Only what can be seen without solving anything: an answer of False may be wrong, True never is.
"""

from __future__ import annotations

from gateway.domain.purpose import is_within
from gateway.policy.rules import Rule


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether `wide`, a deny or restrict, counts in every request in which `narrow` counts."""
    return (
        all(any(_principal(w, n) for w in wide.principals) for n in narrow.principals)
        and ("*" in wide.actions or set(narrow.actions) <= set(wide.actions))
        and _scope(wide, narrow)
        and _purposes(wide, narrow)
        and (not wide.splits or (bool(narrow.splits) and set(narrow.splits) <= set(wide.splits)))
        and (wide.when is None or (narrow.when is not None and narrow.when == wide.when))
        and _outlives(wide, narrow)
    )


def keys_above(rule: Rule) -> tuple[str, ...]:
    """Index keys of all scopes that hold the rule's scope, its own first."""
    kind, _, name = rule.key.partition(":")
    if kind == "global":
        return ("global",)
    tenant, slash, rest = name.partition("/")
    above = [rule.key]
    if kind == "tag":
        words = rest.split(".")
        above += [f"tag:{tenant}/{'.'.join(words[:n])}" for n in range(len(words) - 1, 0, -1)]
    elif slash:
        above.append(f"tenant:{tenant}")
    if kind == "tag" and tenant != "*":
        above.append(f"tenant:{tenant}")
    return (*dict.fromkeys(above), "global")


def _principal(wide: str, narrow: str) -> bool:
    return wide in ("*", narrow) or (wide.endswith("/*") and narrow.startswith(wide[:-1]))


def _scope(wide: Rule, narrow: Rule) -> bool:
    return wide.key in keys_above(narrow)


def _purposes(wide: Rule, narrow: Rule) -> bool:
    return not wide.purposes or (
        bool(narrow.purposes)
        and all(any(is_within(one, above) for above in wide.purposes) for one in narrow.purposes)
    )


def _outlives(wide: Rule, narrow: Rule) -> bool:
    if wide.expires_at is None:
        return True
    return narrow.expires_at is not None and narrow.expires_at <= wide.expires_at
