"""The camera: all that stands between the ground and the two images of it, in one object that is handed through.

    camera = Camera.gaussian(fwhm_px=6.0, scale=4, snr_db=35)         # a blur, a decimation, noise
    camera = camera.for_wavelengths(scene.wavelengths_nm)             # and what its multispectral partner sees
    lr_hsi, hr_msi = camera.observe(gt, generator=generator), camera.see(gt)

A camera cannot be changed; `dataclasses.replace(camera, snr_db=25)` makes another one. Trained weights carry theirs on
their card: `load_model("tiny").camera`.

Source: this project; back-projection: Irani and Peleg, "Improving resolution by image registration", 1991.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from ctmem.checks import (
    Inside,
    NotNegative,
    Scale,
    Whole,
    as_image,
    as_psf,
    as_srf,
    check_choice,
    check_count,
    described,
    door,
    double,
    fail,
    inside,
    is_finite_number,
    typed,
)
from ctmem.config import CameraConfig
from ctmem.holes import holes_of_each, open_holes, split_holes
from ctmem.observe.coarse import blurs_of, corrections, enlarge
from ctmem.observe.optics import add_noise, adjoint, blur_down, blur_on_grid, gaussian_psf, upsample
from ctmem.observe.responses import SENSORS, Wavelengths, apply_srf, load_rsr, srf_matrix

SAME_PSF = 1e-3  # sum of absolute differences below which two PSFs of sum 1 are the same
MISMATCH = 1e-3  # of an answer that counts as consistent: its degraded form from the observation, relative
FEWEST, MOST = 10, 50  # back-projections without noise
SIGMA_TO_FWHM = 2 * math.sqrt(2 * math.log(2))


@typed
@dataclass(frozen=True, eq=False)
class Camera:
    """A coarse hyperspectral sensor and its fine multispectral partner.

    Args:
        psf: point spread function of the hyperspectral sensor (k, k) in fine pixels, sums to 1; k is even for an even
            scale and odd for an odd one, because it is centred on the coarse pixel.
        scale: fine pixels per coarse pixel, along one side.
        srf: spectral response of the multispectral sensor over the scene's bands, (c, C), rows sum to 1; None where
            the scene's bands are not known yet, or there is no multispectral image.
        sensor: name of the multispectral sensor, one of `responses.SENSORS`, or None for one without a table.
        snr_db: signal-to-noise ratio of the coarse image, dB; None: no noise.
        bands: names of the multispectral sensor's bands; None: its blue, green, red and near infrared.

    Raises:
        TypeError: `psf` or `srf` is not a floating-point tensor.
        ValueError: a `psf` that is not square, not finite, does not sum to 1 or has a size of the other parity; a
            `scale` below 1; rows of `srf` that do not sum to 1; an unknown sensor; a `snr_db` that is not finite.

    Example:
        >>> camera = Camera.gaussian(fwhm_px=4.0, scale=4)
        >>> tuple(camera.observe(torch.rand(1, 3, 8, 12)).shape), camera.halo
        ((1, 3, 2, 3), 4)
    """

    psf: Inside[torch.Tensor]
    scale: Scale = 4
    srf: Inside[torch.Tensor | None] = None
    sensor: str | None = None
    snr_db: Inside[float | None] = None
    bands: Inside[tuple[str, ...] | None] = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_count(self.scale, "scale")
        if self.sensor is not None:
            check_choice(self.sensor, "sensor", SENSORS)
        if self.bands is not None:
            object.__setattr__(self, "bands", _band_names(self.bands, self.sensor))
        # copies of its own, in plain Python numbers where JSON wants them
        object.__setattr__(self, "scale", int(self.scale))
        object.__setattr__(self, "psf", as_psf(self.psf, scale=self.scale).detach().clone())
        if self.srf is not None:
            object.__setattr__(self, "srf", as_srf(self.srf).detach().clone())
        if self.snr_db is not None and not is_finite_number(self.snr_db):
            fail("snr_db", "a finite number of decibels, or None", self.snr_db)
        object.__setattr__(self, "snr_db", None if self.snr_db is None else float(self.snr_db))

    # --- how one is made ---------------------------------------------------------------------------------------------

    @classmethod
    @typed
    def gaussian(
        cls,
        fwhm_px: Inside[float | tuple[float, float] | None] = None,
        scale: Scale = 4,
        *,
        srf: Inside[torch.Tensor | None] = None,
        sensor: str | None = "sentinel2a",
        snr_db: Inside[float | None] = None,
        bands: Inside[tuple[str, ...] | None] = None,
    ) -> Camera:
        """A camera with a Gaussian blur.

        Args:
            fwhm_px: full width at half maximum in fine pixels, or (rows, columns); None: `scale`.
            scale: fine pixels per coarse pixel.
            srf: as of the class.
            sensor: as of the class.
            snr_db: as of the class.
            bands: as of the class.

        Raises:
            ValueError: a width that is not positive, or what the class refuses.
        """
        check_count(scale, "scale")
        psf = gaussian_psf(float(scale) if fwhm_px is None else fwhm_px, scale=scale)
        return cls(psf, scale, srf=srf, sensor=sensor, snr_db=snr_db, bands=bands)

    @classmethod
    @typed
    def from_config(cls, config: CameraConfig) -> Camera:
        """The camera of a preset's settings, without a spectral response: that needs a scene, see `for_wavelengths`."""
        return cls.gaussian(
            config.fwhm_px, config.scale, sensor=config.sensor, snr_db=config.snr_db, bands=config.bands
        )

    @typed
    def for_wavelengths(self, wavelengths_nm: Wavelengths | None) -> Camera:
        """The same camera with the response of its multispectral sensor over a scene's bands.

        Args:
            wavelengths_nm: centres of the scene's C bands, nm, in any order.

        Raises:
            ValueError: no sensor, or one whose bands the wavelengths do not cover.
        """
        if self.sensor is None:
            fail("sensor", "a name, for its spectral response", None)
        return replace(self, srf=srf_matrix(wavelengths_nm, sensor=self.sensor, bands=self.bands))

    @typed
    def to(self, device: torch.device | str) -> Camera:
        """The same camera with its tensors on a device."""
        return replace(self, psf=self.psf.to(device), srf=None if self.srf is None else self.srf.to(device))

    # --- what it does to a scene -------------------------------------------------------------------------------------

    @door
    def observe(
        self, gt: torch.Tensor, *, generator: torch.Generator | None = None, holes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns `lr_hsi`, what the coarse sensor records: blurred, decimated, with its noise; (B, C, h, w).

        Args:
            gt: fine scene (B, C, H, W), [0, 1], H and W multiples of the scale; NaN in its holes.
            generator: of the noise; needed where there is noise.
            holes: pixels of `gt` that were filled, (B, 1, H, W) bool; None: where it is NaN. What `coarse_holes` says
                is NaN, and the noise has the level of the others.

        Raises:
            TypeError: `gt` is not a floating-point image.
            ValueError: wrong rank or size, noise without a `generator`, or no coarse pixel is left.
        """
        gt = as_image(gt, "gt", multiple_of=self.scale, finite=False, double=True)
        if holes is None and not inside():
            gt, holes = split_holes(gt, "gt")
        if self.snr_db is not None and generator is None:
            fail("generator", f"a `torch.Generator` for the noise of {self.snr_db:g} dB", None)
        low = self.downsample(gt)
        if holes is not None:
            unseen = self.coarse_holes(holes)
            if bool(unseen.flatten(1).all(1).any()):
                fail("holes", "few enough to leave what one coarse pixel sees", "holes in the sight of each of them")
            low = open_holes(low, unseen)
        if self.snr_db is None or generator is None:
            return low
        return add_noise(low, self.snr_db, generator=generator)

    def coarse_holes(self, holes: torch.Tensor) -> torch.Tensor:
        """Returns where the coarse image of a scene with holes (B, 1, H, W) has holes, (B, 1, h, w), bool.

        Convention: wherever any weight of the PSF, however small, lies on a hole, so that the others are what they
        would be of the whole scene, to the last digit.

        Raises:
            TypeError, ValueError: as `optics.blur_down`.
        """
        reached = (self.psf != 0).float()
        return blur_down(holes.float(), reached / reached.sum(), self.scale) > 0

    @door
    def see(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what the multispectral sensor records of `x`: (B, c, H, W), not blurred; NaN in its holes.

        Raises:
            TypeError: `x` is not a floating-point image.
            ValueError: a camera without `srf`, another number of bands, holes only.
        """
        x = as_image(x, "x", finite=False, double=True)
        response = self.response()
        x, holes = (x, None) if inside() else split_holes(x, "x")
        return open_holes(apply_srf(x, response), holes)

    @typed
    def downsample(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `x` blurred and decimated, without noise: (B, C, H/scale, W/scale); linear in x.

        Raises:
            TypeError, ValueError: as `optics.blur_down`.
        """
        return blur_down(x, self.psf, self.scale)

    @door
    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Returns the transpose of `downsample` of y: (B, C, h, w) → (B, C, scale·h, scale·w).

        Raises:
            TypeError: `y` is not a floating-point image.
            ValueError: wrong rank, or values that are not finite.
        """
        y = as_image(y, "y", double=True)
        height, width = (self.scale * side for side in y.shape[-2:])
        return adjoint(self.downsample, y.new_zeros(*y.shape[:-2], height, width))(y)

    @typed
    def upsample(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `x` enlarged by bicubic interpolation, (B, C, scale·h, scale·w): the way back that needs no learning.

        Raises:
            TypeError, ValueError: as `optics.upsample`.
        """
        return upsample(x, self.scale)

    @typed
    def blur(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what the coarse sensor shows of `x`, on the pixels of `x`: down and bicubically up again, any size.

        This is the K of the method, with the PSF told instead of learned.

        Raises:
            TypeError, ValueError: as `optics.upsample`.
        """
        return blur_on_grid(x, self.psf, self.scale)

    @door
    def back_project(
        self,
        pred: torch.Tensor,
        lr_hsi: torch.Tensor,
        *,
        steps: Whole = 10,
        at_least: Whole = 0,
        tolerance: NotNegative = 0.0,
        holes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns an image near `pred` that, downsampled, gives back the observation: x ← x + up(lr_hsi − down(x)).

        Args:
            pred: estimate (B, C, H, W).
            lr_hsi: observation (B, C, h, w), H = scale·h.
            steps: repetitions, at most; it stops where the mismatch grows to twice the least, and gives that image.
            at_least: repetitions before it stops at the tolerance.
            tolerance: mismatch, the norm of lr_hsi − down(x) over that of lr_hsi, at which it stops.
            holes: pixels of `lr_hsi` that nothing is known of, (B, 1, h, w) bool: they ask for nothing; None: none.

        Raises:
            ValueError: `pred` is not `scale` times as large as `lr_hsi`, or has other bands; holes of another shape.
        """
        pred = as_image(pred, "pred", double=True)
        lr_hsi = as_image(lr_hsi, "lr_hsi", bands=pred.shape[1], double=True).to(pred)
        check_count(steps, "steps", at_least=0)
        check_count(at_least, "at_least", at_least=0)
        wanted = tuple(self.scale * side for side in lr_hsi.shape[2:])
        if tuple(pred.shape[2:]) != wanted:
            got = f"{pred.shape[2]}×{pred.shape[3]}"
            fail("pred", f"{self.scale} times the size of `lr_hsi`, {wanted[0]}×{wanted[1]}", got)
        size = (lr_hsi.shape[2], lr_hsi.shape[3])
        known = lr_hsi if holes is None else open_holes(lr_hsi, holes).nan_to_num(0)
        # all repetitions on the coarse grid, and one enlarged image added to the estimate
        added = corrections(
            lr_hsi - self.downsample(pred), blurs_of(self.psf, self.scale, size, pred),
            steps=steps, at_least=at_least, tolerance=tolerance * float(known.norm()), holes=holes,
        )  # fmt: skip
        return pred if added is None else pred + enlarge(added, self.scale)

    @typed
    def consistent(
        self, pred: torch.Tensor, lr_hsi: torch.Tensor, *, holes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns `pred` after back-projection, which stops where only what the noise explains is missing.

        Without noise: at least 10 steps, and up to 50 until the observation is given back to a thousandth. With noise:
        until the mismatch is no larger than that of the noise, each image by itself; perhaps not a single step.

        Args:
            pred: estimate (B, C, H, W).
            lr_hsi: observation (B, C, h, w), H = scale·h.
            holes: as of `back_project`.

        Raises:
            TypeError, ValueError: as `back_project`.
        """
        pred = as_image(pred, "pred", double=True, finite=False)  # the numbers are looked at by `back_project`
        lr_hsi = as_image(lr_hsi, "lr_hsi", double=True, finite=False)
        if len(pred) != len(lr_hsi):
            fail("pred", f"as many images as `lr_hsi`, {len(lr_hsi)}", len(pred))
        tolerance = max(MISMATCH, self.noise_share)
        fewest = FEWEST if tolerance == MISMATCH else 0
        return torch.cat(
            [
                self.back_project(x, y, steps=MOST, at_least=fewest, tolerance=tolerance, holes=hole)
                for x, y, hole in zip(pred.split(1), lr_hsi.split(1), holes_of_each(holes, len(pred)))
            ]
        )

    # --- what is known about it --------------------------------------------------------------------------------------

    @property
    def noise_share(self) -> float:
        """Norm of the noise over that of the observation; 0 without noise."""
        return 0.0 if self.snr_db is None else 10 ** (-self.snr_db / 20)

    @property
    def halo(self) -> int:
        """How many fine pixels beyond its own cell a coarse pixel reads, on each side."""
        return max(0, len(self.psf) - self.scale) // 2

    @property
    def fwhm_px(self) -> tuple[float, float]:
        """Widths (rows, columns) of the Gaussian with the second moments of the PSF, fine pixels."""
        offsets = torch.arange(len(self.psf), dtype=torch.float64, device="cpu") - (len(self.psf) - 1) / 2
        psf = self.psf.detach().cpu().double()
        widths = []
        for profile in (psf.sum(1), psf.sum(0)):
            centre = profile @ offsets
            widths.append(SIGMA_TO_FWHM * math.sqrt(max(0.0, float(profile @ (offsets - centre).square()))))
        return widths[0], widths[1]

    @property
    def msi_channels(self) -> int:
        """c, the number of bands of the multispectral sensor."""
        if self.srf is not None:
            return len(self.srf)
        return len(self.bands or SENSORS[self.sensor or "sentinel2a"])

    @typed
    def response(self, name: str = "camera") -> torch.Tensor:
        """The spectral response (c, C), or the error of a camera that has none; `name`: what the error calls it."""
        if self.srf is None:
            fail(name, "one with `srf`, the response (c, C) of its multispectral sensor", "one without")
        return self.srf

    @typed
    def same_optics(self, other: Camera) -> bool:
        """Whether both blur and decimate alike."""
        if self.scale != other.scale:
            return False
        sizes = max(len(self.psf), len(other.psf))
        one, two = (_padded(camera.psf.detach().cpu(), sizes) for camera in (self, other))
        return float((one - two).abs().sum()) <= SAME_PSF

    @typed
    def differences(self, other: Camera) -> list[str]:
        """In words, how this camera's hyperspectral side differs from another one's: scale, blur, noise.

        The multispectral sensor does not count: the method is made for references of any.
        """
        found = []
        if self.scale != other.scale:
            found.append(f"scale {self.scale} instead of {other.scale}")
        elif not self.same_optics(other):
            mine, others = _widths(self), _widths(other)
            same = f"another blur of the same FWHM {mine} px"
            found.append(same if mine == others else f"a blur of FWHM {mine} px instead of {others} px")
        if self.snr_db != other.snr_db:
            found.append(f"{_noise(self)} instead of {_noise(other)}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """The camera as plain lists and numbers, for a JSON card."""
        return {
            "psf": self.psf.tolist(),
            "scale": self.scale,
            "srf": None if self.srf is None else self.srf.tolist(),
            "sensor": self.sensor,
            "snr_db": self.snr_db,
            "bands": None if self.bands is None else list(self.bands),
        }

    @classmethod
    @typed
    def from_dict(cls, plain: dict[str, Any]) -> Camera:
        """The camera that `to_dict` wrote.

        Raises:
            TypeError: no `psf`, a key that is not a field, a `psf` or `srf` that is not a list of rows of numbers.
            ValueError: what the class refuses.
        """
        own = {field.name for field in fields(cls)}
        if "psf" not in plain or not plain.keys() <= own:
            got = f"one with {', '.join(map(repr, plain)) or 'nothing'}"
            fail(
                "plain", f"a dict with 'psf' and no other keys than {', '.join(map(repr, sorted(own)))}", got, TypeError
            )
        srf = plain.get("srf")
        read = {"psf": _matrix(plain["psf"], "psf"), "srf": None if srf is None else _matrix(srf, "srf")}
        return cls(**(plain | read))


def _matrix(rows: Any, name: str) -> torch.Tensor:
    """Rows of numbers, as JSON has them, as a float32 matrix."""
    try:
        found = np.asarray(rows)
    except ValueError:
        fail(f"plain[{name!r}]", "a list of rows of numbers, of one length", "rows of several lengths", TypeError)
    if found.dtype.kind not in "iuf":
        fail(f"plain[{name!r}]", "a list of rows of numbers", described(rows), TypeError)
    return torch.from_numpy(found.astype(np.float32))


def _band_names(bands: Any, sensor: str | None) -> tuple[str, ...]:
    """The names of a sensor's bands as a tuple, or the error of what is none."""
    if not isinstance(bands, list | tuple) or not bands or not all(isinstance(name, str) for name in bands):
        fail("bands", "names of at least one band, or None", described(bands))
    names = tuple(map(str, bands))
    for name in names:
        if sensor is not None:
            check_choice(name, "bands", load_rsr(sensor))
    return names


def _padded(psf: torch.Tensor, size: int) -> torch.Tensor:
    """A PSF with a rim of zeros, (size, size); sizes are of one parity."""
    rim = (size - len(psf)) // 2
    return torch.nn.functional.pad(double(psf), (rim, rim, rim, rim))


def _widths(camera: Camera) -> str:
    """The FWHM in words: one number where both are alike."""
    down, across = camera.fwhm_px
    return f"{down:.1f}" if abs(down - across) < 0.05 else f"{down:.1f}×{across:.1f}"


def _noise(camera: Camera) -> str:
    """The noise in words."""
    return "no noise" if camera.snr_db is None else f"noise of {camera.snr_db:g} dB"
