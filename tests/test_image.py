"""What the image and the wheel hold, who may change the image's code, and what `make audit` says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from itertools import chain, pairwise
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

ROOT = Path(__file__).parents[1]
CODE = {
    "configs/local.yaml",
    "flyte_llama/__init__.py",
    "flyte_llama/report/templates/page.html.j2",
}
NOT_CODE = {
    ".env",
    ".git/config",
    ".venv/bin/python",
    "configs/.netrc",
    "flyte_llama/.env",
    "flyte_llama/.idea/workspace.xml",
    "flyte_llama/__pycache__/cli.cpython-311.pyc",
    "output/report.json",
    "tests/test_image.py",
}


def make_tree(folder: Path, names: set[str]) -> None:
    """Write the files with these names; `__init__.py` gets a version."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('__version__ = "1.0"\n' if name.endswith("__init__.py") else "text\n")


def test_docker_sends_the_code_and_no_hidden_file_no_test_and_no_output(tmp_path: Path):
    make_tree(tmp_path, CODE | NOT_CODE | {"image/flyte-llama", "requirements.txt"})
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    sent = {name for name in exclude_paths(str(tmp_path), patterns) if (tmp_path / name).is_file()}
    assert sent == CODE | {"image/flyte-llama", "requirements.txt"}


def test_the_wheel_has_the_code_and_no_hidden_file_no_test_and_no_output(tmp_path: Path):
    make_tree(tmp_path, CODE | NOT_CODE)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "built"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "built").glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {re.sub("^configs/", "flyte_llama/configs/", name) for name in CODE}


def test_the_code_of_the_image_belongs_to_root_and_its_user_is_another():
    last_stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    copies = re.findall(r"^COPY .*", last_stage, re.MULTILINE)
    assert {line.split()[-1].split("/")[1] for line in copies} == {"opt"}
    assert not any("--chown" in line or "--chmod" in line for line in copies)
    assert re.findall(r"chown \S+ (\S+)", last_stage) == ["/root"]
    assert re.findall(r"^USER (.*)", last_stage, re.MULTILINE) == ["1000"]


def test_the_image_has_git_and_ssh():
    last_stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    assert re.findall(r"command -v (\w+) .*? echo ([\w -]+)\)", last_stage) == [
        ("python3", "python3"),
        ("git", "git ca-certificates"),
        ("ssh", "openssh-client"),
    ]


