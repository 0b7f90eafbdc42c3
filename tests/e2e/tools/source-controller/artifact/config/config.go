// Package config holds the settings of the artifact store.
package config

import (
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/fluxcd/pkg/artifact/digest"
)

// Options are the settings that source-controller takes from its command line.
type Options struct {
	// StoragePath is the folder artifacts are kept in. It has to exist.
	StoragePath string
	// StorageAddress is what the file server listens on.
	StorageAddress string
	// StorageAdvAddress is the host (and port) written into artifact URLs.
	StorageAdvAddress string
	// ArtifactRetentionTTL is the age at which a superseded artifact goes.
	ArtifactRetentionTTL time.Duration
	// ArtifactRetentionRecords is how many artifacts an object keeps at most,
	// the current one included.
	ArtifactRetentionRecords int
	// ArtifactDigestAlgo names the algorithm of artifact digests.
	ArtifactDigestAlgo string
}

// BindFlags declares the flags. Names, defaults and environment variables are
// the ones source-controller documents.
func (o *Options) BindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.StoragePath, "storage-path", os.Getenv("STORAGE_PATH"),
		"The local storage path.")
	fs.StringVar(&o.StorageAddress, "storage-addr", envOr("STORAGE_ADDRESS", ":9090"),
		"The address the static file server binds to.")
	fs.StringVar(&o.StorageAdvAddress, "storage-adv-addr", os.Getenv("STORAGE_ADV_ADDR"),
		"The advertised address of the static file server.")
	fs.DurationVar(&o.ArtifactRetentionTTL, "artifact-retention-ttl", time.Minute,
		"The age at which superseded artifacts are removed.")
	fs.IntVar(&o.ArtifactRetentionRecords, "artifact-retention-records", 2,
		"The number of artifacts kept per object.")
	fs.StringVar(&o.ArtifactDigestAlgo, "artifact-digest-algo", digest.Canonical.String(),
		"The algorithm of artifact digests.")
}

func envOr(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
