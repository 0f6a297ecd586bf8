//! The published schemas, `schema/<kind>.json`, and a validator for as much of JSON Schema as they use.

use serde_json::Value;

use crate::folder;

fn read(kind: &str) -> Value {
    let path = folder("schema").join(format!("{kind}.json"));
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("schema/{kind}.json: {e}; UPDATE=1 writes it"));
    serde_json::from_str(&text).unwrap()
}

/// Validates a message against the schema of its kind, and of its verb if it is a request.
pub(crate) fn validate(kind: &str, verb: &str, value: &Value) -> Result<(), String> {
    let root = read(kind);
    let schema = if verb.is_empty() { &root } else { &root["$defs"][verb] };
    check(&root, schema, value, "")
}

/// Validates; a keyword that is not known here is an error, so that nothing is passed over.
fn check(root: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let Value::Object(keywords) = schema else {
        return if schema == &Value::Bool(true) { Ok(()) } else { Err(format!("{path}: not allowed")) };
    };
    let fail = |problem: &str| Err(format!("{path}: {problem}"));
    for (keyword, rule) in keywords {
        match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "format" | "required" => {}
            "additionalProperties" if keywords.contains_key("properties") && rule == &Value::Bool(false) => {
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    if keywords["properties"].get(name).is_none() {
                        return fail(&format!("{name} is not known"));
                    }
                }
            }
            "additionalProperties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    if keywords.get("properties").and_then(|known| known.get(name)).is_none() {
                        check(root, rule, item, &format!("{path}/{name}"))?;
                    }
                }
            }
            "$ref" => {
                let target = root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap());
                check(root, target.unwrap_or_else(|| panic!("{rule} leads nowhere")), value, path)?;
            }
            "type" => {
                let fits = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    other => panic!("unknown type {other}"),
                };
                let names = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                if !names.iter().any(fits) {
                    return fail(&format!("is not a {rule}"));
                }
            }
            "const" if rule != value => return fail(&format!("is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => return fail(&format!("is none of {rule}")),
            "const" | "enum" => {}
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(item) = value.get(name) {
                        check(root, schema, item, &format!("{path}/{name}"))?;
                    }
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{path}/{n}"))?;
                }
            }
            "propertyNames" => {
                for (name, _) in value.as_object().into_iter().flatten() {
                    check(root, rule, &Value::String(name.clone()), &format!("{path}/{name}"))?;
                }
            }
            "minimum" if value.as_f64() < rule.as_f64() => return fail(&format!("is below {rule}")),
            "maximum" if value.as_f64() > rule.as_f64() => return fail(&format!("is above {rule}")),
            "minLength" if length(value) < rule.as_u64().unwrap() => return fail("is too short"),
            "maxLength" if length(value) > rule.as_u64().unwrap() => return fail("is too long"),
            "minItems" if value.as_array().is_some_and(|list| (list.len() as u64) < rule.as_u64().unwrap()) => {
                return fail("has too few items");
            }
            "maxItems" if value.as_array().is_some_and(|list| (list.len() as u64) > rule.as_u64().unwrap()) => {
                return fail("has too many items");
            }
            // Patterns are checked by the types themselves, which every vector goes through.
            "minimum" | "maximum" | "minLength" | "maxLength" | "minItems" | "maxItems" | "pattern" | "uniqueItems" => {
            }
            "not" => {
                if check(root, rule, value, path).is_ok() {
                    return fail("is what it must not be");
                }
            }
            "allOf" => {
                for schema in rule.as_array().unwrap() {
                    check(root, schema, value, path)?;
                }
            }
            "anyOf" | "oneOf" => {
                let results: Vec<_> =
                    rule.as_array().unwrap().iter().map(|schema| check(root, schema, value, path)).collect();
                let fits = results.iter().filter(|result| result.is_ok()).count();
                if fits == 0 || (keyword == "oneOf" && fits > 1) {
                    return fail(&format!("fits {fits} alternatives of {keyword}: {results:?}"));
                }
            }
            other => return fail(&format!("the schema has a keyword that the test does not know: {other}")),
        }
    }
    for name in keywords.get("required").and_then(Value::as_array).into_iter().flatten() {
        if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
            return fail(&format!("{name} is missing"));
        }
    }
    Ok(())
}

