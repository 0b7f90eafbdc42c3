"""The set-up by Microsoft's own client libraries, unchanged.

    set_up.py round-trip        make it all, look at it in every way there is, meet the refusals, undo it
    set_up.py make              make it: prints the client id as JSON
    set_up.py read              print as JSON what the libraries see of it, whoever made it
    set_up.py unmake            undo it

    pip install -r requirements.txt
    flux-bearer-sim run -- python set_up.py round-trip

Ends with 0, or with 1 and one line that names the first difference. `round-trip` undoes what it made also when it fails, and
inside the simulator compares the state with the one before.

Variables (in brackets what the simulator's example state has):
    AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET   who does it; without a secret a person, by device code
    AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP [fleet], AZURE_CLUSTER [aks; empty: none is looked at]
    AZURE_DEVOPS_ORGANIZATION [contoso], AZURE_DEVOPS_PROJECT [platform], AZURE_DEVOPS_REPOSITORY [fleet]
    IDENTITY [set-up-clients], ISSUER [the cluster's], SUBJECT, LOCATION [the cluster's]
"""

import json
import logging
import os
import sys
import tempfile
import urllib.request

# The library keeps what it learns of a server between runs, in the user's home unless told otherwise.
CACHE = tempfile.TemporaryDirectory()
os.environ["AZURE_DEVOPS_CACHE_DIR"] = CACHE.name

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.devops.connection import Connection
from azure.devops.credentials import BasicTokenAuthentication
from azure.devops.exceptions import AzureDevOpsServiceError
from azure.devops.v7_1.graph.models import GraphSubjectLookup, GraphSubjectLookupKey
from azure.identity import ClientSecretCredential, DeviceCodeCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.containerservice import ContainerServiceClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.resource.resources import ResourceManagementClient

TENANT = os.environ.get("AZURE_TENANT_ID", "00000000-aaaa-4000-8000-000000000001")
CLIENT = os.environ.get("AZURE_CLIENT_ID", "00000000-bbbb-4000-8000-000000000002")
SECRET = os.environ.get("AZURE_CLIENT_SECRET", "example-secret")
SUBSCRIPTION = os.environ.get("AZURE_SUBSCRIPTION_ID", "00000000-dddd-4000-8000-000000000001")
GROUP = os.environ.get("AZURE_RESOURCE_GROUP", "fleet")
CLUSTER = os.environ.get("AZURE_CLUSTER", "aks")
ORGANIZATION = os.environ.get("AZURE_DEVOPS_ORGANIZATION", "contoso")
PROJECT = os.environ.get("AZURE_DEVOPS_PROJECT", "platform")
REPOSITORY = os.environ.get("AZURE_DEVOPS_REPOSITORY", "fleet")

ADMIN = os.environ.get("FLUX_BEARER_SIM_ADMIN")
DEVOPS = "499b84ac-1321-427f-aa17-267ca6975798/.default"
GIT_NAMESPACE = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87"
PROJECT_NAMESPACE = "52d39943-cb85-4d7f-8fa8-c6baac873819"
NAME = os.environ.get("IDENTITY", "set-up-clients")
SUBJECT = os.environ.get("SUBJECT", "system:serviceaccount:flux-system:flux-bearer-controller")
AUDIENCES = ["api://AzureADTokenExchange"]
# What is made here is known by them.
TAGS = {"app": "set-up-clients"}
# The project may be seen, the repository may be read: what each security namespace calls its bit for that.
READ = {PROJECT_NAMESPACE: 1, GIT_NAMESPACE: 2}


class Difference(Exception):
    """The first thing that is not as it should be."""


def expect(what, found, expected):
    if found != expected:
        raise Difference(f"{what}: {found!r} instead of {expected!r}")


def expect_refusal(what, code, kinds, call):
    try:
        call()
    except kinds as error:
        found = getattr(getattr(error, "error", None), "code", None) or getattr(error, "type_key", None)
        return expect(what, found, code)
    raise Difference(f"{what}: it was not refused")


def credential():
    if SECRET:
        return ClientSecretCredential(TENANT, CLIENT, SECRET)
    # Whoever types the code in is the simulator's business.
    return DeviceCodeCredential(tenant_id=TENANT, prompt_callback=lambda *_: None)


def state():
    with urllib.request.urlopen(f"{ADMIN}/state") as answer:
        return json.load(answer)


