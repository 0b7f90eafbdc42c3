# What `run` and `up` share, to be sourced: builds every program, makes the folder of the run, and defines `inside`,
# which becomes flux-bearer-e2e in the simulated Azure.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
profile=${FLUX_BEARER_E2E_PROFILE:-release}
target=${CARGO_TARGET_DIR:-$here/../../target}

lines=$("$here/tools/build")
eval "$lines"
export ETCD KUBE_APISERVER KUBECTL KUBE_CONTROLLER_MANAGER SOURCE_CONTROLLER KUSTOMIZE_CONTROLLER FLUX_CRDS
export PYTHON_CLIENTS JAVASCRIPT_CLIENTS GO_CLIENTS RUST_CLIENTS
# Where flux-bearer looks for it.
export PATH=${FLUX%/*}:$PATH

if [ -z "${FLUX_BEARER_BINARIES:-}" ]; then
  # Static, because the controller's image has no libraries; and for a target, or build scripts would be static as well.
  triple=$(rustc --print host-tuple)
  (cd "$here" && RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" \
    cargo build --quiet --profile "$profile" --target "$triple" \
    -p flux-bearer-controller -p flux-bearer-cli -p flux-bearer-sim -p flux-bearer-e2e)
  # Cargo puts the profile `dev` into the folder `debug`.
  FLUX_BEARER_BINARIES=$target/$triple/${profile/#dev/debug}
fi
binaries=$(cd "$FLUX_BEARER_BINARIES" && pwd)
export FLUX_BEARER_CONTROLLER=$binaries/flux-bearer-controller
export FLUX_BEARER=$binaries/flux-bearer
export FLUX_BEARER_INSTALL=$here/manifests/install
export FLUX_BEARER_CLIENTS=$here/clients

inside() { # ARGUMENT...
  local folder
  folder=$(mktemp -d "${TMPDIR:-/tmp}/flux-bearer-e2e-XXXXXX")
  "$here/../../deploy/image/rootfs" "$folder/image"
  # Paths in the state are relative to the folder in which the simulator starts.
  cd "$folder"
  # In place of this shell, so that a signal to it ends the world. flux-bearer-e2e removes the folder.
  exec "$binaries/flux-bearer-sim" run --state "$here/state.yaml" -- \
    "$binaries/flux-bearer-e2e" --folder "$folder" "$@"
}