fn length(value: &Value) -> u64 {
    value.as_str().map_or(0, |text| text.chars().count() as u64)
}

#[cfg(feature = "schema")]
mod generate {
    use schemars::generate::SchemaSettings;
    use serde_json::{Value, json};
    use throughline_contract::command::{AdminCommand, AgentCommand, ID_BYTES_MAX};
    use throughline_contract::limits::{EVENTS_RECORDS_MAX, RECORD_ENVELOPES_MAX};

    use super::read;
    use crate::kinds::{KINDS, schema, verbs};
    use crate::{folder, update};

    #[test]
    fn schemas_are_up_to_date() {
        for kind in KINDS {
            let generator = SchemaSettings::draft2020_12().into_generator();
            let mut generated = schema(kind, generator).to_value();
            if *kind == "in-record" {
                generated = one_or_several("Envelope", RECORD_ENVELOPES_MAX, generated);
            } else if *kind == "events" {
                generated = one_or_several("EventRecord", EVENTS_RECORDS_MAX, generated);
            } else if verbs(kind) != [""] {
                generated = requests(kind, generated);
            }
            generated["title"] = json!(format!("Throughline v1: {kind}"));
            if update() {
                let text = format!("{:#}\n", sorted(&generated));
                std::fs::write(folder("schema").join(format!("{kind}.json")), text).unwrap();
            } else {
                assert!(read(kind) == generated, "schema/{kind}.json is out of date; UPDATE=1 writes it anew");
            }
        }
    }

    /// One of something, or an array of them.
    fn one_or_several(name: &str, most: usize, mut one: Value) -> Value {
        let (version, mut definitions) = (one["$schema"].take(), one["$defs"].take());
        for key in ["$schema", "$defs", "title"] {
            one.as_object_mut().unwrap().remove(key);
        }
        definitions[name] = one;
        let one = json!({"$ref": format!("#/$defs/{name}")});
        json!({
            "$schema": version,
            "$defs": definitions,
            "anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": most}],
        })
    }

    /// The payload of each verb, under `$defs/<verb>`, since the verb itself is in the subject.
    fn requests(kind: &str, mut tagged: Value) -> Value {
        let mut definitions = tagged["$defs"].take();
        if definitions.is_null() {
            definitions = json!({});
        }
        for alternative in tagged["oneOf"].take().as_array().unwrap() {
            let verb = alternative["properties"]["verb"]["const"].as_str().unwrap();
            let changes = AgentCommand::CHANGING.contains(&verb) || AdminCommand::CHANGING.contains(&verb);
            let mut required = vec![];
            required.extend(changes.then_some("id"));
            let args = &alternative["properties"]["args"];
            required.extend(args.get("required").map(|_| "args"));
            definitions[verb] = json!({
                "type": "object",
                "description": alternative["description"],
                "properties": {
                    "id": {"type": "string", "minLength": u8::from(changes), "maxLength": ID_BYTES_MAX},
                    "args": args,
                },
                "required": required,
            });
        }
        let any: Vec<_> = verbs(kind).iter().map(|verb| json!({"$ref": format!("#/$defs/{verb}")})).collect();
        json!({
            "$schema": tagged["$schema"],
            "description": "The verb is the end of the subject; the payload of each is $defs/<verb>.",
            "$defs": definitions,
            "anyOf": any,
        })
    }

    /// The same value with the fields of its objects in order of their names.
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut fields: Vec<_> = map.iter().collect();
                fields.sort_by_key(|(name, _)| *name);
                fields.into_iter().map(|(name, item)| (name.clone(), sorted(item))).collect()
            }
            Value::Array(items) => items.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
}
