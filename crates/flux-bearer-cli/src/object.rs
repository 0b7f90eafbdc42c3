//! Objects as JSON: what a check reads of them. What is missing is empty, for no check is about its form.

use serde_json::Value;

/// A text; empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A number; 0 where there is none.
pub(crate) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The items of a list; none where there is no list.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Its name.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Its namespace.
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `namespace/name`, as it is shown.
pub(crate) fn path(object: &Value) -> String {
    format!("{}/{}", namespace(object), name(object))
}

/// The condition of this type, as (status, reason, message).
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let found = items(object, "/status/conditions").find(|condition| text(condition, "/type") == kind)?;
    Some((text(found, "/status"), text(found, "/reason"), text(found, "/message")))
}

/// A text of somebody else as one word of a command, whatever is in it: a person will paste it into a shell.
pub(crate) fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@=".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) { text.to_owned() } else { quoted(text) }
}

/// A merge patch as one word of a command.
pub(crate) fn patch(patch: &Value) -> String {
    quoted(&patch.to_string())
}

fn quoted(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A text of somebody else, bounded and on one line.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_somebody_else_wrote_is_one_word_in_a_shell() {
        assert_eq!(word("flux-system"), "flux-system");
        assert_eq!(word(""), "''");
        assert_eq!(word("x; rm -rf ~"), "'x; rm -rf ~'");
        assert_eq!(word("x'$(id)\n"), r"'x'\''$(id)'");
        assert_eq!(patch(&json!({"url": "https://x/'; id"})), r#"'{"url":"https://x/'\''; id"}'"#);
    }
}
