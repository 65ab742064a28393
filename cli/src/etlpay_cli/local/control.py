"""Starts, stops and inspects the local stack: `etlpay up`, `down`, `status` and `clean`."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import psutil

from etlpay_cli import probes, state
from etlpay_cli.addresses import addresses, read_credentials
from etlpay_cli.errors import UNAVAILABLE, StackError
from etlpay_cli.local import packages, postgres, rabbitmq, services
from etlpay_cli.local.process import find, is_alive
from etlpay_cli.provision import DEFINITIONS_PLACE, PRIVATE, replace_file
from etlpay_cli.settings import inherited_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from etlpay_cli.addresses import Addresses
    from etlpay_cli.layout import Layout

_POLL_SECONDS: Final = 0.1
# Each stage of the stack may take its 30 seconds; only a hung program makes it that long.
_DOWN_SECONDS_MAX: Final = 130.0
_SWEEP_SECONDS_MAX: Final = 30.0
_TAIL_BYTES: Final = 4000


class LocalStack:
    """The stack of one checkout as processes on this machine."""

    mode: Final = state.LOCAL

    def __init__(self, layout: Layout) -> None:
        """Look at the stack; nothing is started."""
        self._layout = layout

    def is_up(self) -> bool:
        """Tell whether a supervisor of this checkout lives."""
        known = state.read_state(self._layout.state)
        return known is not None and known.mode == self.mode and is_alive(known.supervisor)

    def addresses(self) -> Addresses:
        """Return the addresses of the stack."""
        return addresses(self.mode, self._layout, self._known().ports, read_credentials(self._layout))

    def details(self) -> dict[str, str]:
        """Return the process id and the restarts of each program."""
        return {name: _describe(program) for name, program in self._known().programs.items()}

    def count_events(self) -> int | None:
        """Return how many events the ledger holds; 0 where there is no ledger, None where it cannot be counted now."""
        if not self._layout.postgres.exists():
            return 0
        if not self.is_up():
            return None
        password = read_credentials(self._layout).reader_password
        return postgres.count_events(self._known().ports["postgres"], password)

    async def up(self, *, servers_only: bool, progress: Callable[[str], None]) -> None:
        """Start the stack and wait until all of it is ready. When that fails nothing is left running."""
        layout = self._layout
        if not rabbitmq.is_installed():
            progress("installing rabbitmq-server with the system's package manager")
            try:
                await asyncio.to_thread(rabbitmq.install)
            except packages.NotInstalledError as error:
                raise StackError(str(error)) from error
        layout.make_folders()
        await asyncio.to_thread(sweep, layout)
        _turn_logs(layout)
        supervisor = _spawn(layout, servers_only=servers_only)
        try:
            await _follow(layout, supervisor, progress)
        except asyncio.CancelledError:
            supervisor.send_signal(signal.SIGTERM)
            supervisor.wait()
            raise

    def applied_pipelines(self) -> state.Applied | None:
        """Return what became of the pipeline files at the start; None: there were none."""
        return self._known().pipelines

    def run_pipelines(self, *arguments: str, path: Path | None = None) -> int:
        """Run the one-shot of the pipelines, which prints, and return its exit code."""
        if not self._layout.secret("pipelines/postgres_password").exists():
            raise StackError("this stack was started by a release without pipelines; make down, then make up")
        where = (str(path.resolve()),) if path else ()
        task = services.pipelines(self._layout, self._known().ports, *arguments, *where)
        done = subprocess.run(
            task.command, stdin=subprocess.DEVNULL, env=dict(task.environment), cwd=self._layout.run, check=False
        )
        return done.returncode

    async def down(self) -> None:
        """Stop everything that the stack runs; data stays."""
        known = state.read_state(self._layout.state)
        supervisor = find(known.supervisor) if known is not None else None
        if supervisor is not None:
            await asyncio.to_thread(_end, [supervisor], _DOWN_SECONDS_MAX)
        await asyncio.to_thread(sweep, self._layout)

    async def clean(self) -> None:
        """Stop the stack and delete its data, also the files that were read."""
        await self.down()
        if self._layout.state_folder.exists():
            shutil.rmtree(self._layout.state_folder)
        for folder in self._layout.channel_folders:
            shutil.rmtree(folder, ignore_errors=True)

    async def readiness(self) -> dict[str, bool]:
        """Ask every server and service of the stack whether it is ready."""
        known = self._known()
        ports = known.ports
        questions: dict[str, Coroutine[None, None, bool]] = {
            "postgres": probes.postgres_ready(ports["postgres"]),
            "rabbitmq": probes.rabbitmq_ready(ports["amqp"]),
            "valkey": probes.valkey_ready(ports["redis"]),
        }
        if not known.servers_only:
            questions |= {name: probes.http_ready(services.ready_port(name, ports)) for name in services.NAMES}
        return dict(zip(questions, await asyncio.gather(*questions.values()), strict=True))

    def read_secret(self, place: str) -> str:
        """Return the text of a file of the secrets."""
        return self._layout.secret(place).read_text()

    def replace_secret(self, place: str, text: str) -> None:
        """Replace such a file, whole or not at all."""
        replace_file(self._layout.secrets, place, text, PRIVATE)

    @property
    def definitions_path(self) -> str:
        """Where the broker finds its definitions."""
        return str(self._layout.secret(DEFINITIONS_PLACE))

    def rabbitmqctl(self, *arguments: str, accepted: Sequence[int] = (0,)) -> None:
        """Run a command of the broker's operator."""
        done = rabbitmq.control(self._layout, self._known().ports, *arguments)
        if done.returncode not in accepted:
            raise StackError(f"rabbitmqctl {arguments[0]} failed", details=(done.stderr or done.stdout).strip())

    def _known(self) -> state.State:
        known = state.read_state(self._layout.state)
        if known is None:
            raise StackError("nothing is known of a stack here", exit_code=UNAVAILABLE)
        return known