class Arm:
    """What is made in the subscription."""

    def __init__(self, who):
        self.msi = ManagedServiceIdentityClient(who, SUBSCRIPTION)
        self.identities = self.msi.user_assigned_identities
        self.credentials = self.msi.federated_identity_credentials
        self.groups = ResourceManagementClient(who, SUBSCRIPTION).resource_groups
        self.rights = AuthorizationManagementClient(who, SUBSCRIPTION)
        self.clusters = ContainerServiceClient(who, SUBSCRIPTION).managed_clusters

    def place(self):
        """The issuer that is federated, and where the identity is to be."""
        if not CLUSTER:
            return os.environ["ISSUER"], os.environ["LOCATION"]
        cluster = self.clusters.get(GROUP, CLUSTER)
        expect("the cluster's issuer is on", cluster.oidc_issuer_profile.enabled, True)
        return cluster.oidc_issuer_profile.issuer_url, cluster.location

    def look(self):
        expect("existence of the resource group", self.groups.check_existence(GROUP), True)
        expect("existence of another", self.groups.check_existence("none"), False)
        rights = [right.actions for right in self.rights.permissions.list_for_resource_group(GROUP)]
        expect("the caller's actions", rights, [["*"]])
        roles = list(self.rights.role_assignments.list_for_resource_group(GROUP))
        expect("any role assignment", bool(roles), True)
        cluster = self.clusters.get(GROUP, CLUSTER)
        expect("workload identity is on", cluster.security_profile.workload_identity.enabled, True)
        expect("clusters in the subscription", [one.name for one in self.clusters.list()], [CLUSTER])

    def make(self):
        issuer, location = self.place()
        if not self.groups.check_existence(GROUP):
            self.groups.create_or_update(GROUP, {"location": location, "tags": TAGS})
        made = self.identities.create_or_update(GROUP, NAME, {"location": location, "tags": TAGS})
        self.wanted = {"issuer": issuer, "subject": SUBJECT, "audiences": AUDIENCES}
        self.credentials.create_or_update(GROUP, NAME, "flux", self.wanted)
        return made

    def try_everything(self, made):
        read = self.identities.get(GROUP, NAME)
        expect("the identity", (read.id, read.client_id, read.tags), (made.id, made.client_id, TAGS))
        expect("the identity's tenant", made.tenant_id, TENANT)
        for scope, found in [
            ("group", self.identities.list_by_resource_group(GROUP)),
            ("subscription", self.identities.list_by_subscription()),
        ]:
            expect(f"the identity in the list of the {scope}", NAME in [one.name for one in found], True)
        put = self.credentials.create_or_update
        put(GROUP, NAME, "flux", self.wanted)
        listed = [(one.name, one.subject, one.audiences) for one in self.credentials.list(GROUP, NAME)]
        expect("the credentials", listed, [("flux", SUBJECT, AUDIENCES)])
        again = lambda: put(GROUP, NAME, "other", self.wanted)
        expect_refusal("the same pair again", "BadRequest", HttpResponseError, again)
        unknown = lambda: self.credentials.get(GROUP, "none", "flux")
        expect_refusal("a missing parent", "ParentResourceNotFound", ResourceNotFoundError, unknown)

    def read(self):
        identity = self.identities.get(GROUP, NAME)
        credentials = [
            {"issuer": one.issuer, "subject": one.subject, "audiences": one.audiences}
            for one in self.credentials.list(GROUP, NAME)
        ]
        return identity, {"clientId": identity.client_id, "location": identity.location, "credentials": credentials}

    def unmake(self):
        for credential in list(self.credentials.list(GROUP, NAME)):
            self.credentials.delete(GROUP, NAME, credential.name)
        self.identities.delete(GROUP, NAME)
        self.identities.delete(GROUP, NAME)
        gone = lambda: self.identities.get(GROUP, NAME)
        expect_refusal("an identity that is gone", "ResourceNotFound", ResourceNotFoundError, gone)
        if self.groups.get(GROUP).tags == TAGS:
            self.groups.begin_delete(GROUP).wait()


