# file: vendor/big.deb = 50M
# file: notes.txt = 10
# expect: base-without-digest
FROM debian:12-slim
COPY vendor /tmp/vendor
COPY notes.txt /tmp/notes.txt
# expect: deleted-later=50.0MiB
RUN dpkg -i /tmp/vendor/*.deb && rm -rf /tmp/vendor /tmp/notes.txt
RUN wget -O /tmp/tool.tgz https://example.org/tool.tgz
# expect: deleted-later=0bytes
RUN tar -xzf /tmp/tool.tgz -C /opt && rm /tmp/tool.tgz
RUN mkdir /tmp/c && cd /tmp/c && curl -O https://example.org/c.tgz && tar -xf c.tgz && rm -rf /tmp/c
RUN rm -rf /tmp/*
RUN curl -fsSLO https://example.org/b.tgz && tar -xzf b.tgz && rm b.tgz
RUN rm -rf /var/cache/debconf/* /usr/share/doc
RUN git clone --depth 1 https://example.org/x.git && mkdir /opt/y
# expect: deleted-later
RUN cp -r /x/y /opt/y && rm -rf /x
COPY app /app
CMD ["/app"]
