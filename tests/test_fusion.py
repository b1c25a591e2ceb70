"""The method `fusion`: what it does with references of several grades, and how it is trained."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ctmem import load_model, super_resolve
from ctmem.config import DenoiserConfig
from ctmem.diffusion import encoding
from ctmem.evaluation.metrics import psnr_db
from ctmem.files import data_path
from ctmem.match.patches import turn_back, turned
from ctmem.methods.fusion import MAPS, components, fuse, fuse_and_denoise, new_denoiser
from ctmem.methods.registry import METHODS, make_method
from ctmem.networks.folded import SPREAD, FoldedTCMM
from ctmem.observe.camera import Camera
from ctmem.train import fusion
from ctmem.train.loop import Run
from ctmem.train.sources import embedded_sources

SMALL = DenoiserConfig(width=8, residual_blocks=1, cim_blocks=1, te_blocks=1, state=2, heads=2)


@pytest.fixture(scope="module")
def sources():
    return embedded_sources(Camera.gaussian(scale=4))


def area_of(source, side=64):
    box = source.validation
    return source.scene.cut(replace(box, height=min(side, box.height), width=min(side, box.width)))


def gains(source, references):
    """PSNR of `fusion-bp` with each reference beyond that without."""
    area, method = area_of(source), make_method("fusion-bp")
    values = {
        name: float(psnr_db(method(area.lr_hsi, image, area.camera), area.gt).mean())
        for name, image in {"none": None, **references}.items()
    }
    return {name: value - values["none"] for name, value in values.items()}


@pytest.mark.parametrize("index", [0, 1], ids=["indian_pines", "sentinel2_farmland"])
def test_the_same_ground_pays_and_controls_neither_pay_nor_harm(sources, index):
    source = sources[index]
    own = area_of(source).hr_msi
    altered = 0.7 * turned(fusion.shifted(own, 0.5, 0.5), 5) + 0.1
    noise = torch.rand(own.shape, generator=torch.Generator().manual_seed(0))
    other = source.references[0]
    found = gains(
        source, {"same": own, "turned": turned(own, 3), "altered": altered, "negative": 1 - other, "noise": noise}
    )
    assert found["same"] > 5
    assert abs(found["turned"] - found["same"]) < 0.1
    assert found["altered"] > 3
    assert found["negative"] == found["noise"] == 0


def test_it_is_a_method_like_others_and_draws_nothing(sources):
    entry = METHODS["fusion"]
    area = area_of(sources[0], 32)
    one, two = (make_method("fusion")(area.lr_hsi, area.hr_msi, area.camera) for _ in range(2))
    assert entry.uses_reference
    assert not entry.random
    assert torch.equal(one, two)


def test_draws_differ_and_say_how_far(sources):
    area = area_of(sources[0], 32)
    model, given = load_model(), {"camera": area.camera, "generator": torch.Generator().manual_seed(0)}
    pred, std = super_resolve(model, area.lr_hsi, area.hr_msi, method="fusion-bp", draws=3, uncertainty=True, **given)
    assert torch.equal(pred, super_resolve(model, area.lr_hsi, area.hr_msi, method="fusion-bp", camera=area.camera))
    assert std.shape == pred.shape
    assert 0 < float(std.mean()) < 0.1
    one, two = (super_resolve(model, area.lr_hsi, method="fusion-sample", **given) for _ in range(2))
    assert not torch.equal(one, two)
    with pytest.raises(ValueError, match="`uncertainty` must be False for 'prior', a method without draws"):
        super_resolve(model, area.lr_hsi, method="prior", camera=area.camera, draws=2, uncertainty=True)
    with pytest.raises(ValueError, match="`draws` must be a whole number ≥ 2"):
        super_resolve(model, area.lr_hsi, method="fusion", camera=area.camera, uncertainty=True)


def test_signs_of_components_change_nothing(sources, monkeypatch):
    """The subspace with its directions turned round gives the same answer."""
    area = area_of(sources[0], 32)
    once, meant = (function(area.lr_hsi, area.hr_msi, area.camera) for function in (fuse, fuse_and_denoise))
    turned_round = encoding.fit
    monkeypatch.setattr(encoding, "fit", lambda *args: replace(turned_round(*args), basis=-turned_round(*args).basis))
    assert torch.allclose(fuse(area.lr_hsi, area.hr_msi, area.camera), once, atol=2e-5)
    assert torch.allclose(fuse_and_denoise(area.lr_hsi, area.hr_msi, area.camera), meant, atol=2e-5)


@pytest.mark.parametrize("k", [1, 4])
def test_a_turned_image_has_a_turned_answer(sources, k):
    """To a hundredth of the error, whatever the reference shows."""
    area = area_of(sources[0], 32)
    for image in (None, area.hr_msi):
        once = fuse(area.lr_hsi, image, area.camera)
        again = fuse(turned(area.lr_hsi, k), None if image is None else turned(image, k), area.camera)
        error = (once - area.gt).square().mean().sqrt()
        assert (turn_back(again, k) - once).square().mean().sqrt() < 0.02 * error


def test_another_scale_is_refused(sources):
    area = area_of(sources[0], 32)
    with pytest.raises(ValueError, match="`camera` must be one of scale 4"):
        components(area.lr_hsi, None, Camera.gaussian(scale=2))


def test_maps_are_what_they_say(sources):
    area = area_of(sources[1], 32)
    given = components(area.lr_hsi, area.hr_msi, area.camera)
    maps = {one.name: given.maps[:, i] for i, one in enumerate(MAPS)}
    empty = components(area.lr_hsi, None, area.camera)
    assert given.base.shape == (4, 1, 32, 32)
    assert 0.97 < float(maps["score"].median()) <= float(maps["score"].max()) <= 1.0001  # it finds itself
    assert float(maps["votes"].min()) > 0.3
    assert bool((maps["explained"][:3] > 0.9).float().mean() > 0.9)  # the scene has but the sensor's bands
    assert torch.equal(maps["bicubic"], given.encoded.base[0, :4])
    assert torch.equal(maps["prior"], empty.base[:, 0])
    assert float(maps["blur"].abs().max()) < 0.05  # a FWHM of 4 px is told as 0
    assert float(maps["noise"].abs().max()) == 0


def test_the_reference_counts_as_far_as_it_is_alike(sources):
    """The base is the prior and a share of the offer: 0 at a likeness of 0.6, 1 at 0.95, in proportion between them."""
    area = area_of(sources[1], 64)
    noise = torch.randn(area.hr_msi.shape, generator=torch.Generator().manual_seed(0))
    spoiled = area.hr_msi + noise * area.hr_msi.std() * torch.linspace(0, 4, area.hr_msi.shape[3])
    given = components(area.lr_hsi, spoiled, area.camera)
    maps = {one.name: given.maps[:, i : i + 1] for i, one in enumerate(MAPS)}
    alike = (maps["score"] + maps["near"]) / 2
    share = ((alike - 0.6) / 0.35).clamp(0, 1)
    some = [float(x.float().mean()) for x in (share == 0, (share > 0.1) & (share < 0.9), share == 1)]
    assert min(some) > 0.005  # all three are there
    torch.testing.assert_close(given.base, maps["prior"] + share * maps["offer"], atol=1e-4, rtol=1e-4)
    offer = (maps["score"] != 0) * (maps["bicubic"] + maps["detail"] - maps["prior"])
    torch.testing.assert_close(maps["offer"], offer, atol=1e-4, rtol=1e-4)


def test_other_ground_changes_nothing(sources):
    area = area_of(sources[0])
    given, empty = (components(area.lr_hsi, image, area.camera) for image in (sources[0].references[0], None))
    assert torch.equal(given.base, empty.base)
    assert torch.equal(given.maps, empty.maps)


def test_what_is_known_need_not_go_through_the_network():
    """Untrained, it is Wiener's mean of the base and the noisy data: the base at pure noise, the data when clean."""
    torch.manual_seed(0)
    network = FoldedTCMM(3, SMALL, fold=2).eval()
    base, texture, x = (torch.randn(2, k, 8, 12) for k in (1, 3, 1))
    condition = network.condition(base, texture)
    assert torch.equal(network.denoise(x, torch.zeros(2), base, condition), base)
    assert torch.allclose(network.denoise(x, torch.ones(2), base, condition), x, atol=1e-6)
    level = torch.tensor([0.2, 0.7])
    share = level.reshape(-1, 1, 1, 1)
    wiener = share * SPREAD**2 / (share**2 * SPREAD**2 + 1 - share**2)
    found = network.denoise(x, level, base, condition)
    assert torch.allclose(found, base + wiener * (x - share * base), atol=1e-6)


