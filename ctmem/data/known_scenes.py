"""Public scenes that people have on disk: what each file should hold, and where to ask for it.

None of these scenes is part of this project, and nothing is fetched: most may be used for research alone, and their
owners ask to be asked. What is not known for sure of a file stands empty. Not checked against a second source: the
type of Pavia's numbers, the words of CAVE's licence, the centres of Hyperion's bands. `ctmem.data.public` compares
files with this.

Source: the pages named under `source` of each scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctmem.checks import Inside, check_choice, fail, typed
from ctmem.observe.responses import box_srf

BOXES_NM = ((450.0, 520.0), (520.0, 600.0), (630.0, 690.0), (760.0, 850.0))  # four bands that all scenes cover
Span = tuple[int, int, float, float]  # number of the first and last band, and their centres in nm


@typed
@dataclass(frozen=True)
class PublicScene:
    """What is known of one file. Shapes are (H, W, C)."""

    title: str
    files: tuple[str, ...]  # the names it goes by
    keys: tuple[str, ...]  # of the array in a file of MATLAB's
    shape: tuple[int, int, int]
    gsd_m: float | None
    sensor: str
    spans: tuple[Span, ...]  # evenly spaced centres, in the file's order; what no span covers is not spectral
    spacing: str  # where the centres come from, and how exact they are
    licence: str
    ask: str  # where to ask for it
    source: str  # of what stands here
    dtypes: tuple[str, ...] = ()  # of the stored numbers; empty: not known for sure
    others: tuple[tuple[tuple[int, int, int], str], ...] = ()  # shapes that are around, too, and what they are
    bad_bands: str = "none are named"
    notes: str = ""

    @property
    def wavelengths_nm(self) -> np.ndarray:
        """Centres of the bands, (C,) nm; NaN for a layer that is not spectral."""
        return _centres(self.spans, self.shape[2])

    @typed
    def wavelengths_for(self, bands: int) -> np.ndarray | None:
        """Centres for a file of so many bands, (bands,) nm, without the layers that are not spectral; None: unknown."""
        known = self.wavelengths_nm
        if bands == len(known):
            return known
        return known[:bands] if bands == np.isfinite(known).sum() else None


def _centres(spans: Sequence[Span], bands: int) -> np.ndarray:
    """Centres of bands (C,) in nm that lie evenly in each span."""
    found = np.full(bands, np.nan)
    place = 0
    for first, last, low, high in spans:
        count = last - first + 1
        found[place : place + count] = np.linspace(low, high, count)
        place += count
    return found


def _hyperion(*ranges: tuple[int, int]) -> tuple[Span, ...]:
    """Spans of Hyperion's bands by their numbers: two spectrometers, each evenly spaced to about 1 nm."""

    def centre(number: int) -> float:
        return 426.82 + (number - 8) * 10.175 if number <= 70 else 912.45 + (number - 77) * 10.089

    return tuple((first, last, centre(first), centre(last)) for first, last in ranges)


GIC = "the page 'Hyperspectral Remote Sensing Scenes' of the Computational Intelligence Group, UPV/EHU (www.ehu.eus)"
HOUSTON = "the University of Houston's Hyperspectral Image Analysis Laboratory (hyperspectral.ee.uh.edu)"
CONTEST = "free for research, with the acknowledgement that the contest asks for; not to be handed on"
ROSIS = "evenly spaced from 430 to 860 nm; no table comes with the file, so within some nm"

