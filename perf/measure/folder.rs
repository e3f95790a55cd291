//! Where the run keeps its files, and where the report goes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ringway::errno::cause;
use time::OffsetDateTime;

use crate::{chart, figure::Outcome, machine::Facts, report};

/// A directory of our own, gone with its guard.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Result<TempDir, String> {
        let files = std::env::temp_dir().join(format!("ringway-measure-{}", std::process::id()));
        make(&files)?;
        Ok(TempDir(files))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A report to be written: its file does not exist yet, its folder of charts does, and goes with
/// this guard where nothing came into it.
pub struct Report {
    folder: PathBuf,
    /// Of the file and of the folder beside it.
    name: String,
}

impl Report {
    /// Takes the next free name of today; before the run, so that nobody runs one for nothing.
    pub fn open(folder: &Path) -> Result<Report, String> {
        let today = OffsetDateTime::now_utc().date();
        let names = (1..).map(|count| match count {
            1 => format!("{today}-compare"),
            more => format!("{today}-compare-{more}"),
        });
        for name in names {
            if !folder.join(format!("{name}.md")).exists() && !folder.join(&name).exists() {
                make(&folder.join(&name))?;
                return Ok(Report { folder: folder.to_owned(), name });
            }
        }
        Err("no free name is left".to_owned())
    }

    pub fn write(
        &self,
        facts: &Facts,
        contenders: &[String],
        outcomes: &[Outcome],
    ) -> Result<(), String> {
        let mut text = report::head(&self.name, facts);
        for outcome in outcomes {
            let figures = outcome.case.figures().len();
            let chart = |figure: usize| match figures {
                1 => format!("{}/{}.svg", self.name, outcome.case.name),
                _ => format!("{}/{}-{}.svg", self.name, outcome.case.name, figure + 1),
            };
            for figure in 0..figures {
                self.save(&chart(figure), &chart::svg(outcome, figure))?;
            }
            text += &format!("{}\n", report::case(outcome, Some(&chart)));
        }
        text += &report::settings(contenders);
        let file = format!("{}.md", self.name);
        self.save(&file, &text)?;
        println!("written: {}", self.folder.join(file).display());
        Ok(())
    }

    fn save(&self, file: &str, text: &str) -> Result<(), String> {
        let path = self.folder.join(file);
        fs::write(&path, text)
            .map_err(|error| format!("cannot write {}: {}", path.display(), cause(&error)))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        // Refused where there are charts.
        let _ = fs::remove_dir(self.folder.join(&self.name));
    }
}

fn make(folder: &Path) -> Result<(), String> {
    fs::create_dir(folder)
        .map_err(|error| format!("cannot make {}: {}", folder.display(), cause(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure;

    #[test]
    fn a_report_that_is_not_written_leaves_nothing() {
        let files = TempDir::new().unwrap();
        let left = || fs::read_dir(&files.0).unwrap().count();
        let report = Report::open(&files.0).unwrap();
        assert_eq!(left(), 1);
        drop(report);
        assert_eq!(left(), 0);
        let report = Report::open(&files.0).unwrap();
        let outcome = figure::tests::outcome("idle", &[("nginx", &[7.0])]);
        report.write(&Vec::new(), &[], &[outcome]).unwrap();
        drop(report);
        assert_eq!(left(), 2, "not a file and its folder");
    }
}
