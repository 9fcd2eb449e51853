//! The bench: an experiment is one YAML file, a trial is one process, a claim is data with a statistical test, and a
//! reproduction is a folder of tables, figures, verdicts and one report.
//!
//! `lab` knows no tensor and no paper. A paper implements [`paper::Paper`]; everything else, from reading the YAML to
//! writing `report.html`, is here.
//!
//! ```text
//! experiment.yaml ─▶ config ─▶ paper::Reproduction ─▶ trials ─▶ executor ─▶ rows ─▶ claims ─▶ verdicts
//!                                                                             └──▶ tables, figures ─▶ report
//! ```

pub mod atomic;
pub mod claim;
pub mod config;
pub mod digest;
pub mod error;
pub mod executor;
pub mod experiment;
mod faults;
pub mod figure;
pub mod judge;
mod lock;
pub mod paper;
pub mod progress;
pub mod report;
pub mod row;
pub mod rows_file;
pub mod run;
pub mod schema;
mod signals;
pub mod stats;
pub mod table;
pub mod trial;
mod yaml;
