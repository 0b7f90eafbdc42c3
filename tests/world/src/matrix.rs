//! The fault matrix: what may go wrong, what becomes of it, and which tests hold that. `docs/reliability.md` is made of it.
//!
//! A test says in its name which rows it holds (`row_08_09_…`), so there is no list of tests that could be wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number, which never changes.
    pub number: u8,
    /// What goes wrong.
    pub fault: &'static str,
    /// What becomes of it.
    pub expected: &'static str,
    /// What a test looks at.
    pub criterion: &'static str,
    /// The end-to-end tests that meet it with the real API server, by name.
    pub end_to_end: &'static [&'static str],
    /// What no test holds, and why. A row without a test has it.
    pub open: &'static str,
}

/// Every row, in order.
pub fn rows() -> impl Iterator<Item = Row> {
    TABLE.iter().map(|&(number, fault, expected, criterion, end_to_end, open)| Row {
        number,
        fault,
        expected,
        criterion,
        end_to_end,
        open,
    })
}

type Line = (u8, &'static str, &'static str, &'static str, &'static [&'static str], &'static str);

// "Zero" is zero seconds in which the Secret holds a token that has expired.
#[rustfmt::skip]
const TABLE: &[Line] = &[
    (1, "Entra ID is down", "The old token stays and is Ready; `RefreshFailing` says why. Retries back off to a sixtieth of the lifetime, a minute at most", "Zero for half the lifetime less 2 min; recovered within 60 s", &["outage", "native"], ""),
    (2, "Entra ID is down for longer than the token lives", "`Ready` turns False, `TokenExpired`, at the second of the expiry", "Within 1 s of the expiry; recovered within 60 s", &["outage"], ""),
    (3, "Entra ID swallows what it is sent", "Each call has 10 s", "Nothing waits longer", &["silent"], ""),
    (4, "Entra ID is slow, also byte by byte", "As above; others notice nothing", "Others are refreshed within a second of their time", &[], ""),
    (5, "Entra ID answers 429 with `Retry-After`", "It is obeyed, 300 s at most", "No request before its end", &[], ""),
    (6, "IMDS answers 429, 410, 404", "It is waited for over 70 s; at most 20 requests a second and 5 under way", "The limits hold", &[], ""),
    (7, "Entra ID fails every other time", "Retries, and one mint an identity", "At most two requests a token", &[], ""),
    (8, "Entra ID refuses: subject, case, application, issuer, audience", "What may be on its way is asked for every 15 s for 10 min, then `Stalled` and every 60 s; the rest is `Stalled` at once and asked for every 5 min. The message has the code and the fix", "Reason, fix, 60 or 12 requests an hour", &[], ""),
    (9, "A federated credential was just made", "As above: not `Stalled` for 10 min", "Ready within 15 s of its being known", &[], ""),
    (10, "A token has expired on arrival", "It is refused, the old one stays, no loop", "At most a request a minute", &[], ""),
    (11, "The same token comes again", "No write; the next look is at its real end", "No write", &[], ""),
    (12, "A token lives 10 min, 60 s, 5 s", "It is replaced at 40 to 45 % of what the issuer gave, and after a second at the earliest", "Zero down to 10 s", &["five_lifetimes"], ""),
    (13, "A token lives 24 h", "It is replaced within the hour", "At most an hour between two mints", &[], ""),
    (14, "A token of another tenant, audience, client or object", "It is not written: `TokenMismatch`", "The Secret is the same to the byte", &[], ""),
    (15, "An answer that is malformed, huge, cut off or endless", "A cap of 64 KiB, a code in words", "No panic, nothing repeated", &[], ""),
    (16, "A token with NUL, CR or LF", "It is refused: `TokenUnusable`", "The Secret is the same to the byte", &[], ""),
    (17, "The clock is stepped by hours; the machine sleeps for two", "Monotonic between events, wall time once a minute", "Recovered within 60 s", &[], ""),
    (18, "The node's clock is off", "Expiries are read by the issuer's own `Date`; an offset of 5 min is told", "Zero at an hour either way", &[], ""),
    (19, "The API server is down", "The Secret serves; the token that is due is minted once and waits in memory", "Zero for half the lifetime less 2 min; written within 5 s", &["api_server"], ""),
    (20, "The API server swallows what it is sent, amid a watch", "Calls have 10 s, the start of a watch 60 s, a silent watch 295 s", "Tokens are on time; the watches come back", &["silent"], "That a watch which is silent ends after 295 s takes five minutes: in process only"),
    (21, "410, a restart, ten thousand objects listed again", "Lists come in pages of 100; nothing is minted", "No mint, no write", &["api_server"], "Memory is measured: `tests/e2e/measure`"),
    (22, "Others write the Secret all the time", "A write is pinned to a version; on 409 it is looked at again", "At most two writes a token", &[], ""),
    (23, "429 of the API server's priority and fairness", "`Retry-After` is obeyed", "No write before its end", &[], ""),
    (24, "Writes stall for 5 s, or their answer is lost", "What became of it is looked at", "One write a token", &[], ""),
    (25, "A webhook or policy of others refuses our write", "`WriteRejected`, without its words; every 5 min", "Reason, fix, 12 requests an hour", &[], ""),
    (26, "Somebody deletes the Secret", "Made anew at once, of the token in memory; where it may not be watched, within a minute", "2 s, or 61 s; no mint", &[], ""),
    (27, "Somebody edits the Secret", "Put right at once; after five times in a minute both wait, and it is said with whom", "1 s; at most five a minute", &["adoption"], ""),
    (28, "Two BearerTokens want one Secret", "The older has it, then the lower uid; the other says `SecretConflict`", "The first is unaffected", &[], ""),
    (29, "The Secret is somebody else's", "Untouched without `adopt`: `SecretNotOwned`", "The same to the byte", &["adoption"], ""),
    (30, "The Secret is immutable", "`SecretImmutable` with the command; made anew once it is deleted", "The same to the byte", &[], ""),
    (31, "The BearerToken is deleted while no controller runs", "There is neither owner reference nor finalizer: the Secret stays until its token expires, or goes as its `deletionPolicy` says once a controller sees it", "Let go at the next start", &["release"], ""),
    (32, "The namespace goes", "Quietly", "No warning, no error", &["namespace"], ""),
    (33, "An object that can't be read, or of a newer schema", "That one says `InvalidSpec`, all others are served", "All others Ready", &["poisoned", "crd"], ""),
    (34, "SIGKILL at any step of a refresh", "The state is on the Secret: the next start goes on", "Zero; at most one mint more", &["restart", "steps", "leader"], ""),
    (35, "SIGTERM amid a storm", "Work in hand ends within 10 s, the lease is given back", "The other leads at its next look at the lease, 5 s unless `--leader-election-retry-period` says less", &["rollout"], "The suite drains without a storm: `tests/e2e/soak` ends leaders amid forty refreshes a second"),
    (36, "The leader is cut off or stopped, and the lease lost", "No write starts after the deadline of the last renewal; a stale one is refused by its pin", "No write after the deadline, never two writers", &["leader"], ""),
    (37, "Both replicas are dead for half of what is left", "The next start finds the token due", "Zero", &[], ""),
    (38, "Ten thousand objects under a limit of memory", "24 MiB", "Resident memory", &[], "Memory of a process can't be simulated: `tests/e2e/measure` measures it, DESIGN.md has the figures"),
    (39, "The projected token is rotated, missing or half written", "It is read at each use", "Nothing is filled until it is good again", &["from_nothing"], ""),
    (40, "The cluster's signing key or issuer is another one", "A new key is fetched by Entra ID; another issuer is told with its fix and tried again by itself", "Recovered within 60 s", &[], ""),
    (41, "DNS fails, is slow, or IPv6 is all there is", "A deadline and a name; each call resolves anew", "The failure says to check DNS", &["ipv6"], "Names are resolved by libc: a resolver that is slow or wrong can't be simulated in process"),
    (42, "The proxy is down; something in between has a CA of its own", "It is told as the proxy's, or as the certificate's; IMDS is asked past the proxy", "A name each", &[], ""),
    (43, "TLS: expired, another host, an old version", "Refused", "No handshake", &[], "That rustls refuses an expired certificate and another host is rustls' own to test; TLS 1.1 it does not speak"),
    (44, "Azure DevOps doesn't let the identity in: TF401019, TF401444, VS800075, 203, 302", "The token is written; `Accessible` is False with the command", "A probe in 5 min", &["push"], ""),
    (45, "Azure DevOps answers 429, or not at all", "The probe waits, the refresh doesn't", "Zero", &[], ""),
    (46, "A thousand are due in one second", "Spread over the window by uid; one mint an identity", "At most a tenth of them in ten seconds", &[], ""),
    (47, "A namespace flaps", "Concurrency is bounded, namespaces take turns, no key twice while another of its namespace waits", "Zero for the others, a second late at most", &[], ""),
    (48, "The disk is full, the root read-only", "Nothing is written to it", "No call that writes a file", &["from_nothing"], ""),
    (49, "A scraper hangs, or ten thousand come", "At most 16 connections at a time, a minute each; scrapes read memory and hold no lock meanwhile", "Places come back after a minute", &[], ""),
    (50, "Nobody reads the log", "1 024 lines wait, what comes then is dropped: `flux_bearer_log_lines_dropped_total`", "Nobody who logs waits", &[], ""),
    (51, "The network is cut at any step of `setup` or `migrate`", "A run again comes to the same end, nothing twice", "Broken at every write in four ways", &["setup"], ""),
    (52, "A right of the operator is missing", "It stops before the first change, and says who must grant what", "No write", &[], ""),
    (53, "An upgrade and a rollback", "Records of either version are read; a definition of another version is told", "Zero, no mint", &["rollout"], "There is one version so far: the suite rolls two tags of it"),
];

/// A test that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// Numbers of the rows.
    pub rows: Vec<u8>,
}

