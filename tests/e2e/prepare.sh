# What `run` and `up` share, to be sourced: builds every program, makes the folder of the run, and defines `inside`,
# which becomes flux-bearer-e2e in the simulated Azure.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
profile=${FLUX_BEARER_E2E_PROFILE:-release}
target=${CARGO_TARGET_DIR:-$here/../../target}

lines=$("$here/tools/build")
eval "$lines"
export ETCD KUBE_APISERVER KUBECTL KUBE_CONTROLLER_MANAGER SOURCE_CONTROLLER KUSTOMIZE_CONTROLLER FLUX_CRDS

if [ -z "${FLUX_BEARER_BINARIES:-}" ]; then
  (cd "$here" && cargo build --quiet --profile "$profile" -p flux-bearer-sim -p flux-bearer-e2e)
  # Cargo puts the profile `dev` into the folder `debug`.
  FLUX_BEARER_BINARIES=$target/${profile/#dev/debug}
fi
binaries=$(cd "$FLUX_BEARER_BINARIES" && pwd)

image() { # OUT: the root filesystem of the controller's image, its binary built with the profile
  local triple
  triple=$(rustc --print host-tuple)
  (cd "$here" && RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --quiet --profile "$profile" --target "$triple" -p flux-bearer-controller)
  FLUX_BEARER_CONTROLLER=$target/$triple/${profile/#dev/debug}/flux-bearer-controller "$here/../../deploy/image/rootfs" "$1"
}

if [ -z "${FLUX_BEARER_IMAGE:-}" ]; then
  FLUX_BEARER_IMAGE=$target/e2e-image
  rm -rf "$FLUX_BEARER_IMAGE"
  image "$FLUX_BEARER_IMAGE"
fi
FLUX_BEARER_IMAGE=$(cd "$FLUX_BEARER_IMAGE" && pwd)
export FLUX_BEARER_IMAGE FLUX_BEARER_INSTALL=$here/manifests/install

inside() { # ARGUMENT...
  local folder
  folder=$(mktemp -d "${TMPDIR:-/tmp}/flux-bearer-e2e-XXXXXX")
  # Paths in the state are relative to the folder in which the simulator starts.
  cd "$folder"
  # In place of this shell, so that a signal to it ends the world. flux-bearer-e2e removes the folder.
  exec "$binaries/flux-bearer-sim" run --state "$here/state.yaml" -- \
    "$binaries/flux-bearer-e2e" --folder "$folder" "$@"
}
