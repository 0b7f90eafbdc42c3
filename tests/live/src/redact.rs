//! Takes out of a transcript what is nobody's business: tokens, cookies, addresses, people, and the ids and names of
//! whoever ran it. What an id was replaced by stays the same throughout a transcript, so that it can still be followed.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::clean::PREFIX;
use crate::record::Exchange;
use crate::settings::Settings;

/// Ids that Microsoft has published: the application of Azure DevOps, its security namespaces, nobody, and zero.
const PUBLIC: [&str; 6] = [
    "499b84ac-1321-427f-aa17-267ca6975798",
    "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87",
    "52d39943-cb85-4d7f-8fa8-c6baac873819",
    "3e65f728-f8bc-4ecd-8764-7e378b19bfa7",
    "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
    "00000000-0000-0000-0000-000000000000",
];

/// Fields of JSON whose text is a credential.
const SECRET: [&str; 6] = ["access_token", "refresh_token", "id_token", "device_code", "user_code", "client_assertion"];

/// Fields of JSON whose text names somebody or something of a company.
const NAMING: [&str; 8] = [
    "displayName",
    "providerDisplayName",
    "customDisplayName",
    "principalName",
    "mailAddress",
    "directoryAlias",
    "description",
    "defaultBranch",
];

/// Kinds of subject descriptors of Azure DevOps; what follows the dot is an id in Base64.
const SUBJECTS: [&str; 13] =
    ["aadsp", "aadgp", "vssgp", "aad", "svc", "msa", "scp", "bnd", "imp", "s2s", "unusr", "win", "sp"];

/// Letters of a run that is too long for a word, and so may be a key.
const OPAQUE: usize = 64;

/// Redacts one transcript.
pub struct Redactor {
    /// Ids in lower case, and what stands for each.
    ids: BTreeMap<String, String>,
    /// Names in lower case, and what stands for each; the longest first, for one may begin another.
    names: Vec<(String, &'static str)>,
}

impl Redactor {
    /// A redactor that knows what the settings name.
    pub fn new(settings: &Settings) -> Self {
        let ids = [(&settings.tenant, "<tenant>"), (&settings.subscription, "<subscription>")];
        let pairs = [
            (&settings.organization, "<organization>"),
            (&settings.project, "<project>"),
            (&settings.repository, "<repository>"),
        ];
        // Bodies have URLs, too, in which a blank is encoded.
        let spelled = |(name, stand_in): (&String, &'static str)| {
            let name = name.to_lowercase();
            [(name.replace(' ', "%20"), stand_in), (name, stand_in)]
        };
        let mut names: Vec<_> = pairs.into_iter().flat_map(spelled).collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self { ids: ids.map(|(id, name)| (id.to_lowercase(), name.to_owned())).into(), names }
    }

    /// The exchange, redacted.
    pub fn exchange(&mut self, exchange: Exchange) -> Exchange {
        let Exchange { step, method, host, path, status, headers, body } = exchange;
        let (path, body) = (self.text(&path), self.value(body));
        let headers = headers.into_iter().map(|(name, values)| {
            let is_cookie = name == "set-cookie";
            let values = values.iter().map(|value| if is_cookie { "<cookie>".to_owned() } else { self.text(value) });
            let values = values.collect();
            (name, values)
        });
        let headers = headers.collect();
        Exchange { step, method, host: self.text(&host), path, status, headers, body }
    }

    fn value(&mut self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text(&text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| self.field(&name, value)).collect(),
            other => other,
        }
    }

    fn field(&mut self, name: &str, value: Value) -> (String, Value) {
        let value = match value {
            Value::String(_) if SECRET.contains(&name) => "<token>".into(),
            Value::String(text) if NAMING.contains(&name) && !text.starts_with(PREFIX) => "<name>".into(),
            other => self.value(other),
        };
        (self.text(name), value)
    }

