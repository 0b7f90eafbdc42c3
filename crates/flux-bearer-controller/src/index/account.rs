//! The ServiceAccount that a BearerToken signs in with: its annotations are read from the API, and with them the spec is
//! understood.

use flux_bearer::decide::{self, lifetime};
use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::{Claims, account_of};
use flux_bearer::resource::BearerTokenSpec;
use flux_bearer::schedule::Failing;
use jiff::Timestamp;

use super::{Asked, Index, Key};

/// What is known of the ServiceAccount of one BearerToken.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: Box<str>,
    /// How far it was read, for the decision.
    pub look: decide::Account,
    /// What it said when it was last read. A look that fails takes nothing back.
    claims: Option<Claims>,
    /// The spec that names it, to be understood anew after each look.
    spec: BearerTokenSpec,
}

impl Account {
    fn new(name: &str, spec: &BearerTokenSpec, claims: Option<Claims>) -> Self {
        Self { name: name.into(), look: decide::Account::default(), claims, spec: spec.clone() }
    }

    /// Why nothing can be wanted before it is read.
    fn unread(&self) -> Failure {
        let failing = self.look.failing.as_ref().map(|failing| failing.failure.clone());
        failing.unwrap_or_else(|| {
            let cause = format!("ServiceAccount {} was not read yet", self.name);
            Failure::new("ServiceAccountUnread", Class::Transient, "ServiceAccountUnread", cause, "Read by itself")
        })
    }
}

impl Index {
    /// The ServiceAccount that `spec` names, with what is known of it already. After a change of the spec it is read again.
    pub(super) fn account(&self, key: &Key, spec: &BearerTokenSpec) -> Option<Account> {
        let name = account_of(&spec.identity)?;
        let before = self.get(key).and_then(|entry| entry.account.as_deref()).filter(|before| *before.name == *name);
        Some(match before {
            Some(before) if before.spec == *spec => before.clone(),
            before => Account::new(name, spec, before.and_then(|before| before.claims.clone())),
        })
    }

    /// What a spec asks for, with what its ServiceAccount says if it names one.
    pub(super) fn ask(
        &mut self,
        key: &Key,
        spec: &BearerTokenSpec,
        account: Option<&Account>,
    ) -> Result<Asked, Box<Failure>> {
        let claims = match account {
            Some(account) => account.claims.clone().ok_or_else(|| account.unread())?,
            None => Claims::default(),
        };
        let mut asked = Asked::read(spec, &key.namespace, &self.pod, &claims)?;
        asked.identity = self.identities.share(&asked.identity);
        Ok(asked)
    }

    /// Takes in what the ServiceAccount of `key` says, or why it can't be read.
    pub fn introduce(&mut self, key: &Key, account: &str, found: Result<Claims, Failure>, now: Timestamp) {
        let Some(entry) = self.get_mut(key) else { return };
        // The spec may name another one by now.
        let Some(mut account) = entry.account.take_if(|known| *known.name == *account) else { return };
        let (before, at_stake) = (account.look.failing.take(), lifetime(&entry.held));
        let failed = |failure: Failure| Failing::after(before.as_ref(), failure, at_stake, now);
        match found {
            Ok(claims) => {
                account.claims = Some(claims);
                account.look.fresh = true;
            }
            Err(failure) => account.look = decide::Account { fresh: false, failing: Some(failed(failure)) },
        }
        let asked = self.ask(key, &account.spec.clone(), Some(&account));
        if let (true, Err(failure)) = (account.look.fresh, &asked) {
            account.look.failing = Some(failed(Failure::clone(failure)));
        }
        let Some(entry) = self.get_mut(key) else { return };
        (entry.account, entry.asked) = (Some(account), asked);
    }
}
