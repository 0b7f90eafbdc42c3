//! Where the programs of a run are. `tests/e2e/run` sets the variables.

use std::path::PathBuf;

use clap::Args;

/// The programs, and Flux's resources.
#[derive(Args, Clone, Debug)]
pub(crate) struct Tools {
    /// etcd
    #[arg(long, env = "ETCD")]
    pub(crate) etcd: PathBuf,
    /// kube-apiserver
    #[arg(long, env = "KUBE_APISERVER")]
    pub(crate) kube_apiserver: PathBuf,
    /// kubectl
    #[arg(long, env = "KUBECTL")]
    pub(crate) kubectl: PathBuf,
    /// kube-controller-manager
    #[arg(long, env = "KUBE_CONTROLLER_MANAGER")]
    pub(crate) kube_controller_manager: PathBuf,
    /// source-controller
    #[arg(long, env = "SOURCE_CONTROLLER")]
    pub(crate) source_controller: PathBuf,
    /// kustomize-controller
    #[arg(long, env = "KUSTOMIZE_CONTROLLER")]
    pub(crate) kustomize_controller: PathBuf,
    /// Folder of Flux's CRDs
    #[arg(long, env = "FLUX_CRDS")]
    pub(crate) flux_crds: PathBuf,
    /// Folder with a kustomization of the shipped manifests, as a user would write it
    #[arg(long, env = "FLUX_BEARER_INSTALL")]
    pub(crate) install: PathBuf,
    /// flux-bearer, the command line
    #[arg(long, env = "FLUX_BEARER")]
    pub(crate) flux_bearer: PathBuf,
    /// Folder of the programs over official clients
    #[arg(long, env = "FLUX_BEARER_CLIENTS")]
    pub(crate) clients: PathBuf,
    /// Folder of Python's packages
    #[arg(long, env = "PYTHON_CLIENTS")]
    pub(crate) python_clients: PathBuf,
    /// Folder of the program over JavaScript's clients, with their packages
    #[arg(long, env = "JAVASCRIPT_CLIENTS")]
    pub(crate) javascript_clients: PathBuf,
    /// The program over Go's clients
    #[arg(long, env = "GO_CLIENTS")]
    pub(crate) go_clients: PathBuf,
    /// The program over Rust's clients
    #[arg(long, env = "RUST_CLIENTS")]
    pub(crate) rust_clients: PathBuf,
}
