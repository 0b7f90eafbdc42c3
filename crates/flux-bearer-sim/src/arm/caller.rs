//! Whose token came along, and whether Azure Resource Manager accepts it.

use http::{HeaderMap, header};
use jiff::Timestamp;

use super::answer::Refused;
use crate::access_token;
use crate::entra::Resource;
use crate::journal::TokenVerdict;
use crate::jwt::Jwt;
use crate::world::World;

/// Who sends a request.
#[expect(clippy::struct_field_names, reason = "they are the ids of Entra, under the names that the state has for them")]
pub(super) struct Caller {
    pub(super) object_id: String,
    pub(super) tenant_id: String,
    /// The application that signed in, or that a person signed in with.
    pub(super) client_id: String,
}

impl Caller {
    /// Reads `Authorization`; what is asked for belongs to `tenant`, where it belongs to one.
    pub(super) fn of(world: &World, headers: &HeaderMap, tenant: Option<&str>) -> Result<Self, Refused> {
        let known = tenant.unwrap_or_default();
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some(token) = token.map(|(_, token)| token.trim()).filter(|token| !token.is_empty()) else {
            let message = "Authentication failed. The 'Authorization' header is missing the access token.";
            return Err(Refused::unauthorized(TokenVerdict::None, "AuthenticationFailedMissingToken", message, known));
        };
        let jwt = access_token::read(world, token, &Resource::RESOURCE_MANAGER);
        let jwt = jwt.map_err(|verdict| flawed(verdict, token, known, world.clock().now()))?;
        if tenant.is_some_and(|tenant| !tenant.eq_ignore_ascii_case(jwt.text("tid"))) {
            return Err(wrong_tenant(&jwt, known));
        }
        Ok(Self {
            object_id: jwt.text("oid").to_owned(),
            tenant_id: jwt.text("tid").to_owned(),
            client_id: jwt.text("appid").to_owned(),
        })
    }
}

/// 401 for a token that is not good here (wordings unconfirmed).
fn flawed(verdict: TokenVerdict, token: &str, tenant: &str, now: Timestamp) -> Refused {
    let jwt = Jwt::parse(token);
    let (code, message) = match (verdict, &jwt) {
        (TokenVerdict::Expired, Some(jwt)) => {
            let ends = Timestamp::from_second(jwt.seconds("exp").unwrap_or_default()).unwrap_or_default();
            let message =
                format!("The access token expiry UTC time '{ends}' is earlier than current UTC time '{now}'.");
            ("ExpiredAuthenticationToken", message)
        }
        (TokenVerdict::WrongAudience, Some(jwt)) => {
            let message = format!(
                "The access token has been obtained for wrong audience or resource '{}'. It should exactly match with \
                 one of the allowed audiences 'https://management.core.windows.net/','https://management.azure.com'.",
                jwt.text("aud")
            );
            ("InvalidAuthenticationTokenAudience", message)
        }
        _ => ("InvalidAuthenticationToken", "The access token is invalid.".to_owned()),
    };
    Refused::unauthorized(verdict, code, message, tenant)
}

/// 401 for a token of another tenant (wording unconfirmed).
fn wrong_tenant(jwt: &Jwt, tenant: &str) -> Refused {
    let message = format!(
        "The access token is from the wrong issuer '{}'. It must match the tenant 'https://sts.windows.net/{tenant}/' \
         associated with this subscription. Please use the authority (URL) 'https://login.windows.net/{tenant}' to get \
         the token.",
        jwt.text("iss")
    );
    Refused::unauthorized(TokenVerdict::NotMember, "InvalidAuthenticationTokenTenant", message, tenant)
}
