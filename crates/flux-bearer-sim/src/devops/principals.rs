//! Members as Azure DevOps describes them: ids, the two kinds of descriptor, and the objects of Graph and Identities.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Exchange;
use super::groups::Group;
use crate::state::{Application, Kind, Organization, State, User, derived_uuid};

/// How the identity descriptor of a service principal begins, and of a person.
const SERVICE_PRINCIPAL: &str = "Microsoft.VisualStudio.Services.Claims.AadServicePrincipal";
const PERSON: &str = "Microsoft.IdentityModel.Claims.ClaimsIdentity";

/// A member of an organisation, with what its tenant says of it.
#[derive(Clone, Copy)]
pub(super) struct Principal<'a> {
    pub(super) organization: &'a Organization,
    pub(super) object_id: &'a str,
    who: Who<'a>,
}

#[derive(Clone, Copy)]
enum Who<'a> {
    Application(&'a Application),
    User(&'a User),
    /// Nobody that the tenant has (any more): taken for a person, who then has no name.
    Unknown,
}

impl<'a> Principal<'a> {
    pub(super) fn new(state: &'a State, organization: &'a Organization, object_id: &'a str) -> Self {
        let who = match (state.principal(object_id), state.user(object_id)) {
            (Some(application), _) => Who::Application(application),
            (None, Some(user)) => Who::User(user),
            (None, None) => Who::Unknown,
        };
        Self { organization, object_id, who }
    }

    /// All members.
    pub(super) fn all(state: &'a State, organization: &'a Organization) -> impl Iterator<Item = Self> {
        organization.members.iter().map(|member| Self::new(state, organization, &member.object_id))
    }

    pub(super) fn application(self) -> Option<&'a Application> {
        match self.who {
            Who::Application(application) => Some(application),
            Who::User(_) | Who::Unknown => None,
        }
    }

    /// The id by which the organisation stores it: a GUID of version 6.
    pub(super) fn storage_key(self) -> String {
        derived_uuid(&[&self.organization.name, self.object_id], '6')
    }

    /// `aadsp.…` or `aad.…`, whose id differs from the storage key in the version digit (a rule inferred from examples).
    pub(super) fn subject_descriptor(self) -> String {
        let prefix = if self.application().is_some() { "aadsp" } else { "aad" };
        descriptor(prefix, &derived_uuid(&[&self.organization.name, self.object_id], '7'))
    }

    /// `Microsoft.….AadServicePrincipal;{tenant}\{object id}` or `Microsoft.….ClaimsIdentity;{tenant}\{user}`.
    pub(super) fn descriptor(self) -> String {
        let kind = if self.application().is_some() { SERVICE_PRINCIPAL } else { PERSON };
        format!("{kind};{}\\{}", self.organization.tenant_id, self.account())
    }

    /// What it signs in as: object id of a service principal, user principal name of a person.
    fn account(self) -> &'a str {
        match self.who {
            Who::User(user) => &user.user_principal_name,
            Who::Application(_) | Who::Unknown => self.object_id,
        }
    }

    /// People have one; here it is what they sign in as.
    pub(super) fn mail_address(self) -> Option<&'a str> {
        match self.who {
            Who::User(user) => Some(&user.user_principal_name),
            Who::Application(_) | Who::Unknown => None,
        }
    }

    pub(super) fn name(self) -> &'a str {
        match self.who {
            Who::Application(application) => &application.name,
            Who::User(user) => user.name(),
            Who::Unknown => self.object_id,
        }
    }

    /// Whether this names it: storage key, subject descriptor or identity descriptor.
    pub(super) fn is_named(self, name: &str) -> bool {
        self.subject_descriptor() == name
            || self.descriptor().eq_ignore_ascii_case(name)
            || self.storage_key().eq_ignore_ascii_case(name)
    }

    /// The object of Graph.
    pub(super) fn graph(self) -> Value {
        let descriptor = self.subject_descriptor();
        let graph = format!("https://vssps.dev.azure.com/{}/_apis/Graph", self.organization.name);
        let (kind, list) =
            if self.application().is_some() { ("servicePrincipal", "ServicePrincipals") } else { ("user", "Users") };
        let own = format!("{graph}/{list}/{descriptor}");
        let link = |href: String| json!({"href": href});
        let mut object = json!({
            "subjectKind": kind,
            "metaType": "member",
            "directoryAlias": self.account(),
            "domain": self.organization.tenant_id,
            "principalName": self.account(),
            "mailAddress": self.mail_address(),
            "origin": "aad",
            "originId": self.object_id,
            "displayName": self.name(),
            "_links": {
                "self": link(own.clone()),
                "memberships": link(format!("{graph}/Memberships/{descriptor}")),
                "membershipState": link(format!("{graph}/MembershipStates/{descriptor}")),
                "storageKey": link(format!("{graph}/StorageKeys/{descriptor}")),
                "avatar": link(format!("{graph}/Subjects/{descriptor}/avatars")),
            },
            "url": own,
            "descriptor": descriptor,
        });
        if let (Some(application), Some(object)) = (self.application(), object.as_object_mut()) {
            let meta = if application.kind == Kind::ManagedIdentity { "managedIdentity" } else { "application" };
            object.insert("metaType".to_owned(), json!(meta));
            object.insert("applicationId".to_owned(), json!(application.client_id));
        }
        object
    }

    /// The object of `connectionData`.
    pub(super) fn connected(self) -> Value {
        json!({
            "id": self.storage_key(),
            "descriptor": self.descriptor(),
            "subjectDescriptor": self.subject_descriptor(),
            "providerDisplayName": self.name(),
            "isActive": true,
            "resourceVersion": 2,
            "metaTypeId": 0,
            "properties": {"Account": {"$type": "System.String", "$value": self.account()}},
        })
    }

    /// The object of Identities.
    pub(super) fn identity(self) -> Value {
        identity(&IdentityOf {
            id: &self.storage_key(),
            descriptor: &self.descriptor(),
            subject_descriptor: &self.subject_descriptor(),
            name: self.name(),
            class: "User",
            domain: &self.organization.tenant_id,
            account: self.account(),
            object_id: Some(self.object_id),
        })
    }
}

