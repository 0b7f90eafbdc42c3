// Package server serves the artifact store to the controllers that consume it.
package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/fluxcd/pkg/artifact/config"
)

// Start serves the files of the store until the context ends.
func Start(ctx context.Context, o *config.Options) error {
	srv := &http.Server{
		Addr:              o.StorageAddress,
		Handler:           http.FileServer(http.Dir(o.StoragePath)),
		ReadHeaderTimeout: 10 * time.Second,
	}

	// The listener is closed when the controller stops; downloads under way are
	// not waited for, as the process ends right after.
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()

	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
