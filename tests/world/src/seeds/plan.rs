//! What goes wrong in one run, and when: drawn from a seed, so that the seed is enough to see it again.

use std::fmt;

use fastrand::Rng;
use flux_bearer_sim::faults::{Effect, Fault};
use jiff::SignedDuration;

use crate::gate::Death;

const ENTRA: &str = "login.microsoftonline.com";
const IMDS: &str = "169.254.169.254";
const DEVOPS: &str = "dev.azure.com";

/// Seconds after the start in which nothing goes wrong: everything is filled the first time.
const CALM_BEFORE: u32 = 20;

/// Seconds of a retry that is due: the longest pause after a passing failure, and the call that was under way.
const RETRY: u32 = 60 + 10;

/// Seconds until a failure that only a person can help is tried again.
const PERMANENT: u32 = 300 + 10;

/// Seconds until another process leads and has listed everything: the lease's duration, a retry, a list that is not
/// answered at first, and the pause of a watch that fails.
const TAKEOVER: u32 = 35 + 5 + 60 + 30;

/// Seconds of a lease that is not renewed: one renewal that is still answered, all of the lease, and some more.
const STARVED: u32 = 60;

/// Seconds until a watch on which nothing is heard is begun anew.
const SILENT: u32 = 295;

/// What `spec.secret.formats` may say. The last is refused where a GitRepository reads the Secret, whose keys then stay.
const FORMATS: [&[&str]; 3] = [&["Basic"], &["Bearer", "Basic", "Token"], &["Token"]];

/// A run: its cluster, and what happens to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// Seconds that a token lives.
    pub lifetime: u32,
    /// Controllers that share a lease.
    pub replicas: usize,
    /// BearerTokens. The first has the machine's identity, of the metadata service; the others federate.
    pub tokens: usize,
    /// What goes wrong.
    pub incidents: Vec<Incident>,
}

/// One thing that goes wrong for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Seconds after the start.
    pub at: u32,
    /// Seconds that it lasts; for a process that ends, until it is started anew.
    pub lasting: u32,
    /// What.
    pub what: Trouble,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// Requests to Azure meet this.
    Azure(Fault),
    /// Requests to Kubernetes meet this.
    Kubernetes(Fault),
    /// Requests of one machine to Kubernetes meet this.
    Way(usize, Fault),
    /// The clock of one machine is set by so many seconds.
    Clock(usize, i32),
    /// A process is killed.
    Kill(usize),
    /// A process is asked to stop.
    Stop(usize),
    /// A process dies at its next request but so many.
    Die(usize, u32, Death),
    /// Somebody deletes the Secret of a BearerToken.
    SecretGone(usize),
    /// Somebody overwrites the token in the Secret of a BearerToken.
    SecretSpoiled(usize),
    /// Somebody asks for a refresh of a BearerToken.
    Requested(usize),
    /// The credential that a BearerToken signs in with is away.
    CredentialGone,
    /// Every watch falls silent, with its connection open.
    WatchesSilent,
    /// Every watch ends.
    WatchesEnd,
    /// Every watch ends, and the API server has forgotten what it would go on from.
    HistoryGone,
    /// Somebody deletes the Lease.
    LeaseGone,
    /// Nobody may read the repository.
    RightsGone,
    /// A BearerToken is suspended.
    Suspended(usize),
    /// A BearerToken names an identity that doesn't exist.
    NoIdentity(usize),
    /// A BearerToken names another identity from now on.
    OtherIdentity(usize),
    /// One BearerToken more is there: it names a Secret of somebody else.
    Intruder,
    /// One BearerToken more is there, until the end: it is told to adopt the Secret of somebody else.
    Adoption,
    /// One BearerToken more is there, until the end: a ServiceAccount signs in for it.
    Account,
    /// A BearerToken names another Secret, while its GitRepository goes on reading the one before.
    Renamed(usize),
    /// A BearerToken asks for other keys.
    Formats(usize, &'static [&'static str]),
    /// The right to the Secret of a BearerToken is gone.
    Forbidden(usize),
    /// Somebody deletes a BearerToken, and makes it anew in the end.
    TokenGone(usize),
    /// A machine's renewal of the lease is answered late and its next ones are not, while refreshes of every BearerToken are
    /// asked for all the time: there is something to write at the second in which its lease ends.
    LeaseStarved(usize),
}

