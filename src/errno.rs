//! Why a system call failed, in words. A leaf: every room may say it.

use std::io;

/// The cause of a failed call the way our error texts say it: lower case, without the number.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |c| c.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_lower_case_and_has_no_number() {
        let error = io::Error::from_raw_os_error(98);
        assert_eq!(cause(&error), "address already in use");
    }
}
