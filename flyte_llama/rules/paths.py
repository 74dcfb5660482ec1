"""The second layer: what a path says of its file. No bytes are looked at.

Rules are in order: the first that matches gives the reason. They follow github-linguist's generated.rb and vendor.yml
where those are right for repositories of Go, Python and TypeScript; not its rules that hit hand-written files there,
such as `.github/`, folders named `cache`, and `.d.ts`.
"""

from __future__ import annotations

import re

_DOCS_SUFFIX = r"(\.(md|rst|txt|adoc))?$"
# Reason → patterns for `/` and the path in lower case; patterns that begin with it are found fast.
_RULES = {
    "vendored": [
        r"/(vendor|node_modules|bower_components|third[-_]?party|_?vendored|_vendor|site-packages|godeps)/",
        # Kept in step with another repository by a script: https://github.com/flyteorg/boilerplate.
        r"/boilerplate/",
        r"/\.yarn/(releases|plugins|sdks|cache|versions)/",
        r"/\.?(gradlew|mvnw)(\.bat|\.cmd)?$|/gradle/wrapper/",
        r"/storybook-static/",
        r"/protos?/(google|protoc-gen-openapiv2|validate|buf|gogoproto)/",
        r"/(jquery|bootstrap|d3|lodash|require|modernizr|mermaid)([-.]\d[\d.]*)?(\.slim|\.bundle)?\.(js|css)$",
    ],
    "lock": [
        r"/(go\.sum|go\.work\.sum|gopkg\.lock|glide\.lock|package-lock\.json|npm-shrinkwrap\.json|"
        r"pnpm-lock\.ya?ml|yarn\.lock|bun\.lockb?|deno\.lock|cargo\.lock|poetry\.lock|uv\.lock|pdm\.lock|pipfile\.lock|"
        r"pixi\.lock|conda-lock\.ya?ml|composer\.lock|gemfile\.lock|chart\.lock|requirements\.lock|buf\.lock|"
        r"flake\.lock|mix\.lock|module\.bazel\.lock|\.terraform\.lock\.hcl|packages\.lock\.json|gradle\.lockfile)$",
        r"[/.-]lock\.(ya?ml|json|toml|txt)$",
    ],
    "generated": [
        # Protocol buffers, in every language that protoc or buf writes.
        r"\.pb(\.\w+)*\.(go|h|cc|rs|ts|js|dart|swift)$|_pb2?(_\w+)?\.(pyi?|js|ts)$|_(grpc|connect|service)_pb\.\w+$",
        r"_pb2_grpc\.pyi?$|_connect\.ts$|_grpc_pb\.\w+$|\.pb\.\w+\.go$",
        r"/gen(erated)?/(pb|proto|openapi|swagger|go|python|java|js|ts|es|cpp|rust|src|main)[^/]*/",
        # OpenAPI and GraphQL.
        r"\.swagger\.(json|ya?ml)$|/\.(swagger-codegen|openapi-generator)(/|-ignore$)",
        r"\.generated\.\w+$|/__generated__/|[-_]generated\.(go|ts|js|ya?ml|json|md|rst)$",
        # Go: enumer, easyjson, deepcopy-gen, go-bindata; others write a header.
        r"(_enumer|_easyjson)\.go$|/zz_generated\.[\w.]+\.go$|/bindata\.go$",
        r"\.min\.(js|css)$|-min\.(js|css)$|\.(js|css|ts)\.map$|\.bundle\.js$",
        r"/__snapshots__/",
        # As Grafana exports them.
        r"[-_/]dashboard\.json$|/dashboards/[^/]+\.json$",
        # Documentation written by a program into a folder named for it.
        r"/docs?/([\w./-]+/)?(gen|_?generated|_build|_autosummary)/.*\.(rst|md|html)$",
        r"/htmlcov/|/[\w-]*-baseline\.(txt|json|xml|ya?ml)$",
    ],
    "licence": [r"/(licen[cs]e|copying|notice|copyright|unlicense)(-[\w.-]+)?" + _DOCS_SUFFIX],
    "changelog": [
        r"/(changelog|changes|history|news|release[-_]?notes|contributors|authors)" + _DOCS_SUFFIX,
        r"/changelogs?/[^/]*\d[^/]*" + _DOCS_SUFFIX,
    ],
    "fixture": [
        r"/(testdata|test[-_]data|fixtures|__fixtures__|__mocks__|golden)/.*\.(ya?ml|json|toml|ini|cfg|txt|xml|csv|"
        r"html|sql|css|conf)$",
        r"\.golden$|\.snap$",
    ],
}
_COMPILED = {reason: re.compile("|".join(patterns)) for reason, patterns in _RULES.items()}


def name_reason(path: str) -> str | None:
    """`name` for a path that is not UTF-8, or holds characters that control a terminal or are not seen."""
    return None if path.isprintable() else "name"


def path_reason(path: str) -> str | None:
    """Why a file is left out for its path alone; None if it is not."""
    lowered = "/" + path.lower()
    return next((reason for reason, pattern in _COMPILED.items() if pattern.search(lowered)), None)
