//! Where the REST resources are: `OPTIONS /{org}/_apis` and `resourceAreas`.
//!
//! Clients ask for a resource by an id that is a constant of theirs, and find its area's host by the id of the area.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::json;
use super::rest::list;
use super::target::Host;
use super::{Denied, Exchange};
use crate::state::Organization;

/// A resource: where it is served, location id, area, name, route, number of its newest preview.
struct Location(Host, &'static str, &'static str, &'static str, &'static str, u32);

/// Those that every host has.
const EVERYWHERE: [(&str, &str, &str); 2] = [
    ("00d9565f-ed9c-4a06-9a50-00e7896ccab4", "ConnectionData", "_apis/{resource}"),
    ("e81700f7-3be2-46de-8624-2eb35882fcaa", "ResourceAreas", "_apis/{resource}/{areaId}"),
];

const LOCATIONS: [Location; 23] = {
    use Host::{Core, Entitlements, Identities};
    const MEMBERS: &str = "MemberEntitlementManagement";
    [
        Location(Core, "603fe2ac-9723-48b9-88ad-09305aa6c6e1", "core", "projects", "_apis/{resource}/{*projectId}", 4),
        Location(
            Core,
            "9a1b74b4-2ca8-4a9f-8470-c2f2e6fdc949",
            "operations",
            "operations",
            "_apis/{resource}/{operationId}",
            1,
        ),
        Location(
            Core,
            "225f7195-f9c7-4d14-ab28-a83f7ff77e1f",
            "git",
            "repositories",
            "{project}/_apis/{area}/{resource}/{repositoryId}",
            1,
        ),
        Location(
            Core,
            "ce7b9f95-fde9-4be8-a86d-83b366f0b87a",
            "Security",
            "SecurityNamespaces",
            "_apis/{resource}/{securityNamespaceId}",
            1,
        ),
        Location(
            Core,
            "ac08c8ff-4323-4b08-af90-bcd018d380ce",
            "Security",
            "AccessControlEntries",
            "_apis/{resource}/{securityNamespaceId}",
            1,
        ),
        Location(
            Core,
            "18a2ad18-7571-46ae-bec7-0c7da1495885",
            "Security",
            "AccessControlLists",
            "_apis/{resource}/{securityNamespaceId}",
            1,
        ),
        Location(
            Core,
            "dd3b8bd6-c7fc-4cbd-929a-933d9c011c9d",
            "Security",
            "Permissions",
            "_apis/{resource}/{securityNamespaceId}/{permissions}",
            2,
        ),
        Location(
            Core,
            "cf1faa59-1b63-4448-bf04-13d981a46f5d",
            "Security",
            "PermissionEvaluationBatch",
            "_apis/{area}/{resource}",
            1,
        ),
        Location(
            Identities,
            "28010c54-d0c0-4c89-a5b0-1c9e188b9fb7",
            "IMS",
            "Identities",
            "_apis/{resource}/{identityId}",
            1,
        ),
        Location(
            Identities,
            "f83735dc-483f-4238-a291-d45f6080a9af",
            "Profile",
            "Profiles",
            "_apis/{area}/{resource}/{id}",
            3,
        ),
        Location(
            Identities,
            "e1dbb0ae-49cb-4532-95a1-86cd89cfcab4",
            "Graph",
            "ServicePrincipals",
            "_apis/{area}/{resource}/{servicePrincipalDescriptor}",
            1,
        ),
        Location(
            Identities,
            "005e26ec-6b77-4e4f-a986-b3827bf241f5",
            "Graph",
            "Users",
            "_apis/{area}/{resource}/{userDescriptor}",
            1,
        ),
        Location(
            Identities,
            "ebbe6af8-0b91-4c13-8cf1-777c14858188",
            "Graph",
            "Groups",
            "_apis/{area}/{resource}/{groupDescriptor}",
            1,
        ),
        Location(
            Identities,
            "048aee0a-7072-4cde-ab73-7af77b1e0b4e",
            "Graph",
            "Descriptors",
            "_apis/{area}/{resource}/{storageKey}",
            1,
        ),
        Location(
            Identities,
            "eb85f8cc-f0f6-4264-a5b1-ffe2e4d4801f",
            "Graph",
            "StorageKeys",
            "_apis/{area}/{resource}/{subjectDescriptor}",
            1,
        ),
        Location(
            Identities,
            "3fd2e6ca-fb30-443a-b579-95b19ed0934c",
            "Graph",
            "Memberships",
            "_apis/{area}/{resource}/{subjectDescriptor}/{containerDescriptor}",
            1,
        ),
        Location(
            Identities,
            "e34b6394-6b30-4435-94a9-409a5eef3e31",
            "Graph",
            "Memberships",
            "_apis/{area}/{resource}/{subjectDescriptor}",
            1,
        ),
        Location(
            Identities,
            "1ffe5c94-1144-4191-907b-d0211cad36a8",
            "Graph",
            "MembershipStates",
            "_apis/{area}/{resource}/{subjectDescriptor}",
            1,
        ),
        Location(
            Identities,
            "4dd4d168-11f2-48c4-83e8-756fa0de027c",
            "Graph",
            "SubjectLookup",
            "_apis/{area}/{resource}",
            1,
        ),
        Location(
            Identities,
            "05942c89-006a-48ce-bb79-baeb8abf99c6",
            "Graph",
            "SubjectQuery",
            "_apis/{area}/{resource}",
            1,
        ),
        Location(
            Entitlements,
            "f03dbf50-80f8-41b7-8ca2-65b6a178caba",
            MEMBERS,
            "ServicePrincipalEntitlements",
            "_apis/{resource}",
            1,
        ),
        Location(
            Entitlements,
            "1d491a66-190b-43ae-86b8-9c2688c55186",
            MEMBERS,
            "ServicePrincipalEntitlements",
            "_apis/{resource}/{servicePrincipalId}",
            1,
        ),
        Location(
            Entitlements,
            "1e8cabfb-1fda-461e-860f-eeeae54d06bb",
            MEMBERS,
            "MemberEntitlements",
            "_apis/{resource}",
            2,
        ),
    ]
};

