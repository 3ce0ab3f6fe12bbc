"""Archives of models: what they hold, and that none which could do harm is unpacked."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import subprocess
import zipfile

import pytest
import torch

from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.inference.sharing import archive_checks
from nnmedseg.inference.sharing.archive import MANIFEST, write_archive
from nnmedseg.inference.sharing.install import install_model
from nnmedseg.inference.sharing.private_paths import without_private_paths

from .plain_model import plain_model

CHECKPOINT = "fold_0/checkpoint_final.pth"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = plain_model(tmp_path_factory.mktemp("trained"))
    fold = folder / "fold_0"
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=True)
    state = {"optimizer_state": {"state": torch.rand(1000, 100)}, "logging": {"losses": [0.1]}}
    torch.save({**checkpoint, **state}, fold / "checkpoint_final.pth")
    run = {"split_sha256": "ab", "command_line": ["nnmedseg_train", "/home/jane/x"]}
    write_json({**run, "encoder_weights": "/home/jane/best.pth"}, fold / "run.json")
    (fold / "validation").mkdir()
    case = {"prediction_file": "/home/jane/fold_0/a.png", "reference_file": r"C:\data\a.png"}
    write_json({"metric_per_case": [case]}, fold / "validation" / "summary.json")
    write_json({"steps": []}, folder / "postprocessing.json")
    return folder


@pytest.fixture(scope="module")
def archive(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "model.zip"
    write_archive(model, path)
    return path


def members(archive):
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def rebuilt(path, contents, *, add=(), method=zipfile.ZIP_STORED):
    """Write an archive whose manifest fits its contents; then add what it does not name."""
    manifest = json.loads(contents[MANIFEST])
    manifest["files"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
        if name != MANIFEST
    }
    with zipfile.ZipFile(path, "w", method) as opened:
        for name, content in {**contents, MANIFEST: json.dumps(manifest).encode()}.items():
            opened.writestr(name, content)
        for entry, content in add:
            opened.writestr(entry, content)
    return path


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def assert_refused(path, tmp_path, match, error=DataError):
    target = tmp_path / "installed" / "model"
    with pytest.raises(error, match=match):
        install_model(path, output=target)
    assert not target.parent.exists()


def test_an_installed_model_is_the_model(model, archive, tmp_path):
    installed = install_model(archive, results=tmp_path)
    assert installed.folder == tmp_path / "Dataset001_Plain" / "nnUNetTrainer__nnUNetPlans__2d"
    image = torch.rand(3, 1, 20, 30)
    expected, found = (
        MedSegPredictor.from_folder(each).predict_logits_from_preprocessed_data(image)
        for each in (model, installed.folder)
    )
    assert torch.equal(found, expected)
    assert (installed.folder / "postprocessing.json").is_file()


def test_the_optimisers_state_is_left_out(model, archive):
    content = torch.load(io.BytesIO(members(archive)[CHECKPOINT]), weights_only=True)
    assert "optimizer_state" not in content
    assert archive.stat().st_size < (model / CHECKPOINT).stat().st_size / 4


def test_folders_of_the_machine_are_left_out(archive):
    for content in members(archive).values():
        assert b"jane" not in content
    assert b'"encoder_weights": "best.pth"' in members(archive)["fold_0/run.json"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/jane/a b.png", "a b.png"),
        (r"D:\data\a.png", "a.png"),
        ("failed in /home/jane/x.npy: 1/2", "failed in x.npy: 1/2"),
        ("https://example.org/data/set.zip", "https://example.org/data/set.zip"),
        ("fold_0/a.png", "fold_0/a.png"),
    ],
)
def test_paths_are_shortened_and_nothing_else(text, expected):
    assert without_private_paths({"a": [text]}) == {"a": [expected]}


def test_an_archive_depends_on_the_model_alone(model, archive, tmp_path):
    write_archive(model, tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/etc/passwd", "absolute path"),
        ("../outside.json", "leads out"),
        ("fold_0/../../outside.json", "leads out"),
        ("C:evil.json", "colon"),
        ("fold_0\\evil.json", "backslash"),
        ("fold_1/", "a folder as an entry"),
        ("fold_0/nul.json", "a device"),
        ("fold_0/a\x1bb.json", "unusual characters"),
        ("fold_0//a.json", "unusual characters"),
        ("PLANS.json", "but for capital letters"),
        ("plans.json/a.json", "the name of a folder"),
    ],
)
def test_names_that_could_do_harm_are_refused(archive, tmp_path, name, message):
    path = rebuilt(tmp_path / "bad.zip", members(archive), add=[(name, b"{}")])
    assert_refused(path, tmp_path, message)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(archive, tmp_path):
    path = rebuilt(tmp_path / "bad.zip", members(archive), add=[("plans.json", b"{}")])
    assert_refused(path, tmp_path, "two files have this name")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(archive, tmp_path, kind):
    entry = zipfile.ZipInfo("link.json")
    entry.external_attr = (kind | 0o777) << 16
    path = rebuilt(tmp_path / "bad.zip", members(archive), add=[(entry, b"/etc/passwd")])
    assert_refused(path, tmp_path, "a link or a special file")


def directory_of(archive):
    """The bytes of an archive, and where the first two entries of its directory begin."""
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        first = opened.start_dir
    return content, first, content.index(b"PK\x01\x02", first + 1)


def test_an_encrypted_file_is_refused(archive, tmp_path):
    content, first, _ = directory_of(archive)
    content[first + 8] |= 1
    (tmp_path / "bad.zip").write_bytes(content)
    assert_refused(tmp_path / "bad.zip", tmp_path, "encrypted")


def test_an_unusual_compression_is_refused(archive, tmp_path):
    path = rebuilt(tmp_path / "bad.zip", members(archive), method=zipfile.ZIP_LZMA)
    assert_refused(path, tmp_path, "unusual compression")


def test_a_bomb_is_refused_by_its_ratio(archive, tmp_path):
    bomb = {**members(archive), "bomb.json": b" " * 10_000_000}
    path = rebuilt(tmp_path / "bad.zip", bomb, method=zipfile.ZIP_DEFLATED)
    assert_refused(path, tmp_path, "compressed too well")


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("LARGEST_FILE", "too large"),
        ("LARGEST_ARCHIVE", "more than"),
        ("MOST_FILES", "at most"),
        ("LARGEST_MANIFEST", "manifest is too large"),
    ],
)
def test_what_is_too_large_is_refused(archive, tmp_path, monkeypatch, limit, message):
    monkeypatch.setattr(archive_checks, limit, 3)
    assert_refused(archive, tmp_path, message)


def test_files_that_lie_over_one_another_are_refused(archive, tmp_path):
    content, first, second = directory_of(archive)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    (tmp_path / "bad.zip").write_bytes(content)
    assert_refused(tmp_path / "bad.zip", tmp_path, "over one another")


def test_a_file_that_the_manifest_does_not_name_is_refused(archive, tmp_path):
    path = rebuilt(tmp_path / "bad.zip", members(archive), add=[("more.json", b"{}")])
    assert_refused(path, tmp_path, "only the archive has the file")


def change_manifest(archive, path, change):
    contents = members(archive)
    manifest = json.loads(contents[MANIFEST])
    change(manifest)
    contents[MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in contents.items():
            opened.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m["files"].update({"more.json": {"bytes": 2, "sha256": "0" * 64}}),
            "only the manifest has the file",
        ),
        (lambda m: m["files"]["plans.json"].update(bytes=7), "another size"),
        (lambda m: m["files"]["plans.json"].update(sha256="0" * 64), "SHA-256"),
        (lambda m: m["files"]["plans.json"].update(bytes="7"), "manifest is damaged"),
        (lambda m: m["files"].update({"a.py": {"bytes": 2, "sha256": "0" * 64}}), "is damaged"),
        (lambda m: m.update(format=2), "of format 2"),
        (lambda m: m.update(name="../model__a__b"), "manifest is damaged"),
        (lambda m: m.update(dataset="../../Dataset001_A"), "manifest is damaged"),
        (lambda m: m.update(folds=[0, 1]), "manifest is damaged"),
        (lambda m: m.clear(), "manifest is damaged"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(archive, tmp_path, change, message):
    assert_refused(change_manifest(archive, tmp_path / "bad.zip", change), tmp_path, message)


def test_changed_bytes_are_noticed(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    place = content.index(b"Dataset001_Plain")
    content[place : place + 7] = b"dataset"
    (tmp_path / "bad.zip").write_bytes(content)
    assert_refused(tmp_path / "bad.zip", tmp_path, "a file is damaged")


def test_weights_that_hold_code_are_refused(archive, tmp_path):
    content = saved({"network_weights": {}, "code": subprocess.run})
    path = rebuilt(tmp_path / "bad.zip", {**members(archive), CHECKPOINT: content})
    assert_refused(path, tmp_path, "may be code")


def test_a_bomb_within_weights_is_refused(archive, tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as weights:
        weights.writestr("archive/data/0", b"\0" * 10_000_000)
    path = rebuilt(tmp_path / "bad.zip", {**members(archive), CHECKPOINT: inner.getvalue()})
    assert_refused(path, tmp_path, "weights are compressed")


def test_missing_frozen_weights_are_noticed(archive, tmp_path):
    content = saved({"network_weights": {"frozen_weights": {"file": "frozen_weights_00.pth"}}})
    path = rebuilt(tmp_path / "bad.zip", {**members(archive), CHECKPOINT: content})
    assert_refused(path, tmp_path, "does not hold the frozen weights", NotFoundError)


@pytest.mark.parametrize("place", ["network", "part"])
def test_plans_that_name_other_code_are_refused(archive, tmp_path, place):
    contents = members(archive)
    plans = json.loads(contents["plans.json"])
    architecture = plans["configurations"]["2d"]["architecture"]
    if place == "network":
        architecture["network_class_name"] = "subprocess.Popen"
    else:
        architecture["arch_kwargs"]["nonlin"] = "os.system"
    contents["plans.json"] = json.dumps(plans).encode()
    assert_refused(rebuilt(tmp_path / "bad.zip", contents), tmp_path, "name code that is neither")


def test_nnunets_archives_are_told_apart(archive, tmp_path):
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as opened:
        opened.writestr("Dataset001_A/nnUNetTrainer__nnUNetPlans__2d/plans.json", "{}")
    assert_refused(tmp_path / "theirs.zip", tmp_path, "nnUNetv2_install_pretrained_model_from_zip")


def test_any_other_file_is_a_users_mistake(tmp_path):
    (tmp_path / "notes.zip").write_bytes(b"no archive")
    assert_refused(tmp_path / "notes.zip", tmp_path, "no ZIP archive")
    assert_refused(tmp_path / "missing.zip", tmp_path, "no such archive", NotFoundError)


def test_a_model_is_replaced_on_request_only(archive, tmp_path):
    target = install_model(archive, output=tmp_path / "model").folder
    (target / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        install_model(archive, output=target)
    assert (target / "mine.txt").is_file()
    install_model(archive, output=target, force=True)
    assert not (target / "mine.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_something_else_is_never_replaced(archive, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="something else than a model"):
        install_model(archive, output=tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "mine.txt").is_file()


def test_frozen_weights_go_along_once(model, tmp_path):
    copy = tmp_path / "model"
    for fold in (0, 1):
        (copy / f"fold_{fold}").mkdir(parents=True)
        content = torch.load(model / CHECKPOINT, weights_only=True)
        content["network_weights"]["frozen_weights"] = {"file": "frozen_weights_ab.pth"}
        torch.save(content, copy / f"fold_{fold}" / "checkpoint_final.pth")
    for name in ("plans.json", "dataset.json"):
        write_json(read_json(model / name), copy / name)
    with pytest.raises(NotFoundError, match="frozen weights are missing"):
        write_archive(copy, tmp_path / "model.zip")
    torch.save({}, copy / "frozen_weights_ab.pth")
    files = write_archive(copy, tmp_path / "model.zip")["files"]
    assert "frozen_weights_ab.pth" in files
    assert not list(tmp_path.glob(".writing*"))
