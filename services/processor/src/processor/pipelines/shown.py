"""What the one-shot prints: plans and registered versions, as text and as JSON."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from processor.pipelines.plan import PipelinePlan, Plan
from processor.pipelines.registry import Registry, Version
from processor.pipelines.stored import Comparison
from shared.contracts.roles import PIPELINES_ROLE

NOTHING_IS_LOST: Final = "Nothing is dropped, renamed or rewritten."
_DIGITS: Final = 12
_FORMAT: Final = "%Y-%m-%d %H:%M:%SZ"


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield a plan as people read it."""
    for each in plan.pipelines:
        yield _head(each)
        for change in each.changes if each.is_work else ():
            yield f"  {change.line}"
        for text in (*each.notes, *comparison_lines(each.comparison, is_new=each.active is None)):
            yield f"  {text}"
        for problem in each.problems:
            yield f"  refused: {problem}"
    yield from plan.notes
    if not plan.pipelines:
        yield "no pipeline files"
    if any(each.statements for each in plan.pipelines):
        yield NOTHING_IS_LOST


def _head(plan: PipelinePlan) -> str:
    action = "at " if plan.action == "unchanged" else ""
    match plan.action:
        case "refused":
            told = "REFUSED"
        case "kept":
            told = "kept"
        case "repair":
            told = f"version {plan.number}, of which something is missing"
        case "unchanged":
            told = f"unchanged {action}version {plan.number}"
        case "new":
            told = f"new, version {plan.number}"
        case _:
            told = f"version {plan.active.version if plan.active else 'off'} to {plan.number}"
    digits = f"  sha256 {plan.file.bundle.sha256[:_DIGITS]}" if plan.file.bundle and plan.is_work else ""
    return f"{plan.name}  {told}{digits}"


def comparison_lines(found: Comparison | None, *, is_new: bool) -> Iterator[str]:
    """Yield what is told of stored events: always from how many it was guessed."""
    if found is None:
        return
    if not found.events:
        yield "no events of its sources are stored yet"
        return
    newest = f"of the newest {found.events:,} stored events of its sources"
    if is_new:
        yield f"{newest}, {found.failed:,} would fail; apply processes events that come from now on"
    else:
        for table, count in sorted(found.differing.items()):
            yield f"{newest}, {count:,} would differ in {table}"
        if not found.differing:
            yield f"{newest}, none would differ"
        if found.failing or found.no_longer_failing:
            yield f"{newest}, {found.failing:,} would now fail, and {found.no_longer_failing:,} no longer"
    for name in found.never_filled:
        yield f"{name}: filled in 0 of {found.rows[name.partition('.')[0]]:,} rows; is its place right?"


def sql_lines(plan: Plan, lock_seconds: float) -> Iterator[str]:
    """Yield the DDL of a plan as a script, for an administrator who runs it."""
    yield "-- What is made must belong to the role of the pipelines."
    yield f"SET ROLE {PIPELINES_ROLE};"
    for each in plan.pipelines:
        for moment in ("before", "within", "after"):
            statements = each.statements_at(moment)
            if not statements:
                continue
            yield f"-- {each.name}"
            if moment == "within":
                yield "BEGIN;"
                yield f"SET LOCAL lock_timeout = '{int(lock_seconds * 1000)}ms';"
            yield from (f"{statement};" for statement in statements)
            if moment == "within":
                yield "COMMIT;"


def plan_document(plan: Plan, failed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a plan as it stands in JSON; with `failed`, also what became of it."""
    document: dict[str, Any] = {
        "plan": plan.token,
        "work": plan.is_work,
        "refused": plan.refused,
        "pipelines": [_pipeline_document(each) for each in plan.pipelines],
        "notes": list(plan.notes),
    }
    if failed is not None:
        document["applied"] = [each.name for each in plan.pipelines if each.is_work and each.name not in failed]
        document["failed"] = dict(failed)
    return document


def _pipeline_document(plan: PipelinePlan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "file": plan.file.file,
        "action": plan.action,
        "active": plan.active.version if plan.active else None,
        "version": plan.number or (plan.known.version if plan.known else None),
        "sha256": plan.file.bundle.sha256 if plan.file.bundle else None,
        "changes": [
            {"sign": each.sign, "what": each.what, "detail": each.detail, "class": each.kind, "sql": each.statements}
            for each in plan.changes
        ],
        "notes": list(plan.notes),
        "problems": list(plan.problems),
        "stored_events": plan.comparison,
    }


def registry_document(registry: Registry) -> list[dict[str, Any]]:
    """Return the registered pipelines as they stand in JSON."""
    return [_listed(name, registry) for name in sorted(registry.versions)]


def _listed(name: str, registry: Registry) -> dict[str, Any]:
    active, state, hold = registry.active(name), registry.states.get(name), registry.holds.get(name)
    newest = registry.newest(name)
    return {
        "name": name,
        "active": active.version if active else None,
        "pinned": bool(state and state.pinned),
        "newest": newest.version if newest else None,
        "label": active.label if active else None,
        "set_at": state.set_at if state else None,
        "set_by": state.set_by if state else None,
        "reason": state.reason if state else None,
        "held": bool(hold and hold.held),
        "held_by": hold.set_by if hold and hold.held else None,
        "held_reason": hold.reason if hold and hold.held else None,
    }


def registry_lines(registry: Registry) -> Iterator[str]:
    """Yield the registered pipelines, a line each."""
    for each in registry_document(registry):
        active = f"version {each['active']}" if each["active"] else "off"
        pinned = ", pinned" if each["pinned"] else ""
        newer = f", newest {each['newest']}" if each["newest"] != each["active"] else ""
        held = f", HELD by {each['held_by']}: {each['held_reason']}" if each["held"] else ""
        since = f", by {each['set_by']} on {each['set_at']:{_FORMAT}}: {each['reason']}" if each["set_at"] else ""
        yield f"{each['name']}  {active}{pinned}{newer}{held}{since}"
    if not registry.versions:
        yield "no pipeline is registered"


def version_document(version: Version) -> dict[str, Any]:
    """Return a version with its files as it stands in JSON."""
    bundle = version.bundle()
    return {
        "name": version.name,
        "version": version.version,
        "sha256": version.sha256.hex(),
        "label": version.label,
        "registered_at": version.registered_at,
        "registered_by": version.registered_by,
        "tables": version.generations,
        "facts": bundle.facts if bundle else None,
        "files": bundle.files if bundle else None,
    }


def version_lines(version: Version) -> Iterator[str]:
    """Yield a version with its files."""
    bundle = version.bundle()
    label = f", {version.label}" if version.label else ""
    yield f"# {version.name} version {version.version}{label}: sha256 {version.sha256.hex()}"
    yield f"# registered on {version.registered_at:{_FORMAT}} by {version.registered_by}"
    if bundle is None:
        yield "# of a format that this release does not know"
        return
    yield from (f"# {fact}: {value}" for fact, value in sorted(bundle.facts.items()))
    for name, text in bundle.files.items():
        yield f"# ---- {name}"
        yield text.rstrip("\n")
