"""The rules of the house that can be checked by a program."""

from __future__ import annotations

import ast
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path

import pytest

from breyta_spool.barrier import Barrier

ROOT = Path(__file__).parent.parent
MUTATORS = {
    "mkdir", "makedirs", "rename", "renames", "replace", "unlink", "remove", "rmdir", "removedirs", "symlink", "link",
    "utime", "truncate", "ftruncate", "chmod", "chown", "write", "mknod", "rmtree", "copy", "copyfile", "move",
}  # fmt: skip


def test_only_files_py_changes_the_disk() -> None:
    found = []
    for path in sorted((ROOT / "breyta_spool").rglob("*.py")):
        if path.name == "files.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                if function.value.id in ("os", "shutil") and function.attr in MUTATORS:
                    found.append(f"{path.name}:{node.lineno} {function.value.id}.{function.attr}")
            elif isinstance(function, ast.Name) and function.id == "open" and len(node.args) > 1:
                mode = node.args[1]
                if not (isinstance(mode, ast.Constant) and mode.value == "rb"):
                    found.append(f"{path.name}:{node.lineno} open")
    assert found == []


def test_the_wheel_holds_two_packages_and_nothing_else_at_its_top(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"breyta_spool", "breyta_cli"}
    assert {"breyta_spool/py.typed", "breyta_cli/py.typed"} <= set(names)


@pytest.mark.parametrize("module", ["breyta_cli.worker_helpers", "breyta_cli.worker_attach", "breyta_cli.program"])
def test_what_runs_inside_handlers_imports_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*(m for m in ('pydantic', 'watchdog', 'filelock', 'duckdb', 'git') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_module_says_why_it_exists_in_its_first_line() -> None:
    for path in [*(ROOT / "breyta_spool").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]:
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, path
        assert len(docstring.splitlines()[0]) > 20, path


def test_the_version_stands_in_one_place_and_in_the_changelog() -> None:
    import breyta_spool

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert breyta_spool.__version__ == version
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_one_sync_serves_all_who_wait_for_it_and_none_who_came_after_it_began(tmp_path: Path) -> None:
    barrier = Barrier(str(tmp_path))
    barrier(list)
    running, let_go, syncs = threading.Event(), threading.Event(), []

    def slow(fd: int) -> None:
        syncs.append(1)
        running.set()
        assert let_go.wait(20)

    barrier._call = slow
    threads = [threading.Thread(target=barrier, args=(list,)) for _ in range(8)]
    threads[0].start()
    assert running.wait(20)
    for thread in threads[1:]:
        thread.start()
    let_go.set()
    for thread in threads:
        thread.join(20)
    assert 2 <= len(syncs) <= 3


def test_a_failed_sync_is_told_to_everyone_it_was_for(tmp_path: Path) -> None:
    barrier = Barrier(str(tmp_path))
    barrier(list)

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    barrier._call = broken
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            barrier(list)
    barrier._call = lambda fd: None
    with pytest.raises(OSError, match="may be lost"):
        barrier(list)  # a later success says nothing about what is gone
    Barrier(str(tmp_path))(list)


def test_without_syncfs_every_named_file_is_synced(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    asked = []
    barrier = Barrier(str(tmp_path), use_syncfs=False)

    def written() -> list[str]:
        asked.append(1)
        return [str(tmp_path / "a"), str(tmp_path), str(tmp_path / "gone")]

    barrier(written)
    assert asked == [1]
    with pytest.raises(OSError, match="/proc/version|Invalid argument"):
        Barrier(str(tmp_path), use_syncfs=False)(lambda: ["/proc/version"])  # a file that can be opened, and not synced
    with pytest.raises(OSError, match="link"):
        Barrier(str(tmp_path), use_syncfs=False)(lambda: [str(tmp_path / "link")])


def readme_blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text() + (ROOT / "docs/handlers.md").read_text()
    return [block.partition("```")[0] for block in text.split(f"```{language}\n")[1:]]


def test_the_handlers_in_the_documents_run(tmp_path: Path) -> None:
    from breyta_spool import Spool
    from tests.world import Cli

    spool = Spool.init(tmp_path / "spool", workspace="ws-acme", durability="none")
    cli = Cli(spool.root, tmp_path)
    (bash,) = [block for block in readme_blocks("bash") if block.startswith("#!")]
    (python,) = [block for block in readme_blocks("python") if block.startswith("def ")]
    (tmp_path / "review.sh").write_text(bash)
    (tmp_path / "review.sh").chmod(0o755)
    (tmp_path / "mine.py").write_text(python)
    for handler in ("./review.sh", "py:mine:review"):
        spool.submit("agent-review", {"surface": "flows-api"})
        done = cli("jobs", "worker", "run", "--type", "agent-review", "--once", "--handler", handler).data["lastJob"]
        assert done["status"] == "succeeded", done
        assert done["outputs"]["findings"] in (0, 2)
        assert len(done["artifacts"]) == 1


def test_the_library_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from breyta_spool import Spool
    from tests.world import until, work_off

    monkeypatch.chdir(tmp_path)
    Spool.init("spool", durability="none")
    (block,) = [block for block in readme_blocks("python") if "Spool.open" in block]
    author = subprocess.Popen([sys.executable, "-c", block], stdout=subprocess.PIPE, text=True)
    spool = Spool.open("spool")
    until(lambda: spool.list())
    work_off(spool, lambda job: {"outputs": {"findings": 1}}, "agent-review")
    assert author.communicate(timeout=30)[0] == "{'findings': 1}\n"


def test_every_link_in_the_documents_leads_somewhere() -> None:
    import re

    for path in [ROOT / "README.md", ROOT / "spool/FORMAT.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_exit_codes_in_the_documents_are_those_of_the_errors() -> None:
    import re

    from breyta_spool import errors

    documented = {}
    for row in re.findall(r"^\| (\d+) \|.*\| (.*) \|$", (ROOT / "docs/cli.md").read_text(), re.MULTILINE):
        documented |= {code: int(row[0]) for code in re.findall(r"`(\w+)`", row[1])}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SpoolError)]
    assert documented == {kind.code: kind.exit_code for kind in kinds if kind is not errors.SpoolError}