/// Areas by id, with their name and host.
const AREAS: [(&str, &str, Host); 7] = [
    ("79134c72-4a58-4b42-976c-04e7115f32bf", "core", Host::Core),
    ("4e080c62-fa21-4fbc-8fef-2a10a2b38049", "git", Host::Core),
    ("bb1e7ec9-e901-4b68-999a-de7012b920f8", "Graph", Host::Identities),
    ("8a3d49b8-91f0-46ef-b33d-dda338c25db3", "IMS", Host::Identities),
    ("8ccfef3d-2b87-4e99-8ccb-66e343d2daa8", "Profile", Host::Identities),
    ("951917ac-a960-4999-8464-e3f0aa25b381", "Location", Host::Core),
    ("68ddce18-2501-45f1-a17b-7931a9922690", "MEMS", Host::Entitlements),
];

/// `OPTIONS _apis`: what this host serves.
pub(super) fn locations(host: Host) -> Response<Body> {
    let everywhere = EVERYWHERE.iter().map(|(id, name, route)| rendered(id, "Location", name, route, 1));
    let own = LOCATIONS.iter().filter(|location| location.0 == host);
    let own = own.map(|Location(_, id, area, name, route, preview)| rendered(id, area, name, route, *preview));
    json(StatusCode::OK, &list(&everywhere.chain(own).collect::<Vec<_>>()))
}

impl Exchange<'_> {
    /// `GET resourceAreas`.
    pub(super) fn areas(&self) -> Response<Body> {
        let areas = AREAS.iter().map(|area| rendered_area(self.organization, *area));
        json(StatusCode::OK, &list(&areas.collect::<Vec<_>>()))
    }

    /// `GET resourceAreas/{id}` (what becomes of an unknown id could not be confirmed).
    pub(super) fn area(&self, id: &str) -> Result<Response<Body>, Denied> {
        let known = AREAS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(id));
        let rendered = known.map(|area| json(StatusCode::OK, &rendered_area(self.organization, *area)));
        rendered.ok_or_else(|| self.bad_request(&format!("There is no resource area '{id}'.")))
    }
}

fn rendered_area(organization: &Organization, (id, name, host): (&str, &str, Host)) -> Value {
    json!({"id": id, "name": name, "locationUrl": format!("https://{}/{}/", host.name(), organization.name)})
}

fn rendered(id: &str, area: &str, resource: &str, route: &str, preview: u32) -> Value {
    json!({
        "id": id,
        "area": area,
        "resourceName": resource,
        "routeTemplate": route,
        "resourceVersion": preview,
        "minVersion": "1.0",
        "maxVersion": "7.2",
        "releasedVersion": if area == "Location" { "0.0" } else { "7.1" },
    })
}
