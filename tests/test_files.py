"""Weights on disk: whole or not there, and only into the network they belong to."""

import errno

import pytest
import torch
from torch import nn

from ctmem.files import check_writable, load_module, load_tensors, save_module, save_tensors, write_json


def linear(inputs=3, outputs=2):
    torch.manual_seed(inputs)
    return nn.Linear(inputs, outputs)


def test_round_trip_leaves_the_live_module_where_it_is(tmp_path):
    module = linear()
    before = {name: (x.data_ptr(), x.device) for name, x in module.state_dict().items()}
    save_module(module, tmp_path / "a.safetensors", part="cnn", preset="tiny")
    assert before == {name: (x.data_ptr(), x.device) for name, x in module.state_dict().items()}
    other = load_module(nn.Linear(3, 2), tmp_path / "a.safetensors", part="cnn", preset="tiny")
    assert torch.equal(other.weight, module.weight) and torch.equal(other.bias, module.bias)


def test_failed_write_keeps_the_last_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_tensors({"x": torch.ones(2)}, path, {})

    def disk_full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ctmem.files.os.fsync", disk_full)
    with pytest.raises(
        OSError, match=r"`path` must be a file that can be written, got a.safetensors: No space"
    ) as caught:
        save_tensors({"x": torch.zeros(2)}, path, {})
    assert caught.value.errno == errno.ENOSPC
    assert load_tensors(path)[0]["x"].tolist() == [1.0, 1.0]
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_half_written_file_of_a_killed_process_does_no_harm(tmp_path):
    (tmp_path / ".a.safetensors.part").write_bytes(b"half")
    save_tensors({"x": torch.ones(2)}, tmp_path / "a.safetensors", {})
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_folder_that_cannot_be_written(tmp_path):
    check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(
        OSError, match="`path` must be a file that can be written, got .*: (Not a directory|File exists)"
    ):
        check_writable(tmp_path / "file")


def test_another_part_or_preset(tmp_path):
    path = tmp_path / "a.safetensors"
    save_module(linear(), path, part="cnn", preset="tiny")
    with pytest.raises(ValueError, match="`path` must be weights of part 'denoiser', got part 'cnn' in a.safetensors"):
        load_module(linear(), path, part="denoiser", preset="tiny")
    with pytest.raises(ValueError, match="`path` must be weights of preset 'small', got preset 'tiny'"):
        load_module(linear(), path, part="cnn", preset="small")


def test_another_shape_loads_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    save_module(linear(4), path, part="cnn", preset="tiny")
    module = linear(3)
    before = module.weight.clone()
    with pytest.raises(ValueError, match=r"`weight` of shape \(2, 3\), got \(2, 4\) in a.safetensors"):
        load_module(module, path, part="cnn", preset="tiny")
    assert torch.equal(module.weight, before)
    with pytest.raises(ValueError, match="`1.bias` of shape none"):
        save_module(nn.Sequential(linear(), linear(2)), path, part="cnn", preset="tiny")
        load_module(nn.Sequential(linear()), path, part="cnn", preset="tiny")


def test_missing_and_damaged_files(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="`path` must be a safetensors file, got a.safetensors, which is not"):
        load_tensors(path)
    save_module(linear(), path, part="cnn", preset="tiny")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="`path` must be a whole safetensors file, got a.safetensors"):
        load_tensors(path)


def test_card_is_written_whole(tmp_path):
    write_json({"a": 1}, tmp_path / "new" / "card.json")
    assert (tmp_path / "new" / "card.json").read_text(encoding="utf-8") == '{\n  "a": 1\n}\n'
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["card.json"]
