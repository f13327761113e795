"""Archives as `docker save` writes them, in each of its layouts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

Files = Mapping[str, Any]  # path → bytes of zeros; None: a directory; "→ PATH": a hard link


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of files with this content."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def layer(files: Files) -> bytes:
    """Return a layer."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, what in files.items():
            member = tarfile.TarInfo(name)
            if what is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(what, str):
                member.type, member.linkname = tarfile.LNKTYPE, what.removeprefix("→ ")
            else:
                member.size = what
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return output.getvalue()


def history(instructions: Iterable[str]) -> dict[str, Any]:
    """Return an image's configuration, with an instruction that has no layer."""
    made = [{"created_by": text} for text in instructions]
    return {"history": [*made, {"created_by": 'CMD ["sh"]', "empty_layer": True}], "rootfs": {"type": "layers"}}


def old_layout(layers: list[bytes], instructions: Iterable[str]) -> bytes:
    """Return what Docker before 25.0 writes: directories by identifier, so in no order; a layer again is a link."""
    output = io.BytesIO()
    names = [f"{hashlib.sha256(b'%d' % number).hexdigest()}/layer.tar" for number in range(len(layers))]
    first = {content: names[layers.index(content)] for content in layers}
    files = {"config.json": json.dumps(history(instructions)).encode()}
    for name in sorted(names):
        directory, content = name.partition("/")[0], layers[names.index(name)]
        files[f"{directory}/VERSION"] = b"1.0"
        files[f"{directory}/json"] = b'{"id":"x"}'
        files[name] = content
    files["manifest.json"] = json.dumps([{"Config": "config.json", "RepoTags": ["app:1"], "Layers": names}]).encode()
    files["repositories"] = b'{"app":{"1":"x"}}'
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if content in first and first[content] != name:
                member.type, member.linkname = tarfile.SYMTYPE, f"../{first[content]}"
                archive.addfile(member)
                continue
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def oci_layout(
    layers: list[bytes],
    instructions: Iterable[str],
    *,
    compress: bool = False,
    manifest: bool = True,
    attests: bool = False,
) -> bytes:
    """Return what Docker from 25.0 writes, and containerd's store.

    Args:
        compress: as containerd's store has the layers.
        manifest: whether manifest.json is there.
        attests: put an attestation beside the image, in an index within the index.
    """
    blobs: dict[str, bytes] = {}

    def add(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    stored = [add(gzip.compress(each) if compress else each) for each in layers]
    config = add(json.dumps(history(instructions)).encode())
    image = {**add(json.dumps({"config": config, "layers": stored}).encode()), "platform": {"architecture": "amd64"}}
    index: dict[str, Any] = {"manifests": [image]}
    if attests:
        statement = add(b'{"_type": "https://in-toto.io/Statement/v0.1"}')
        attestation = add(json.dumps({"config": config, "layers": [statement]}).encode())
        both = [{**attestation, "platform": {"architecture": "unknown"}}, image]
        index = {"manifests": [add(json.dumps({"manifests": both}).encode())]}
    files = dict(sorted(blobs.items()))
    files |= {"index.json": json.dumps(index).encode(), "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    if manifest:
        names = [f"blobs/sha256/{each['digest'].removeprefix('sha256:')}" for each in stored]
        path = f"blobs/sha256/{config['digest'].removeprefix('sha256:')}"
        files["manifest.json"] = json.dumps([{"Config": path, "RepoTags": ["app:1"], "Layers": names}]).encode()
    return tar_of(files)
