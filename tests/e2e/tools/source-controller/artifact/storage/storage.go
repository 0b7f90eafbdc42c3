// Package storage keeps artifacts as files on a local disk.
//
// An artifact's path is KIND/NAMESPACE/NAME/FILE, below the store's folder and
// below its URL alike.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/sourceignore"
	"github.com/fluxcd/pkg/sourceignore/gitignore"
	"github.com/fluxcd/pkg/tar"

	"github.com/fluxcd/pkg/artifact/config"
	"github.com/fluxcd/pkg/artifact/digest"
)

// Storage is a folder of artifacts.
type Storage struct {
	// BasePath is the folder.
	BasePath string
	// Hostname is the host (and port) consumers reach the file server at.
	Hostname string

	retentionTTL     time.Duration
	retentionRecords int

	// locks has one *sync.Mutex for each folder of artifacts in use.
	locks sync.Map
}

// New opens the store. The folder has to exist, so that a mistyped path is an
// error and not an empty store.
func New(o *config.Options) (*Storage, error) {
	info, err := os.Stat(o.StoragePath)
	if err != nil {
		return nil, fmt.Errorf("storage path: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("storage path %q is not a folder", o.StoragePath)
	}
	base, err := filepath.Abs(o.StoragePath)
	if err != nil {
		return nil, fmt.Errorf("storage path: %w", err)
	}
	hostname := o.StorageAdvAddress
	if hostname == "" {
		hostname = o.StorageAddress
	}
	return &Storage{
		BasePath:         base,
		Hostname:         strings.TrimPrefix(hostname, "http://"),
		retentionTTL:     o.ArtifactRetentionTTL,
		retentionRecords: o.ArtifactRetentionRecords,
	}, nil
}

// NewArtifactFor describes an artifact of the object, which need not exist yet.
func (s *Storage) NewArtifactFor(kind string, object metav1.Object, revision, fileName string) meta.Artifact {
	artifact := meta.Artifact{
		Path:     path.Join(strings.ToLower(kind), object.GetNamespace(), object.GetName(), fileName),
		Revision: revision,
	}
	s.SetArtifactURL(&artifact)
	return artifact
}

// SetArtifactURL points the artifact's URL at this store.
func (s *Storage) SetArtifactURL(artifact *meta.Artifact) {
	if artifact == nil || artifact.Path == "" {
		return
	}
	artifact.URL = s.urlOf(artifact.Path)
}

// SetHostname swaps the host of a URL for the store's own. URLs outlive the
// process in an object's status, its address may not.
func (s *Storage) SetHostname(address string) string {
	parsed, err := url.Parse(address)
	if err != nil || address == "" {
		return address
	}
	parsed.Host = s.Hostname
	return parsed.String()
}

func (s *Storage) urlOf(artifactPath string) string {
	u := url.URL{Scheme: "http", Host: s.Hostname, Path: "/" + artifactPath}
	return u.String()
}

// LocalPath is where the artifact is on disk, never outside of BasePath.
func (s *Storage) LocalPath(artifact meta.Artifact) string {
	if artifact.Path == "" {
		return ""
	}
	// Cleaning a rooted path takes care of any "..".
	return filepath.Join(s.BasePath, filepath.Clean("/"+filepath.FromSlash(artifact.Path)))
}

// folderOf is where the artifacts of the artifact's object are on disk.
func (s *Storage) folderOf(artifact meta.Artifact) string {
	return filepath.Dir(s.LocalPath(artifact))
}

// MkdirAll makes the folder the artifact goes into.
func (s *Storage) MkdirAll(artifact meta.Artifact) error {
	return os.MkdirAll(s.folderOf(artifact), 0o755)
}

// Lock reserves the object's artifacts until the returned function is called.
// One process owns the folder, so a lock in memory is enough.
func (s *Storage) Lock(artifact meta.Artifact) (unlock func(), err error) {
	entry, _ := s.locks.LoadOrStore(s.folderOf(artifact), &sync.Mutex{})
	mutex := entry.(*sync.Mutex)
	mutex.Lock()
	return mutex.Unlock, nil
}

// ArtifactExist tells whether the artifact's file is there.
func (s *Storage) ArtifactExist(artifact meta.Artifact) bool {
	info, err := os.Lstat(s.LocalPath(artifact))
	return err == nil && info.Mode().IsRegular()
}

// VerifyArtifact checks the file against the digest the artifact claims.
func (s *Storage) VerifyArtifact(artifact meta.Artifact) error {
	want, err := godigest.Parse(artifact.Digest)
	if err != nil {
		return fmt.Errorf("artifact digest %q: %w", artifact.Digest, err)
	}
	file, err := os.Open(s.LocalPath(artifact))
	if err != nil {
		return err
	}
	defer file.Close()
	verifier := want.Verifier()
	if _, err := io.Copy(verifier, file); err != nil {
		return err
	}
	if !verifier.Verified() {
		return fmt.Errorf("artifact does not have the digest %s", want)
	}
	return nil
}

// ArchiveFileFilter picks the files that are left out of an archive.
type ArchiveFileFilter func(path string, info fs.FileInfo) bool

// SourceIgnoreFilter leaves out what Flux always ignores (Git's own files,
// images, CI definitions) and what the patterns say.
func SourceIgnoreFilter(patterns []gitignore.Pattern, domain []string) ArchiveFileFilter {
	matcher := sourceignore.NewDefaultMatcher(patterns, domain)
	return func(path string, info fs.FileInfo) bool {
		return matcher.Match(strings.Split(path, string(filepath.Separator)), info.IsDir())
	}
}

// Archive stores a folder as the artifact, as a reproducible tarball, and fills
// in the artifact's digest, size and time.
func (s *Storage) Archive(artifact *meta.Artifact, dir string, filter ArchiveFileFilter) error {
	return s.write(artifact, func(w io.Writer) error {
		_, err := tar.Tar(dir, w, tar.WithFilter(filter))
		return err
	})
}

// Copy stores what it reads as the artifact, and fills in its metadata.
func (s *Storage) Copy(artifact *meta.Artifact, from io.Reader) error {
	return s.write(artifact, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
}

// CopyFromPath stores a file as the artifact, and fills in its metadata.
func (s *Storage) CopyFromPath(artifact *meta.Artifact, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return s.Copy(artifact, file)
}

// write puts the artifact's file in place in one step, so that a consumer never
// downloads half of it.
func (s *Storage) write(artifact *meta.Artifact, fill func(io.Writer) error) (err error) {
	target := s.LocalPath(*artifact)
	temporary, err := os.CreateTemp(filepath.Dir(target), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = temporary.Close()
			_ = os.Remove(temporary.Name())
		}
	}()

	digester := digest.Canonical.Digester()
	if err = fill(io.MultiWriter(temporary, digester.Hash())); err != nil {
		return err
	}
	info, err := temporary.Stat()
	if err != nil {
		return err
	}
	if err = temporary.Chmod(0o644); err != nil {
		return err
	}
	if err = temporary.Close(); err != nil {
		return err
	}
	if err = os.Rename(temporary.Name(), target); err != nil {
		return err
	}

	size := info.Size()
	artifact.Digest = digester.Digest().String()
	artifact.Size = &size
	artifact.LastUpdateTime = metav1.Now()
	return nil
}

// CopyToPath unpacks the artifact and moves one path of it to another place:
// how a GitRepository includes another one.
func (s *Storage) CopyToPath(artifact *meta.Artifact, subPath, toPath string) error {
	if artifact == nil {
		return errors.New("there is no artifact to copy from")
	}
	file, err := os.Open(s.LocalPath(*artifact))
	if err != nil {
		return err
	}
	defer file.Close()

	unpacked, err := os.MkdirTemp("", "include-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unpacked)
	if err := tar.Untar(file, unpacked, tar.WithMaxUntarSize(tar.UnlimitedUntarSize)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(toPath), 0o755); err != nil {
		return err
	}
	// toPath is in the checkout, which is a temporary folder as well: on the
	// same file system. Untar refuses links, so a cleaned path stays inside.
	return os.Rename(filepath.Join(unpacked, filepath.Clean("/"+subPath)), toPath)
}

// Symlink makes a second, fixed name for the artifact beside it, and returns
// the URL of that name.
func (s *Storage) Symlink(artifact meta.Artifact, linkName string) (string, error) {
	target := s.LocalPath(artifact)
	link := filepath.Join(filepath.Dir(target), linkName)

	// A rename replaces the old link; making a link in place would be refused.
	temporary := link + ".tmp"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.Symlink(filepath.Base(target), temporary); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, link); err != nil {
		return "", err
	}
	return s.urlOf(path.Join(path.Dir(artifact.Path), linkName)), nil
}

// Remove deletes the artifact's file.
func (s *Storage) Remove(artifact meta.Artifact) error {
	return os.Remove(s.LocalPath(artifact))
}

// RemoveAll deletes all artifacts of the artifact's object. It returns the
// folder deleted, or nothing when there was none.
func (s *Storage) RemoveAll(artifact meta.Artifact) (string, error) {
	folder := s.folderOf(artifact)
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return folder, os.RemoveAll(folder)
}

// GarbageCollect deletes the superseded artifacts of the artifact's object that
// are past their time or beyond the number to keep, and returns their paths.
func (s *Storage) GarbageCollect(ctx context.Context, artifact meta.Artifact, timeout time.Duration) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	current := s.LocalPath(artifact)
	superseded, err := filesBeside(current)
	if err != nil {
		return nil, err
	}

	var deleted []string
	for i, info := range superseded {
		if err := ctx.Err(); err != nil {
			return deleted, err
		}
		// The current artifact is one of the records to keep.
		kept := i+1 < s.retentionRecords
		if kept && time.Since(info.ModTime()) < s.retentionTTL {
			continue
		}
		name := filepath.Join(filepath.Dir(current), info.Name())
		if err := os.Remove(name); err != nil {
			return deleted, err
		}
		deleted = append(deleted, name)
	}
	return deleted, nil
}

// filesBeside lists the regular files next to the given one, the newest first.
func filesBeside(name string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(filepath.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []fs.FileInfo
	for _, entry := range entries {
		if !entry.Type().IsRegular() || entry.Name() == filepath.Base(name) {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		files = append(files, info)
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	return files, nil
}
