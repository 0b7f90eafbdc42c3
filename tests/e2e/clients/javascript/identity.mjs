// A token by Azure's official JavaScript client, unchanged:
//
//   node identity.mjs workload | managed-identity | secret | certificate
//
// It takes the variables of Azure's clients, and prints one line of JSON: {"token": …} or {"error": …}.

import {
  ClientCertificateCredential,
  ClientSecretCredential,
  ManagedIdentityCredential,
  WorkloadIdentityCredential,
} from "@azure/identity";

const scope = "499b84ac-1321-427f-aa17-267ca6975798/.default";
const { AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH } = process.env;
// A failure comes at once: how long a client tries again is its own business.
const options = { retryOptions: { maxRetries: 0 } };

const credentials = {
  workload: () => new WorkloadIdentityCredential(options),
  "managed-identity": () => new ManagedIdentityCredential({ ...options, clientId: AZURE_CLIENT_ID }),
  secret: () => new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, options),
  certificate: () =>
    new ClientCertificateCredential(
      AZURE_TENANT_ID,
      AZURE_CLIENT_ID,
      { certificatePath: AZURE_CLIENT_CERTIFICATE_PATH },
      options,
    ),
};

const make = credentials[process.argv[2]];
if (!make) {
  console.error("usage: see the head of identity.mjs");
  process.exit(2);
}
try {
  const { token } = await make().getToken(scope);
  console.log(JSON.stringify({ token }));
} catch (error) {
  console.log(JSON.stringify({ error: `${error.message}` }));
}
