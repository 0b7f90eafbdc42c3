# What `run` and `up` share, to be sourced: builds every program, makes the folder of the run, and defines `inside`,
# which becomes flux-bearer-e2e in the simulated Azure.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
profile=${FLUX_BEARER_E2E_PROFILE:-release}
target=${CARGO_TARGET_DIR:-$here/../../target}

lines=$("$here/tools/build")
eval "$lines"
export ETCD KUBE_APISERVER KUBECTL SOURCE_CONTROLLER KUSTOMIZE_CONTROLLER FLUX_CRDS

if [ -z "${FLUX_BEARER_BINARIES:-}" ]; then
  (cd "$here" && cargo build --quiet --profile "$profile" -p flux-bearer-controller -p flux-bearer-sim -p flux-bearer-e2e)
  # Cargo puts the profile `dev` into the folder `debug`.
  FLUX_BEARER_BINARIES=$target/${profile/#dev/debug}
fi
binaries=$(cd "$FLUX_BEARER_BINARIES" && pwd)
export FLUX_BEARER_CONTROLLER=$binaries/flux-bearer-controller

inside() { # ARGUMENT...
  local folder
  folder=$(mktemp -d "${TMPDIR:-/tmp}/flux-bearer-e2e-XXXXXX")
  # Paths in the state are relative to the folder in which the simulator starts.
  cd "$folder"
  # In place of this shell, so that a signal to it ends the world. flux-bearer-e2e removes the folder.
  exec "$binaries/flux-bearer-sim" run --state "$here/state.yaml" -- \
    "$binaries/flux-bearer-e2e" --folder "$folder" "$@"
}
