//! Which Flux is installed: who brought it, its version, and what may be done to its controllers.
//!
//! It is read off source-controller's Deployment, for without it there is nothing that a token could be for.

use std::fmt;

use serde_json::{Value, json};

use crate::checks::facts::argument;
use crate::checks::tag;
use crate::cluster::{At, Cluster};
use crate::exit::Trouble;
use crate::kinds::DEPLOYMENT;
use crate::object::text;

/// Where Flux lives unless somebody has moved it.
pub(crate) const FLUX_SYSTEM: &str = "flux-system";

/// The Deployment that tells.
pub(crate) const SOURCE_CONTROLLER: &str = "source-controller";

/// A Deployment that the extension microsoft.flux brings beside Flux's own, and nobody else does.
const OF_EXTENSION: &str = "fluxconfig-controller";

/// The first Flux whose GitRepository knows `provider: azure`.
const NATIVE: u32 = 4;

/// The first Flux whose GitRepository knows a service account of its own.
const ACCOUNT: u32 = 7;

/// The first Flux in which such an account needs no feature gate, and a right instead; and in which one that is missing
/// stops a GitRepository whatever its Secret says.
pub(crate) const OBJECT_IDENTITY: u32 = 10;

/// A Flux that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flux {
    /// Its namespace.
    pub namespace: String,
    /// Who brought it.
    pub by: By,
    /// The minor version of Flux 2; nothing where source-controller doesn't tell.
    pub minor: Option<u32>,
    /// Whether a GitRepository may name an identity of its own.
    pub identities: Identities,
}

/// Who brought a Flux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `flux bootstrap` or `flux install`.
    Cli,
    /// flux-operator, from a `FluxInstance`.
    Operator,
    /// The extension microsoft.flux of AKS and Arc.
    Extension,
    /// A Helm chart.
    Helm,
    /// Nobody who has left a mark.
    Unknown,
}

/// Whether a GitRepository with `provider: azure` may name a service account of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identities {
    /// All share the identity of the controller.
    Shared,
    /// It may, where the feature gate is on; and whether it is.
    Gated(bool),
    /// It may, where source-controller has the right to ask for the account's token.
    Each,
}

impl Flux {
    /// The Flux beside `namespace`: its own, or else the one where Flux usually lives.
    ///
    /// # Errors
    /// That the cluster can't be asked.
    pub async fn find(cluster: &Cluster, namespace: &str) -> Result<Option<Self>, Trouble> {
        let mut homes = vec![namespace, FLUX_SYSTEM];
        homes.dedup();
        for namespace in homes {
            let at = |name| At { kind: DEPLOYMENT, namespace, name };
            let Some(found) = cluster.get(at(SOURCE_CONTROLLER)).await? else { continue };
            let extension = cluster.get(at(OF_EXTENSION)).await?.is_some();
            return Ok(Some(Self::read(&json!(found), extension)));
        }
        Ok(None)
    }

    fn read(source_controller: &Value, extension: bool) -> Self {
        let minor = minor(source_controller);
        Self {
            namespace: text(source_controller, "/metadata/namespace").to_owned(),
            by: if extension { By::Extension } else { By::read(source_controller) },
            minor,
            identities: minor.map_or(Identities::Shared, |minor| identities(minor, source_controller)),
        }
    }

    /// How its controllers are patched so that it lasts; nothing where they can't be.
    pub fn patched_by(&self) -> Option<&'static str> {
        match self.by {
            By::Cli => Some("a patch of its controllers in Git"),
            By::Operator => Some("a patch of its controllers in spec.kustomize.patches of the FluxInstance"),
            By::Helm => Some("a patch of its controllers in the values of its Helm chart"),
            By::Extension | By::Unknown => None,
        }
    }

    /// Whether something else keeps it as it is, so that a bootstrap would fight.
    pub fn is_others(&self) -> bool {
        matches!(self.by, By::Operator | By::Extension | By::Helm)
    }

    /// Whether its GitRepository knows `provider: azure`.
    pub fn is_native(&self) -> bool {
        self.minor.is_some_and(|minor| minor >= NATIVE)
    }
}

impl fmt::Display for Flux {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Flux")?;
        if let Some(minor) = self.minor {
            write!(out, " 2.{minor}")?;
        }
        let by = match self.by {
            By::Cli => ", installed by its command line",
            By::Operator => ", installed by flux-operator",
            By::Extension => ", installed by the extension microsoft.flux",
            By::Helm => ", installed by Helm",
            By::Unknown => "",
        };
        write!(out, " in {}{by}", self.namespace)
    }
}

impl By {
    /// Who has labelled a Deployment. Flux's own manifests name nobody who manages them.
    fn read(deployment: &Value) -> Self {
        let label = |name: &str| text(deployment, &format!("/metadata/labels/app.kubernetes.io~1{name}"));
        match (label("managed-by"), label("part-of")) {
            ("flux-operator", _) => Self::Operator,
            ("Helm", _) => Self::Helm,
            ("", "flux") => Self::Cli,
            _ => Self::Unknown,
        }
    }
}

/// The minor version of Flux 2. Its source-controller is v1.N in Flux v2.N.
pub(crate) fn minor(source_controller: &Value) -> Option<u32> {
    let labelled = text(source_controller, "/metadata/labels/app.kubernetes.io~1version").strip_prefix("v2.");
    let image = text(source_controller, "/spec/template/spec/containers/0/image");
    let tagged = tag(image).and_then(|(_, tag)| tag.strip_prefix("v1."));
    labelled.or(tagged)?.split('.').next()?.parse().ok()
}

/// What a source-controller of this version makes of a GitRepository's service account.
pub(crate) fn identities(minor: u32, source_controller: &Value) -> Identities {
    let gates = argument(source_controller, "--feature-gates").unwrap_or_default();
    match minor {
        OBJECT_IDENTITY.. => Identities::Each,
        ACCOUNT.. => Identities::Gated(gates.contains("ObjectLevelWorkloadIdentity=true")),
        _ => Identities::Shared,
    }
}
