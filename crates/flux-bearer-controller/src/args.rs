//! Flags and environment: the one list of both. Flux's names where they mean the same.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use flux_bearer::identity::Allowed;
use flux_bearer_azure::binding::{Binding, Variables, VariablesError};

use crate::lease;
use crate::logs::{Encoding, Verbosity};
use crate::notifications;
use crate::watch::secrets::Secrets;

/// Keeps the Secrets that Flux reads filled with fresh Entra ID tokens for Azure DevOps.
#[derive(Clone, Debug, Parser)]
#[command(name = "flux-bearer-controller", version)]
pub struct Args {
    /// Address of /metrics; 0 turns it off
    #[arg(long, default_value = ":8080")]
    pub metrics_addr: String,

    /// Address of /healthz and /readyz; 0 turns it off
    #[arg(long, default_value = ":9440")]
    pub health_addr: String,

    /// Address of notification-controller, which is told of events; empty tells it nothing
    #[arg(long, env = "EVENTS_ADDR", default_value = "")]
    pub events_addr: String,

    /// From which level on lines are logged
    #[arg(long, value_enum, default_value = "info")]
    pub log_level: Verbosity,

    /// How log lines look
    #[arg(long, value_enum, default_value = "json")]
    pub log_encoding: Encoding,

    /// How many BearerTokens are worked on at the same time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrent: u16,

    /// Watch every namespace; false watches only the controller's own
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub watch_all_namespaces: bool,

    /// Watch only BearerTokens with these labels, for sharding
    #[arg(long)]
    pub watch_label_selector: Option<String>,

    /// How Secrets are watched, so that one that is changed or deleted is put right at once
    #[arg(long, value_enum, default_value = "named")]
    pub watch_secrets: Secrets,

    /// Let only one of several replicas write
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_leader_election: bool,

    /// Give the lease back when stopping
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_election_release_on_cancel: bool,

    /// How long a follower waits after the last renewal that it saw
    #[arg(long, default_value = "35s", value_parser = duration)]
    pub leader_election_lease_duration: Duration,

    /// How long after the start of its last renewal the leader still writes
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub leader_election_renew_deadline: Duration,

    /// Pause between two attempts to get or renew the lease
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub leader_election_retry_period: Duration,

    /// Longest time between two refreshes of a token, however long it lives
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub max_refresh_interval: Duration,

    /// Let a namespace other than the controller's use the pod's credential: namespace=tenantId/clientId, repeatable
    #[arg(long)]
    pub allow_identity: Vec<Allowed>,

    /// CA certificates (PEM) to trust for Azure besides the system's, for a proxy that inspects TLS; read again when it changes
    #[arg(long)]
    pub ca_file: Option<PathBuf>,

    /// Namespace of the controller
    #[arg(long, env = "RUNTIME_NAMESPACE", default_value = "flux-system")]
    pub runtime_namespace: String,

    /// Name of this process in lease and events
    #[arg(long, env = "HOSTNAME", default_value = "flux-bearer-controller")]
    pub instance: String,

    /// Tenant of the pod's identity
    #[arg(long, env = "AZURE_TENANT_ID")]
    pub tenant_id: Option<String>,

    /// Client id of the pod's identity
    #[arg(long, env = "AZURE_CLIENT_ID")]
    pub client_id: Option<String>,

    /// File of the pod's projected service account token
    #[arg(long, env = "AZURE_FEDERATED_TOKEN_FILE")]
    pub federated_token_file: Option<PathBuf>,

    /// AKS identity bindings: proxy where the pod's own identity signs in, in Entra ID's place
    #[arg(long, env = "AZURE_KUBERNETES_TOKEN_PROXY")]
    pub kubernetes_token_proxy: Option<String>,

    /// Name that TLS asks that proxy for, in place of the host of its URL
    #[arg(long, env = "AZURE_KUBERNETES_SNI_NAME")]
    pub kubernetes_sni_name: Option<String>,

    /// CA certificates (PEM) that alone vouch for that proxy; read again when they change
    #[arg(long, env = "AZURE_KUBERNETES_CA_FILE")]
    pub kubernetes_ca_file: Option<String>,

    /// The same as text, in place of the file
    #[arg(long, env = "AZURE_KUBERNETES_CA_DATA")]
    pub kubernetes_ca_data: Option<String>,