impl Plan {
    /// The run of this seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Short lives make many refreshes a simulated hour; the long ones are there for the pauses that only they have.
        let lifetime = pick(&mut rng, &[300, 600, 600, 600, 900, 1500, 3600]);
        let (replicas, tokens) = (rng.usize(1..=2), rng.usize(1..=4));
        let mut plan = Self { seed, lifetime, replicas, tokens, incidents: Vec::new() };
        let count = rng.usize(1..=6);
        plan.incidents = (0..count).map(|number| plan.incident(&mut rng, number)).collect();
        plan.incidents.extend(plan.rarity(&mut rng));
        plan.incidents.sort_by_key(|incident| incident.at);
        plan
    }

    /// Whether a Secret may go, and with it what the last working identity was.
    pub(super) fn forgets(&self) -> bool {
        self.incidents.iter().any(|incident| matches!(incident.what, Trouble::SecretGone(_) | Trouble::TokenGone(_)))
    }

    /// How long a request to Kubernetes may be on its way: where several faults delay it, as long as all of them say.
    pub(super) fn on_the_way(&self) -> SignedDuration {
        let delay = |incident: &Incident| match &incident.what {
            Trouble::Kubernetes(fault) | Trouble::Way(_, fault) => fault.delay_ms,
            _ => None,
        };
        let milliseconds = self.incidents.iter().filter_map(delay).sum::<u64>();
        SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX))
    }

    /// Seconds after which nothing more begins.
    pub fn trouble_ends(&self) -> u32 {
        self.incidents.iter().map(Incident::end).max().unwrap_or_default()
    }

    fn incident(&self, rng: &mut Rng, number: usize) -> Incident {
        let at = rng.u32(CALM_BEFORE..CALM_BEFORE + 2 * self.lifetime);
        // As many of seconds as of minutes: what crosses a short fault is not what a long one stops.
        let longest = f64::from(self.lifetime) * 1.2;
        let lasting = longest.powf(rng.f64());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between one and some thousands")]
        Incident { at, lasting: lasting as u32, what: self.trouble(rng, &format!("fault-{number}")) }
    }

    /// What happens in few runs only.
    fn rarity(&self, rng: &mut Rng) -> Option<Incident> {
        let Incident { at, lasting, .. } = self.incident(rng, self.incidents.len());
        match rng.u32(0..12) {
            0 => Some(Incident { at, lasting, what: Trouble::TokenGone(rng.usize(0..self.tokens)) }),
            1 => Some(Incident { at, lasting: STARVED, what: Trouble::LeaseStarved(rng.usize(0..self.replicas)) }),
            2 => Some(Incident { at, lasting: SILENT, what: Trouble::WatchesSilent }),
            3 => Some(Incident { at, lasting, what: Trouble::CredentialGone }),
            4 => Some(Incident { at, lasting, what: Trouble::Adoption }),
            5 => Some(Incident { at, lasting, what: Trouble::Account }),
            6 => Some(Incident { at, lasting, what: Trouble::Renamed(rng.usize(0..self.tokens)) }),
            7 => Some(Incident { at, lasting, what: Trouble::Formats(rng.usize(0..self.tokens), pick(rng, &FORMATS)) }),
            8 => Some(Incident { at, lasting, what: Trouble::Forbidden(rng.usize(0..self.tokens)) }),
            _ => None,
        }
    }

    fn trouble(&self, rng: &mut Rng, name: &str) -> Trouble {
        let (machine, token) = (rng.usize(0..self.replicas), rng.usize(0..self.tokens));
        match rng.u32(0..43) {
            0..10 => Trouble::Azure(azure(rng, name)),
            10..18 => Trouble::Kubernetes(kubernetes(rng, name)),
            18..22 => Trouble::Way(machine, way(rng, name)),
            22..24 => Trouble::Clock(machine, rng.i32(-10_000..10_000)),
            24..26 => Trouble::Kill(machine),
            26 => Trouble::Stop(machine),
            27..32 => {
                let death = if rng.bool() { Death::Before } else { Death::After };
                Trouble::Die(machine, rng.u32(0..30), death)
            }
            32 => Trouble::SecretGone(token),
            33 => Trouble::SecretSpoiled(token),
            34 => Trouble::WatchesEnd,
            35 => Trouble::HistoryGone,
            36 => Trouble::LeaseGone,
            37 => Trouble::RightsGone,
            38 => Trouble::Suspended(token),
            39 | 40 => Trouble::Requested(token),
            41 => Trouble::Intruder,
            _ if rng.bool() => Trouble::NoIdentity(token),
            _ => Trouble::OtherIdentity(token),
        }
    }
}

impl Incident {
    /// Seconds after the start at which it is over.
    pub fn end(&self) -> u32 {
        self.at + self.lasting
    }

