//! JSON schemas (draft-07) of the experiment files, for editors: made of the very structs that read them.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

/// The draft-07 schema of `T`, as `T` is read.
#[must_use]
pub fn of<T: JsonSchema>() -> serde_json::Value {
    SchemaSettings::draft07().for_deserialize().into_generator().into_root_schema_for::<T>().into()
}

/// The comment that makes an editor check a file against the schema at `relative`, with its end of line.
#[must_use]
pub fn modeline(relative: &str) -> String {
    format!("# yaml-language-server: $schema={relative}\n")
}

#[cfg(test)]
mod tests {
    use crate::experiment::Experiment;

    #[test]
    fn schema_is_draft_07_refuses_unknown_keys_and_carries_the_documentation() {
        let schema = super::of::<Experiment<f64, bool>>();
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["seeds"]["description"], "How many seeds every seeded study runs.");
        let required = schema["required"].as_array().map(Vec::len);
        assert_eq!(required, Some(7), "data and seed have defaults: {}", schema["required"]);
    }
}
