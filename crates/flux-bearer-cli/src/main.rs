//! The program `flux-bearer`, also found as `flux bearer` and, under the name `kubectl-flux_bearer`, as
//! `kubectl flux-bearer`.

use std::process::exit;

use flux_bearer_cli::exit::Exit;
use flux_bearer_cli::out::Out;
use flux_bearer_cli::real;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ! {
    let edge = match real::edge() {
        Ok(edge) => edge,
        Err(trouble) => exit(Out::process().trouble(&trouble).code().into()),
    };
    let done = tokio::select! {
        done = flux_bearer_cli::run(std::env::args_os().collect(), &edge) => done,
        Ok(()) = tokio::signal::ctrl_c() => {
            edge.out.waited();
            edge.out.failure("interrupted; what was done so far stays valid: run it again to go on");
            Exit::Interrupted
        }
    };
    // Not by returning: a read of the terminal that nobody answers would be waited for.
    exit(done.code().into())
}
