//! Adds up the body masses of a table by one of its columns: `{"path": "/data/penguins.csv", "by": "Island"}`
//! becomes `{"language": "Rust", "by": "Island", "rows": 344, "groups": [{"name": ..., "count": ..., ...}]}`.

use std::collections::BTreeMap;

use kit::Failure;
use serde::{Deserialize, Serialize};

kit::handler!(summarise);

#[derive(Deserialize)]
struct Input {
    path: String,
    by: String,
}

#[derive(Serialize)]
struct Summary {
    language: &'static str,
    by: String,
    rows: u64,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: String,
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

fn summarise(Input { path, by }: Input) -> Result<Summary, Failure> {
    // Another attempt would meet the same.
    let failed = |why: String| Failure::permanent(format!("{path}: {why}"));
    let mut table = csv::Reader::from_path(&path).map_err(|error| failed(error.to_string()))?;
    let mut rows = 0;
    let mut groups = BTreeMap::<String, Vec<u64>>::new();
    for row in table.deserialize() {
        let row: BTreeMap<String, String> = row.map_err(|error| failed(error.to_string()))?;
        rows += 1;
        let name = row
            .get(&by)
            .ok_or_else(|| failed(format!("there is no column {by}")))?;
        if let Ok(mass) = row["Body Mass (g)"].parse() {
            groups.entry(name.clone()).or_default().push(mass);
        }
    }
    let groups = groups.into_iter().map(|(name, masses)| Group {
        name,
        count: masses.len() as u64,
        sum: masses.iter().sum(),
        min: masses.iter().copied().min().unwrap_or_default(),
        max: masses.iter().copied().max().unwrap_or_default(),
    });
    let (language, groups) = ("Rust", groups.collect());
    Ok(Summary {
        language,
        by,
        rows,
        groups,
    })
}
