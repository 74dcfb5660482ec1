"""What github-linguist's attributes in `.gitattributes`, and the path of a file, say of it.

git itself reads `.gitattributes` (`Tree.attributes`); `parse_attributes` interprets the values (linguist's
docs/overrides.md). A path counts only if hardly anyone would give it to a file that they write: folders named `gen`,
`dist` or `cache`, and `vendor` in the midst of an application, do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Attribute → the reason to drop a file that has it.
ATTRIBUTES = {"linguist-generated": "generated", "linguist-vendored": "vendored"}

_DOCS_SUFFIX = r"(\.(md|rst|txt|adoc))?$"
_LIBRARIES = (
    r"(jquery|bootstrap|d3|lodash|underscore|backbone|require|modernizr|mermaid|angular|react|react-dom|vue|three|moment|"
    r"knockout|ember|handlebars|mustache|prototype|mootools|dojo|raphael|highlight|codemirror|html5shiv|respond|leaflet|"
    r"chart|datatables|select2|foundation|normalize|font-?awesome|bulma|materialize|animate|semantic|fabric|zepto|p5)"
)
# Reason → patterns for the path in lower case with a leading `/`; patterns that begin with `/` are fast. The first
# match gives the reason.
_RULES = {
    "vendored": [
        r"/(node_modules|bower_components|jspm_packages|third[-_]?party|3rd[-_]?party|_?vendored|_vendor|site-packages|"
        r"godeps/_workspace|carthage/(build|checkouts))/",
        # Go, Composer, Bundler and web assets. An application may have a module for its vendors.
        r"^/vendor/|/(static|assets|public|js|css|wwwroot|deps)/vendors?/",
        r"/vendor/([\w-]+\.)+(com|edu|gov|in|me|net|org|fm|io|dev|cc|co|xyz|sh)/|/vendor/(bundle|cache|gems|composer|assets|modules\.txt$)",
        # A script copies these files from another repository: https://github.com/flyteorg/boilerplate.
        r"/boilerplate/(flyte|lyft|update\.(sh|cfg)$)",
        r"/\.yarn/(releases|plugins|sdks|cache|versions|unplugged)/|/flow-typed/npm/",
        r"/\.?(gradlew|mvnw|activator|rebar3?|waf)(\.bat|\.cmd)?$|/(gradle|\.mvn)/wrapper/",
        r"/(config\.(guess|sub)|install-sh|ltmain\.sh|aclocal\.m4|libtool\.m4|lt(options|sugar|version)\.m4|lt~obsolete\.m4|"
        r"depcomp|mkinstalldirs|py-compile|erlang\.mk|cpplint\.py|dotnet-install\.(ps1|sh)|ppport\.h)$",
        r"/storybook-static/|/codemirror/(lib|mode|theme|addon|keymap)/|/(ace-builds|tiny_mce|ckeditor)/",
        r"/google/(api|rpc|type|protobuf|longrunning|iam|logging|pubsub)/[\w/]*\.proto$|/googleapis/.*\.proto$",
        r"/protos?/(google|protoc-gen-openapiv2|validate|buf|gogoproto)/",
        rf"/{_LIBRARIES}[-.]v?\d[\d.]*([-.](slim|bundle|esm|umd|prod|production|custom))*\.(js|css)$",
    ],
    "lock": [
        r"/(go\.sum|go\.work\.sum|gopkg\.lock|glide\.lock|package-lock\.json|npm-shrinkwrap\.json|"
        r"pnpm-lock\.ya?ml|yarn\.lock|bun\.lockb?|deno\.lock|cargo\.lock|poetry\.lock|uv\.lock|pdm\.lock|pipfile\.lock|"
        r"pixi\.lock|conda-lock\.ya?ml|composer\.lock|gemfile\.lock|chart\.lock|requirements\.lock|buf\.lock|"
        r"flake\.lock|mix\.lock|rebar\.lock|module\.bazel\.lock|\.terraform\.lock\.hcl|packages\.lock\.json|gradle\.lockfile|"
        r"podfile\.lock|pubspec\.lock|package\.resolved|cartfile\.resolved|mise(\.[\w-]+)?\.lock|(\w+\.)?esy\.lock|"
        r"stack\.ya?ml\.lock|cabal\.project\.freeze|renv\.lock|packrat\.lock|conan\.lock|"
        r"cargo\.toml\.orig|\.pnp\.[\w.]+)$",
        r"[a-z0-9]\.lock\.(ya?ml|json|toml|txt)$|/(conda|environment|requirements|deps?|package)-lock\.(ya?ml|json|toml|txt)$",
    ],
    "generated": [
        # Protocol buffers and gRPC, in every language that protoc or buf writes.
        r"\.pb(\.\w+)*\.(go|h|cc|cpp|rs|ts|js|dart|swift|ex|rb|php|validate\.go|gw\.go)$|_pb2(_grpc)?\.pyi?$",
        r"_(pb|grpc_pb|pb_service|connect_pb|service_pb|pb_connect|grpc_web_pb|connectweb)(\.d)?\.(js|ts)$",
        r"_(services_)?pb\.rb$|_twirp\.(rb|py|go)$|\.twirp\.go$|outerclass\.java$|\.grpc\.(swift|pb\.cc|pb\.h)$",
        r"/gen(erated)?/(pb|proto|openapi|swagger)[^/]*/",
        # OpenAPI and GraphQL.
        r"\.swagger\.(json|ya?ml)$|/\.(swagger-codegen|openapi-generator)(/|-ignore$)",
        r"\.generated\.\w+$|/__generated__/|[-_]generated\.(go|ts|js|ya?ml|json|md|rst)$|\.gen\.(go|ts|tsx|js|rs)$",
        # Go: enumer, easyjson, deepcopy-gen, go-bindata. Other generators write a header.
        r"(_enumer|_easyjson)\.go$|/zz_generated\.[\w.]+$|/bindata\.go$|/wire_gen\.go$",
        # .NET, Dart, Qt, Android, Zephir, Haxe, Xcode, parser generators.
        r"\.(designer|g|g\.i|feature|assemblyinfo)\.(cs|vb)$|\.(g|freezed|gr|mocks|chopper)\.dart$",
        r"/(moc|qrc)_\w+\.(cpp|cc)$|/moc_predefs\.h$|/buildconfig\.java$|\.zep\.(c|h|php)$",
        r"\.(tab|yy)\.(c|h|cc|cpp|hh|hpp)$|/lex\.\w+\.c$|/parsetab\.py$|/lextab\.py$",
        r"/\.idea/(workspace|misc|modules|vcs|gradle|compiler|kotlinc|jarrepositories)\.xml$|\.(xcworkspace|xcodeproj)/",
        r"\.min\.(js|css|mjs|cjs)$|-min\.(js|css)$|\.(js|css|ts|mjs|cjs)\.map$|\.bundle\.(js|css)$|[-.]vsdoc\.js$",
        r"/__snapshots__/",
        # Dashboards exported from Grafana.
        r"[-_/]dashboard\.json$|/dashboards/[^/]+\.json$",
        # Documentation that a program wrote: Sphinx, Javadoc, Doxygen, and folders such as docs/gen.
        r"/docs?/([\w./-]+/)?(gen|_?generated|_build|_autosummary)/.*\.(rst|md|html)$|/_sources/.*\.(rst|md|ipynb|txt)$",
        r"/(apidocs?|javadocs?|doxygen|dokka|rustdoc|godoc)/.*\.(html|css)$|/(searchindex|search-index)\.js$",
        r"/_static/(documentation_options|doctools|language_data|searchtools|sphinx_highlight|pygments|basic|alabaster|underscore|jquery)[\w.-]*$",
        r"/pygments\.css$|/htmlcov/|/(lcov-report|coverage/lcov)/|/([\w-]+-)?(errors?|lint|detekt|ktlint|eslint|phpstan|psalm|spotbugs|secrets)-baseline\.(txt|json|xml|neon|ya?ml)$|"
        r"/\.secrets\.baseline$",
    ],
    "licence": [r"/(licen[cs]e|copying|notice|copyright|unlicense)(-[\w-]+(\.\d+)?)?" + _DOCS_SUFFIX],
    "changelog": [
        r"/(changelog|changes|history|news|release[-_]?notes|contributors|authors)" + _DOCS_SUFFIX,
        r"/changelogs?/[^/]*\d[^/]*\.(md|rst|txt|adoc)$",
    ],
    "fixture": [
        r"/(testdata|test[-_]data|fixtures|__fixtures__|__mocks__|golden|cassettes)/.*\.(ya?ml|json|toml|ini|cfg|txt|xml|csv|"
        r"html|sql|css|conf)$",
        r"\.golden$|\.snap$|\.ambr$|\.(approved|received|verified)\.\w+$",
    ],
}
# CocoaPods' folder; `pods` is that of Kubernetes and of Ember.
_PODS = re.compile(r"(^|/)Pods/")
_COMPILED = {reason: re.compile("|".join(patterns)) for reason, patterns in _RULES.items()}


def parse_attributes(values: Mapping[str, str]) -> dict[str, bool]:
    """Return reason → whether it applies; a reason that the attributes do not mention is absent.

    Args:
        values: Attribute → `set`, `unset`, or the text it is set to.
    """
    return {
        reason: values[attribute] not in ("unset", "false")
        for attribute, reason in ATTRIBUTES.items()
        if attribute in values
    }


def name_reason(path: str) -> str | None:
    """Return `name` for a path that is not UTF-8 or has control or invisible characters, else None."""
    return None if path.isprintable() else "name"


def path_reason(path: str) -> str | None:
    """Return the reason to drop a file for its path alone, or None."""
    lowered = "/" + path.lower()
    if _PODS.search(path):
        return "vendored"
    return next((reason for reason, pattern in _COMPILED.items() if pattern.search(lowered)), None)
