//! The hosts file of the namespace.

use std::net::IpAddr;

/// A hosts file that gives every one of `names` to `address`, and localhost and the machine's own name to loopback.
pub fn render(address: IpAddr, names: &[String], machine: &str) -> String {
    let local = format!("127.0.0.1 localhost {machine}");
    let mut lines = vec![local.trim_end().to_owned(), "::1 localhost".to_owned()];
    lines.extend(names.iter().map(|name| format!("{address} {name}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_the_address() {
        let names = ["dev.azure.com".to_owned(), "login.microsoftonline.com".to_owned()];
        assert_eq!(
            render([127, 0, 77, 1].into(), &names, "workstation"),
            "127.0.0.1 localhost workstation\n\
             ::1 localhost\n\
             127.0.77.1 dev.azure.com\n\
             127.0.77.1 login.microsoftonline.com\n"
        );
    }

    #[test]
    fn a_machine_without_a_name_leaves_no_blank() {
        assert_eq!(render([127, 0, 77, 1].into(), &[], ""), "127.0.0.1 localhost\n::1 localhost\n");
    }
}
