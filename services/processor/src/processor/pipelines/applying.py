"""Applies a plan: of each pipeline the DDL, the version and the state, in one transaction."""

from typing import Final

import asyncpg

from processor.pipelines.plan import PipelinePlan, Plan
from processor.pipelines.registry import ACTIVE, register, set_state
from processor.pipelines.sessions import InUseError, Sessions
from shared.postgres import POSTGRES_ERRORS

_APPLIED: Final = "applied"


async def apply_plan(sessions: Sessions, plan: Plan, *, by: str, label: str | None) -> dict[str, str]:
    """Apply every pipeline that the plan does not refuse; return why one failed, by its name.

    One that fails changes nothing, but for an index that was built before; the others are applied all the same.
    """
    failed: dict[str, str] = {}
    for each in plan.pipelines:
        if not each.is_work:
            continue
        try:
            await _apply(sessions, each, by=by, label=label)
        except InUseError as error:
            failed[each.name] = str(error)
        except POSTGRES_ERRORS as error:
            failed[each.name] = problem_of(error)
            if sessions.main.is_closed():
                raise
    return failed


async def _apply(sessions: Sessions, plan: PipelinePlan, *, by: str, label: str | None) -> None:
    for statement in plan.statements_at("before"):
        await sessions.outside(statement)

    async def change() -> None:
        async with sessions.main.transaction():
            for statement in plan.statements_at("within"):
                await sessions.main.execute(statement)
            await _activate(sessions.main, plan, by=by, label=label)

    await sessions.patiently(change)
    for statement in plan.statements_at("after"):
        await sessions.outside(statement)


async def _activate(connection: asyncpg.Connection, plan: PipelinePlan, *, by: str, label: str | None) -> None:
    """Register the version where it is new, and activate it where it is not active."""
    if plan.action == "repair" or plan.file.bundle is None:
        return
    pipeline_id = plan.known.id if plan.known else None
    if pipeline_id is None:
        generations = plan.generations.items()
        pipeline_id = await register(
            connection, plan.name, plan.number, plan.file.bundle, generations, label=label, by=by
        )
    reason = f"{_APPLIED}: {label}" if label else _APPLIED
    await set_state(connection, plan.name, pipeline_id, ACTIVE, pinned=False, by=by, reason=reason)


def problem_of(error: Exception) -> str:
    """Return what PostgreSQL said of DDL: it names tables and columns, and no values."""
    sqlstate = getattr(error, "sqlstate", None)
    return f"PostgreSQL: {error} (SQLSTATE {sqlstate})" if sqlstate else "PostgreSQL cannot be reached"
