"""What docker prints, as recorded or as its sources print it. Long identifiers are shortened to what is read of them."""

from __future__ import annotations

import json

_DIGEST = "a92e4bd560f72755c1ae3ad581d4f6374e4bf81bf8030e9a38d1c90eda7ef17a"
IMAGE = f"sha256:{_DIGEST}"

# Recorded: Docker 20.10.24 of Debian 12, its own client, DOCKER_BUILDKIT=1, standard error no terminal.
BUILDKIT_20 = f"""\
#1 [internal] load build definition from Dockerfile
#1 sha256:b30da5303c376d6d28e021db981650a8825fd8bcd9e2f58f15e4fb4487e8ffc0
#1 transferring dockerfile: 572B done
#1 DONE 0.0s

#2 [internal] load .dockerignore
#2 sha256:3e3cb87d3986daaa8893142020f0309ce6d07719fe071fd86f038c89b00d9207
#2 transferring context: 2B done
#2 DONE 0.1s

#3 [internal] load build context
#3 sha256:4bd1b2709db7bec908601cfd735381ffc9296e1e9e079f0192a2acae24a8654f
#3 transferring context: 9.14MB 0.3s
#3 transferring context: 22.96MB 0.9s done
#3 DONE 1.1s

#4 [build 1/2] COPY bin/busybox /bin/sh
#4 sha256:bc5adfac8b475e2bcec2b4fa5e9ee4cad704be80de72b2661baecef3449822c3
#4 CACHED

#5 [build 2/2] RUN make big
#5 sha256:714ed3fe970b7205f5fc451b474201ba62af56690a3f84b7e37b49ff807cc067
#5 1.070 #9 DONE 9.9s
#5 1.070 60+0 records out
#5 ...

#6 [stage-1 1/2] COPY --from=build /out /models/m.safetensors
#6 DONE 0.5s

#5 [build 2/2] RUN make big
#5 DONE 75.5s

#7 [stage-1 2/2] RUN rm /junk
#7 DONE 0.5s

#8 exporting to image
#8 exporting layers 3.2s done
#8 writing image {IMAGE} 0.0s done
#8 naming to docker.io/library/app:1 0.0s done
#8 DONE 3.2s
"""

# Docker with containerd's store, buildx 0.13 and later: the first line, and the names of what it exports.
CONTAINERD = f"""\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s

#2 [1/1] COPY a /a
#2 DONE 0.1s

#3 exporting to image
#3 exporting manifest sha256:{"1" * 64} 0.0s done
#3 exporting config sha256:{"2" * 64} 0.0s done
#3 exporting attestation manifest sha256:{"3" * 64} 0.0s done
#3 exporting manifest list {IMAGE} 0.0s done
#3 naming to docker.io/library/app:latest done
#3 DONE 0.2s
"""

# Recorded: the same engine, DOCKER_BUILDKIT=0.
CLASSIC = """\
Sending build context to Docker daemon  22.96MB\r\r
Step 1/6 : FROM scratch AS build
 --->\x20
Step 2/6 : COPY bin/busybox /bin/sh
 ---> 2a2e131fb3a7
Step 3/6 : FROM scratch
 --->\x20
Step 4/6 : COPY bin/busybox /bin/sh
 ---> Using cache
 ---> 2a2e131fb3a7
Step 5/6 : RUN make big
 ---> Running in 5a1bbbb5d4b0
\x1b[91m10+0 records in
#3 DONE 9.0s
10+0 records out
\x1b[0mRemoving intermediate container 5a1bbbb5d4b0
 ---> 990bfcb4d025
Step 6/6 : ENV A=b
 ---> Running in 9afa90e58ba4
Removing intermediate container 9afa90e58ba4
 ---> 3608b0af03a1
Successfully built 3608b0af03a1
Successfully tagged app:2
"""

