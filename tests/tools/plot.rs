//! `ringway bench --plot`.

use std::{env, fs, process};

use crate::{backend, bench, good_bench};

/// 1. A run draws its curve into a file, over what was there. 2. Into a pipe too. 3. A file that
///    cannot be written is said before the run: nobody connects, and nothing is printed.
#[test]
fn a_run_draws_its_curve_or_says_at_once_that_it_cannot() {
    let backend = backend(&["echo"]);
    let file = env::temp_dir().join(format!("ringway-plot-{}.svg", process::id()));
    let longer_than_a_curve = "what was there before ".repeat(100_000);
    fs::write(&file, longer_than_a_curve).unwrap();
    let options = ["tcp", "--connections", "4", "--seconds", "0.2", "--plot"];
    let json = good_bench(backend.address, &[&options[..], &[file.to_str().unwrap()]].concat());
    let drawn = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"), "{drawn}");
    assert!(drawn.contains(&format!("{} operations in", json["operations"])), "{drawn}");
    assert!(drawn.contains(&format!("bench tcp --target {} ", backend.address)), "{drawn}");

    // Standard error is a pipe here.
    let (output, _) = bench(backend.address, &[&options[..], &["/dev/stderr"]].concat());
    let drawn = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{drawn}");
    assert!(drawn.contains("<svg ") && drawn.contains("</svg>\n"), "{drawn}");

    let options = [&options[..], &["/nonexistent/out.svg"]].concat();
    let (output, _) = bench(backend.address, &options);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let rule = "(name a file that can be written with --plot)\n";
    assert!(
        said.starts_with("cannot write /nonexistent/out.svg: ") && said.ends_with(rule),
        "{said}"
    );
    assert!(output.stdout.is_empty() && said.lines().count() == 1, "{said}");
}
