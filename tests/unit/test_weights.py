from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import fsspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn

from occframe import weights as weights_module
from occframe.errors import OccframeError
from occframe.weights import load_weights, locate_weights, read_state_dict

STATE = {"conv.weight": torch.arange(24.0).view(2, 3, 2, 2), "norm.bias": torch.tensor([1.0, -1.0])}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_the_format_is_told_by_content_not_by_name(tmp_path):
    save_file(STATE, tmp_path / "a.pth")
    torch.save(STATE, tmp_path / "b.safetensors")
    torch.save(STATE, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    assert all(same(read_state_dict(str(tmp_path / name)), STATE) for name in ("a.pth", "b.safetensors", "c.pt"))


@pytest.mark.parametrize(
    "content",
    [
        OrderedDict(STATE),
        {"state_dict": STATE, "epoch": 3, "optimizer": {"lr": 0.1}},
        {"state_dict_backbone": {f"module.{key}": tensor for key, tensor in STATE.items()}, "global_step": 7},
        {"net_state_dict": STATE, "iter": 1},
        {f"module.{key}": tensor for key, tensor in STATE.items()},
    ],
    ids=["bare", "wrapped", "arcface_torch", "xiaoccer", "data parallel"],
)
def test_the_network_is_found_in_what_training_scripts_save(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    assert same(read_state_dict(str(tmp_path / "c.pt")), STATE)


def test_any_file_system_will_do():
    with fsspec.open("memory://weights/a.safetensors", "wb") as file:
        file.write(save(STATE))
    with fsspec.open("memory://weights/b.pt", "wb") as file:
        torch.save(STATE, file)
    assert same(read_state_dict("memory://weights/a.safetensors"), STATE)
    assert same(read_state_dict("memory://weights/b.pt"), STATE)


# --- what is refused --------------------------------------------------------------------------------------------------


class Payload:
    """Unpickled carelessly, it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, zipped):
    target = tmp_path / "pwned"
    torch.save({**STATE, "x": Payload(target)}, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        OccframeError, match=r"evil\.pt is a pickle that holds more than tensors: it calls posix\.mkdir"
    ) as e:
        read_state_dict(str(tmp_path / "evil.pt"))
    assert "safetensors" in e.value.remedy
    assert not target.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_is_refused_too(tmp_path):
    target = tmp_path / "pwned"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload(target)))
    with pytest.raises(OccframeError, match=r"evil.pkl"):
        read_state_dict(str(tmp_path / "evil.pkl"))
    assert not target.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(OccframeError, match=r"holds more than tensors: it calls torch\.nn\.modules\.linear\.Linear"):
        read_state_dict(str(tmp_path / "model.pt"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "scripted.pt")
    with pytest.raises(OccframeError, match=r"scripted\.pt is a TorchScript archive"):
        read_state_dict(str(tmp_path / "scripted.pt"))


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(OccframeError, match=r"bomb\.pt is compressed"):
        read_state_dict(str(tmp_path / "bomb.pt"))


def test_an_archive_whose_records_add_up_to_too_much_is_refused(tmp_path, monkeypatch):
    torch.save({str(i): torch.zeros(100) for i in range(20)}, tmp_path / "big.pt")
    monkeypatch.setattr(weights_module, "MAX_BYTES", 8000)
    with pytest.raises(OccframeError, match=r"big\.pt is larger than"):
        read_state_dict(str(tmp_path / "big.pt"))


@pytest.mark.parametrize("url", ["{tmp}/big.safetensors", "memory://big.safetensors"])
def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch, url):
    url = url.format(tmp=tmp_path)
    with fsspec.open(url, "wb") as file:
        file.write(save(STATE))
    monkeypatch.setattr(weights_module, "MAX_BYTES", 100)
    with pytest.raises(OccframeError, match="is larger than"):
        read_state_dict(url)


def test_truncated_files_are_called_damaged(tmp_path):
    save_file(STATE, tmp_path / "whole.safetensors")
    torch.save(STATE, tmp_path / "whole.pt")
    for name in ("whole.safetensors", "whole.pt"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) - 20])
        with pytest.raises(OccframeError, match="damaged or cut short") as error:
            read_state_dict(str(tmp_path / name))
        assert name in error.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>not found", "neither a safetensors file nor a torch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "neither a safetensors file nor a torch checkpoint"),
    ],
)
def test_other_files_are_named_for_what_they_are_not(tmp_path, content, message):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(OccframeError, match=message):
        read_state_dict(str(tmp_path / "file.pt"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([b"PK\x03\x04", b"\x80\x02", b"\x20\0\0\0\0\0\0\0{", b""]), st.binary(max_size=200))
def test_garbage_always_gives_our_error(tmp_path, start, rest):
    (tmp_path / "garbage").write_bytes(start + rest)
    with pytest.raises(OccframeError):
        read_state_dict(str(tmp_path / "garbage"))


def test_content_without_parameters_is_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"weight": torch.zeros(1), "epoch": 3}, tmp_path / "mixed.pt")
    with pytest.raises(OccframeError, match="holds list, no parameters by name"):
        read_state_dict(str(tmp_path / "list.pt"))
    with pytest.raises(OccframeError, match="holds entries that are no tensors: epoch"):
        read_state_dict(str(tmp_path / "mixed.pt"))


def test_absent_files_and_folders(tmp_path):
    with pytest.raises(OccframeError, match=r"there are no weights at .*absent.pt"):
        read_state_dict(str(tmp_path / "absent.pt"))
    with pytest.raises(OccframeError, match=r"there are no weights at memory://absent.pt"):
        read_state_dict("memory://absent.pt")
    with pytest.raises(OccframeError, match="Is a directory"):
        read_state_dict(str(tmp_path))


# --- into a network ---------------------------------------------------------------------------------------------------


def test_a_network_gets_all_or_nothing(tmp_path):
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    wrong = {"0.weight": torch.ones(2, 4), "0.bias": torch.ones(2), "head.weight": torch.ones(1)}
    save_file(wrong, tmp_path / "other.safetensors")
    with pytest.raises(OccframeError) as error:
        load_weights(network, str(tmp_path / "other.safetensors"))
    assert "other.safetensors do not fit this Sequential" in error.value.message
    assert "4 missing: 1.weight, 1.bias, 1.running_mean, 1.running_var" in error.value.message
    assert "1 unknown to it: head.weight" in error.value.message
    assert "1 of another shape: 0.weight [2, 4] instead of [2, 3]" in error.value.message
    assert same(network.state_dict(), before)


def test_a_fitting_checkpoint_is_loaded_whatever_its_precision(tmp_path):
    network = nn.Linear(3, 2)
    save_file({"weight": torch.full((2, 3), 0.5).half(), "bias": torch.ones(2).half()}, tmp_path / "half.safetensors")
    load_weights(network, str(tmp_path / "half.safetensors"))
    assert torch.equal(network.weight, torch.full((2, 3), 0.5))
    assert network.weight.dtype == torch.float32


# --- by name ----------------------------------------------------------------------------------------------------------


def test_a_registry_name_that_is_unknown_or_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCFRAME_CACHE", str(tmp_path))
    with pytest.raises(OccframeError, match="the registry knows no weights `arcface`") as error:
        locate_weights("registry:arcface")
    assert "mobilefacenet_ms1m_128d" in error.value.remedy
    with pytest.raises(
        OccframeError, match=r"`mobilefacenet_casia_128d` are not on this machine .licence: none stated"
    ) as error:
        locate_weights("registry:mobilefacenet_casia_128d")
    assert "https://github.com/Xiaoccer/MobileFaceNet_Pytorch" in error.value.remedy
    assert str(tmp_path / "weights" / "mobilefacenet_casia_128d.safetensors") in error.value.remedy


def test_a_file_of_the_right_name_but_other_content_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCFRAME_CACHE", str(tmp_path))
    path = tmp_path / "weights" / "mobilefacenet_ms1m_128d.safetensors"
    path.parent.mkdir()
    save_file(STATE, path)
    with pytest.raises(OccframeError, match="is not the file the registry describes: its sha256 is"):
        read_state_dict("registry:mobilefacenet_ms1m_128d")


def test_a_path_stays_what_it_is():
    assert locate_weights("some/registry:name.pt") == "some/registry:name.pt"
