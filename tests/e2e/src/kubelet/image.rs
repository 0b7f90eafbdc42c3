//! The root filesystem of our image, and what a container runtime lays over it.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The bundle of the image: the one place where a client in it finds whom to trust.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What the image's configuration says: the program, and the user that it runs as unless the Pod says otherwise.
pub(super) const ENTRYPOINT: &str = "/flux-bearer-controller";
pub(super) const USER: i64 = 65_532;

/// Files of the machine that a container has as well: names lead where they lead here.
const FILES: [&str; 4] = ["/etc/hosts", "/etc/resolv.conf", "/dev/null", "/dev/urandom"];

/// The image's root filesystem.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    root: PathBuf,
    trust: PathBuf,
}

/// Something that is mounted into a container.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) source: PathBuf,
    pub(super) target: String,
    pub(super) read_only: bool,
}

impl Image {
    /// The image whose root filesystem is `root`: a copy, for places to mount at are made in it. Its containers trust the
    /// certificates of `trust` instead of those of the image, for Azure's own can't be had here.
    pub(crate) fn at(root: PathBuf, trust: PathBuf) -> anyhow::Result<Self> {
        let bundle = root.join(BUNDLE.trim_start_matches('/'));
        ensure!(bundle.is_file(), "the image has no CA bundle: {} is missing", bundle.display());
        Ok(Self { root, trust })
    }

    /// The folder that becomes a container's root.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// What every container has mounted.
    pub(super) fn mounts(&self) -> Vec<Mount> {
        let existing = FILES.into_iter().filter(|file| Path::new(file).exists());
        let mut mounts: Vec<Mount> =
            existing.map(|file| Mount { source: file.into(), target: file.to_owned(), read_only: false }).collect();
        mounts.push(Mount { source: self.trust.clone(), target: BUNDLE.to_owned(), read_only: true });
        mounts
    }

    /// Makes the place where `mount` will be.
    pub(super) fn prepare(&self, mount: &Mount) -> anyhow::Result<()> {
        let place = self.root.join(mount.target.trim_start_matches('/'));
        let make = || {
            if mount.source.is_dir() {
                return std::fs::create_dir_all(&place);
            }
            place.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::File::options().create(true).append(true).open(&place).map(drop)
        };
        make().with_context(|| format!("no place to mount at: {}", place.display()))
    }
}