class DevOps:
    """What is made in the organisation."""

    def __init__(self, who):
        token = who.get_token(DEVOPS).token
        connection = Connection(
            base_url=f"https://dev.azure.com/{ORGANIZATION}",
            creds=BasicTokenAuthentication({"access_token": token}),
        )
        clients = connection.clients_v7_1
        self.core, self.git = clients.get_core_client(), clients.get_git_client()
        self.location, self.security = clients.get_location_client(), clients.get_security_client()
        self.graph, self.identities = clients.get_graph_client(), clients.get_identity_client()
        self.members = clients.get_member_entitlement_management_client()
        self.project = self.core.get_project(PROJECT, include_capabilities=True)
        self.repository = self.git.get_repository(REPOSITORY, project=PROJECT)
        self.tokens = {
            PROJECT_NAMESPACE: f"$PROJECT:vstfs:///Classification/TeamProject/{self.project.id}",
            GIT_NAMESPACE: f"repoV2/{self.project.id}/{self.repository.id}",
        }

    def look(self):
        me = self.location.get_connection_data().authenticated_user
        expect("the caller is somebody", me.id != "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", True)
        expect("the project in the list", PROJECT in [one.name for one in self.core.get_projects()], True)
        expect("the repository's project", self.repository.project.id, self.project.id)
        namespaces = self.security.query_security_namespaces(GIT_NAMESPACE)
        bits = {action.name: action.bit for action in namespaces[0].actions}
        expect("the bit to read", bits["GenericRead"], READ[GIT_NAMESPACE])
        may = self.security.has_permissions(GIT_NAMESPACE, 8192, self.tokens[GIT_NAMESPACE])
        expect("the caller may give rights", may, [True])

    def entitle(self, object_id):
        return self.members.add_service_principal_entitlement({
            "accessLevel": {"accountLicenseType": "express", "licensingSource": "account"},
            "servicePrincipal": {"origin": "aad", "originId": object_id, "subjectKind": "servicePrincipal"},
        })

    def principal(self, identity):
        """The identity in the organisation; nothing where it is no member."""
        listed = self.graph.list_service_principals().graph_service_principals
        return next((one for one in listed if one.origin_id == identity.principal_id), None)

    def descriptor(self, principal):
        """Its name in access control lists."""
        return self.identities.read_identities(subject_descriptors=principal.descriptor)[0].descriptor

    def make(self, identity):
        answer = self.entitle(identity.principal_id)
        # Why it failed the library can't read: it has no type for the errors.
        expect("success of the entitlement", answer.is_success, True)
        descriptor = self.descriptor(self.principal(identity))
        for namespace, bits in READ.items():
            entry = {"descriptor": descriptor, "allow": bits, "deny": 0, "extendedInfo": {}}
            container = {"token": self.tokens[namespace], "merge": True, "accessControlEntries": [entry]}
            written = self.security.set_access_control_entries(container, namespace)
            expect("what was set", [(one.allow, one.deny) for one in written], [(bits, 0)])
        return answer.service_principal_entitlement

    def try_everything(self, identity, added):
        expect("a client id for an object id", self.entitle(identity.client_id).is_success, False)
        second = self.entitle(identity.principal_id).service_principal_entitlement
        expect("the second one is the same", second.id, added.id)
        principal = self.principal(identity)
        expect("its client id", principal.application_id, identity.client_id)
        subject = principal.descriptor
        expect("the storage key", self.graph.get_storage_key(subject).value, added.id)
        expect("the descriptor", self.graph.get_descriptor(added.id).value, subject)
        keys = GraphSubjectLookup(lookup_keys=[GraphSubjectLookupKey(descriptor=subject)])
        expect("the subject", list(self.graph.lookup_subjects(keys)), [subject])
        identities = self.identities.read_identities(subject_descriptors=f"aadsp.none,{subject}")
        expect("an unknown identity", identities[0], None)

    def read(self, identity):
        principal = self.principal(identity)
        key = self.graph.get_storage_key(principal.descriptor).value
        entitlement, descriptor = self.members.get_service_principal_entitlement(key), self.descriptor(principal)

        def rights(namespace):
            lists = self.security.query_access_control_lists(
                namespace, self.tokens[namespace], descriptor, include_extended_info=True, recurse=False
            )
            entries = [entry for one in lists for entry in one.aces_dictionary.values()]
            return [(one.allow, one.deny, one.extended_info.effective_allow) for one in entries]

        return {
            "licence": entitlement.access_level.account_license_type,
            "project": rights(PROJECT_NAMESPACE),
            "repository": rights(GIT_NAMESPACE),
        }

    def unmake(self, identity):
        principal = self.principal(identity)
        if principal is None:
            return
        key, descriptor = self.graph.get_storage_key(principal.descriptor).value, self.descriptor(principal)
        for namespace, token in self.tokens.items():
            self.security.remove_access_control_entries(namespace, token, descriptor)
            left = self.security.query_access_control_lists(namespace, token, descriptor)
            expect("the entries left", left, [])
        self.members.delete_service_principal_entitlement(key)
        gone = lambda: self.members.get_service_principal_entitlement(key)
        expect_refusal("a member who is gone", "IdentityNotFoundException", AzureDevOpsServiceError, gone)


def read(arm, devops):
    identity, seen = arm.read()
    return {**seen, **devops.read(identity)}


def round_trip(arm, devops):
    before = state() if ADMIN else None
    arm.look()
    devops.look()
    made = None
    try:
        made = arm.make()
        arm.try_everything(made)
        devops.try_everything(made, devops.make(made))
        seen = read(arm, devops)
        expect("the licence", seen["licence"], "express")
        expect("the rights", (seen["project"], seen["repository"]), ([(1, 0, 1)], [(2, 0, 2)]))
    finally:
        if made:
            devops.unmake(made)
            arm.unmake()
    if before is not None:
        after = state()
        differing = [part for part in sorted({*before, *after}) if before.get(part) != after.get(part)]
        expect("the parts of the state that are left changed", differing, [])


def run(verb):
    who = credential()
    arm, devops = Arm(who), DevOps(who)
    if verb == "make":
        identity = arm.make()
        devops.make(identity)
        print(json.dumps({"clientId": identity.client_id}))
    elif verb == "read":
        print(json.dumps(read(arm, devops)))
    elif verb == "unmake":
        devops.unmake(arm.read()[0])
        arm.unmake()
    elif verb == "round-trip":
        round_trip(arm, devops)
        print("the clients found what they expected")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    logging.disable()  # one line is promised
    try:
        run(sys.argv[1] if len(sys.argv) == 2 else None)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