    /// Where Entra ID is asked; Azure DevOps Services exists in the public cloud alone
    #[arg(long, env = "AZURE_AUTHORITY_HOST", default_value = "https://login.microsoftonline.com/")]
    pub authority_host: String,

    /// Proxy for Azure
    #[arg(long, env = "HTTPS_PROXY")]
    pub https_proxy: Option<String>,

    /// Hosts that are reached without the proxy
    #[arg(long, env = "NO_PROXY")]
    pub no_proxy: Option<String>,
}

/// Reads a duration as Go and Flux write it: `35s`, `1h30m`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let fault = || format!("{text:?} is not a duration such as 35s or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).filter(|end| *end > 0).ok_or_else(fault)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|char: char| char.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(fault()),
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)).ok_or_else(fault)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(fault)?;
        rest = tail;
    }
    // A year is more than anybody means, and keeps sums of instants in range.
    (Duration::from_millis(1)..=Duration::from_secs(365 * 24 * 3600))
        .contains(&total)
        .then_some(total)
        .ok_or_else(fault)
}

impl Args {
    /// The token proxy of AKS, where the pod is bound to one.
    pub fn binding(&self) -> Result<Option<Binding>, VariablesError> {
        Binding::read(Variables {
            token_proxy: self.kubernetes_token_proxy.as_deref(),
            sni_name: self.kubernetes_sni_name.as_deref(),
            ca_file: self.kubernetes_ca_file.as_deref(),
            ca_data: self.kubernetes_ca_data.as_deref(),
        })
    }

    /// What clap can't tell of a flag by itself, and that the flags fit together.
    pub fn check(&self) -> Result<(), String> {
        notifications::address(&self.events_addr)?;
        let (duration, deadline, retry) = (
            self.leader_election_lease_duration,
            self.leader_election_renew_deadline,
            self.leader_election_retry_period,
        );
        if deadline >= duration {
            return Err("--leader-election-renew-deadline must be less than --leader-election-lease-duration, or two leaders could write".into());
        }
        if duration > lease::LONGEST {
            return Err("--leader-election-lease-duration must be at most 10m, or nobody serves for that long after a leader's death".into());
        }
        if retry >= deadline {
            return Err("--leader-election-retry-period must be less than --leader-election-renew-deadline, or the lease can't be kept".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flux_bearer_azure::binding::Ca;

    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [("35s", 35_000), ("1h30m", 5_400_000), ("500ms", 500), ("1m0s", 60_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "35", "s", "1.5h", "-1s", "1d", "0s", "99999999999999999999h", "9999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lease_times_that_would_allow_two_leaders_are_refused() {
        let args = |extra: &[&str]| Args::parse_from([&["x"], extra].concat());
        assert!(args(&[]).check().is_ok());
        assert!(args(&["--leader-election-renew-deadline=35s"]).check().is_err());
        assert!(args(&["--leader-election-retry-period=30s"]).check().is_err());
        assert!(args(&["--leader-election-lease-duration=10m"]).check().is_ok());
        assert!(args(&["--leader-election-lease-duration=601s"]).check().is_err());
    }

    #[test]
    fn a_pod_is_bound_by_four_variables_and_by_none_that_are_empty() {
        let binding = |flags: &[&str]| Args::parse_from([&["x"], flags].concat()).binding();
        let empty =
            ["--kubernetes-token-proxy=", "--kubernetes-sni-name=", "--kubernetes-ca-file=", "--kubernetes-ca-data="];
        assert_eq!((binding(&[]), binding(&empty)), (Ok(None), Ok(None)));
        let proxy = "--kubernetes-token-proxy=https://10.0.0.1/";
        let bound = binding(&[proxy, "--kubernetes-sni-name=proxy.example", "--kubernetes-ca-file=/ca.crt"]);
        let bound = bound.unwrap().unwrap();
        assert_eq!(bound.server_name, Some("proxy.example".try_into().unwrap()));
        assert_eq!(bound.ca, Ca::File("/ca.crt".into()));
        assert_eq!(binding(&[proxy, "--kubernetes-ca-data=PEM"]).unwrap().unwrap().ca, Ca::Pem(b"PEM".to_vec()));
        assert!(binding(&["--kubernetes-ca-file=/ca.crt"]).is_err());
    }

    #[test]
    fn boolean_flags_are_written_as_in_flux() {
        let args = |flag: &str| Args::parse_from(["x", flag]).enable_leader_election;
        assert!(args("--enable-leader-election"));
        assert!(!args("--enable-leader-election=false"));
    }
}