/// The tests in these sources that name rows, by name.
pub fn tests<'a>(sources: impl IntoIterator<Item = &'a str>) -> Vec<Test> {
    let mut found: Vec<Test> = sources.into_iter().flat_map(str::lines).filter_map(named).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn named(line: &str) -> Option<Test> {
    let function = line.trim_start().trim_start_matches("async ").strip_prefix("fn ")?;
    let (name, _) = function.split_once('(')?;
    let numbers = name.strip_prefix("row_")?.split('_').map_while(|part| part.parse().ok());
    Some(Test { name: name.to_owned(), rows: numbers.collect() })
}

/// Every Rust source below a folder, with its path, but not what was built of it.
pub fn sources(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            found.extend(if path.ends_with("target") { Vec::new() } else { sources(&path)? });
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), fs::read_to_string(&path)?));
        }
    }
    Ok(found)
}

/// What became of tests, by name: whether each passed.
pub type Outcomes = BTreeMap<String, bool>;

/// What a run said: `cargo test`, `tests/e2e/run`, or both.
pub fn outcomes(said: &str) -> Outcomes {
    said.lines().filter_map(outcome).collect()
}

fn outcome(line: &str) -> Option<(String, bool)> {
    if let Some((path, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
        let name = path.rsplit("::").next()?;
        return Some((name.to_owned(), result == "ok"));
    }
    let (name, result) = line.split_once(" s  ")?.1.split_once(": ")?;
    (result == "passed" || result.starts_with("FAILED")).then(|| (name.to_owned(), result == "passed"))
}

/// Before the name of a test: what became of it.
const MARKS: [(&str, Option<bool>); 3] = [("✔ ", Some(true)), ("✗ ", Some(false)), ("· ", None)];

/// The outcomes that a report tells.
pub fn told(report: &str) -> Outcomes {
    let cells = report.lines().flat_map(|line| line.split(['|', '<', '>'])).map(str::trim);
    let told = cells.filter_map(|cell| {
        let (mark, passed) = MARKS.into_iter().find(|(mark, _)| cell.starts_with(mark))?;
        Some((cell.strip_prefix(mark)?.trim_matches('`').to_owned(), passed?))
    });
    told.collect()
}

/// The report: `docs/reliability.md`.
pub fn report(tests: &[Test], outcomes: &Outcomes) -> String {
    let mut text = HEAD.to_owned();
    let end_to_end = rows().flat_map(|row| row.end_to_end.iter().copied());
    let mut names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).chain(end_to_end).collect();
    names.sort_unstable();
    names.dedup();
    let count = |wanted: Option<bool>| names.iter().filter(|name| outcomes.get(**name).copied() == wanted).count();
    let (passed, failed, not_run) = (count(Some(true)), count(Some(false)), count(None));
    text.extend([format!(
        "In the last run {passed} tests passed (✔), {failed} failed (✗), {not_run} were not run (·).\n\n"
    )]);
    text.push_str(
        "| | what goes wrong | what becomes of it | held to | tests | end to end |\n|---|---|---|---|---|---|\n",
    );
    for row in rows() {
        let mine = tests.iter().filter(|test| test.rows.contains(&row.number)).map(|test| test.name.as_str());
        let (mine, far) = (cell(mine, outcomes), cell(row.end_to_end.iter().copied(), outcomes));
        let Row { number, fault, expected, criterion, .. } = row;
        text.extend([format!("| {number} | {fault} | {expected} | {criterion} | {mine} | {far} |\n")]);
    }
    text.push_str("\n## What is not held by a test\n\n");
    for row in rows().filter(|row| !row.open.is_empty()) {
        text.extend([format!("- {} ({}): {}.\n", row.number, row.fault, row.open)]);
    }
    text
}

