#!/usr/bin/env bash
# Records what an engine says about containers of many kinds. Usage: DOCKER_HOST=... record.sh FOLDER
#
# The engine should have nothing else on it: ports 7000-9999 and the networks named here must be free.
# It needs no registry: the image is made of this machine's busybox (package busybox-static).
set -euo pipefail
folder=$1
mkdir -p "$folder"

root=$(mktemp -d)
mkdir "$root/bin"
cp /bin/busybox "$root/bin/"
ln -s busybox "$root/bin/sh" # for health checks
tar -C "$root" -c . | docker import --change 'ENTRYPOINT ["/bin/busybox"]' --change 'CMD ["sleep", "3600"]' - record:1.0 >/dev/null
rm -r "$root"
docker tag record:1.0 registry.example:5000/team/web:1.2
image_id=$(docker image inspect --format '{{.Id}}' record:1.0)

clear() {
  docker ps -aq --filter label=record | xargs -r docker rm -f >/dev/null
  docker network ls -q --filter label=record | xargs -r docker network rm >/dev/null
}
trap clear EXIT
clear
network() { docker network create --label record "$@" >/dev/null; }
network --subnet 10.77.1.0/24 shop_back
network --subnet 10.77.2.0/24 shop_front
network --subnet 10.77.3.0/24 --ipv6 --subnet fd77::/64 shop_six

# start NAME [ARGUMENT...]: a container that the engine runs, with these arguments of `docker run`.
start() { docker run -d --label record --name "$@" >/dev/null; }
save() { docker inspect "$1" >"$folder/$1.json"; }
record() {
  start "$@"
  save "$1"
}
image=registry.example:5000/team/web:1.2

record published -p 8080:80 $image
record random -p 80 $image
record twice -p 8083:80 -p 8084:80 $image
record bound -p 10.77.1.1:8081:80 -p 127.0.0.1:8082:81 $image
record range -p 7000-7002:7000-7002 --label SERVICE_NAME=media --label SERVICE_7000-7001_NAME=rtp $image
record datagrams -p 8053:53/udp -p 8053:53/tcp --label SERVICE_NAME=dns $image
record exposed --network shop_back --ip 10.77.1.10 --expose 443 --expose 80 $image
record six --network shop_six --ip 10.77.3.10 --ip6 fd77::10 --expose 80 $image
record host --network host --expose 9000 $image
record portless --network shop_back --ip 10.77.1.11 $image
record by-id -p 8085:80 "$image_id"

start two-networks --network shop_back --ip 10.77.1.12 --expose 80 --label SERVICE_NETWORK=front $image
docker network connect --ip 10.77.2.12 shop_front two-networks
save two-networks

record owner --network shop_back --ip 10.77.1.13 -p 8090:80 $image
record guest --network container:owner --label SERVICE_NAME=guest $image

record labels -p 8086:80 -p 8443:443 --network shop_back --ip 10.77.1.14 \
  -e SERVICE_NAME=from-env -e SERVICE_80_WEIGHT=10:1 -e SECRET=sesame \
  --label SERVICE_TAGS='a,b\,c' --label service.80.name=web --label SERVICE_443_tcp_NAME=secure \
  --label SERVICE_80_CHECK_HTTP=/health --label SERVICE_80_CHECK_INTERVAL=5s --label SERVICE_OWNER='team one' $image

record composed --network shop_back --ip 10.77.1.15 --expose 80 --expose 81 --label SERVICE_81_IGNORE=true \
  --label com.docker.compose.project=shop --label com.docker.compose.service=cart $image

health() { docker inspect --format '{{.State.Health.Status}}' "$1"; }
start healthy -p 8087:80 --health-cmd 'echo all is well' --health-interval 1s $image
start unhealthy -p 8088:80 --health-cmd 'echo no luck; exit 1' --health-interval 1s --health-retries 1 $image
for name in healthy unhealthy; do
  for _ in $(seq 100); do
    [ "$(health "$name")" = "$name" ] && break
    sleep 0.2
  done
  save "$name"
done

start paused -p 8089:80 --stop-signal SIGQUIT --stop-timeout 42 $image
docker pause paused >/dev/null
save paused
docker unpause paused >/dev/null

start stopped -p 8091:80 $image sh -c 'exit 3'
docker wait stopped >/dev/null
save stopped