    /// Seconds after its end by which all has to be well again.
    pub fn settles_in(&self) -> u32 {
        match &self.what {
            Trouble::Azure(fault) => match &fault.effect {
                Some(Effect::Answer { retry_after: Some(seconds), .. }) => {
                    RETRY.max(u32::try_from(*seconds).unwrap_or(u32::MAX)) + 10
                }
                // What the metadata service refuses, only a person can help.
                Some(Effect::Answer { status: 400, body, .. })
                    if body.contains("700016") || fault.host.as_deref() == Some(IMDS) =>
                {
                    PERMANENT
                }
                _ => RETRY,
            },
            Trouble::NoIdentity(_) | Trouble::RightsGone | Trouble::CredentialGone | Trouble::Forbidden(_) => PERMANENT,
            Trouble::SecretGone(_)
            | Trouble::SecretSpoiled(_)
            | Trouble::TokenGone(_)
            | Trouble::Suspended(_)
            | Trouble::Requested(_)
            | Trouble::OtherIdentity(_)
            | Trouble::Intruder
            | Trouble::Adoption
            | Trouble::Account
            | Trouble::Renamed(_)
            | Trouble::Formats(..) => RETRY,
            // The machine's clock is looked at once a minute.
            Trouble::Clock(..) => 60 + RETRY,
            _ => TAKEOVER,
        }
    }

    /// Whether no Secret may lose its token by it: a commit that is wrong, or a right that is gone, is outlived by the last
    /// working identity, and a Secret that is read by the BearerToken that filled it, whatever that asks for.
    pub(super) fn is_outlived(&self) -> bool {
        matches!(
            self.what,
            Trouble::NoIdentity(_)
                | Trouble::RightsGone
                | Trouble::Intruder
                | Trouble::Adoption
                | Trouble::Account
                | Trouble::Renamed(_)
                | Trouble::Formats(..)
        )
    }

    /// Whether a status may be old meanwhile: nobody is there to write it, or can.
    pub(super) fn blinds(&self) -> bool {
        !self.is_outlived()
            && !matches!(
                self.what,
                Trouble::Azure(_)
                    | Trouble::SecretGone(_)
                    | Trouble::SecretSpoiled(_)
                    | Trouble::TokenGone(_)
                    | Trouble::Suspended(_)
                    | Trouble::Requested(_)
                    | Trouble::OtherIdentity(_)
                    | Trouble::CredentialGone
                    | Trouble::Forbidden(_)
            )
    }
}

fn pick<T: Clone>(rng: &mut Rng, of: &[T]) -> T {
    // Never empty, so the choice is always there; the first stands in for what can't happen.
    rng.choice(of).or(of.first()).cloned().unwrap_or_else(|| unreachable!("nothing to choose from"))
}

/// An answer of this status.
fn answer(status: u16, retry_after: Option<u64>, body: &str) -> Effect {
    Effect::Answer { status, retry_after, content_type: Some("application/json".into()), body: body.into() }
}

/// No good answer, whoever is asked.
fn silence(rng: &mut Rng) -> Effect {
    let after = rng.usize(0..200);
    pick(rng, &[Effect::Hang, Effect::Refuse, Effect::Lose, Effect::Cut { after }])
}