def test_folding_is_pixel_unshuffle_around_the_denoiser():
    torch.manual_seed(0)
    network = FoldedTCMM(3, SMALL, fold=2, offer=1).eval()
    for parameter in network.inner.fusion[-1].parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    base, texture, x = (torch.randn(2, k, 8, 12) for k in (1, 3, 1))
    found = network.denoise(x, torch.zeros(2), base, network.condition(base, texture))
    inside = [F.pixel_unshuffle(image, 2) for image in (x, base, texture)]
    added, gate, spread = network.inner(inside[0], torch.zeros(2), inside[1], inside[1], inside[2]).chunk(3, 1)
    offer = F.pixel_unshuffle(texture[:, 1:2], 2)
    wanted = inside[1] + gate.tanh() * offer + SPREAD * spread.exp() * added
    assert found.shape == (2, 1, 8, 12)
    assert torch.allclose(F.pixel_unshuffle(found, 2), wanted, atol=1e-5)


def test_the_answer_by_hand_of_what_the_network_inside_says():
    """Base 1, offer 2, x 0.9, level 0.6 and noise 0.8; what the network says is typed."""
    network = FoldedTCMM(2, SMALL, fold=2, offer=1).eval()
    base, texture, x = torch.full((1, 1, 4, 4), 1.0), torch.full((1, 2, 4, 4), 2.0), torch.full((1, 1, 4, 4), 0.9)
    seen = []

    def said(added, gate, spread):
        def denoise(unit, level, known, condition):
            seen.append((unit, known))
            maps = [torch.full((1, 1, 4, 4), value) for value in (added, gate, spread)]
            return F.pixel_unshuffle(torch.cat(maps, 1), 2)

        return denoise

    for added, gate, spread in ((0.7, 1.5, 0.4), (-0.3, 0.2, 9.0), (1.1, -4.0, -9.0)):
        network.inner.denoise = said(added, gate, spread)
        found = network.denoise(x, torch.tensor([0.6]), base, network.condition(base, texture))
        rho = 0.5 * math.exp(max(-3.0, min(3.0, spread)))
        guess = 1 + 2 * math.tanh(gate)
        k = 0.6 * rho**2 / (0.36 * rho**2 + 0.64)
        wanted = guess + k * (0.9 - 0.6 * guess) + math.sqrt(1 - 0.6 * k) * rho * added
        torch.testing.assert_close(found, torch.full_like(found, wanted))
    # the data that it sees have unit size around the base: (0.9 − 0.6) / √(0.36 · 0.25 + 0.64)
    torch.testing.assert_close(seen[0][0], torch.full((1, 4, 2, 2), 0.3 / 0.73**0.5))
    assert torch.equal(seen[0][1], torch.ones(1, 4, 2, 2))