PUBLIC: dict[str, PublicScene] = {
    "pavia-centre": PublicScene(
        title="Pavia Centre, ROSIS, 2002", files=("Pavia.mat",), keys=("pavia",), shape=(1096, 715, 102), gsd_m=1.3,
        sensor="ROSIS", spans=((1, 102, 430.0, 860.0),), spacing=ROSIS, dtypes=("uint16",),
        licence="none stated; given out by P. Gamba, University of Pavia, for research", ask=GIC, source=GIC,
        others=(((1096, 1096, 102), "the whole frame, with 381 columns without data; the file given out has 715"),),
        bad_bands="13 of 115 noisy bands were taken out before",
    ),
    "pavia-university": PublicScene(
        title="Pavia University, ROSIS, 2002", files=("PaviaU.mat",), keys=("paviaU",), shape=(610, 340, 103),
        gsd_m=1.3, sensor="ROSIS", spans=((1, 103, 430.0, 860.0),), spacing=ROSIS, dtypes=("uint16",),
        licence="none stated; given out by P. Gamba, University of Pavia, for research", ask=GIC, source=GIC,
        others=(((610, 610, 103), "the whole frame, with columns without data; the file given out has 340"),),
        bad_bands="12 of 115 noisy bands were taken out before",
    ),
    "houston-2013": PublicScene(
        title="Houston 2013, CASI-1500, IEEE GRSS data fusion contest",
        files=("2013_IEEE_GRSS_DF_Contest_CASI.tif", "Houston.mat"), keys=("Houston", "HSI", "Data"),
        shape=(349, 1905, 144), gsd_m=2.5, sensor="CASI-1500", spans=((1, 144, 380.0, 1050.0),),
        spacing="evenly spaced over the 380 to 1050 nm that the contest states, so within some 15 nm at the ends",
        dtypes=("uint16",), licence=CONTEST, ask=HOUSTON, source="the contest's page and paper (Debes et al., 2014)",
        notes="a cloud's shadow lies on the right part",
    ),
    "houston-2018": PublicScene(
        title="Houston 2018, CASI-1500, IEEE GRSS data fusion contest",
        files=("20170218_UH_CASI_S4_NAD83.pix", "20170218_UH_CASI_S4_NAD83.hdr", "20170218_UH_CASI_S4_NAD83.tiff"),
        keys=("Houston", "HSI"), shape=(1202, 4172, 50), gsd_m=1.0, sensor="CASI-1500",
        spans=((1, 48, 374.4, 1047.1),), spacing="as the file's own header has it: 374.4 to 1047.1 nm, every 14.31 nm",
        licence=CONTEST, ask=HOUSTON, source="the contest's page and the header of its file",
        others=(((1202, 4172, 48), "without the last two layers"),),
        bad_bands="the last two of 50 layers are no bands (angle of view, height): leave them out",
    ),
    "chikusei": PublicScene(
        title="Chikusei, Headwall Hyperspec-VNIR-C, 2014",
        files=("HyperspecVNIR_Chikusei_20140729.mat", "HyperspecVNIR_Chikusei_20140729.hdr",
               "HyperspecVNIR_Chikusei_20140729.bsq"),
        keys=("chikusei",), shape=(2517, 2335, 128), gsd_m=2.5, sensor="Hyperspec-VNIR-C",
        spans=((1, 128, 363.0, 1018.0),), spacing="evenly spaced over the 363 to 1018 nm that the report states",
        licence="CC-BY-3.0, with the acknowledgement that its authors ask for",
        ask="Space Application Laboratory, University of Tokyo (naotoyokoya.com has the link)",
        source="N. Yokoya and A. Iwasaki, Airborne hyperspectral data over Chikusei, 2016",
        notes="its borders have no data: most people cut 2304×2048 px from the middle",
    ),
    "botswana": PublicScene(
        title="Okavango Delta in Botswana, EO-1 Hyperion, 2001", files=("Botswana.mat",), keys=("Botswana",),
        shape=(1476, 256, 145), gsd_m=30.0, sensor="Hyperion",
        spans=_hyperion((10, 55), (82, 97), (102, 119), (134, 164), (187, 220)),
        spacing="by the numbers of Hyperion's bands, 10–55, 82–97, 102–119, 134–164, 187–220, within about 1 nm",
        licence="none stated for the file; Hyperion's own images are in the public domain", ask=GIC, source=GIC,
        bad_bands="97 of 242 bands were taken out before",
    ),
    "dc-mall": PublicScene(
        title="Washington DC Mall, HYDICE, 1995", files=("dc.tif",), keys=("dc", "DC"), shape=(1280, 307, 191),
        gsd_m=None, sensor="HYDICE", spans=(),
        spacing="uneven, 401 nm to about 2.47 µm: the table in the ReadMe.txt beside dc.tif, right column",
        licence="none stated; given out by permission of the Spectral Information Technology Application Center",
        ask="the page of MultiSpec, Purdue University (engineering.purdue.edu/~biehl/MultiSpec)",
        source="ReadMe.txt beside dc.tif", bad_bands="19 of 210 bands that the air absorbs were taken out before",
    ),
    "cave": PublicScene(
        title="CAVE, 32 indoor scenes by a camera with a tunable filter, 2008",
        files=("a folder such as balloons_ms with balloons_ms_01.png to balloons_ms_31.png",), keys=(),
        shape=(512, 512, 31), gsd_m=None, sensor="Apogee Alta U260, VariSpec filter", spans=((1, 31, 400.0, 700.0),),
        spacing="every 10 nm from 400 to 700 nm", dtypes=("uint16",),
        licence="free for research, © Columbia University",
        ask="the Multispectral Image Database of CAVE, Columbia University (www.cs.columbia.edu/CAVE)",
        source="the database's page", notes="indoors: no ground, no sensor in orbit",
    ),
}  # fmt: skip


@typed
def response_for(wavelengths_nm: Inside[np.ndarray | None]) -> torch.Tensor:
    """Four box-shaped bands, blue to near infrared, over a scene's bands: (4, C) float32, rows sum to 1.

    Raises:
        ValueError: no wavelengths, or ones that do not cover the boxes.
    """
    if wavelengths_nm is None:
        fail("wavelengths_nm", "centres of the bands in nm, for four bands of another sensor", None)
    return box_srf(wavelengths_nm, BOXES_NM)


@typed
def describe(name: str) -> str:
    """All that is known of one of `PUBLIC`, as lines of text.

    Raises:
        ValueError: another name.
    """
    check_choice(name, "name", PUBLIC)
    scene = PUBLIC[name]
    height, width, bands = scene.shape
    told = {
        "file": " or ".join(scene.files),
        "array": " or ".join(scene.keys) or "-",
        "shape": f"{height}×{width} px, {bands} bands" + (f", {' or '.join(scene.dtypes)}" if scene.dtypes else ""),
        "pixels": "-" if scene.gsd_m is None else f"{scene.gsd_m:g} m",
        "sensor": scene.sensor,
        "wavelengths": scene.spacing,
        "bad bands": scene.bad_bands,
        "licence": scene.licence,
        "ask": scene.ask,
        "source": scene.source,
        "notes": scene.notes,
    }
    return "\n".join([scene.title, *(f"  {what:12} {text}" for what, text in told.items() if text)])
