//! Whose token came along, and whether Azure DevOps accepts it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use crate::access_token;
use crate::entra::Resource;
use crate::journal::TokenVerdict;
use crate::state::{Organization, PersonalAccessToken};
use crate::world::World;

/// Who sends a request.
pub(super) enum Caller {
    /// No one that can be told; the verdict says why.
    Stranger(TokenVerdict),
    /// The identity of a good token.
    Known(Identity),
}

/// Whose a good token is.
#[expect(clippy::struct_field_names, reason = "they are the ids of Entra, under the names that the state has for them")]
pub(super) struct Identity {
    pub(super) object_id: String,
    pub(super) tenant_id: String,
    /// None for a personal access token, which Entra has nothing to do with.
    pub(super) client_id: Option<String>,
}

/// What `Authorization` has.
enum Presented {
    Bearer(String),
    Basic { user: String, password: String },
}

impl Presented {
    fn of(authorization: &str) -> Option<Self> {
        let (scheme, value) = authorization.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(value.trim().to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some(Self::Basic { user: user.to_owned(), password: password.to_owned() })
    }

    /// An access token comes as Bearer, or as a Basic password with any user that is not empty.
    fn access_token(&self) -> Option<&str> {
        match self {
            Self::Bearer(token) => Some(token),
            Self::Basic { user, password } => (!user.is_empty()).then_some(password),
        }
    }

    /// A personal access token comes as a Basic password only.
    fn personal_access_token<'a>(&self, organization: &'a Organization) -> Option<&'a PersonalAccessToken> {
        let Self::Basic { password, .. } = self else { return None };
        organization.personal_access_tokens.iter().find(|token| token.value == *password)
    }
}

impl Caller {
    /// Reads `Authorization`.
    pub(super) fn of(world: &World, organization: &Organization, headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Self::Stranger(TokenVerdict::None) };
        let presented = value.to_str().ok().and_then(Presented::of);
        if let Some(token) = presented.as_ref().and_then(|presented| presented.personal_access_token(organization)) {
            return Self::of_personal(world, organization, token);
        }
        let token = presented.as_ref().and_then(Presented::access_token);
        let Some(token) = token else { return Self::Stranger(TokenVerdict::Malformed) };
        match access_token::read(world, token, &[Resource::AZURE_DEVOPS.audience()]) {
            Err(verdict) => Self::Stranger(verdict),
            Ok(jwt) => Self::Known(Identity {
                object_id: jwt.text("oid").to_owned(),
                tenant_id: jwt.text("tid").to_owned(),
                client_id: Some(jwt.text("appid").to_owned()),
            }),
        }
    }

    fn of_personal(world: &World, organization: &Organization, token: &PersonalAccessToken) -> Self {
        if token.expires_at.is_some_and(|end| end <= world.clock().now()) {
            return Self::Stranger(TokenVerdict::Expired);
        }
        let (object_id, tenant_id) = (token.object_id.clone(), organization.tenant_id.clone());
        Self::Known(Identity { object_id, tenant_id, client_id: None })
    }
}
