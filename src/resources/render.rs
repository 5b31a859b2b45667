//! Messages as people read them: like those of rustc, with the line and a caret.

use super::diagnostic::Diagnostic;
use super::text::column_in_excerpt;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

/// Renders errors one below the other, with an empty line between them. `color` asks for the
/// colours of a terminal.
pub fn render<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>, color: bool) -> String {
    all(diagnostics, &Level::ERROR, color)
}

/// As [`render`], as warnings.
pub fn warnings<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>, color: bool) -> String {
    all(diagnostics, &Level::WARNING, color)
}

fn all<'a>(
    diagnostics: impl IntoIterator<Item = &'a Diagnostic>,
    level: &Level<'_>,
    color: bool,
) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = String::new();
    for diagnostic in diagnostics {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&one(diagnostic, level, &renderer));
        text.push('\n');
    }
    text
}

fn one(diagnostic: &Diagnostic, level: &Level<'_>, renderer: &Renderer) -> String {
    let title = level.clone().primary_title(&diagnostic.message);
    let origin = Origin::path(&diagnostic.file);
    let mut group = if diagnostic.line == 0 {
        title.element(origin)
    } else if diagnostic.excerpt.trim().is_empty() {
        title.element(origin.line(diagnostic.line).char_column(diagnostic.column))
    } else {
        let column = column_in_excerpt(diagnostic);
        let snippet = Snippet::source(&diagnostic.excerpt)
            .line_start(diagnostic.line)
            .annotation(AnnotationKind::Primary.span(bytes(diagnostic, column)));
        if column == diagnostic.column {
            title.element(snippet.path(&diagnostic.file))
        } else {
            // The line is cut, so its own columns are not those of the file.
            title
                .element(origin.line(diagnostic.line).char_column(diagnostic.column))
                .element(snippet)
        }
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    renderer.render(&[group])
}

/// The underlined bytes of the excerpt.
fn bytes(diagnostic: &Diagnostic, column: usize) -> std::ops::Range<usize> {
    let excerpt = &diagnostic.excerpt;
    let byte_of = |character: usize| {
        excerpt
            .char_indices()
            .nth(character)
            .map_or(excerpt.len(), |(byte, _)| byte)
    };
    let start = byte_of(column.saturating_sub(1));
    start..byte_of(column.saturating_sub(1) + diagnostic.length.max(1))
}

/// How many messages there are, in words: `3 errors in 2 files`.
pub fn summary<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) -> String {
    let mut files: Vec<&str> = Vec::new();
    let mut count = 0;
    for diagnostic in diagnostics {
        count += 1;
        if !files.contains(&diagnostic.file.as_str()) {
            files.push(&diagnostic.file);
        }
    }
    let word = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    format!("{} in {}", word(count, "error"), word(files.len(), "file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::text::{Span, Text};

    #[test]
    fn the_caret_stands_below_the_place_also_after_wide_characters() {
        let text = Text::new("a.yaml", "x: 1\nñandú: zwei\n");
        let span = Span {
            line: 2,
            column: 8,
            length: 4,
        };
        let found = text.diagnostic(span, "not a number", Some("write 2".to_owned()));
        let expected = "\
error: not a number
 --> a.yaml:2:8
  |
2 | ñandú: zwei
  |        ^^^^
  |
  = help: write 2
";
        assert_eq!(render([&found], false), expected);
    }

    #[test]
    fn a_cut_line_keeps_the_column_of_the_file() {
        let text = Text::new(
            "a.yaml",
            format!("{}X{}", "a".repeat(1000), "b".repeat(1000)),
        );
        let found = text.diagnostic(
            Span {
                line: 1,
                column: 1001,
                length: 1,
            },
            "wrong",
            None,
        );
        let shown = render([&found], false);
        assert!(shown.contains("a.yaml:1:1001"), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let source = lines
            .iter()
            .find(|l| l.contains('X'))
            .expect("the line is shown");
        let caret = lines
            .iter()
            .find(|l| l.contains('^'))
            .expect("and its caret");
        assert_eq!(
            source.chars().position(|c| c == 'X'),
            caret.chars().position(|c| c == '^'),
            "{shown}"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_has_no_line() {
        let broken = crate::resources::decode::whole_file("a.yaml", "it is too large");
        assert_eq!(
            render(&broken.diagnostics, false),
            "error: it is too large\n--> a.yaml\n"
        );
        assert_eq!(broken.diagnostics[0].to_string(), "a.yaml: it is too large");
    }
}
