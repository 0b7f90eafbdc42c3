"""A token by Azure's official Python clients, unchanged.

    identity.py workload | managed-identity | secret | certificate     azure-identity
    identity.py msal                                                   msal, with the secret

It takes the variables of Azure's clients, and prints one line of JSON: {"token": …} or {"error": …}.
"""

import json
import logging
import os
import sys

import msal
from azure.identity import (
    CertificateCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

SCOPE = "499b84ac-1321-427f-aa17-267ca6975798/.default"
TENANT, CLIENT = os.environ.get("AZURE_TENANT_ID"), os.environ.get("AZURE_CLIENT_ID")
# A failure comes at once: how long a client tries again is its own business.
OPTIONS = {"retry_total": 0}


def by_msal():
    authority = f"https://login.microsoftonline.com/{TENANT}"
    secret = os.environ["AZURE_CLIENT_SECRET"]
    app = msal.ConfidentialClientApplication(CLIENT, client_credential=secret, authority=authority)
    answer = app.acquire_token_for_client([SCOPE])
    if "access_token" not in answer:
        raise RuntimeError(answer.get("error_description"))
    return answer["access_token"]


CREDENTIALS = {
    "workload": lambda: WorkloadIdentityCredential(**OPTIONS),
    "managed-identity": lambda: ManagedIdentityCredential(client_id=CLIENT, **OPTIONS),
    "secret": lambda: ClientSecretCredential(TENANT, CLIENT, os.environ["AZURE_CLIENT_SECRET"], **OPTIONS),
    "certificate": lambda: CertificateCredential(
        TENANT, CLIENT, os.environ["AZURE_CLIENT_CERTIFICATE_PATH"], **OPTIONS
    ),
}


def token(kind):
    return by_msal() if kind == "msal" else CREDENTIALS[kind]().get_token(SCOPE).token


if __name__ == "__main__":
    logging.disable()
    if len(sys.argv) != 2 or sys.argv[1] not in [*CREDENTIALS, "msal"]:
        sys.exit(__doc__)
    try:
        print(json.dumps({"token": token(sys.argv[1])}))
    except Exception as error:
        print(json.dumps({"error": str(error)}))