def show_build(*words: str) -> list[str]:
    """The command by which `make` builds an image, in words."""
    command = ["make", "--dry-run", "--no-print-directory", *words, "REGISTRY=r", "COMMIT=abc"]
    return shlex.split(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_the_image_without_cuda_has_the_pins_and_the_system_of_the_other_and_torchs_cpu_build():
    words = show_build("image-cpu", "IMAGE_CPU=", "TORCH_INDEX=torch-index")
    given = dict(word.split("=", 1) for option, word in pairwise(words) if option == "--build-arg")
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    default = dict(re.findall(r'^ARG (\w+)="?(.*?)"?$', dockerfile, re.MULTILINE))
    system = given["BUILD_IMAGE"]
    assert default["BUILD_IMAGE"].endswith(f"-devel-{system.replace(':', '')}")
    assert default["RUNTIME_IMAGE"].endswith(f"-runtime-{system.replace(':', '')}")
    assert given == {
        "BUILD_IMAGE": system,
        "RUNTIME_IMAGE": system,
        "REQUIREMENTS": default["REQUIREMENTS"].split()[0],
        "TORCH_INDEX": "torch-index",
        "DEEPSPEED_OPS": "",
        "TRITON_COMPILER": "",
        "REPORTERS": "",
        "tag": "r/flyte-llama:abc-cpu",
    }
    assert given.keys() <= default.keys() | {"tag"}
    assert words[-3:] == ["--tag", "r/flyte-llama:abc-cpu", "."]


@pytest.mark.parametrize("target", ["image", "image-cpu"])
def test_the_image_gets_the_trackers_that_are_named(target: str):
    words = show_build(target, "REPORTERS=wandb tensorboard")
    assert words[words.index("REPORTERS=wandb tensorboard") - 1] == "--build-arg"


def test_every_tracker_is_pinned_together_with_the_packages_of_the_image():
    pins = {name: read_pins(f"requirements{name}.txt") for name in ("", "-reporters")}
    assert {"wandb", "mlflow-skinny", "tensorboard"} <= pins["-reporters"].keys()
    both = pins[""].keys() & pins["-reporters"].keys()
    assert {name: pins["-reporters"][name] for name in both} == {name: pins[""][name] for name in both}


def read_pins(name: str) -> dict[str, str]:
    """Package → its version, without the condition that it is for."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.partition(" ;")[0].split("==") for line in lines)


def test_code_that_is_sent_without_a_new_image_goes_over_a_copy_of_the_images_code(tmp_path: Path):
    # the image's folder, with two modules, and the script with the paths of this test
    image, work, changed = tmp_path / "image", tmp_path / "work", tmp_path / "changed/flyte_llama"
    make_tree(image, CODE | {"flyte_llama/old.py"})
    (image / "flyte_llama/old.py").write_text("text = 'of the image'")
    script = (ROOT / "image/pyflyte-fast-execute").read_text(encoding="utf-8")
    script = script.replace("/opt/flyte-llama", str(image)).replace("/opt/venv/bin", str(Path(sys.executable).parent))

    # a distribution with one changed module
    changed.mkdir(parents=True)
    (changed / "new.py").write_text("from flyte_llama.old import text\nprint(text, 'and changed')")
    with tarfile.open(tmp_path / "fast.tar.gz", "w:gz") as tar:
        tar.add(changed, "flyte_llama")

    work.mkdir()
    task = [sys.executable, "-c", "import flyte_llama.new"]
    arguments = ["--additional-distribution", str(tmp_path / "fast.tar.gz"), "--dest-dir", ".", "--", *task]
    done = subprocess.run(["sh", "-c", script, "sh", *arguments], cwd=work, capture_output=True, text=True)
    assert done.stdout.endswith("of the image and changed\n"), done.stderr
    assert not (image / "flyte_llama/new.py").exists()


@pytest.mark.parametrize(
    ("pip_audit", "shown", "error"),
    [
        ("exit 0", "No known vulnerability in", ""),
        ('echo "torch 1.0 PYSEC-1" > "$output"; exit 1', "torch 1.0 PYSEC-1", "Error 1"),
        ("echo 'torch: not found' >&2; exit 1", "", "torch: not found\nNot audited"),
    ],
    ids=["clean", "vulnerable", "no answer"],
)
def test_an_audit_without_an_answer_is_not_a_clean_one(tmp_path: Path, pip_audit: str, shown: str, error: str):
    # pip-audit itself would ask the network, so a script ends as it does in each case
    program = tmp_path / "bin/pip-audit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nfor word; do output="$word"; done\n{pip_audit}\n')
    program.chmod(0o755)
    (tmp_path / ".installed").touch()
    done = subprocess.run(["make", "audit", f"AUDIT={tmp_path}"], cwd=ROOT, capture_output=True, text=True)
    assert shown in done.stdout
    assert error in done.stderr
    assert done.returncode == (2 if error else 0)


def test_an_audit_asks_for_every_pin_and_for_two_versions_of_a_package_separately(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pip-audit").symlink_to(shutil.which("true") or "")
    (tmp_path / ".installed").touch()
    subprocess.run(["make", "audit", f"AUDIT={tmp_path}"], cwd=ROOT, check=True, capture_output=True)
    asked = [file.read_text().split() for file in sorted(tmp_path.glob("pins-*.txt"))]
    lines = [line for file in ROOT.glob("requirements*.txt") for line in file.read_text(encoding="utf-8").splitlines()]
    assert sorted(chain.from_iterable(asked)) == sorted({line.split(";")[0].strip() for line in lines})
    for pins in asked:
        names = [pin.split("==")[0] for pin in pins]
        assert len(names) == len(set(names))
