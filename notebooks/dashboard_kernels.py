"""The kernels of `make dashboard`: as many as there is memory for, and none for a page that has been closed.

Each visit has a kernel of its own, of some hundred MB. The page asks for its end when it is closed, but a browser need not
send that, and Voilà may refuse it. So a kernel that no page is connected to ends after five minutes, and when as many
are running as `most` says, the next visitor is asked to come again.

    make dashboard VISITS=16        # most; default: 8
"""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Integer, default


class Visits(AsyncMappingKernelManager):
    """Kernels of the pages that are open."""

    most = Integer(8, config=True, help="kernels at a time")

    @default("cull_idle_timeout")
    def _idle_seconds(self) -> int:
        return 300

    @default("cull_interval")
    def _look_every_seconds(self) -> int:
        return 30

    async def start_kernel(self, **options: Any) -> str:
        """Starts the kernel of a visit, or answers 503, "come again"."""
        if len(self.list_kernel_ids()) >= self.most:
            raise HTTPError(503, f"{self.most} visitors are here already: come again in some minutes")
        return await super().start_kernel(**options)