    /// The text, redacted.
    pub fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = ' ';
        while let Some(letter) = rest.chars().next() {
            let found = self.found(rest, before);
            let taken = found.as_ref().map_or(letter.len_utf8(), |(length, _)| *length);
            let (word, after) = rest.split_at_checked(taken).unwrap_or((rest, ""));
            out.push_str(found.as_ref().map_or(word, |(_, name)| name));
            before = word.chars().next_back().unwrap_or(letter);
            rest = after;
        }
        out
    }

    /// What `rest` begins with that has to go: how many bytes, and what stands for it.
    fn found(&mut self, rest: &str, before: char) -> Option<(usize, String)> {
        // A percent sign or a letter of the word before may stand right before an id, so it counts anywhere.
        if let Some(length) = guid(rest) {
            return Some((length, self.id(rest.get(..length)?, "guid")));
        }
        if before.is_alphanumeric() {
            return None;
        }
        if let Some(length) = jwt(rest) {
            return Some((length, "<token>".to_owned()));
        }
        if let Some(length) = subject(rest) {
            return Some((length, self.id(rest.get(..length)?, "subject")));
        }
        if let Some(length) = security_identifier(rest) {
            return Some((length, self.id(rest.get(..length)?, "sid")));
        }
        if let Some(length) = mail(rest) {
            return Some((length, "<e-mail>".to_owned()));
        }
        if let Some(length) = address(rest) {
            return Some((length, "<address>".to_owned()));
        }
        if let Some(named) = self.named(rest) {
            return Some(named);
        }
        let length = run(rest, |letter| letter.is_ascii_alphanumeric() || "+=_-".contains(letter));
        if rest.get(..length).is_some_and(|word| word.len() == 32 && word.chars().all(|it| it.is_ascii_hexdigit())) {
            return Some((length, self.id(rest.get(..length)?, "guid")));
        }
        (length >= OPAQUE).then(|| (length, "<opaque>".to_owned()))
    }

    fn id(&mut self, id: &str, kind: &str) -> String {
        let id = id.to_lowercase();
        if PUBLIC.contains(&id.as_str()) {
            return id;
        }
        let next = format!("<{kind}-{}>", self.ids.len());
        self.ids.entry(id).or_insert(next).clone()
    }

    fn named(&self, rest: &str) -> Option<(usize, String)> {
        self.names.iter().filter(|(name, _)| !name.is_empty()).find_map(|(name, stand_in)| {
            let begins = rest.get(..name.len())?.eq_ignore_ascii_case(name);
            let ends = !rest.get(name.len()..)?.starts_with(char::is_alphanumeric);
            (begins && ends).then(|| (name.len(), (*stand_in).to_owned()))
        })
    }
}

fn run(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|letter| !wanted(letter)).unwrap_or(text.len())
}

fn guid(text: &str) -> Option<usize> {
    const LENGTH: usize = 36;
    let parts: Vec<&str> = text.get(..LENGTH)?.split('-').collect();
    let shape = parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]);
    (shape && parts.iter().all(|part| part.chars().all(|letter| letter.is_ascii_hexdigit()))).then_some(LENGTH)
}

