"""A form for a scene of yours: a file in, a file out, and what is said on the way.

SceneForm("lr.hdr", out="sr.tif")
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import ipywidgets

from ctmem.checks import typed
from ctmem.command import ERRORS
from ctmem.networks.component_prior import SCALES
from ctmem.own_scene.files import inspect_file, super_resolve_file
from ctmem.own_scene.options import METHODS

WIDE = {"description_width": "80px"}


class SceneForm(ipywidgets.VBox):
    """File, reference, scale, method and output to fill in, and two buttons: look, and sharpen.

    What is wrong stands in one line below, nothing is raised. While it works, the buttons are off and a bar moves;
    an answer that was stopped goes on with the next press.

    Args:
        path: the coarse scene.
        references: fine images, one path or none.
        out: the fine scene.
        scale: None: by the pixel sizes.
        method: as of `super_resolve_file`.

    Attributes:
        card: of the last answer; None before there is one.
        said: the text below the buttons.
    """

    @typed
    def __init__(
        self,
        path: str | Path = "",
        references: str | Path = "",
        *,
        out: str | Path = "",
        scale: int | None = None,
        method: str = "auto",
    ) -> None:
        self.card: dict[str, Any] | None = None
        text = {"style": WIDE, "layout": ipywidgets.Layout(width="480px")}
        hint = "lr.hdr, scene.tif, scene.mat:HSI"
        self.path = ipywidgets.Text(str(path), description="file", placeholder=hint, **text)
        self.reference = ipywidgets.Text(str(references), description="reference", placeholder="none is needed", **text)
        self.out = ipywidgets.Text(str(out), description="output", placeholder="sr.tif", **text)
        ratios = [("by the pixel sizes", None), *((f"×{ratio}", ratio) for ratio in SCALES)]
        self.scale = ipywidgets.Dropdown(options=ratios, value=scale, description="scale", style=WIDE)
        self.method = ipywidgets.Dropdown(options=METHODS, value=method, description="method", style=WIDE)
        self.replace = ipywidgets.Checkbox(False, description="replace what is there", indent=False)
        self.look = ipywidgets.Button(description="Look")
        self.sharpen = ipywidgets.Button(description="Sharpen", button_style="primary")
        self.bar = ipywidgets.IntProgress(0, 0, 1, layout=ipywidgets.Layout(width="480px", visibility="hidden"))
        self.below = ipywidgets.HTML()
        self.look.on_click(lambda _: self._work(self._look))
        self.sharpen.on_click(lambda _: self._work(self._sharpen))
        rows = [self.path, self.reference, self.out, ipywidgets.HBox([self.scale, self.method])]
        rows += [ipywidgets.HBox([self.look, self.sharpen, self.replace]), self.bar, self.below]
        super().__init__(rows)
        self.add_class("ctmem-form")

    @property
    def said(self) -> str:
        """The text below the buttons."""
        return self._said

    _said = ""

    def __repr__(self) -> str:
        return "SceneForm()"

    def _work(self, what: Any) -> None:
        """Does what a button asks for; the buttons are off meanwhile."""
        self.look.disabled = self.sharpen.disabled = True
        self._say("")
        try:
            what()
        except KeyboardInterrupt:
            self._add("stopped; press Sharpen to go on")
        except ERRORS as error:
            self._add(f"error: {error or type(error).__name__}")
        finally:
            self.bar.layout.visibility = "hidden"
            self.look.disabled = self.sharpen.disabled = False

    def _asked(self) -> dict[str, Any]:
        """What both buttons hand on."""
        references = [self.reference.value] if self.reference.value.strip() else []
        return {"references": references, "scale": self.scale.value, "method": self.method.value}

    def _look(self) -> None:
        self._add(str(inspect_file(self.path.value, **self._asked())))

    def _sharpen(self) -> None:
        self.card = super_resolve_file(
            self.path.value, out=self.out.value, overwrite=self.replace.value, resume=True,
            progress=self._move, say=self._add, **self._asked(),
        )  # fmt: skip
        self._add(f"{self.out.value} and its card are written")

    def _move(self, done: int, total: int) -> None:
        self.bar.layout.visibility = "visible"
        self.bar.max, self.bar.value = total, done

    def _add(self, line: str) -> None:
        self._say(f"{self._said}\n{line}".strip())

    def _say(self, text: str) -> None:
        self._said = text
        self.below.value = f'<pre style="line-height: 1.3; white-space: pre-wrap">{html.escape(text)}</pre>'