def sweep(layout: Layout) -> None:
    """Stop programs that outlived their supervisor, and only those."""
    known = state.read_state(layout.state)
    left = [found for program in (known.programs.values() if known else ()) if (found := find(program))]
    _end(left, _SWEEP_SECONDS_MAX)
    layout.stack_env.unlink(missing_ok=True)


def _end(processes: list[psutil.Process], seconds_max: float) -> None:
    """Ask the processes to end, and kill those that have not after their time."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
            process.resume()  # a stopped process handles no signal
    _, stubborn = psutil.wait_procs(processes, timeout=seconds_max)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _pid(known: state.State | None) -> int | None:
    return known.supervisor.pid if known is not None and known.supervisor is not None else None


def _describe(program: state.Process) -> str:
    again = f", started again {program.restarts} times" if program.restarts else ""
    return f"pid {program.pid}{again}" if program.pid else "not running"


def _spawn(layout: Layout, *, servers_only: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "etlpay_cli.local.supervisor", str(layout.root)]
    with layout.log("supervisor").open("ab") as log:
        return subprocess.Popen(
            command + ["--servers"] * servers_only,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=inherited_environment(without=()),
            cwd=layout.root,
            start_new_session=True,
        )


async def _follow(layout: Layout, supervisor: subprocess.Popen[bytes], progress: Callable[[str], None]) -> None:
    """Wait until the supervisor says that all is ready. Raises StackError when it ends instead."""
    while True:
        ended = supervisor.poll() is not None
        known = state.read_state(layout.state)
        if known is not None and _pid(known) != supervisor.pid:
            known = None  # the state of an earlier run
        if known is not None and known.phase == "ready":
            return
        if ended:
            failed, reason = (known.failed, known.reason) if known is not None else (None, None)
            raise StackError(reason or "the supervisor ended", details=_tail(layout, failed or "supervisor"))
        if known is not None and known.phase == "starting":
            waiting = [name for name, program in known.programs.items() if program.state != "ready"]
            progress(f"waiting for {', '.join(waiting)}" if waiting else "preparing")
        await asyncio.sleep(_POLL_SECONDS)


def _tail(layout: Layout, program: str) -> str:
    """Return the end of a program's log."""
    try:
        content = layout.log(program).read_bytes()
    except FileNotFoundError:
        return ""
    return content[-_TAIL_BYTES:].decode(errors="replace").strip()


def _turn_logs(layout: Layout) -> None:
    """Begin every log anew, keeping the one of the run before."""
    for log in layout.logs.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))
