//! The pieces of the page: the summary, the table of verdicts, tables, figures, pictures.

use base64::Engine;
use maud::{Markup, PreEscaped, html};

use super::{Report, ReportError, claims};
use crate::claim::{Claim, Verdict};
use crate::figure::{Figure, render_panels};
use crate::judge::{Judgement, quantity};
use crate::paper::Picture;
use crate::table::{Cell, Kind, Table, TableError, kinds, readable, shown};

const ORDER: [Verdict; 4] =
    [Verdict::Supported, Verdict::Refuted, Verdict::Inconclusive, Verdict::NotTestable];

fn count(report: &Report, verdict: Verdict) -> usize {
    report.judgements.iter().filter(|judgement| judgement.verdict == verdict).count()
}

/// The sentence and the four counts.
pub(super) fn summary(report: &Report) -> Markup {
    let total = report.judgements.len();
    let judged = total - count(report, Verdict::NotTestable);
    html! {
        p.lead {
            (total) (if total == 1 { " claim" } else { " claims" }) ", of which " (judged) " could be tested at this scale:"
        }
        ul.tally {
            @for verdict in ORDER {
                @let (symbol, word) = claims::words(verdict);
                li class=(claims::name(verdict)) { b { (count(report, verdict)) } (symbol) " " (word) }
            }
        }
    }
}

/// Claim, what the paper says, what we find, the verdict: what was tested first, what could not be tested after it.
pub(super) fn verdicts(report: &Report) -> Markup {
    let mut claims: Vec<(&Claim, &Judgement)> = report.header.claims.iter().zip(report.judgements).collect();
    claims.sort_by_key(|(_, judgement)| judgement.verdict == Verdict::NotTestable);
    html! {
        div.scroll {
            table.claims {
                colgroup { col.says; col.paper; col.ours; col; }
                thead { tr { th { "Claim" } th { "The paper prints" } th { "We find" } th { "Verdict" } } }
                tbody {
                    @for (claim, judgement) in claims { (verdict(claim, judgement)) }
                }
            }
        }
        p.caption { "The same as data: " a href="claims.csv" { "claims.csv" } }
    }
}

fn verdict(claim: &Claim, judgement: &Judgement) -> Markup {
    let (symbol, word) = claims::words(judgement.verdict);
    html! {
        tr id={ "claim-" (claim.id) } {
            td { span.id { (claim.id) } (claim.says) span.source { (claims::source(&claim.source)) } }
            td { span.label { "The paper prints" } (published(claim)) }
            td { span.label { "We find" } (found(claim, judgement)) }
            td {
                span class={ "verdict " (claims::name(judgement.verdict)) } { (symbol) " " (word) }
                @if !judgement.note.is_empty() { p.note { (marked(&judgement.note)) } }
                @if let Some(note) = &claim.note { p.note.added { (marked(note)) } }
            }
        }
    }
}

/// Text in which `names` stand between backticks.
pub(super) fn marked(text: &str) -> Markup {
    let paired = text.matches('`').count().is_multiple_of(2);
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 0 { (part) } @else if paired { code { (part) } } @else { "`" (part) }
        }
    }
}

fn published(claim: &Claim) -> Markup {
    let numbers = claims::published(claim);
    html! {
        @if numbers.is_empty() { span.quiet { "no number" } }
        @else {
            dl.pairs { @for (name, value) in numbers { dt { (name.replace('_', " ")) } dd { (value) } } }
            @if let Some(unit) = &claim.unit { span.n { (unit) } }
        }
    }
}

fn found(claim: &Claim, judgement: &Judgement) -> Markup {
    html! {
        @match claims::ours(judgement) {
            Some((value, interval)) => {
                span.big { (value) }
                @if let Some(unit) = claims::unit(claim) { " " (unit) }
                @if let Some(interval) = interval { br; span.interval { (interval) } }
                span.n { "n = " (judgement.n) }
                @if let Some(quantity) = quantity(&claim.test) { span.n { (quantity) } }
            }
            None => span.quiet { "not measured" }
        }
    }
}

/// Tables with heading, caption and links to their files.
pub(super) fn tables(tables: &[Table]) -> Result<Markup, TableError> {
    let all = tables.iter().map(one_table).collect::<Result<Vec<_>, _>>()?;
    Ok(html! { @for table in all { (table) } })
}

fn one_table(table: &Table) -> Result<Markup, TableError> {
    let kinds = kinds(table)?;
    let class = |index: usize| match kinds[index] {
        Kind::Text if longest(table, index) > 48 => "text long",
        Kind::Text => "text",
        Kind::Real | Kind::Whole => "number",
    };
    let (rows, left_out) = readable(table);
    Ok(html! {
        h3 id={ "table-" (table.id) } { (marked(&table.title)) }
        div.scroll { table.data {
            thead { tr { @for (index, name) in table.columns.iter().enumerate() {
                th class=(class(index)) { (name.replace('_', " ")) }
            } } }
            tbody { @for row in rows { tr {
                @for (index, cell) in row.iter().enumerate() { td class=(class(index)) { (shown(cell)) } }
            } } }
        } }
        p.caption {
            @if let Some(left_out) = left_out { b { (left_out) } " " }
            (marked(&table.caption)) " As data: " a href={ "tables/" (table.id) ".csv" } { (table.id) ".csv" } "."
        }
    })
}

fn longest(table: &Table, column: usize) -> usize {
    let length = |row: &Vec<Cell>| shown(&row[column]).chars().count();
    table.rows.iter().map(length).max().unwrap_or(0)
}

/// Figures, each panel an inline SVG of its own so that they stand below each other on a narrow page.
pub(super) fn figures(figures: &[Figure]) -> Result<Markup, ReportError> {
    let mut all = Vec::new();
    for figure in figures {
        let panels = render_panels(figure)?;
        let class = if panels.len() == 1 { "panels one" } else { "panels" };
        all.push(html! {
            figure id={ "figure-" (figure.id) } {
                h3 { (marked(&figure.title)) }
                div class=(class) { @for panel in panels { div.card { (PreEscaped(panel)) } } }
                figcaption.caption {
                    (marked(&figure.caption)) " As a file: " a href={ "figures/" (figure.id) ".svg" } { (figure.id) ".svg" } "."
                }
            }
        });
    }
    Ok(html! { @for figure in all { (figure) } })
}

/// Pictures, embedded.
pub(super) fn pictures(pictures: &[Picture]) -> Markup {
    let data = |png: &[u8]| base64::engine::general_purpose::STANDARD.encode(png);
    html! {
        @for picture in pictures {
            figure id={ "picture-" (picture.id) } {
                h3 { (marked(&picture.title)) }
                div.card { img alt=(picture.title) src={ "data:image/png;base64," (data(&picture.png)) }; }
                figcaption.caption { (marked(&picture.caption)) }
            }
        }
    }
}