fn cell<'a>(names: impl Iterator<Item = &'a str>, outcomes: &Outcomes) -> String {
    let marked = names.map(|name| {
        let passed = outcomes.get(name).copied();
        let mark = MARKS.into_iter().find(|(_, of)| *of == passed).map_or("", |(mark, _)| mark);
        format!("{mark}`{name}`")
    });
    marked.collect::<Vec<_>>().join("<br>")
}

const HEAD: &str = "\
# Reliability

Made by `tests/world/matrix` from a run of the tests; the rows are in [matrix.rs](../tests/world/src/matrix.rs).

**The Secret never holds an expired token through any outage of Entra ID or of the API server up to half the life of the token
that the issuer gave, less two minutes; after a longer one it recovers within 60 s, `Retry-After` apart.** Rows 1, 2 and 19 hold
it, for tokens of 10, 60, 75 and 90 minutes and of a day, from the worst moment: just before a refresh. So were these measured
(`cargo run -p flux-bearer-world --bin outages`, [figures](outages.csv)):

![How long a Secret holds an expired token, by the length of the outage](outages.svg)

Each test plays the real controller in a simulated Azure and a simulated Kubernetes API on a paused clock, or asks one of its
parts; its name says which rows it holds. Beside them `cargo run -p flux-bearer-world --bin seeds` plays faults that seeds draw,
several at a time. What is named under *end to end* runs the release binary against a real API server (`tests/e2e/run`).
\"Zero\" is zero seconds in which the Secret holds a token that has expired.

## What goes wrong

";
