//! The images that containers run out of: their root filesystems, and what a container runtime lays over them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// The bundle of an image: the one place where a client in it finds whom to trust.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Files of the machine that a container has as well: names lead where they lead here.
const FILES: [&str; 4] = ["/etc/hosts", "/etc/resolv.conf", "/dev/null", "/dev/urandom"];

/// An image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    name: String,
    root: PathBuf,
    trust: PathBuf,
    entrypoint: String,
    user: i64,
    program: Option<PathBuf>,
    flags: Vec<String>,
}

/// The images that there are.
#[derive(Clone, Debug)]
pub(crate) struct Images(Vec<Image>);

impl Images {
    /// These ones.
    pub(crate) fn of(all: Vec<Image>) -> Self {
        Self(all)
    }

    /// The one that a container names, from whatever registry and with whatever tag: there is but one of each.
    pub(super) fn named(&self, reference: &str) -> anyhow::Result<&Image> {
        let last = reference.rsplit('/').next().unwrap_or_default();
        let name = last.split([':', '@']).next().unwrap_or_default();
        let found = self.0.iter().find(|image| image.name == name);
        found.with_context(|| format!("ErrImagePull: there is no image {reference}"))
    }
}

/// Something that is mounted into a container.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) source: PathBuf,
    pub(super) target: String,
    pub(super) read_only: bool,
}

impl Image {
    /// Our image, whose root filesystem is `root`: a copy, for places to mount at are made in it. Its containers trust the
    /// certificates of `trust` instead of those of the image, for Azure's own can't be had here.
    pub(crate) fn ours(root: PathBuf, trust: PathBuf) -> anyhow::Result<Self> {
        let bundle = root.join(BUNDLE.trim_start_matches('/'));
        ensure!(bundle.is_file(), "the image has no CA bundle: {} is missing", bundle.display());
        let (name, entrypoint) = ("flux-bearer-controller".to_owned(), "/flux-bearer-controller".to_owned());
        Ok(Self { name, root, trust, entrypoint, user: 65_532, program: None, flags: Vec::new() })
    }

    /// An image of Flux, which can't be pulled here: its static program in an empty root filesystem, that is made in
    /// `folder`. Its containers get these flags after those of their Pod.
    pub(crate) fn flux(program: &Path, folder: &Path, trust: PathBuf, flags: &[&str]) -> anyhow::Result<Self> {
        let Some(name) = program.file_name().and_then(|name| name.to_str()) else {
            bail!("{} is no program", program.display())
        };
        let root = folder.join(name);
        std::fs::create_dir_all(&root)?;
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (name, entrypoint) = (name.to_owned(), format!("/usr/local/bin/{name}"));
        Ok(Self { name, root, trust, entrypoint, user: 65_534, program: Some(program.to_owned()), flags })
    }

    /// The program, unless the Pod names one.
    pub(super) fn entrypoint(&self) -> &str {
        &self.entrypoint
    }

    /// The user that it runs as, unless the Pod says otherwise.
    pub(super) fn user(&self) -> i64 {
        self.user
    }

    /// Flags that its containers get here.
    pub(super) fn flags(&self) -> &[String] {
        &self.flags
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
        let program = self.program.iter().map(|program| (program, &*self.entrypoint));
        for (source, target) in program.chain([(&self.trust, BUNDLE)]) {
            mounts.push(Mount { source: source.clone(), target: target.to_owned(), read_only: true });
        }
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
