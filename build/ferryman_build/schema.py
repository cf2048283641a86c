"""JSON Schemas (2020-12) of what Ferryman reads and writes, made from the types themselves.

:data:`DESCRIPTIONS` repeats for editors what the comments in settings.py say, since comments cannot be reached at run
time; a test holds that each field has a row and each row a field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ferryman_build.artifacts import Manifest
from ferryman_build.project import ADDED
from ferryman_build.settings import Settings, TargetSettings, WorkspaceSettings
from ferryman_build.targets import all_targets

if TYPE_CHECKING:
    from collections.abc import Mapping

DIALECT = "https://json-schema.org/draft/2020-12/schema"

DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "Settings": {
        "entry-point": 'What is started, as "package.module:function". Default: what the script says.',
        "script": "A key of [project.scripts]. Default: the only one, or the one named like the project.",
        "name": "File name of the executable, without a suffix. Default: the script's name.",
        "targets": "Built when --target is not given: ids, aliases, host, or all alone.",
        "kinds": "The forms that are shipped; archive and executable wrap the same tree, pyz needs a Python.",
        "collector": "How the tree is made.",
        "bundle": "What starts the tree and turns it into one file: Ferryman's launcher, or PyInstaller's bootloader.",
        "python": 'The Python that goes into the tree: "3.12" or an absolute path. Default: the one that runs Ferryman.',
        "runner": "Through what artifacts are tried, and PyInstaller's analysis is run for another machine.",
        "runtime": "The interpreter of a standalone tree: a folder, an archive or its URL. Default: a row of runtimes.",
        "runtimes": "A folder or URL with a runtimes.toml: a mirror or runtimes of one's own. Default: Ferryman's.",
        "keep-parts": "Parts of a runtime that are kept although resources/runtime_parts.toml would leave them out.",
        "floor": 'What the oldest machine has, such as "glibc 2.31". Default: what the target\'s row promises.',
        "wheels": "A folder with wheels of the project itself. Default: they are built here, with zig for other targets.",
        "compiler": "What compiles an extension of the project: zig for every target alike, or this machine's compiler.",
        "allow": 'Findings of the compat gate that are accepted, as "code:path"; both may have *.',
        "optimize": "As python -O: 1 drops asserts, 2 drops docstrings as well.",
        "strip": "Drop symbol tables and debug sections from native libraries.",
        "compress-level": "The gzip or zip level of archives, from 1 (fast) to 9 (small).",
        "payload-level": "The zstd level of the one file, from 1 (fast) to 22 (small, and slow to build).",
        "cache-days": "The one file prunes unpacked trees that nobody used for so many days. 0: never.",
        "interpreter": "Whether FERRYMAN_INTERPRETER=1 makes the program a plain Python over its own modules.",
        "sbom-option": "The argument that, alone, prints what the program consists of. Empty: the program gets every argument.",
        "data": "Files to put into the tree beside the code.",
        "hidden-imports": "Modules that are imported only by name at run time.",
        "collect-submodules": "Packages of which every module is collected.",
        "collect-data": "Dependencies whose package data is collected although no hook says so.",
        "exclude-modules": "Modules that are never collected, with everything below them.",
        "keep-modules": "Modules that are collected although Ferryman would leave them out.",
        "plugins": "Entry-point groups whose every module is collected.",
        "metadata": "Further distributions whose metadata is collected.",
        "lock": "A requirements file with hashes; `ferryman lock` writes one. Default: resolved when dependencies change.",
        "service-name": "What a service manager calls the program. Default: name.",
        "smoke": "How to see that an artifact runs.",
        "release": "Where releases go, and who signs them.",
        "target": "Overrides for single targets, by id or alias.",
    },
    "Data": {
        "source": "A glob relative to pyproject.toml; it has to match a file.",
        "into": "A folder of the tree, relative to its top.",
    },
    "SmokeSettings": {
        "commands": "Arguments of runs that must each exit 0.",
        "service": "A run that is started, waited for, read and stopped.",
        "timeout": "Seconds for each command.",
    },
    "Service": {
        "args": "Arguments of the run; {port}, {project} and {tmp} are replaced.",
        "ready": "URL that must answer 200 before the timeout. Empty: the program has to stay up for a second.",
        "get": "Further URLs that must answer 200 once it is ready.",
        "expect": "Words that must each occur in the joined answers of get.",
        "exit-codes": "Codes that are allowed after SIGTERM; a negative one is a signal.",
        "timeout": "Seconds for the start, and again for the stop.",
    },
    "ReleaseSettings": {
        "url": "s3://bucket/prefix or file:///folder. Default: out/repository beside pyproject.toml.",
        "public-url": "Where everyone reads what is published. Default: what url and endpoint make.",
        "endpoint": "The address of a store that is not AWS.",
        "region": "The region of the bucket.",
        "path-style": "Whether the bucket is in the path instead of the host name; always so with endpoint.",
        "compat": "How checksums travel: auto as the probe finds, strict as boto3 does it, relaxed for older servers.",
        "encryption": "Encryption by the server: AES256, aws:kms, or aws:kms:KEY.",
        "channels": "The channels, from the first that a release goes to.",
        "keys": "A folder of public keys and root metadata, to be committed.",
        "signers": "For each role where its private key is.",
        "expires": "For each role the days that its metadata holds; channel is for all channels.",
        "changelog": "A file that must have an entry for the version. Empty: none is needed.",
        "tag": "What a released commit must be tagged with. Empty: no tag is needed.",
        "github": "The owner/repository that gets a GitHub release as well.",
        "keep": "How many releases `ferryman gc` keeps beside those in use.",
    },
    "WorkspaceSettings": {
        "project": "Folder of the agent that is built when --project is not given.",
    },
}


def project_schema() -> dict[str, Any]:
    """The schema of the table `[tool.ferryman]`, for editors.

    It is stricter than Ferryman in one thing: aliases of targets are listed in lower case alone, so that an editor can
    complete them.
    """
    schemas, definitions = msgspec.json.schema_components(
        [Settings, WorkspaceSettings], ref_template="#/$defs/{name}"
    )
    _describe(definitions)
    settings = definitions.pop(Settings.__name__)
    names = sorted({name for target in all_targets() for name in (target.id, *target.aliases)})
    settings["properties"]["targets"]["items"] = {"enum": ["host", "all", *names]}
    settings["properties"]["target"]["propertyNames"] = {"enum": names}
    settings["properties"]["workspace"] = {
        **schemas[1],
        "description": "In a repository that is not itself an agent: which agent it holds.",
    }
    return {"$schema": DIALECT, **settings, "title": "[tool.ferryman]", "$defs": definitions}


def manifest_schema() -> dict[str, Any]:
    """The schema of dist/manifest.json."""
    _, definitions = msgspec.json.schema_components([Manifest], ref_template="#/$defs/{name}")
    manifest = definitions.pop(Manifest.__name__)
    return {"$schema": DIALECT, **manifest, "$defs": definitions}


def _describe(definitions: dict[str, Any]) -> None:
    for name, table in (*DESCRIPTIONS.items(), (TargetSettings.__name__, _target_descriptions())):
        for field, text in table.items():
            definitions[name]["properties"][field]["description"] = text


def _target_descriptions() -> Mapping[str, str]:
    """What a setting means for one target is what it means for all, but for the two that add."""
    added = {field.replace("_", "-") for field in ADDED}
    return {
        field.encode_name: DESCRIPTIONS["Settings"][field.encode_name]
        + (" Added to the project's." if field.encode_name in added else "")
        for field in msgspec.structs.fields(TargetSettings)
    }
