//! Any answer at all: none may end the process, and none may be taken for a token or a yes.

use flux_bearer::identity::Selector;
use flux_bearer::repository::Repository;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::imds::Imds;
use flux_bearer_azure::mint::{Azure, Credential};
use flux_bearer_azure::probe::probe;
use flux_bearer_azure::resource::Resource;
use proptest::prelude::*;

use crate::server::{CLIENT, TENANT, plain, refusing, server, with};

/// Half of an answer, a wrong one, or noise. None is a whole good one.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        r#"\{"error(_codes|_description)?":[\[\]{}",:0-9A-Z -]{0,60}\}?"#.prop_map(String::into_bytes),
        r#"\{"error_description":"(AADSTS[0-9]{0,12}[: ]?){0,4}"\}"#.prop_map(String::into_bytes),
        r"[0-9a-fA-F+-]{0,5}# service=git-[a-z]{0,12}\n?".prop_map(String::into_bytes),
        "[\\[{\"]{0,400}".prop_map(String::into_bytes),
    ]
}

async fn ask_everyone(http: Http) {
    let selector = Selector::System;
    assert!(Imds::new(http.clone()).mint(Resource::AzureDevOps, &selector).await.is_err());
    let repository = Repository::parse("https://dev.azure.com/org/project/_git/repo").unwrap();
    assert!(probe(&http, &repository, &"token".into()).await.is_err());
    let identity = flux_bearer::identity::Identity::ClientSecret {
        tenant_id: TENANT.into(),
        client_id: CLIENT.into(),
        namespace: String::new(),
        secret: String::new(),
    };
    let azure = Azure::new(http, refusing(), Authority::default());
    assert!(azure.mint(&identity, Credential::ClientSecret("secret".into())).await.is_err());
}

proptest! {
    #[test]
    fn row_15_no_answer_ends_the_process(status in 200_u16..1000, body in bodies(), header in "[ -~]{0,40}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let names = ["date", "retry-after", "retry-after-ms", "content-type", "x-ms-request-id", "activityid"];
        let http = server(move |_| with(plain(status, body.clone()), &names.map(|name| (name, header.as_str())))).0;
        runtime.block_on(ask_everyone(http));
    }
}
