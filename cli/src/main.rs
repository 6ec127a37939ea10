//! `user-llm`: the command line of User-LLM.
//!
//! Here alone the environment is read, the device is chosen, and anything is printed.
#![recursion_limit = "256"]

mod ablate;
mod add_items;
mod arguments;
mod bench;
mod config;
mod data;
mod doctor;
mod embed;
mod evaluate;
mod export;
mod failure;
mod files;
mod generate;
mod interrupt;
mod logging;
mod origin;
mod output;
mod parquet_file;
mod people;
mod recommend;
mod report;
mod runs;
mod table;
mod training;
mod vectors;
mod workplace;

use std::process::ExitCode;

use arguments::{Command, Options};
use clap::Parser;
use workplace::Workplace;

/// How a command that did not fail has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It did what was asked.
    Done,
    /// Somebody pressed Ctrl-C, and all is saved.
    Interrupted,
    /// It looked for problems and found one.
    Problem,
}

fn main() -> ExitCode {
    let options = Options::parse();
    logging::start(options.global.verbose);
    let ended = interrupt::listen().and_then(|()| run(options));
    logging::flush();
    match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Problem) => ExitCode::FAILURE,
        Ok(Ended::Interrupted) => ExitCode::from(interrupt::EXIT_CODE),
        Err(error) => {
            output::note(&failure::tell(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<Ended> {
    let workplace = Workplace::new(options.global);
    match options.command {
        Command::Data(data) => data::run(&workplace, data.command),
        Command::Config(config) => config::run(&config),
        Command::Pretrain(training) => training::pretrain(&workplace, &training),
        Command::Tune(tune) => training::tune(&workplace, &tune),
        Command::Evaluate(evaluate) => evaluate::run(&workplace, &evaluate),
        Command::Report(report) => report::run(&workplace, &report),
        Command::Ablate(ablate) => ablate::run(&workplace, &ablate),
        Command::Recommend(recommend) => recommend::run(&workplace, &recommend),
        Command::AddItems(add) => add_items::run(&workplace, &add),
        Command::Embed(embed) => embed::run(&workplace, &embed),
        Command::Generate(generate) => generate::run(&workplace, &generate),
        Command::Export(export) => export::run(&workplace, &export),
        Command::Bench(bench) => bench::run(&workplace, &bench),
        Command::Doctor => doctor::run(&workplace),
    }
}
