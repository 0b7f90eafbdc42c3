// Package digest holds the algorithm that artifacts are named by.
package digest

import (
	_ "crypto/sha256" // registers SHA-256, which Available asks for
	_ "crypto/sha512" // registers SHA-384 and SHA-512
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Canonical is the algorithm in use. source-controller sets it once, at start.
var Canonical = digest.SHA256

// AlgorithmForName finds an algorithm by the name given on the command line.
func AlgorithmForName(name string) (digest.Algorithm, error) {
	algorithm := digest.Algorithm(name)
	if !algorithm.Available() {
		return "", fmt.Errorf("digest algorithm %q is not available", name)
	}
	return algorithm, nil
}
