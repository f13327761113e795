# shellcheck shell=sh
# Prepare a machine for the build. Run as root. $1: the directory of the build. $2: the size of its context, in KiB.
# The caller adds the Dockerfile.
set -eu

# A user who logs in and uses sudo.
useradd --create-home --shell /bin/sh worker
install -d -m 0700 -o worker -g worker ~worker/.ssh
install -m 0600 -o worker -g worker /root/.ssh/authorized_keys ~worker/.ssh/
echo 'worker ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/worker

# A small service that writes a line of 1 KiB each second, and syncs it.
install -d -o worker -g worker /var/lib/incident
cat >/usr/local/bin/incident-service <<'END'
import os, time

with open("/var/lib/incident/records", "ab", buffering=0) as file:
    while True:
        line = f"{time.time():.0f} ".encode().ljust(1023, b".") + b"\n"
        if file.write(line) != len(line):
            raise OSError("a record was cut short")
        os.fsync(file)
        time.sleep(1)
END
cat >/etc/systemd/system/incident-service.service <<'END'
[Service]
User=worker
ExecStart=python3 /usr/local/bin/incident-service
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --quiet --now incident-service.service

# A cron job that rewrites a report each minute.
echo '* * * * * root date +\%s >/var/lib/incident/report.new && mv /var/lib/incident/report.new /var/lib/incident/report' \
    >/etc/cron.d/incident

# A package that apt can reinstall without a network. apt's lists go: an emulated machine reads them for half a minute.
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
tree=$(mktemp -d)
mkdir "$tree/DEBIAN" "$tree/opt"
printf '%s\n' 'Package: incident-probe' 'Version: 1' 'Architecture: all' 'Maintainer: the lab <lab@localhost>' \
    'Description: installed again and again' >"$tree/DEBIAN/control"
head -c 100000 /dev/urandom >"$tree/opt/incident-probe"
dpkg-deb --build "$tree" /root/incident-probe.deb >/dev/null
apt-get -qq install /root/incident-probe.deb >/dev/null 2>&1

# The base image has only the programs that the steps need to write.
mkdir -p "$1/base/bin" "$1/context"
cp /bin/busybox "$1/base/bin/"
for name in sh dd mkdir true; do ln -s busybox "$1/base/bin/$name"; done
cat >"$1/base/bin/write" <<'END'
#!/bin/sh
# write DIRECTORY MIB: write so many MiB, into files of at most 64 MiB
set -eu
mkdir -p "$1"
left=$2
while [ "$left" -gt 0 ]; do
    size=$((left < 64 ? left : 64))
    dd if=/dev/zero of="$1/$left" bs=1M count="$size" status=none
    left=$((left - size))
done
END
chmod 0755 "$1/base/bin/write"
head -c "$2K" /dev/urandom >"$1/context/notebook"
# A build of one small step, which is tried after the incident's build.
mkdir "$1/small"
printf 'FROM base\nRUN write /small 20\n' >"$1/small/Dockerfile"
tar -C "$1/base" -c . | docker import - base >/dev/null
docker volume create earlier >/dev/null
