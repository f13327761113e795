# expect: base-without-digest
FROM fedora:40
RUN dnf -y install nginx && dnf clean all
# expect: package-cache
RUN dnf install -y php-fpm
RUN --mount=type=cache,target=/var/cache/dnf dnf install -y --setopt=keepcache=1 jq
# expect: package-cache toolchain-in-image
RUN yum groupinstall -y "Development Tools"
COPY site /usr/share/nginx/html
CMD ["nginx", "-g", "daemon off;"]
