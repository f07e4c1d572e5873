//! Objects as documents, YAML or JSON, that a terminal can show: what would command it or disguise text is written as
//! escapes of the format, so that whatever reads the document gets the same data.

use serde_json::{Map, Value};

use crate::fault::Fault;
use crate::sanitize;

/// The object as indented JSON.
pub(crate) fn json(object: &Value) -> Result<String, Fault> {
    let text = serde_json::to_string_pretty(object);
    let text = text.map_err(|error| Fault::new("writing JSON", error, ""))?;
    Ok(sanitize::escaped(&text))
}

/// The object as YAML.
pub(crate) fn yaml(object: &Value) -> Result<String, Fault> {
    let mut strings = Vec::new();
    let mark = mark(object);
    let marked = replaced(object, &mark, &mut strings);
    let text = serde_saphyr::to_string(&marked);
    let text = text.map_err(|error| Fault::new("writing YAML", error, ""))?;
    let mut parts = text.split(&mark);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // What follows a mark is a number and an end.
        let (number, rest) = part.split_once(END).unwrap_or((part, ""));
        let string = number
            .parse()
            .ok()
            .and_then(|number: usize| strings.get(number));
        clean.push_str(
            &string
                .map(|string| sanitize::quoted(string))
                .unwrap_or_default(),
        );
        clean.push_str(rest);
    }
    Ok(clean)
}

/// Ends the number behind a mark.
const END: char = 'z';

/// A word that is in no string of the object.
fn mark(object: &Value) -> String {
    let text = object.to_string();
    let mut mark = "escaped".to_owned();
    while text.contains(&mark) {
        mark.push('x');
    }
    mark
}

/// The object with words in the place of strings that are unsafe to show.
fn replaced(value: &Value, mark: &str, strings: &mut Vec<String>) -> Value {
    let word = |text: &String, strings: &mut Vec<String>| {
        if sanitize::is_clean(text) {
            return text.clone();
        }
        strings.push(text.clone());
        format!("{mark}{}{END}", strings.len() - 1)
    };
    match value {
        Value::String(text) => Value::String(word(text, strings)),
        Value::Array(items) => {
            let items = items.iter().map(|item| replaced(item, mark, strings));
            Value::Array(items.collect())
        }
        Value::Object(fields) => {
            let mut map = Map::new();
            for (key, value) in fields {
                let key = word(key, strings);
                map.insert(key, replaced(value, mark, strings));
            }
            Value::Object(map)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_disguises_text_is_escaped_in_every_format() {
        let object = json!({
            "plain": "text", "turned": "x\u{202e}fdp.exe", "k\u{1b}ey": ["a\u{9b}2J\"\\", "line\none"],
        });
        let yaml = yaml(&object).unwrap();
        assert!(yaml.contains(r#"turned: "x\u202efdp.exe""#), "{yaml}");
        assert!(yaml.contains("plain: text"), "{yaml}");
        let json = json(&object).unwrap();
        assert!(json.contains(r#""turned": "x\u202efdp.exe""#), "{json}");
        for text in [&yaml, &json] {
            assert!(sanitize::is_clean(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn documents_are_clean_and_hold_the_same_data(
            texts in prop::collection::vec(
                "[a-z\u{1b}\u{202e}\u{2066}\u{85}\u{7f}\u{2028}\r\n\t\"'\\\\: #escapd0z-]{0,12}", 1..14),
        ) {
            let mut object = Map::new();
            for (number, text) in texts.iter().enumerate() {
                object.insert(format!("{number}{text}"), json!([text, {"t": text}]));
            }
            let object = Value::Object(object);
            let written = yaml(&object).unwrap();
            prop_assert!(sanitize::is_clean(&written), "{:?}", written);
            let read: Value = serde_saphyr::from_str(&written).unwrap();
            prop_assert_eq!(&read, &object, "{}", written);
            let written = super::json(&object).unwrap();
            prop_assert!(sanitize::is_clean(&written));
            let read: Value = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(read, object);
        }
    }
}