impl Group<'_> {
    /// The object of Graph.
    pub(super) fn graph(self, organization: &Organization) -> Value {
        let descriptor = self.subject_descriptor();
        let own = format!("https://vssps.dev.azure.com/{}/_apis/Graph/Groups/{descriptor}", organization.name);
        json!({
            "subjectKind": "group",
            "description": "",
            "domain": self.domain(),
            "principalName": self.principal_name(),
            "mailAddress": null,
            "origin": "vsts",
            "originId": self.id(),
            "displayName": self.name(),
            "_links": {"self": {"href": own}},
            "url": own,
            "descriptor": descriptor,
        })
    }

    /// The object of Identities.
    pub(super) fn identity(self) -> Value {
        identity(&IdentityOf {
            id: &self.id(),
            descriptor: &self.descriptor(),
            subject_descriptor: &self.subject_descriptor(),
            name: &self.principal_name(),
            class: "Group",
            domain: &self.domain(),
            account: self.name(),
            object_id: None,
        })
    }
}

struct IdentityOf<'a> {
    id: &'a str,
    descriptor: &'a str,
    subject_descriptor: &'a str,
    name: &'a str,
    class: &'a str,
    domain: &'a str,
    account: &'a str,
    object_id: Option<&'a str>,
}

fn identity(of: &IdentityOf<'_>) -> Value {
    let text = |value: &str| json!({"$type": "System.String", "$value": value});
    let mut properties = json!({
        "SchemaClassName": text(of.class),
        "Domain": text(of.domain),
        "Account": text(of.account),
    });
    if let (Some(object_id), Some(properties)) = (of.object_id, properties.as_object_mut()) {
        let claim = "http://schemas.microsoft.com/identity/claims/objectidentifier";
        properties.insert(claim.to_owned(), text(object_id));
    }
    json!({
        "id": of.id,
        "descriptor": of.descriptor,
        "subjectDescriptor": of.subject_descriptor,
        "providerDisplayName": of.name,
        "isActive": true,
        "isContainer": of.class == "Group",
        "members": [],
        "memberOf": [],
        "memberIds": [],
        "properties": properties,
        "resourceVersion": 2,
        "metaTypeId": 0,
    })
}

/// `{kind}.{text in base64url}`.
pub(super) fn descriptor(kind: &str, text: &str) -> String {
    format!("{kind}.{}", URL_SAFE_NO_PAD.encode(text))
}

impl<'a> Exchange<'a> {
    /// The member that this storage key or descriptor names.
    pub(super) fn principal_named(&self, name: &str) -> Option<Principal<'a>> {
        Principal::all(self.state, self.organization).find(|one| one.is_named(name))
    }

    /// The object id, or the GUID of the group, that this descriptor or storage key names.
    pub(super) fn subject_named(&self, name: &str) -> Option<String> {
        let principal = self.principal_named(name).map(|one| one.object_id.to_owned());
        principal.or_else(|| Group::by_descriptor(self.organization, name).map(Group::id))
    }
}
