# file: rootfs.tar.xz = 200M
FROM scratch
ADD rootfs.tar.xz /
CMD ["bash"]
