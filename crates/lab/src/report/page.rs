//! The page: verdicts first, then everything they rest on. One file, no script, nothing fetched.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Report, ReportError, parts, provenance};
use crate::experiment::Scale;

/// The whole report as one HTML page that needs no network and no script.
///
/// # Errors
/// Where a table or a figure does not hold together.
pub fn html(report: &Report) -> Result<String, ReportError> {
    let shown = report.presentation;
    let tables = parts::tables(&shown.tables)?;
    let figures = parts::figures(&shown.figures)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(report))
            body { main {
                (header(report))
                section id="verdicts" { h2 { "Verdicts" } (parts::verdicts(report)) }
                section id="protocol" { h2 { "Protocol" } (protocol(report)) }
                @if !shown.tables.is_empty() { section id="tables" { h2 { "Tables" } (tables) } }
                @if !shown.figures.is_empty() { section id="figures" { h2 { "Figures" } (figures) } }
                @if !shown.pictures.is_empty() {
                    section id="pictures" { h2 { "Pictures" } (parts::pictures(&shown.pictures)) }
                }
                @if !shown.metrics.is_empty() { section id="metrics" { h2 { "What was measured" } (metrics(report)) } }
                section id="again" { h2 { "Run it again" } (provenance::again(report)) }
                section id="provenance" { h2 { "Provenance" } (provenance::facts(report)) }
                (footer())
            } }
        }
    };
    Ok(page.into_string())
}

/// Name of a scale with what it means.
pub(super) fn scale(scale: Scale) -> &'static str {
    match scale {
        Scale::Quick => "quick",
        Scale::Standard => "standard",
        Scale::Paper => "paper",
    }
}

fn head(report: &Report) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (report.header.paper) " (" (scale(report.header.scale)) "): what holds" }
            style { (PreEscaped(include_str!("style.css"))) }
        }
    }
}

fn header(report: &Report) -> Markup {
    let shown = report.presentation;
    let links = [
        ("verdicts", "Verdicts", true),
        ("protocol", "Protocol", true),
        ("tables", "Tables", !shown.tables.is_empty()),
        ("figures", "Figures", !shown.figures.is_empty()),
        ("pictures", "Pictures", !shown.pictures.is_empty()),
        ("metrics", "What was measured", !shown.metrics.is_empty()),
        ("again", "Run it again", true),
        ("provenance", "Provenance", true),
    ];
    html! {
        header {
            p.kicker { "Reproduction of a paper · " (scale(report.header.scale)) " scale" }
            h1 { (report.title) }
            p.citation { (report.citation) }
            (parts::summary(report))
            nav aria-label="Contents" { ul {
                @for (id, name, _) in links.iter().filter(|link| link.2) { li { a href={ "#" (id) } { (name) } } }
            } }
        }
    }
}

fn protocol(report: &Report) -> Markup {
    html! {
        @for paragraph in report.header.about.split("\n\n").filter(|text| !text.trim().is_empty()) {
            p { (parts::marked(paragraph)) }
        }
        @for paragraph in &report.presentation.protocol { p { (parts::marked(paragraph)) } }
        dl.pairs.wide {
            @for (role, name) in &report.header.data { dt { "Data: " (role) } dd { (name) } }
            dt { "Seeds" }
            dd { (report.header.seeds) ", from " (report.header.seed) "; the same for every arm, so that arms are paired" }
            dt { "Measurements" }
            dd { (report.rows.len()) " rows in " a href="rows.parquet" { "rows.parquet" } }
        }
        p.caption {
            "How a verdict is reached: a claim is supported where the confidence interval of its estimate lies wholly where \
             the claim says, refuted where it lies wholly elsewhere or, where the claim’s margin was registered in advance, \
             where it holds zero and excludes that margin; it is inconclusive otherwise. Intervals of paired \
             differences are Student’s t over seeds unless the table says otherwise; families of comparisons are adjusted \
             after Holm; equivalence asks for the interval within a stated region. Fewer than six equal values decide nothing."
        }
    }
}

fn metrics(report: &Report) -> Markup {
    html! {
        dl.metrics {
            @for (name, meaning) in &report.presentation.metrics { dt { (name) } dd { (meaning) } }
        }
    }
}

fn footer() -> Markup {
    html! {
        footer {
            "Made by difflab. Every number on this page is in " a href="claims.csv" { "claims.csv" } ", "
            code { "tables/" } " or " a href="rows.parquet" { "rows.parquet" } " beside it."
        }
    }
}
