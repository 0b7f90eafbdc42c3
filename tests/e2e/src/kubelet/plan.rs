//! What a Pod says its container is to run: read from the Pod as the API server stores it.
//!
//! What is beyond this stand-in is an error that names it, so nothing that is shipped goes untested unseen.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, ObjectFieldSelector, Pod, ResourceFieldSelector};
use kube::api::Api;
use kube::{Client, ResourceExt};

use super::NODE;
use super::image::{Image, Mount};
use super::running::Running;
use super::volumes::Volumes;
use crate::cluster::NAMESPACE;

/// What container runtimes set where an image says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container to run.
pub(super) struct Plan {
    /// The program in the image, and its arguments.
    pub(super) command: Vec<String>,
    /// All of its environment.
    pub(super) environment: Vec<(String, String)>,
    /// Its volumes.
    pub(super) mounts: Vec<Mount>,
    /// `USER:GROUP`, where this machine lets us be somebody else.
    pub(super) user: Option<String>,
    /// Whether its root filesystem is.
    pub(super) read_only: bool,
}

impl Plan {
    /// Reads the Pod.
    pub(super) async fn read(
        client: &Client,
        pod: &Pod,
        image: &Image,
        running: &Running,
        volumes: &Volumes,
    ) -> anyhow::Result<Self> {
        let container = container(pod)?;
        let security = container.security_context.clone().unwrap_or_default();
        let environment = environment(client, pod, container).await?;
        Ok(Self {
            command: command(container, image, running, &environment)?,
            environment,
            mounts: mounts(container, volumes)?,
            user: user(pod, container, image)?,
            read_only: security.read_only_root_filesystem.unwrap_or_default(),
        })
    }
}

/// The Pod's one container.
pub(super) fn container(pod: &Pod) -> anyhow::Result<&Container> {
    let spec = pod.spec.as_ref().context("the Pod has no spec")?;
    ensure!(spec.init_containers.iter().flatten().count() == 0, "init containers are beyond this stand-in");
    match spec.containers.as_slice() {
        [container] => Ok(container),
        more => bail!("{} containers in a Pod are beyond this stand-in", more.len()),
    }
}

/// What a `fieldRef` refers to.
pub(super) fn field(pod: &Pod, selector: &ObjectFieldSelector) -> anyhow::Result<String> {
    match selector.field_path.as_str() {
        "metadata.name" => Ok(pod.name_any()),
        "metadata.namespace" => Ok(NAMESPACE.to_owned()),
        "metadata.uid" => pod.uid().context("the Pod has no uid"),
        "spec.nodeName" => Ok(NODE.to_owned()),
        "status.podIP" => Ok("127.0.0.1".to_owned()),
        other => bail!("the field {other} is beyond this stand-in"),
    }
}

fn command(
    container: &Container,
    image: &Image,
    running: &Running,
    environment: &[(String, String)],
) -> anyhow::Result<Vec<String>> {
    let mut command = container.command.clone().unwrap_or_else(|| vec![image.entrypoint().to_owned()]);
    command.extend(container.args.iter().flatten().chain(&running.flags()).chain(image.flags()).cloned());
    command.iter().map(|word| expanded(word, environment)).collect()
}

/// A word with its references `$(NAME)` replaced by what the environment has.
fn expanded(word: &str, environment: &[(String, String)]) -> anyhow::Result<String> {
    let replace = |text: String, (name, value): &(String, String)| text.replace(&format!("$({name})"), value);
    let expanded = environment.iter().fold(word.to_owned(), replace);
    ensure!(!expanded.contains("$("), "{word}: this reference is beyond this stand-in");
    Ok(expanded)
}

async fn environment(client: &Client, pod: &Pod, container: &Container) -> anyhow::Result<Vec<(String, String)>> {
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), pod.name_any()),
        ("KUBERNETES_SERVICE_HOST".to_owned(), "127.0.0.1".to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), "6443".to_owned()),
    ]);
    for from in container.env_from.iter().flatten() {
        let map = from.config_map_ref.as_ref().context("envFrom of a Secret is beyond this stand-in")?;
        ensure!(from.prefix.is_none(), "a prefix of envFrom is beyond this stand-in");
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        match maps.get_opt(&map.name).await? {
            Some(found) => all.extend(found.data.unwrap_or_default()),
            None => ensure!(map.optional.unwrap_or_default(), "configmap {:?} not found", map.name),
        }
    }
    for variable in container.env.iter().flatten() {
        all.insert(variable.name.clone(), value(pod, container, variable)?);
    }
    Ok(all.into_iter().collect())
}

fn value(pod: &Pod, container: &Container, variable: &EnvVar) -> anyhow::Result<String> {
    let Some(from) = &variable.value_from else {
        let value = variable.value.clone().unwrap_or_default();
        ensure!(!value.contains("$("), "{}: a reference is beyond this stand-in", variable.name);
        return Ok(value);
    };
    if let Some(selector) = &from.resource_field_ref {
        return limit(container, selector);
    }
    let selector = from.field_ref.as_ref();
    let selector = selector.with_context(|| format!("{}: this valueFrom is beyond this stand-in", variable.name))?;
    field(pod, selector)
}

/// What a `resourceFieldRef` refers to: a limit of memory in bytes.
fn limit(container: &Container, selector: &ResourceFieldSelector) -> anyhow::Result<String> {
    ensure!(selector.resource == "limits.memory", "{} is beyond this stand-in", selector.resource);
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let limit = limits.and_then(|limits| limits.get("memory")).context("the container has no limit of memory")?;
    let (number, factor) = [("Mi", 1_u64 << 20), ("Gi", 1 << 30)]
        .iter()
        .find_map(|(unit, factor)| Some((limit.0.strip_suffix(unit)?, factor)))
        .with_context(|| format!("the limit {} is beyond this stand-in", limit.0))?;
    Ok((number.parse::<u64>()? * factor).to_string())
}

fn mounts(container: &Container, volumes: &Volumes) -> anyhow::Result<Vec<Mount>> {
    let mounts = container.volume_mounts.iter().flatten().map(|mount| {
        ensure!(mount.sub_path.is_none(), "{}: subPath is beyond this stand-in", mount.name);
        let (source, target) = (volumes.folder(&mount.name), mount.mount_path.clone());
        // A projected volume is read-only whatever the mount says.
        let read_only = !volumes.is_writable(&mount.name) || mount.read_only.unwrap_or_default();
        Ok(Mount { source, target, read_only })
    });
    mounts.collect()
}

/// The user that the Pod or the image names. An ordinary user, in a namespace of one user, can be nobody else.
fn user(pod: &Pod, container: &Container, image: &Image) -> anyhow::Result<Option<String>> {
    let own = container.security_context.clone().unwrap_or_default();
    let pods = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let user = own.run_as_user.or(pods.run_as_user).unwrap_or(image.user());
    let group = own.run_as_group.or(pods.run_as_group).unwrap_or(image.user());
    let non_root = own.run_as_non_root.or(pods.run_as_non_root).unwrap_or_default();
    ensure!(!non_root || user != 0, "container has runAsNonRoot and image will run as root");
    Ok(has_other_users()?.then(|| format!("{user}:{group}")))
}

/// Whether this process's user namespace has more than one user.
fn has_other_users() -> anyhow::Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    let count = map.split_whitespace().nth(2).context("/proc/self/uid_map can't be read")?;
    Ok(count.parse::<u64>()? > 1)
}