/// A signed token, or its beginning: they all begin with `{"` in Base64.
fn jwt(text: &str) -> Option<usize> {
    let length = run(text, |letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
    (text.starts_with("eyJ") && length >= 16).then_some(length)
}

fn subject(text: &str) -> Option<usize> {
    let (kind, id) = text.split_once('.')?;
    let length = run(id, |letter| letter.is_ascii_alphanumeric() || "-_".contains(letter));
    (SUBJECTS.contains(&kind) && length >= 16).then_some(kind.len() + 1 + length)
}

/// The last part of a group's identity descriptor: `S-1-9-…`.
fn security_identifier(text: &str) -> Option<usize> {
    let length = run(text, |letter| letter.is_ascii_digit() || "S-".contains(letter));
    (text.starts_with("S-1-") && length > 16).then_some(length)
}

fn mail(text: &str) -> Option<usize> {
    let user = run(text, |letter| letter.is_alphanumeric() || "._%+-#".contains(letter));
    let domain = text.get(user..)?.strip_prefix('@')?;
    let length = run(domain, |letter| letter.is_alphanumeric() || ".-".contains(letter));
    (user > 0 && domain.get(..length)?.contains('.')).then_some(user + 1 + length)
}

fn address(text: &str) -> Option<usize> {
    let length = run(text, |letter| letter.is_ascii_digit() || letter == '.');
    text.get(..length)?.parse::<std::net::Ipv4Addr>().is_ok().then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(&Settings {
            subscription: "11111111-1111-4111-8111-111111111111".to_owned(),
            tenant: "72f988bf-0000-4000-8000-000000000001".to_owned(),
            organization: "fabrikam".to_owned(),
            project: "fabrikam fleet".to_owned(),
            repository: "clusters".to_owned(),
            location: "westeurope".to_owned(),
            sign_in: None,
        })
    }

    #[test]
    fn what_is_nobodys_business_goes_and_the_rest_stays() {
        let jwt = format!("eyJ0eXAiOiJKV1QifQ.{}.c2ln-_", "a".repeat(80));
        let table = [
            (
                "AADSTS90002: Tenant '72F988BF-0000-4000-8000-000000000001' not found.".to_owned(),
                "AADSTS90002: Tenant '<tenant>' not found.",
            ),
            (format!("Bearer {jwt}, next"), "Bearer <token>, next"),
            ("aadsp.YjM0Y2RiZmQtMWYyZC03MGM2LWIwNGEtOGE5OWQzMDFhNmNk".to_owned(), "<subject-2>"),
            (
                "Claims.AadServicePrincipal;72f988bf-0000-4000-8000-000000000001\\99999999-0000-4000-8000-000000000009"
                    .to_owned(),
                "Claims.AadServicePrincipal;<tenant>\\<guid-2>",
            ),
            ("Identity;S-1-9-1551374245-1204400969-2402986413".to_owned(), "Identity;<sid-2>"),
            ("sent by Ada.Lovelace+x@fabrikam.example today".to_owned(), "sent by <e-mail> today"),
            ("from 203.0.113.7; version 2.1.11419.13".to_owned(), "from <address>; version 2.1.11419.13"),
            (
                "/fabrikam/Fabrikam Fleet/_git/clusters/info/refs".to_owned(),
                "/<organization>/<project>/_git/<repository>/info/refs",
            ),
            (
                "https://dev.azure.com/fabrikam/Fabrikam%20Fleet/".to_owned(),
                "https://dev.azure.com/<organization>/<project>/",
            ),
            ("%5C99999999-0000-4000-8000-00000000000a%5C".to_owned(), "%5C<guid-2>%5C"),
            ("0123456789abcdef0123456789abcdef".to_owned(), "<guid-2>"),
            ("k".repeat(64), "<opaque>"),
            (
                "499b84ac-1321-427f-aa17-267ca6975798/.default".to_owned(),
                "499b84ac-1321-427f-aa17-267ca6975798/.default",
            ),
            ("fabrikams, systemclusters, TF400813, grün".to_owned(), "fabrikams, systemclusters, TF400813, grün"),
        ];
        for (text, expected) in table {
            assert_eq!(redactor().text(&text), expected);
        }
    }

    #[test]
    fn an_id_keeps_its_name_throughout() {
        let mut redactor = redactor();
        let (one, other) = ("99999999-0000-4000-8000-000000000009", "99999999-0000-4000-8000-00000000000a");
        assert_eq!(redactor.text(&format!("{one} {other}")), "<guid-2> <guid-3>");
        assert_eq!(redactor.text(&format!("{other} {}", one.to_uppercase())), "<guid-3> <guid-2>");
    }

    #[test]
    fn cookies_credentials_and_people_go_whatever_they_look_like() {
        let body = serde_json::json!({
            "access_token": "short", "user_code": "ABCD", "displayName": "Ada Lovelace", "id": 7,
            "value": [{"displayName": "flux-bearer-live-t1", "Ada@fabrikam.example": null}],
        });
        let exchange = Exchange {
            step: "x".to_owned(),
            method: "GET".to_owned(),
            host: "fabrikam.visualstudio.com".to_owned(),
            path: "/".to_owned(),
            status: 200,
            headers: [("set-cookie".to_owned(), vec!["fpc=secret; path=/".to_owned()])].into(),
            body,
        };
        let redacted = redactor().exchange(exchange);
        assert_eq!(redacted.headers["set-cookie"], ["<cookie>"]);
        assert_eq!(redacted.host, "<organization>.visualstudio.com");
        assert_eq!(
            redacted.body.to_string(),
            r#"{"access_token":"<token>","displayName":"<name>","id":7,"user_code":"<token>","value":[{"<e-mail>":null,"displayName":"flux-bearer-live-t1"}]}"#
        );
    }
}
