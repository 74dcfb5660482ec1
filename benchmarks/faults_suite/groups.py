"""The acceptance list: 48 case groups, each shown by cases of this suite or by tests that run with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from faults_suite.case import Result
from faults_suite.page import GroupRow
from faults_suite.place import ROOT

_TREES = "tests/sources/test_hostile_trees.py"
_COMMANDS = "tests/sources/test_hostile_commands.py"
_SIZES = "tests/sources/test_hostile_sizes.py"
_FAILURES = "tests/sources/test_failures.py"
_CREDENTIALS = "tests/sources/test_credentials.py"
_FAULTS = "tests/training/test_faults.py"
_CHECKPOINTS = "tests/training/test_checkpoints.py"
_RUN_STATE = "tests/training/test_run_state.py"
_ATTEMPTS = "tests/tasks/test_attempts.py"
_READ = "tests/documents/test_read.py"
_PACKING = "tests/encoding/test_packing.py"

# Number → name, and the tests that show it beside the cases of the suite: file → names without `test_`.
GROUPS: dict[int, tuple[str, dict[str, list[str]]]] = {
    1: (
        "symlink escapes",
        {
            _TREES: [
                "a_symlink_is_its_target_in_bytes_and_is_left_out",
                "a_symlinked_folder_does_not_take_in_the_files_under_its_name",
            ]
        },
    ),
    2: (
        "ext, fd and file transports",
        {_COMMANDS: ["a_url_that_would_run_something_runs_nothing", "an_instead_of_cannot_lead_to_a_command"]},
    ),
    3: (
        "leading dash in URL, ref, destination",
        {_COMMANDS: ["a_ref_that_is_an_option_or_a_refspec_is_never_fetched_as_one"]},
    ),
    4: (
        "submodules",
        {
            _TREES: [
                "a_submodule_is_listed_and_never_fetched",
                "a_submodule_that_would_run_a_command_is_refused_at_the_fetch",
            ]
        },
    ),
    5: (
        "hooks, fsmonitor, packObjectsHook",
        {
            _COMMANDS: [
                "hooks_and_commands_of_a_repositorys_configuration_never_run",
                "hooks_of_the_users_template_do_not_reach_the_fetched_repository",
            ]
        },
    ),
    6: ("gitattributes that rewrite", {_TREES: ["attributes_rewrite_nothing"]}),
    7: ("LFS pointer", {_TREES: ["a_pointer_of_lfs_is_bytes_for_the_tree_and_left_out_of_the_documents"]}),
    8: ("names like .git", {_TREES: ["a_name_that_would_reach_into_the_repository_is_refused_by_its_kind"]}),
    9: ("1 GiB blob in little memory", {_SIZES: ["a_blob_of_one_gib_is_left_out_in_little_memory"]}),
    10: (
        "tree bomb within seconds",
        {
            _SIZES: [
                "ten_billion_files_in_a_few_kilobytes_are_an_error_within_seconds",
                "ten_billion_empty_folders_are_an_error_within_seconds",
            ]
        },
    ),
    11: (
        "deep, long and odd names",
        {_TREES: ["names_of_any_bytes_come_back_and_are_counted", "a_file_under_a_thousand_folders_is_read"]},
    ),
    12: (
        "encodings counted exactly",
        {
            _TREES: ["every_encoding_comes_back_as_its_bytes_and_is_counted_once"],
            _READ: ["kept_and_skipped_add_up_to_the_entries_in_files_and_bytes"],
        },
    ),
    13: (
        "empty, unborn, empty-tree repositories",
        {
            _FAILURES: [
                "a_tree_without_entries_is_read_as_no_files",
                "a_repository_without_a_commit_and_a_head_without_a_branch_are_named",
            ]
        },
    ),
    14: (
        "missing or corrupt object, truncated batch",
        {
            _FAILURES: [
                "a_remote_with_a_damaged_object_is_an_error_that_no_retry_fixes",
                "a_batch_that_ends_early_is_an_error_and_never_a_shorter_file",
                "a_listing_that_ends_early_is_an_error_and_never_fewer_files",
            ]
        },
    ),
    15: (
        "hanging server",
        {_FAILURES: ["a_silent_server_times_out_and_leaves_no_child", "a_server_that_falls_silent_halfway_times_out"]},
    ),
    16: (
        "canary credential",
        {
            _CREDENTIALS: [
                "the_token_opens_a_private_repository_and_appears_nowhere",
                "a_users_credential_works_without_a_token_and_appears_nowhere",
            ]
        },
    ),
    17: ("SIGKILL in a step", {}),
    18: (
        "kill in each phase of a save",
        {_CHECKPOINTS: ["a_process_killed_at_any_moment_of_sealing_leaves_the_last_whole_checkpoint"]},
    ),
    19: ("each checkpoint file removed", {}),
    20: ("each checkpoint file cut", {}),
    21: ("a bit of each checkpoint file flipped", {}),
    22: ("empty checkpoint of a high number", {}),
    23: ("all checkpoints bad", {}),
    24: ("full disk", {_CHECKPOINTS: ["room_is_checked_by_the_size_of_the_last_checkpoint"]}),
    25: ("SIGTERM", {_ATTEMPTS: []}),
    26: ("SIGTERM to one of two processes", {_FAULTS: ["a_fault_in_one_of_two_processes_ends_both_and_loses_nothing"]}),
    27: ("SIGKILL of one of two processes", {_FAULTS: ["a_fault_in_one_of_two_processes_ends_both_and_loses_nothing"]}),
    28: (
        "ZeRO-2 started again; other world size",
        {_FAULTS: ["an_interrupted_run_comes_out_the_same_whatever_the_zero_stage"]},
    ),
    29: ("NaN loss", {_FAULTS: ["a_run_that_is_killed_damaged_and_stopped_comes_out_the_same"]}),
    30: ("truncated or flipped shard", {}),
    31: (
        "changed data, configuration or accumulation",
        {
            _RUN_STATE: [
                "settings_that_change_the_result_change_the_fingerprint",
                "other_rows_another_model_and_other_processes_change_the_fingerprint",
            ]
        },
    ),
    32: ("Flyte attempts; dangling local cache", {_ATTEMPTS: []}),
    33: ("typo in a key", {}),
    34: ("wrong type", {}),
    35: ("malformed file", {}),
    36: ("negative, zero, NaN", {}),
    37: ("rows over the positions", {}),
    38: ("unknown model, missing folder", {}),
    39: ("pickled model, auto_map", {}),
    40: ("no file left", {}),
    41: ("too few rows; all labels masked", {_PACKING: ["rows_without_any_learned_token_are_an_error"]}),
    42: ("same repository on both sides", {}),
    43: ("unreachable URL", {}),
    44: ("missing, abbreviated or blob revision", {_FAILURES: ["an_id_of_a_blob_a_tree_or_a_tag_is_not_a_commit"]}),
    45: ("unwritable or foreign output", {}),
    46: ("CUDA or bf16 absent", {}),
    47: ("missing token", {}),
    48: ("secret in a configuration", {}),
}


def run_tests() -> dict[str, list[bool]]:
    """Run every test of the list, and return for each whether its cases passed."""
    wanted = sorted({test for _, tests in GROUPS.values() for test in _nodes(tests)})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-p", "no:cacheprovider", "-n", str(os.cpu_count() or 1), f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *options, *wanted]
        subprocess.run(command, cwd=ROOT, capture_output=True)  # noqa: S603  # fixed arguments
        cases = ElementTree.parse(report).iter("testcase")  # noqa: S314  # written by pytest
        ran = [(_node(case), _has_passed(case)) for case in cases]
    return {
        test: [passed for node, passed in ran if node == test or node.startswith((f"{test}::", f"{test}["))]
        for test in wanted
    }


def group_rows(results: Sequence[Result], tests: dict[str, list[bool]]) -> list[GroupRow]:
    """One row for each group: shown only if it has a case or a test, and all of them went as expected."""
    rows = []
    for number, (name, files) in GROUPS.items():
        names = _nodes(files)
        cases = [result.seen.is_expected for result in results if result.ran and number in result.case.groups]
        passed = [passed for test in names for passed in tests.get(test, [])]
        unfound = [test for test in names if not tests.get(test)]
        parts = [f"{sum(cases)} of {len(cases)} cases"] if cases else []
        parts += [f"{sum(passed)} of {len(passed)} tests ({', '.join(map(_short, names))})"] if names else []
        rows.append(GroupRow(number, name, "; ".join(parts), all([*cases, *passed]) and bool(parts) and not unfound))
    return rows


def _nodes(files: Mapping[str, Sequence[str]]) -> list[str]:
    """The tests as pytest takes them; a file without names stands for all its tests."""
    return [node for file, names in files.items() for node in [f"{file}::test_{name}" for name in names] or [file]]


def _node(case: ElementTree.Element) -> str:
    """The id of a test as pytest takes it; the report has the dotted name of its module."""
    return f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}"


def _has_passed(case: ElementTree.Element) -> bool:
    return not any(case.find(result) is not None for result in ("failure", "error", "skipped"))


def _short(test: str) -> str:
    return test.rpartition("::")[2].removeprefix("test_").replace("_", " ")