fn azure(rng: &mut Rng, name: &str) -> Fault {
    let host = pick(rng, &[ENTRA, ENTRA, IMDS, DEVOPS]);
    let refusal = |code: u32| format!(r#"{{"error":"invalid_client","error_description":"","error_codes":[{code}]}}"#);
    let effect = match rng.u32(0..9) {
        0 => answer(500, None, ""),
        1 => answer(503, None, "<html>"),
        2 => answer(503, Some(rng.u64(1..120)), ""),
        3 => answer(429, Some(rng.u64(1..120)), ""),
        4 => answer(400, None, &refusal(90_033)),
        5 => answer(400, None, &refusal(700_213)),
        6 => answer(400, None, &refusal(700_016)),
        7 => answer(200, None, "{}"),
        8 if host == DEVOPS => Effect::ClaimsChallenge,
        _ => silence(rng),
    };
    fault(rng, name, Some(host), None, effect)
}

fn kubernetes(rng: &mut Rng, name: &str) -> Fault {
    let path = pick(
        rng,
        &[None, None, Some("/secrets"), Some("/status"), Some("watch=true"), Some("/leases"), Some("/events")],
    );
    let effect = match rng.u32(0..6) {
        0 => answer(500, None, "{}"),
        1 => answer(503, None, "upstream"),
        2 => answer(429, Some(rng.u64(1..30)), "{}"),
        3 => answer(200, None, "<html>"),
        _ => silence(rng),
    };
    fault(rng, name, None, path, effect)
}

/// Less than the five seconds between the last write of a leader and the first of its successor: what is on its way for
/// longer is the API server's to refuse, by its resourceVersion.
const LATE: u64 = 3_000;

fn way(rng: &mut Rng, name: &str) -> Fault {
    let effect = pick(rng, &[Effect::Hang, Effect::Refuse, Effect::Lose]);
    Fault { delay_ms: Some(rng.u64(0..LATE)), ..fault(rng, name, None, None, effect) }
}

/// A fault that meets every request, or every other, or only delays.
fn fault(rng: &mut Rng, name: &str, host: Option<&str>, path: Option<&str>, effect: Effect) -> Fault {
    let (name, host, path) = (name.to_owned(), host.map(str::to_owned), path.map(str::to_owned));
    let fault = Fault { name, host, path, effect: Some(effect), ..Fault::default() };
    match rng.u32(0..5) {
        0 => Fault { effect: None, delay_ms: Some(rng.u64(100..LATE)), ..fault },
        1 => Fault { times: Some(rng.u32(1..5)), ..fault },
        2 => Fault { delay_ms: Some(rng.u64(100..LATE)), ..fault },
        _ => fault,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, lifetime, replicas, tokens, incidents } = self;
        writeln!(f, "seed {seed}: {tokens} BearerTokens, tokens of {lifetime} s, {replicas} controllers")?;
        incidents.iter().try_for_each(|incident| writeln!(f, "  {incident}"))
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} s for {} s: {}", self.at, self.lasting, self.what)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Azure(fault) => write!(f, "Azure: {}", Meets(fault)),
            Self::Kubernetes(fault) => write!(f, "Kubernetes: {}", Meets(fault)),
            Self::Way(machine, fault) => write!(f, "the way of controller {machine} to Kubernetes: {}", Meets(fault)),
            Self::Clock(machine, by) => write!(f, "the clock of controller {machine} is set by {by} s"),
            Self::Kill(machine) => write!(f, "controller {machine} is killed"),
            Self::Stop(machine) => write!(f, "controller {machine} is stopped"),
            Self::Die(machine, passing, death) => {
                let when = if *death == Death::Before { "before" } else { "after" };
                write!(f, "controller {machine} dies {when} it has sent {passing} requests and one more")
            }
            Self::SecretGone(token) => write!(f, "Secret {token} is deleted"),
            Self::SecretSpoiled(token) => write!(f, "the token of Secret {token} is overwritten"),
            Self::Requested(token) => write!(f, "a refresh of BearerToken {token} is asked for"),
            Self::CredentialGone => write!(f, "the credential that a BearerToken signs in with is away"),
            Self::WatchesSilent => write!(f, "every watch falls silent"),
            Self::WatchesEnd => write!(f, "every watch ends"),
            Self::HistoryGone => write!(f, "every watch ends and has to list again"),
            Self::LeaseGone => write!(f, "the Lease is deleted"),
            Self::RightsGone => write!(f, "nobody may read the repository"),
            Self::Suspended(token) => write!(f, "BearerToken {token} is suspended"),
            Self::NoIdentity(token) => write!(f, "BearerToken {token} names an identity that doesn't exist"),
            Self::OtherIdentity(token) => write!(f, "BearerToken {token} names another identity from now on"),
            Self::Intruder => write!(f, "one BearerToken more names a Secret of somebody else"),
            Self::Adoption => write!(f, "one BearerToken more adopts the Secret of somebody else"),
            Self::Account => write!(f, "one BearerToken more signs in as a ServiceAccount"),
            Self::Renamed(token) => write!(f, "BearerToken {token} names another Secret"),
            Self::Formats(token, formats) => write!(f, "BearerToken {token} asks for {}", formats.join(" and ")),
            Self::Forbidden(token) => write!(f, "the right to Secret {token} is gone"),
            Self::TokenGone(token) => write!(f, "BearerToken {token} is deleted"),
            Self::LeaseStarved(machine) => {
                write!(
                    f,
                    "controller {machine} renews its lease late and then no more, and everybody asks for refreshes"
                )
            }
        }
    }
}

/// A fault in words.
struct Meets<'a>(&'a Fault);

impl fmt::Display for Meets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { host, path, times, delay_ms, effect, .. } = self.0;
        let what = host.as_deref().or(path.as_deref()).unwrap_or("every request");
        write!(f, "{what}")?;
        times.iter().try_for_each(|times| write!(f, ", {times} times"))?;
        delay_ms.iter().try_for_each(|delay| write!(f, ", {delay} ms late"))?;
        match effect {
            None => write!(f, ", then as always"),
            Some(Effect::Answer { status, retry_after: None, .. }) => write!(f, ": status {status}"),
            Some(Effect::Answer { status, retry_after: Some(wait), .. }) => {
                write!(f, ": status {status}, Retry-After {wait}")
            }
            Some(Effect::Hang) => write!(f, ": no answer, ever"),
            Some(Effect::Refuse) => write!(f, ": refused"),
            Some(Effect::ClaimsChallenge) => write!(f, ": its token does not suffice"),
            Some(Effect::Cut { after }) => write!(f, ": an answer that ends after {after} bytes"),
            Some(Effect::Lose) => write!(f, ": it arrives, its answer is lost"),
        }
    }
}
