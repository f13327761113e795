# shellcheck shell=sh
# Fill an engine with objects of every kind: a prune must remove some and keep the others. $1: old or young.
set -e
cd "$(mktemp -d)"
image() { # NAME MIB: make an image with content of its own
    rm -rf tree && mkdir -p tree/bin && cp /bin/busybox tree/bin/ && for name in sh sleep true dd; do ln -s busybox "tree/bin/$name"; done
    head -c "$2"M /dev/urandom >tree/content
    tar -C tree -c . | docker import - "$1" >/dev/null
}
build() { # TAG NUMBER [ARGUMENT...]: build an image with a step of its own
    tag=$1 number=$2; shift 2
    printf 'FROM box\nRUN dd if=/dev/urandom of=/step bs=1M count=20; echo %s\n' "$number" | docker build --quiet --network none --tag "$tag" "$@" - >/dev/null
}
stopped() { docker run --network none "$@" true >/dev/null; }
case $1 in
old)
    image box 2
    image unused 30
    build app 1
    stopped --name old-of-lost app
    build app 2 # the first build is dangling now, and a stopped container uses it
    build idle 6
    docker image rm idle >/dev/null # only the build cache has it now
    build kept 3 --label bulkhead.keep=
    build kept 4
    docker volume create named >/dev/null
    docker network create old-net >/dev/null
    docker network create old-net-referred >/dev/null
    docker network create --label bulkhead.keep= old-net-kept >/dev/null
    stopped --name old-stopped -v named:/named -v /anonymous box
    docker create --name old-never box true >/dev/null
    stopped --name old-kept --label bulkhead.keep= box
    stopped --name listed-old box
    docker create --name old-needed -v base:/base box true >/dev/null
    docker create --name old-kept-user --label bulkhead.keep= --volumes-from old-needed box true >/dev/null
    docker run --detach --name old-restart --restart always --network none --stop-signal KILL box sleep 100000 >/dev/null
    docker stop old-restart >/dev/null
    docker create --name old-on-net --label bulkhead.keep= --network old-net-referred box true >/dev/null
    docker run --detach --name runs --network none --stop-signal KILL app sleep 100000 >/dev/null
    docker run --detach --name late-stopped --network none --stop-signal KILL box sleep 100000 >/dev/null
    ;;
young)
    docker stop late-stopped >/dev/null
    stopped --name young-stopped box
    docker create --name young-never box true >/dev/null
    docker network create young-net >/dev/null
    build young 5
    build young-idle 7
    docker image rm young-idle >/dev/null
    ;;
esac
