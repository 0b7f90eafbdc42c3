//! `explain`: the page of a check, from the binary itself, so that it is there without a network.

use serde_json::{Value, json};

use crate::args::{Explain, Format, Global};
use crate::checks::{self, Check, Severity};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};

pub(super) fn run(wanted: &Explain, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let one = wanted.id.as_deref().map(checks::named).transpose()?;
    match (one, global.output) {
        (Some(check), Format::Json) => edge.out.document(Format::Json, &described(check)),
        (Some(check), Format::Name) => edge.out.data(&format!("{}\n", check.id)),
        (Some(check), _) => edge.out.data(check.page),
        (None, Format::Json) => edge.out.document(Format::Json, &checks::all().map(described).collect()),
        (None, Format::Name) => {
            let ids: Vec<&str> = checks::all().map(|check| check.id).collect();
            edge.out.data(&(ids.join("\n") + "\n"));
        }
        (None, _) => {
            let row = |check: &Check| vec![check.id.to_owned(), severity(check).to_owned(), check.says.to_owned()];
            edge.out.table(&["CHECK", "SEVERITY", "WHERE NOTHING IS WRONG"], checks::all().map(row).collect());
        }
    }
    Ok(Exit::Done)
}

fn described(check: &Check) -> Value {
    json!({
        "id": check.id, "category": check.category(), "severity": severity(check), "says": check.says,
        "needs": check.needs, "page": check.page,
    })
}

fn severity(check: &Check) -> &'static str {
    match check.severity {
        Severity::Fail => "fail",
        Severity::Warn => "warn",
    }
}
