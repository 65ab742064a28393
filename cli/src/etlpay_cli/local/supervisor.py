"""The process behind a local stack: `python -m etlpay_cli.local.supervisor ROOT [--servers]`.

It starts the servers, migrates, applies the pipeline files, starts the services, keeps all of them running, and on
SIGTERM stops them in the reverse order. What it knows is in the state file; what its programs say is in their logs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from etlpay_cli import state
from etlpay_cli.addresses import read_credentials, write_stack_env
from etlpay_cli.layout import Layout
from etlpay_cli.local import postgres, rabbitmq, services, valkey
from etlpay_cli.local.process import StartError, SupervisedProcess, created_at
from etlpay_cli.ports import PortTakenError, choose_ports, claiming
from etlpay_cli.provision import PRIVATE, provision
from etlpay_cli.settings import CliSettings, demanded_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etlpay_cli.local.program import Program
    from etlpay_cli.local.services import Task

_MIGRATION_SECONDS_MAX: Final = 180.0
_LOG_CHECK_SECONDS: Final = 10.0
_REPORT_CHARS_MAX: Final = 8_000


class Supervisor:
    """One run of one stack, from its first program to its last."""

    def __init__(self, layout: Layout, known: state.State, group: asyncio.TaskGroup) -> None:
        """Prepare; nothing is started. Programs run as tasks of `group`."""
        self._layout = layout
        self._known = known
        self._group = group
        # In the order of their start: each stage needs the ones before it.
        self._stages: list[list[SupervisedProcess]] = []
        self.stopping = asyncio.Event()

    async def start(self) -> None:
        """Bring everything up. A failure is recorded and ends the run; it is not raised."""
        try:
            await self._start_all()
            self._enter("ready")
        except* (StartError, postgres.PreparationError) as errors:
            first = next(iter_errors(errors))
            self._known.failed = first.name if isinstance(first, StartError) else "postgres"
            self._known.reason = str(first)
            self.stopping.set()

    async def drain(self) -> None:
        """Stop the programs stage by stage, last started first."""
        self._enter("stopping")
        for stage in reversed(self._stages):
            async with asyncio.TaskGroup() as stops:
                for process in stage:
                    stops.create_task(process.stop())
        self._enter("failed" if self._known.failed else "stopped")

    async def bound_logs(self) -> None:
        """Keep every log below its limit. Ends with the run."""
        while not self.stopping.is_set():
            for stage in self._stages:
                for process in stage:
                    process.bound_log()
            await asyncio.sleep(_LOG_CHECK_SECONDS)

    async def _start_all(self) -> None:
        layout, ports = self._layout, self._known.ports
        rabbitmq.prepare(layout, ports)
        [epmd] = self._start_stage(rabbitmq.epmd_program(layout, ports))
        await epmd.wait_ready()
        broker, cache = self._start_stage(rabbitmq.program(layout, ports), valkey.program(layout, ports))
        async with asyncio.TaskGroup() as starts:
            starts.create_task(broker.wait_ready())
            starts.create_task(cache.wait_ready())
            starts.create_task(self._start_database())
        if self._known.servers_only:
            return
        # The processor stops after the edge services: it takes what they still hold.
        processor = self._start_stage(services.processor(layout, ports))
        edge_services = self._start_stage(*services.edge_services(layout, ports))
        async with asyncio.TaskGroup() as starts:
            for process in (*processor, *edge_services):
                starts.create_task(process.wait_ready())

    async def _start_database(self) -> None:
        layout, ports = self._layout, self._known.ports
        await asyncio.to_thread(postgres.prepare, layout)
        [database] = self._start_stage(postgres.program(layout, ports))
        await database.wait_ready()
        if not self._known.servers_only:
            await self._complete(services.migration(layout, ports))
            await self._apply_pipelines()

    def _start_stage(self, *programs: Program) -> list[SupervisedProcess]:
        """Start programs as one stage."""
        stage = [SupervisedProcess(program, self._layout.log(program.name), self._write) for program in programs]
        self._stages.append(stage)
        for process in stage:
            self._known.programs[process.program.name] = process.seen
            self._group.create_task(process.run(), name=process.program.name)
        return stage

    async def _apply_pipelines(self) -> None:
        """Apply the pipeline files, where there are any. What is wrong with one is told, and stops nothing."""
        if not self._layout.has_pipelines:
            return
        task = services.pipelines(self._layout, self._known.ports, "apply", "--yes")
        try:
            await self._complete(task)
            failed = ""
        except StartError as error:
            failed = str(error)
        said = self._layout.log(task.name).read_text(errors="replace")[-_REPORT_CHARS_MAX:].strip()
        self._known.pipelines = state.Applied(succeeded=not failed, text=said or failed)
        self._write()

    async def _complete(self, task: Task) -> None:
        with self._layout.log(task.name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *task.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(task.environment),
                cwd=self._layout.run,
            )
        try:
            async with asyncio.timeout(_MIGRATION_SECONDS_MAX):
                code = await process.wait()
        except TimeoutError:
            raise StartError(task.name, f"took longer than {_MIGRATION_SECONDS_MAX:.0f} seconds") from None
        finally:
            if process.returncode is None:
                process.kill()
        if code != 0:
            raise StartError(task.name, f"ended with exit code {code}")

    def _enter(self, phase: state.Phase) -> None:
        self._known.phase = phase
        self._write()

    def _write(self) -> None:
        state.write_state(self._layout.state, self._known)


def iter_errors(error: BaseException) -> Iterator[BaseException]:
    """Return the errors in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from iter_errors(inner)
    else:
        yield error


async def supervise(layout: Layout, known: state.State) -> None:
    """Run the stack until SIGTERM or SIGINT, or until it fails to start."""
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(layout, known, group)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, supervisor.stopping.set)
        start = group.create_task(supervisor.start())
        logs = group.create_task(supervisor.bound_logs())
        try:
            await supervisor.stopping.wait()
        finally:
            start.cancel()
            logs.cancel()
            await asyncio.gather(start, logs, return_exceptions=True)
            await supervisor.drain()


def run(layout: Layout, *, servers_only: bool) -> int:
    """Take the stack's lock, prepare it and run it. Returns the exit code."""
    layout.make_folders()
    # The ports are this stack's until it ends, also while nothing listens on them.
    with state.hold(layout.lock), contextlib.ExitStack() as claims:
        myself = state.Process(pid=os.getpid(), created=created_at(os.getpid()), state="ready")
        before = state.read_state(layout.state)
        known = state.State(mode="local", servers_only=servers_only, supervisor=myself)
        try:
            known.ports = choose_ports(demanded_ports(CliSettings()), before.ports if before else {}, claiming(claims))
        except PortTakenError as error:
            known.phase, known.failed, known.reason = "failed", "ports", str(error)
            state.write_state(layout.state, known)
            return 1
        state.write_state(layout.state, known)
        provision(layout.secrets, PRIVATE)
        write_stack_env(layout, known.ports, read_credentials(layout))
        try:
            asyncio.run(supervise(layout, known))
        finally:
            layout.stack_env.unlink(missing_ok=True)
        return 1 if known.failed else 0


def main() -> int:
    """Run the stack of the checkout named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--servers", action="store_true", help="only PostgreSQL, Valkey and RabbitMQ")
    arguments = parser.parse_args()
    try:
        return run(Layout(arguments.root), servers_only=arguments.servers)
    except state.AlreadyUpError:
        sys.exit("the stack of this checkout is already up")


if __name__ == "__main__":
    raise SystemExit(main())
