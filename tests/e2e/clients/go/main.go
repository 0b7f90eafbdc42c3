// A token by Go's official clients, unchanged:
//
//	go-clients workload | managed-identity | secret | certificate    azidentity
//	go-clients flux                                                   fluxcd/pkg/auth, as Flux's `provider: azure` does
//	go-clients auth-options URL < SECRET                              fluxcd/pkg/git: how Flux reads a Secret
//
// The first five take the variables of Azure's clients and print one line of JSON: {"token": …} or {"error": …}. The last
// reads the data of a Secret as JSON and prints what Flux would sign in with.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/fluxcd/pkg/auth"
	fluxazure "github.com/fluxcd/pkg/auth/azure"
	"github.com/fluxcd/pkg/git"
)

const scope = "499b84ac-1321-427f-aa17-267ca6975798/.default"

// A failure comes at once: how long a client tries again is its own business.
var options = azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "auth-options" {
		if err := authOptions(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: see the head of main.go")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	said := map[string]string{}
	if token, err := token(ctx, os.Args[1]); err != nil {
		said["error"] = err.Error()
	} else {
		said["token"] = token
	}
	_ = json.NewEncoder(os.Stdout).Encode(said)
}

func token(ctx context.Context, kind string) (string, error) {
	if kind == "flux" {
		// What source-controller calls for a GitRepository with `provider: azure`.
		where := &url.URL{Scheme: "https", Host: "dev.azure.com", Path: "/contoso/platform/_git/fleet"}
		credentials, err := auth.GetGitCredentials(ctx, fluxazure.Provider{}, auth.WithGitURL(*where))
		if err != nil {
			return "", err
		}
		return credentials.BearerToken, nil
	}
	credential, err := credential(kind)
	if err != nil {
		return "", err
	}
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	return token.Token, err
}

func credential(kind string) (azcore.TokenCredential, error) {
	tenant, client := os.Getenv("AZURE_TENANT_ID"), os.Getenv("AZURE_CLIENT_ID")
	switch kind {
	case "workload":
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: options})
	case "managed-identity":
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
			ClientOptions: options, ID: azidentity.ClientID(client),
		})
	case "secret":
		return azidentity.NewClientSecretCredential(tenant, client, os.Getenv("AZURE_CLIENT_SECRET"),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	case "certificate":
		pem, err := os.ReadFile(os.Getenv("AZURE_CLIENT_CERTIFICATE_PATH"))
		if err != nil {
			return nil, err
		}
		certificates, key, err := azidentity.ParseCertificates(pem, nil)
		if err != nil {
			return nil, err
		}
		return azidentity.NewClientCertificateCredential(tenant, client, certificates, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: options})
	}
	return nil, errors.New("no such credential: " + kind)
}

func authOptions(text string) error {
	where, err := url.Parse(text)
	if err != nil {
		return err
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	// Base64, as a Secret has it.
	data := map[string][]byte{}
	if err := json.Unmarshal(input, &data); err != nil {
		return err
	}
	read, err := git.NewAuthOptions(*where, data)
	if err != nil {
		return err
	}
	if err := read.Validate(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"transport":   strings.ToLower(string(read.Transport)),
		"username":    read.Username,
		"password":    read.Password,
		"bearerToken": read.BearerToken,
		"ca":          len(read.CAFile) > 0,
	})
}
