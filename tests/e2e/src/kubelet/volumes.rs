//! A Pod's volumes: empty ones, and projected ones, whose tokens are renewed before they expire.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, DownwardAPIProjection, Pod, ServiceAccount, ServiceAccountTokenProjection,
    VolumeProjection,
};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::plan::field;
use crate::cluster::NAMESPACE;

/// Life of a token whose volume says nothing.
const LIFE: i64 = 3600;

/// A token is renewed after a day, or at four fifths of its life.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The volumes of one Pod, each a folder.
pub(super) struct Volumes {
    folder: PathBuf,
    writable: BTreeSet<String>,
    tokens: Vec<Token>,
}

/// A token in a volume.
struct Token {
    file: PathBuf,
    projection: ServiceAccountTokenProjection,
    renewal: Instant,
}

impl Volumes {
    /// Makes all volumes of the Pod, below `folder`.
    pub(super) async fn make(client: &Client, pod: &Pod, folder: PathBuf) -> anyhow::Result<Self> {
        let mut volumes = Self { folder, writable: BTreeSet::new(), tokens: Vec::new() };
        for volume in pod.spec.clone().and_then(|spec| spec.volumes).unwrap_or_default() {
            if volume.empty_dir.is_some() {
                volumes.empty(&volume.name)?;
                continue;
            }
            let sources = volume.projected.and_then(|projected| projected.sources);
            let sources =
                sources.with_context(|| format!("volume {}: its kind is beyond this stand-in", volume.name))?;
            let folder = volumes.folder(&volume.name);
            std::fs::create_dir_all(&folder)?;
            for source in sources {
                volumes.project(client, pod, &folder, &source).await?;
            }
        }
        Ok(volumes)
    }

    /// The folder of the volume with this name.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether containers may write into the volume with this name.
    pub(super) fn is_writable(&self, name: &str) -> bool {
        self.writable.contains(name)
    }

    /// Makes an `emptyDir`, for whichever user the container has.
    fn empty(&mut self, name: &str) -> anyhow::Result<()> {
        let folder = self.folder(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
        self.writable.insert(name.to_owned());
        Ok(())
    }

    /// Renews the tokens that are due.
    pub(super) async fn renew(&mut self, client: &Client, pod: &Pod) -> anyhow::Result<()> {
        for token in &mut self.tokens {
            if token.renewal <= Instant::now() {
                token.renewal = put(client, pod, &token.projection, &token.file).await?;
            }
        }
        Ok(())
    }

    async fn project(
        &mut self,
        client: &Client,
        pod: &Pod,
        folder: &Path,
        source: &VolumeProjection,
    ) -> anyhow::Result<()> {
        if let Some(projection) = &source.service_account_token {
            let file = folder.join(&projection.path);
            let renewal = put(client, pod, projection, &file).await?;
            self.tokens.push(Token { file, projection: projection.clone(), renewal });
            Ok(())
        } else if let Some(projection) = &source.config_map {
            config_map(client, folder, projection).await
        } else if let Some(projection) = &source.downward_api {
            downward(pod, folder, projection)
        } else {
            bail!("this projection is beyond this stand-in: {source:?}")
        }
    }
}

/// Puts a new token where `projection` wants it, in one step; returns when it is to be renewed.
async fn put(
    client: &Client,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
    file: &Path,
) -> anyhow::Result<Instant> {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let spec = TokenRequestSpec {
        audiences: projection.audience.iter().cloned().collect(),
        expiration_seconds: projection.expiration_seconds.or(Some(LIFE)),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name_any()),
            uid: pod.uid(),
        }),
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    let token = answer.status.context("the TokenRequest was answered without a token")?.token;
    replace(file, &token)?;
    let life = answer.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let life = Duration::from_secs(life.context("the TokenRequest was answered without a lifetime")?);
    Ok(Instant::now() + DAY.min(life * 4 / 5))
}

/// Whoever reads the file finds the old content or the new one, never a part.
fn replace(file: &Path, content: &str) -> anyhow::Result<()> {
    let folder = file.parent().and_then(Path::parent).context("the file is in no volume")?;
    let next = folder.join(".next");
    std::fs::write(&next, content)?;
    std::fs::rename(&next, file).with_context(|| format!("can't write {}", file.display()))
}

async fn config_map(client: &Client, folder: &Path, projection: &ConfigMapProjection) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let Some(map) = maps.get_opt(&projection.name).await? else {
        ensure!(projection.optional.unwrap_or_default(), "configmap {:?} not found", projection.name);
        return Ok(());
    };
    let data = map.data.unwrap_or_default();
    for item in projection.items.as_ref().context("a ConfigMap without items is beyond this stand-in")? {
        let content =
            data.get(&item.key).with_context(|| format!("configmap {:?} has no {}", projection.name, item.key))?;
        replace(&folder.join(&item.path), content)?;
    }
    Ok(())
}

fn downward(pod: &Pod, folder: &Path, projection: &DownwardAPIProjection) -> anyhow::Result<()> {
    for item in projection.items.iter().flatten() {
        let selector = item.field_ref.as_ref().context("this downwardAPI item is beyond this stand-in")?;
        replace(&folder.join(&item.path), &field(pod, selector)?)?;
    }
    Ok(())
}