def test_the_card_fits_the_weights():
    card = json.loads(data_path("weights/fusion/card.json").read_text(encoding="utf-8"))
    count = sum(parameter.numel() for parameter in new_denoiser().parameters())
    assert card["part"] == "fusion"
    assert f"{count / 1e6:.2f} million" in card["file"]


# --- training ---------------------------------------------------------------------------------------------------------


def synthetic(bands=5, side=160):
    image = torch.rand(1, bands, side // 8, side // 8, generator=torch.Generator().manual_seed(2))
    return F.interpolate(image, scale_factor=8, mode="bicubic").clamp(0, 1)[0]


@pytest.fixture(scope="module")
def pool(sources):
    return fusion.graded_pool({"a": synthetic(), "b": synthetic(3)}, sources, areas=2, seed=1)


def test_processes_make_the_same_pool(pool, sources):
    again = fusion.graded_pool({"a": synthetic(), "b": synthetic(3)}, sources, areas=2, seed=1, workers=1)
    assert all(torch.equal(a, b) for a, b in zip(vars(pool).values(), vars(again).values()))
    with pytest.raises(ValueError, match="`workers`"):
        fusion.graded_pool({}, sources, areas=1, seed=1, workers=-1)
    with pytest.raises(ValueError, match="`minutes` must be enough for the first areas, got 0"):
        fusion.graded_pool({}, sources, areas=1, seed=1, minutes=0)


def test_nothing_to_draw_from():
    with pytest.raises(ValueError, match="`corpus` must be images of 128 px a side, where there are no `sources`"):
        fusion.graded_pool({}, [], areas=1, seed=1)


def test_a_pool_has_crops_of_components_with_their_maps(pool):
    assert len(pool) > 8
    assert pool.base.shape[1:] == pool.target.shape[1:] == (1, 64, 64)
    assert pool.texture.shape[1:] == (len(MAPS), 64, 64)
    assert 0 < float(pool.weight.min()) <= float(pool.weight.max()) <= 1


def test_every_grade_is_drawn(sources):
    random = fusion.Random(0)
    ground = fusion.draw_ground(synthetic(), random)
    camera = fusion.draw_camera(fusion.draw_response(5, random), random)
    drawn = [fusion.draw_reference(ground, camera, [synthetic(3)], random) for _ in range(60)]
    images = [one for one in drawn if one is not None]
    assert 0 < len(drawn) - len(images) < 25
    assert all(one.shape[:2] == (1, camera.msi_channels) and bool(torch.isfinite(one).all()) for one in images)
    assert len({one.shape for one in images}) > 2


def test_the_loss_does_not_ask_for_the_sign(pool, monkeypatch):
    """With signs drawn anew the loss of an odd network stays: what is signed turns with the component."""
    torch.manual_seed(0)

    class Odd(torch.nn.Module):
        target, residual_std = "x0", None

        def condition(self, base, texture):
            return base, texture

        def denoise(self, x, level, previous, condition):
            base, texture = condition
            return base + 0.1 * texture[:, fusion.SIGNED].sum(1, keepdim=True)

    monkeypatch.setattr(fusion, "NOISES", (1e6, 2e6))  # that all is noise, and counts alike
    batch = fusion.Pool(*(x[:6] for x in (pool.base, pool.target, pool.texture, pool.weight)))
    values = [float(fusion.graded_loss(Odd(), batch, torch.Generator().manual_seed(seed))) for seed in range(4)]
    assert max(values) - min(values) < 1e-5


def test_a_few_steps_are_made(pool, sources):
    run = Run(FoldedTCMM(len(MAPS), SMALL), fusion.graded_loss, fusion.TrainConfig(steps=2, batch=4))
    before = [p.detach().clone() for p in run.network.parameters()]
    for _ in range(2):
        run.advance(pool)
    assert any(not torch.equal(a, b) for a, b in zip(before, run.network.parameters()))


def test_no_corpus_is_an_error_with_the_command(tmp_path, capsys):
    assert fusion.main(["--corpus", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "python -m ctmem.data.corpus" in capsys.readouterr().err
