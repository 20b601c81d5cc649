# Every image of this project, one target each. `setup/images` builds them, with or without an image registry in reach.

# Debian's package, or the vendor's image where a registry can be reached.
ARG CONSUL=hashicorp
ARG CONSUL_VERSION=1.21
ARG RUST_VERSION=1.95

# The base of everything that is not one static file.
FROM debian:trixie-slim AS debian
ENV DEBIAN_FRONTEND=noninteractive


# ---- build: the four programs at its root, static, so that they run in an empty image.
# Where Rust was built on the host, a folder takes the place of this stage, and none of it runs.
FROM rust:${RUST_VERSION}-slim-bookworm AS build
RUN apt-get update -qq && apt-get install -qq --no-install-recommends libssl-dev pkg-config >/dev/null
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(uname -m)-unknown-linux-gnu" \
    && RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$target" \
       -p registrator -p confd -p ambassador -p dockercoins \
    && cd "target/$target/release" && cp registrator confd ambassador dockercoins /


# ---- consul: the service catalog, one server
FROM hashicorp/consul:${CONSUL_VERSION} AS consul-hashicorp

# The same paths and the same user as in the vendor's image, so that a volume fits both.
FROM debian AS consul-debian
RUN . /etc/os-release \
    && for mirror in deb.debian.org archive.debian.org; do \
         echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://$mirror/debian bullseye main" >/etc/apt/sources.list.d/bullseye.list; \
         if apt-get update -qq; then break; fi; \
       done \
    && cd /tmp && apt-get download -qq consul/bullseye && dpkg -x consul_*.deb consul \
    && mv consul/usr/bin/consul /usr/bin/consul \
    && rm -rf consul consul_*.deb /var/lib/apt/lists/* /var/cache/apt/* /etc/apt/sources.list.d/bullseye.list \
    && mkdir -p /consul/data /consul/config && chown -R 100:1000 /consul

FROM consul-${CONSUL} AS consul
COPY --chmod=0644 consul/server.hcl /consul/config/server.hcl
USER 100:1000
ENTRYPOINT ["consul"]
CMD ["agent", "-ui", "-config-dir=/consul/config"]
# Fails without a leader.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["consul", "catalog", "nodes"]
LABEL org.opencontainers.image.title="consul" \
      org.opencontainers.image.description="The service catalog: one Consul server with its web UI."


# ---- registrator: Docker -> Consul
FROM scratch AS registrator
COPY --from=build /registrator /registrator
ENTRYPOINT ["/registrator"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["/registrator", "healthcheck"]
LABEL org.opencontainers.image.title="registrator" \
      org.opencontainers.image.description="Registers this node's containers in Consul." \
      org.opencontainers.image.licenses="MIT"


# ---- the load balancer itself, shared by the ambassador, which runs it, and confd, which checks files with it
FROM debian AS haproxy
RUN apt-get update -qq && apt-get install -qq --no-install-recommends haproxy >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && mkdir -p /run/ambassador /var/lib/confd && chown haproxy:haproxy /run/ambassador /var/lib/confd
USER haproxy

# ---- confd: Consul -> ambassadors
FROM haproxy AS confd
COPY --from=build /confd /usr/local/bin/confd
# Large answers need memory for a moment, in any thread: with an arena for each, or from the heap, it adds up and is not
# given back.
ENV MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=131072
ENTRYPOINT ["/usr/local/bin/confd"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["/usr/local/bin/confd", "healthcheck"]
LABEL org.opencontainers.image.title="confd" \
      org.opencontainers.image.description="Renders configurations from Consul and brings them into running load balancers." \
      org.opencontainers.image.licenses="MIT"

# ---- ambassador: the load balancer next to its clients
FROM haproxy AS ambassador
# `ambassador configure` is one pass of confd.
COPY --from=build /ambassador /confd /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/ambassador"]
CMD ["run"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/local/bin/ambassador", "healthcheck"]
LABEL org.opencontainers.image.title="ambassador" \
      org.opencontainers.image.description="HAProxy under the supervision of \`ambassador run\`." \
      org.opencontainers.image.licenses="MIT"


# ---- dockercoins: the sample application, four programs in one file
FROM scratch AS dockercoins
COPY --from=build /dockercoins /dockercoins
USER 65534:65534
EXPOSE 80
ENTRYPOINT ["/dockercoins"]
LABEL org.opencontainers.image.title="dockercoins" \
      org.opencontainers.image.description="The sample application: rng, hasher, worker, webui." \
      org.opencontainers.image.licenses="MIT"


# ---- redis: where the sample application keeps its coins
FROM debian AS redis
RUN apt-get update -qq && apt-get install -qq --no-install-recommends redis-server >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && mkdir /data && chown redis:redis /data
WORKDIR /data
VOLUME /data
USER redis
EXPOSE 6379
# Written to disk every minute in which something changed, and on a regular stop.
ENTRYPOINT ["redis-server", "--bind", "* -::*", "--protected-mode", "no", "--dir", "/data", "--save", "60 1"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["redis-cli", "ping"]
LABEL org.opencontainers.image.title="redis" \
      org.opencontainers.image.description="Debian's Redis, for the sample application."
