"""Paths and attributes: the files that they drop, and hand-written ones that pass."""

from __future__ import annotations

import pytest

from flyte_llama.documents.generated import name_reason, parse_attributes, path_reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("vendor/a/b.go", "vendored"),
        ("web/node_modules/x/index.js", "vendored"),
        ("boilerplate/flyte/update.sh", "vendored"),
        (".yarn/releases/yarn-3.2.1.cjs", "vendored"),
        ("go.sum", "lock"),
        ("a/uv.lock", "lock"),
        ("monodocs-environment.lock.yaml", "lock"),
        ("gen/pb-go/a.go", "generated"),
        ("a/b.pb.gw.go", "generated"),
        ("a/core_pb2_grpc.pyi", "generated"),
        ("a/kind_enumer.go", "generated"),
        ("deployment/flyte_helm_generated.yaml", "generated"),
        ("docs/source/gen/flytectl_get.rst", "generated"),
        ("service.swagger.json", "generated"),
        ("static/app.min.css", "generated"),
        ("LICENSE-MIT.txt", "licence"),
        ("a/NOTICE", "licence"),
        ("CHANGELOG/CHANGELOG-v0.1.0.md", "changelog"),
        ("HISTORY.rst", "changelog"),
        ("pkg/testdata/a.yaml", "fixture"),
        ("cmd/x.golden", "fixture"),
        ("sub/vendor/github.com/x/y.go", "vendored"),
        ("web/static/vendor/a.js", "vendored"),
        ("jquery-3.6.0.slim.js", "vendored"),
        ("ios/Pods/A/a.m", "vendored"),
        ("protos/google/api/http.proto", "vendored"),
        ("build-aux/config.guess", "vendored"),
        (".terraform.lock.hcl", "lock"),
        ("Package.resolved", "lock"),
        ("lib/x_pb.d.ts", "generated"),
        ("lib/x_services_pb.rb", "generated"),
        ("Form1.Designer.cs", "generated"),
        ("lib/model.g.dart", "generated"),
        ("javadoc/index.html", "generated"),
        ("docs/_sources/index.rst.txt", "generated"),
        ("tests/__snapshots__/a.json", "generated"),
        ("tests/cassettes/a.yaml", "fixture"),
        ("approvals/a.approved.txt", "fixture"),
    ],
)
def test_paths_that_show_their_content(path: str, reason: str):
    assert path_reason(path) == reason


@pytest.mark.parametrize(
    "path",
    [
        "src/history.ts",
        "pkg/changes.go",
        "license.go",
        "a/notice.py",
        "cache/cache.go",
        ".github/workflows/a.yml",
        "gen/main.go",
        "pkg/generate.go",
        "generated_names.go",
        "locks/lock.go",
        "vendors.py",
        "testdata/build.py",
        "genes/pb.py",
        "query_string.go",
        "tests/test_generated.py",
        "pkg/coverage/report.go",
        "tools/convert_pb_to_tflite.py",
        "resources/js/bootstrap.js",
        "src/react.js",
        "apps/vendor/views.py",
        "internal/vendor/model.go",
        "gen/python/generator.py",
        "io/read/changelog/Changelog4Test.java",
        "build/sbt",
        "app/pods/posts/route.js",
        "src/db_connect.js",
        "tools/license-checker.py",
        "components/notice-banner.tsx",
        "vendors/models.py",
        "src/main/resources/vendor/rules.py",
        "packages/jsdoc/lib/util/helper.js",
        "lib/app.config.dart",
        "k8s/pod-security-baseline.yaml",
        "k8s/redis-lock.yaml",
        ".github/lock.yml",
        "src/boilerplate/header.go",
    ],
)
def test_paths_that_people_write_pass(path: str):
    assert path_reason(path) is None


@pytest.mark.parametrize("path", ["a\nb.py", "a\x1b[31m.py", "a\udcff.py", "a\x9b.py", "a\u202eyp.exe"])
def test_names_that_would_not_survive_a_log_are_left_out(path: str):
    assert name_reason(path) == "name"
    assert name_reason("a/ü ñ 世.py") is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"linguist-generated": "set"}, {"generated": True}),
        ({"linguist-generated": "true", "linguist-vendored": "unset"}, {"generated": True, "vendored": False}),
        ({"linguist-vendored": "false"}, {"vendored": False}),
        ({"linguist-documentation": "set"}, {}),
    ],
)
def test_attributes_of_linguist_apply_deny_or_are_absent(values: dict[str, str], expected: dict[str, bool]):
    assert parse_attributes(values) == expected