# BuildKit's --progress=rawjson: client.SolveStatus of buildkit, a line each.
RAWJSON = "\n".join(
    json.dumps(each)
    for each in (
        {
            "vertexes": [
                {"digest": "sha256:c", "name": "[internal] load build context", "started": "2026-11-29T19:11:00Z"}
            ]
        },
        {"statuses": [{"id": "transferring context:", "vertex": "sha256:c", "name": "transferring", "current": 6390}]},
        {"vertexes": [{"digest": "sha256:w", "name": "[2/2] RUN waits"}]},
        {
            "vertexes": [
                {
                    "digest": "sha256:r",
                    "name": "[1/2] RUN make",
                    "started": "2026-11-29T19:11:00Z",
                    "completed": "2026-11-29T19:11:02.5Z",
                },
                {
                    "digest": "sha256:w",
                    "name": "[2/2] RUN waits",
                    "started": "2026-11-29T19:11:02.5Z",
                    "completed": "2026-11-29T19:11:02.5Z",
                    "cached": True,
                },
            ]
        },
        {"logs": [{"vertex": "sha256:r", "data": "eyJhIjogMX0="}]},
        {"vertexes": [{"digest": "sha256:e", "name": "exporting to image", "started": "2026-11-29T19:11:03Z"}]},
        {"statuses": [{"id": f"writing image {IMAGE}", "vertex": "sha256:e"}]},
    )
)

# Recorded: /system/df of Docker 20.10.24.
RECORDS_20 = [
    {
        "ID": "pxpq17ddbcifq8tbiqpmfekyq",
        "Parent": "v51wtw1la78b6wjt643gvvczp",
        "Type": "regular",
        "Description": "mount / from exec /bin/sh -c make big",
        "InUse": False,
        "Shared": False,
        "Size": 94371840,
        "CreatedAt": "2026-11-29T19:11:00.38418376Z",
        "LastUsedAt": "2026-11-29T19:11:08.441810464Z",
        "UsageCount": 1,
    },
    {
        "ID": "vrrtitcxlis6dvk0kgmwyzrab",
        "Parent": "",
        "Type": "source.local",
        "Description": "local source for context",
        "InUse": False,
        "Shared": False,
        "Size": 22953776,
        "CreatedAt": "2026-11-29T19:10:57.86044416Z",
        "LastUsedAt": "2026-11-29T19:13:36.561560829Z",
        "UsageCount": 2,
    },
    {
        "ID": "kh6nket917wkpzq1i8avtd097",
        "Parent": "v51wtw1la78b6wjt643gvvczp",
        "Type": "regular",
        "Description": "fileop target",
        "InUse": False,
        "Shared": True,
        "Size": 20971522,
        "CreatedAt": "2026-11-29T19:13:28.322509251Z",
        "LastUsedAt": "2026-11-29T19:13:36.45178218Z",
        "UsageCount": 1,
    },
]

# docker/buildx, docs/reference/buildx_du.md at 0.12, with the tabs that its tabwriter makes blanks of.
DU_OLD = """\
ID:             05d0elirb4mmvpmnzbrp3ssrg
Parent:         e8sfdn4mygrg7msi9ak1dy6op
Created at:     2023-11-20 09:53:30.881558721 +0000 UTC
Mutable:        false
Reclaimable:    true
Shared:         false
Size:           1.653GB
Description:    [gobase 3/3] WORKDIR /src
Usage count:    3
Last used:      24 hours ago
Type:           regular

ID:             e8sfdn4mygrg7msi9ak1dy6op
Created at:     2023-11-20 09:53:30.881558721 +0000 UTC
Mutable:        true
Reclaimable:    true
Shared:         true
Size:           0B
Usage count:    1
Type:           source.local

Shared:         2.5GB
Private:        97.94GB
Reclaimable:    4.453GB
Total:          4.453GB
"""

# The same at 0.28.
DU_NEW = """\
ID:           05d0elirb4mmvpmnzbrp3ssrg
Parents:
 - bqx15bcewecz4wcg14b7iodvp
Created at:   2025-06-12 15:44:02.715795569 +0000 UTC
Mutable:      false
Reclaimable:  true
Shared:       false
Size:         1.653GB
Description:  [gobase 3/3] WORKDIR /src
Usage count:  3
Last used:    2 months ago
Type:         regular

ID:           e8sfdn4mygrg7msi9ak1dy6op
Created at:   2025-06-12 15:44:02.715795569 +0000 UTC
Mutable:      true
Reclaimable:  true
Shared:       true
Size:         0B
Usage count:  1
Type:         source.local

Shared:         35.57GB
Private:        97.94GB
Reclaimable:    131.5GB
Total:          133.5GB
"""

# Recorded: docker history --no-trunc --human=false --format '{{json .}}', the newest first.
HISTORY = "\n".join(
    json.dumps({"Comment": "", "CreatedAt": "2026-11-29T19:11:05Z", "CreatedBy": text, "ID": "<missing>", "Size": size})
    for text, size in (
        ("RUN /bin/sh -c rm /junk # buildkit", "0"),
        ("COPY /out /models/m.safetensors # buildkit", "41943040"),
    )
)
