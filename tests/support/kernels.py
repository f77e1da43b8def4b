"""A real kernel, driven through its messages."""

from __future__ import annotations

import queue
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Message = dict[str, Any]


class Kernel:
    """A kernel with the environment of this process; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(self.folder), extra_arguments=["--IPKernelApp.log_level=ERROR"])
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=kind is not None)

    @property
    def pid(self) -> int:
        """The kernel's process."""
        return int(self.manager.provisioner.pid)

    def run(self, source: str, *, interrupt_when: str = "", timeout: float = 60) -> list[Message]:
        """Execute a cell; everything that it showed until it was idle.

        ``interrupt_when`` sends an interrupt as soon as something shown has that text.
        """
        sent = self.client.execute(source, allow_stdin=False)
        messages: list[Message] = []
        waiting = bool(interrupt_when)
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=timeout)
            except queue.Empty:
                raise AssertionError(f"The cell showed nothing for {timeout:g} s: {source[:80]}") from None
            if message["parent_header"].get("msg_id") != sent:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return messages
            messages.append(message)
            if waiting and interrupt_when in str(message["content"]):
                waiting = False
                self.manager.interrupt_kernel()

    def value(self, expression: str) -> str:
        """The repr of an expression; raises what the cell raised."""
        for message in self.run(expression):
            if message["msg_type"] == "error":
                raise AssertionError(message["content"]["evalue"])
            if message["msg_type"] == "execute_result":
                return str(message["content"]["data"]["text/plain"])
        raise AssertionError(f"{expression} has no value")
