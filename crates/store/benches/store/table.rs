//! The table that is printed: a row for each figure, a column for each engine.

/// An engine's figures.
pub(crate) struct Column {
    engine: String,
    /// What was measured, with its goal, and what came out.
    figures: Vec<(String, String)>,
}

impl Column {
    pub(crate) fn new(engine: &str) -> Self {
        Self { engine: engine.to_owned(), figures: Vec::new() }
    }

    /// Adds a figure; says it at once, since a run takes minutes.
    pub(crate) fn add(&mut self, what: &str, goal: &str, figure: String) {
        eprintln!("{}: {what}: {figure}", self.engine);
        let what = if goal.is_empty() { what.to_owned() } else { format!("{what} (goal: {goal})") };
        self.figures.push((what, figure));
    }
}

/// Prints the columns beside each other. A figure that an engine lacks is left empty.
pub(crate) fn print(columns: &[Column]) {
    let mut rows: Vec<&str> = Vec::new();
    for (what, _) in columns.iter().flat_map(|column| &column.figures) {
        if !rows.contains(&what.as_str()) {
            rows.push(what);
        }
    }
    let names: Vec<&str> = columns.iter().map(|column| column.engine.as_str()).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for row in rows {
        let cells = columns.iter().map(|column| {
            let figure = column.figures.iter().find(|(what, _)| what == row);
            figure.map_or("", |(_, figure)| figure)
        });
        println!("| {row} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
