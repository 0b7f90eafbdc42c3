// A token by Go's official clients, unchanged:
//
//	go-clients workload | managed-identity | secret | certificate    azidentity
//	go-clients flux                                                   fluxcd/pkg/auth, as Flux's `provider: azure` does
//	go-clients auth-options URL < SECRET                              fluxcd/pkg/git: how Flux reads a Secret
//	go-clients push URL TEXT < SECRET                                 fluxcd/pkg/git/gogit: how Flux's image automation pushes
//
// The first five take the variables of Azure's clients and print one line of JSON: {"token": …} or {"error": …}. The others
// read the data of a Secret as JSON and sign in with what Flux reads of it: one prints that, the other clones the branch main,
// commits TEXT as the file flux.txt, pushes, and prints {"commit": …} or {"error": …}.
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
	"github.com/fluxcd/pkg/git/gogit"
	"github.com/fluxcd/pkg/git/repository"
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
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if len(os.Args) == 4 && os.Args[1] == "push" {
		say("commit")(push(ctx, os.Args[2], os.Args[3]))
		return
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: see the head of main.go")
		os.Exit(2)
	}
	say("token")(token(ctx, os.Args[1]))
}

// Prints what was got under this name, or the error.
func say(name string) func(string, error) {
	return func(got string, err error) {
		said := map[string]string{name: got}
		if err != nil {
			said = map[string]string{"error": err.Error()}
		}
		_ = json.NewEncoder(os.Stdout).Encode(said)
	}
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

// What Flux signs in with at a URL, by the data of a Secret on standard input.
func readSecret(text string) (*git.AuthOptions, error) {
	where, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	// Base64, as a Secret has it.
	data := map[string][]byte{}
	if err := json.Unmarshal(input, &data); err != nil {
		return nil, err
	}
	read, err := git.NewAuthOptions(*where, data)
	if err != nil {
		return nil, err
	}
	return read, read.Validate()
}

// What image-automation-controller does with a repository, by the same calls.
func push(ctx context.Context, where, text string) (string, error) {
	read, err := readSecret(where)
	if err != nil {
		return "", err
	}
	folder, err := os.MkdirTemp("", "push-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	client, err := gogit.NewClient(folder, read, gogit.WithDiskStorage(), gogit.WithSingleBranch(false))
	if err != nil {
		return "", err
	}
	defer client.Close()
	branch := repository.CheckoutStrategy{Branch: "main"}
	if _, err := client.Clone(ctx, where, repository.CloneConfig{CheckoutStrategy: branch}); err != nil {
		return "", err
	}
	author := git.Signature{Name: "Flux", Email: "flux@contoso.example", When: time.Now()}
	files := repository.WithFiles(map[string]io.Reader{"flux.txt": strings.NewReader(text)})
	commit, err := client.Commit(git.Commit{Author: author, Message: text}, files)
	if err != nil {
		return "", err
	}
	return commit, client.Push(ctx, repository.PushConfig{})
}

func authOptions(where string) error {
	read, err := readSecret(where)
	if err != nil {
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
