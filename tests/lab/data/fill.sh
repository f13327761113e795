# shellcheck shell=sh
# Fill a Docker host with everything that a move could lose. This needs busybox-static and python3.
set -e
cd "$(mktemp -d)"
mkdir -p image/bin
cp /bin/busybox image/bin/
for name in sh cat date dd echo ln ls mkdir rm sleep true chmod; do ln -s busybox "image/bin/$name"; done
tar -C image -c . | docker import - box >/dev/null

cat >Dockerfile <<'D'
FROM box
RUN mkdir -p /d/gone /d/opaque && echo 1 >/d/gone/f && echo 1 >/d/opaque/f && dd if=/dev/urandom of=/d/big bs=1M count=8 && \
    ln /d/big /d/hard && echo s >/d/setuid && chmod 4755 /d/setuid
RUN rm -rf /d/gone /d/opaque && mkdir /d/opaque && echo 2 >/d/opaque/g
D
docker build --quiet --tag app . >/dev/null
docker build --quiet --tag app --label second=1 . >/dev/null # the first build is dangling now
docker volume create named >/dev/null
mkdir -p /srv/elsewhere && echo elsewhere >/srv/elsewhere/file
docker volume create --opt type=none --opt o=bind --opt device=/srv/elsewhere outside >/dev/null # a mount in Docker's store
docker network create net >/dev/null
docker run --detach --name web --restart unless-stopped --network none -v named:/data -v outside:/outside -v /anonymous app \
    sh -c 'echo a >/anonymous/file; i=0; while :; do i=$((i + 1)); echo $i >>/data/log; sleep 0.2; done' >/dev/null
docker run --detach --name plain --network none --stop-signal KILL app sleep 100000 >/dev/null
docker run --name ended --network none app true
docker create --name never --network net app true >/dev/null

cd /var/lib/docker/volumes/named/_data
head -c 5000000 /dev/urandom >random
ln random hard
truncate -s 200M sparse
echo end >>sparse
mknod device c 10 200
mkfifo pipe
ln -s random link
echo owned >owned
chown 12345:54321 owned
python3 - <<'P'
import os, struct
os.setxattr("owned", "user.mine", b"value")
os.setxattr("random", "trusted.overlay.opaque", b"y")
os.setxattr("random", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
acl = [(1, 6, -1), (2, 4, 12345), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
os.setxattr("owned", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *e) for e in acl))
P
