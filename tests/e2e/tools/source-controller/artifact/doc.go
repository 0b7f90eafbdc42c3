// Package artifact stands in for Flux's module of the same path, which the Go
// module proxy has in no version, so that source-controller can be built from
// module files alone.
//
// The module is only the store for what source-controller has fetched: it keeps
// tarballs on disk and serves them over HTTP. What the end-to-end suite is after
// (how the Secret is looked up, how the credential is sent, the Git client,
// conditions, retries) is source-controller's own code and is not touched.
//
// It was written from the calls in source-controller's own files, and does only
// what those calls need, in one process and on a local disk:
//
//   - config: the flags --storage-* and --artifact-*;
//   - digest: the algorithm that artifacts are named by;
//   - storage: the store itself;
//   - server: the file server other controllers download from.
//
// Known differences to the real one: only the SHA-2 digests, and locks that hold
// within the process only.
package artifact
