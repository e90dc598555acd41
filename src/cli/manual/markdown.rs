//! Writes a page of the manual from Markdown, as far as the documentation of this repository uses it: headings,
//! paragraphs, lists, tables and blocks of code.

use std::mem;

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// The columns of a line of code, so that a page with its margins fits 80 columns.
const CODE_WIDTH: usize = 68;

/// Appends a text to a page. The first heading is the page's title and is omitted.
pub(super) fn append(page: &mut Roff, text: &str) {
    let mut writer = Writer { page, paragraph: String::new(), after_heading: true };
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let content = line.trim();
        if let Some(fence) = fence(line) {
            let code: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != fence).collect();
            writer.code(&code);
        } else if content.starts_with('|') {
            let mut rows = Vec::new();
            while let Some(row) = lines.next_if(|row| row.trim().starts_with('|')) {
                rows.push(cells(row));
            }
            // the second line separates the head from the rows
            rows.iter().skip(1).for_each(|row| writer.row(row));
        } else if let Some((mark, item)) = item(content) {
            let mut text = item.to_owned();
            while let Some(more) =
                lines.next_if(|line| line.starts_with("  ") && self::item(line.trim()).is_none())
            {
                text = format!("{text} {}", more.trim());
            }
            writer.item(mark, &text);
        } else if let Some(heading) = content.strip_prefix("## ") {
            writer.heading("SH", &heading.to_uppercase());
        } else if let Some(heading) = content.strip_prefix("### ") {
            writer.heading("SS", heading);
        } else if content.is_empty() || content.starts_with("# ") || content.starts_with("<!--") {
            writer.end_paragraph();
        } else {
            writer.add(content);
        }
    }
    writer.end_paragraph();
}

/// Appends a section "See also" with a list of pages, such as `onecred(1)`.
pub(super) fn append_see_also(page: &mut Roff, pages: &[&str]) {
    page.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (index, reference) in pages.iter().enumerate() {
        let (name, section) = reference.split_at(reference.find('(').unwrap_or(reference.len()));
        let comma = if index + 1 == pages.len() { "" } else { ", " };
        line.extend([bold(name), roman(format!("{section}{comma}"))]);
    }
    page.text(line);
}

/// The mark and the text of a list's item.
fn item(line: &str) -> Option<(&str, &str)> {
    let (mark, text) = line.split_once(' ')?;
    let number = mark.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok());
    (mark == "-" || number).then_some((mark, text))
}

/// The end of a block of code that begins with this line.
fn fence(line: &str) -> Option<&'static str> {
    line.trim_start().starts_with("```").then_some("```")
}

/// The cells of a table's row.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|').replace("\\|", "\0");
    row.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

struct Writer<'p> {
    page: &'p mut Roff,
    paragraph: String,
    /// Whether a heading comes before, which is followed by a paragraph anyway.
    after_heading: bool,
}

impl Writer<'_> {
    fn add(&mut self, line: &str) {
        if !self.paragraph.is_empty() {
            self.paragraph.push(' ');
        }
        self.paragraph.push_str(line);
    }

    /// Writes the paragraph. One that begins with bold code describes this.
    fn end_paragraph(&mut self) {
        let text = mem::take(&mut self.paragraph);
        let described = text.strip_prefix("**`").and_then(|rest| rest.split_once("`**"));
        match described {
            _ if text.is_empty() => return,
            Some((code, rest)) => self.definition(vec![bold(code)], rest.trim()),
            None => {
                if !self.after_heading {
                    self.page.control("PP", []);
                }
                self.page.text(inlines(&text));
            }
        }
        self.after_heading = false;
    }

    fn heading(&mut self, request: &str, heading: &str) {
        self.end_paragraph();
        self.page.control(request, [heading]);
        self.after_heading = true;
    }

    fn definition(&mut self, tag: Vec<Inline>, text: &str) {
        self.page.control("TP", []);
        self.page.text(tag);
        self.page.text(inlines(text));
        self.after_heading = false;
    }

    /// Writes an item of a list. One that begins with code and a colon describes this.
    fn item(&mut self, mark: &str, text: &str) {
        self.end_paragraph();
        let described = text.starts_with('`').then(|| text.split_once("`: ")).flatten();
        match described {
            Some((codes, rest)) => self.definition(inlines(&format!("{codes}`")), rest),
            None => {
                let mark = if mark == "-" { ["\\(bu", "2"] } else { [mark, "4"] };
                self.page.control("IP", mark);
                self.page.text(inlines(text));
                self.after_heading = false;
            }
        }
    }

    /// Writes a row of a table: the first cell, the columns between in parentheses, and the last cell below.
    fn row(&mut self, row: &[String]) {
        self.end_paragraph();
        let [first, between @ .., last] = row else { return };
        let mut tag = inlines(first);
        let between: Vec<String> = match between {
            [value, default] if default.starts_with('`') => {
                vec![format!("{}, default {default}", plain(value))]
            }
            others => others.iter().filter(|cell| !cell.is_empty()).map(|cell| plain(cell)).collect(),
        };
        if !between.is_empty() {
            tag.push(roman(format!(" ({})", plain(&between.join(", ")))));
        }
        self.definition(tag, last);
    }

    fn code(&mut self, lines: &[&str]) {
        self.end_paragraph();
        let indent = lines.first().map_or(0, |line| line.len() - line.trim_start().len());
        self.page.control("PP", []).control("RS", ["4"]).control("EX", []);
        for line in lines {
            for part in wrapped(line.get(indent..).unwrap_or_default()) {
                self.page.text([roman(part)]);
            }
        }
        self.page.control("EE", []).control("RE", []);
        self.after_heading = false;
    }
}

/// A long command as several lines.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = line.to_owned();
    while rest.chars().count() > CODE_WIDTH {
        let limit = rest.char_indices().nth(CODE_WIDTH - 2).map_or(rest.len(), |(byte, _)| byte);
        let indent = rest.len() - rest.trim_start().len();
        let Some(space) = rest[indent..limit].rfind(' ').map(|space| space + indent) else { break };
        lines.push(format!("{} \\", rest[..space].trim_end()));
        rest = format!("    {}", rest[space..].trim_start());
    }
    lines.push(rest);
    lines
}

/// A text without marks for code, emphasis and links.
fn plain(text: &str) -> String {
    inlines(text)
        .into_iter()
        .map(|part| match part {
            Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => text,
            Inline::LineBreak => "\n".into(),
        })
        .collect()
}

/// A text with its marks: code and emphasis become bold, and of a link the text is kept.
fn inlines(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    let (mut rest, mut strong) = (text, false);
    let push = |parts: &mut Vec<Inline>, text: &str, strong: bool| {
        if !text.is_empty() {
            parts.push(if strong { bold(text) } else { roman(text) });
        }
    };
    while let Some(at) = rest.find(['`', '*', '[']) {
        let after = &rest[at..];
        if let Some((code, more)) = after.strip_prefix('`').and_then(|after| after.split_once('`')) {
            push(&mut parts, &rest[..at], strong);
            push(&mut parts, code, true);
            rest = more;
        } else if let Some(more) = after.strip_prefix("**") {
            push(&mut parts, &rest[..at], strong);
            (rest, strong) = (more, !strong);
        } else if let Some((label, more)) = link(after) {
            push(&mut parts, &rest[..at], strong);
            parts.extend(inlines(label));
            rest = more;
        } else {
            let next = at + 1;
            push(&mut parts, &rest[..next], strong);
            rest = &rest[next..];
        }
    }
    push(&mut parts, rest, strong);
    parts
}

/// The text of a link at the beginning, and what follows the link.
fn link(text: &str) -> Option<(&str, &str)> {
    let (label, after) = text.strip_prefix('[')?.split_once("](")?;
    let (_, more) = after.split_once(')')?;
    (!label.contains('[')).then_some((label, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text becomes, without the definitions at the beginning of each page.
    fn written(text: &str) -> String {
        let mut page = Roff::new();
        append(&mut page, text);
        page.to_roff()
    }

    #[test]
    fn each_form_has_its_request() {
        for (text, expected) in [
            ("# Title\n\nOne\nparagraph.\n\nAnother.", "One paragraph.\n.PP\nAnother.\n"),
            ("## A part\n\nText.\n\n### Below\n\nMore.", ".SH \"A PART\"\nText.\n.SS Below\nMore.\n"),
            ("<!-- a comment -->\n\nText.", "Text.\n"),
            ("`code`, **strong** and [a link](there.md).", "\\fBcode\\fR, \\fBstrong\\fR and a link.\n"),
            ("a * b, [x], `", "a * b, [x], `\n"),
            ("**`Get(s name)`** returns it.", ".TP\n\\fBGet(s name)\\fR\nreturns it.\n"),
            (
                "- `/etc`, `/usr`: files\n  of two lines\n- an item\n",
                ".TP\n\\fB/etc\\fR, \\fB/usr\\fR\nfiles of two lines\n.IP \\(bu 2\nan item\n",
            ),
            ("1. one\n   and more\n2. two", ".IP 1. 4\none and more\n.IP 2. 4\ntwo\n"),
            ("| a | b |\n|---|---|\n| `X` | is `y` |", ".TP\n\\fBX\\fR\nis \\fBy\\fR\n"),
            (
                "| key | value | default | meaning |\n|---|---|---|---|\n| `a` | list of [B](#b) | `1` | c \\| d |\n| `e` | text | required | f |\n| `g` | text |  | h |",
                ".TP\n\\fBa\\fR (list of B, default 1)\nc | d\n.TP\n\\fBe\\fR (text, required)\nf\n.TP\n\\fBg\\fR (text)\nh\n",
            ),
            (
                "Run:\n\n```sh\nonecred get x\n  # more\n```\n",
                "Run:\n.PP\n.RS 4\n.EX\nonecred get x\n  # more\n.EE\n.RE\n",
            ),
        ] {
            assert_eq!(written(text), expected, "{text}");
        }
    }

    #[test]
    fn long_commands_are_continued() {
        let command = format!("busctl {} {}", "a".repeat(50), "b".repeat(30));
        assert_eq!(
            wrapped(&command),
            [format!("busctl {} \\", "a".repeat(50)), format!("    {}", "b".repeat(30))]
        );
        assert_eq!(wrapped("short"), ["short"]);
        let word = "w".repeat(100);
        assert_eq!(wrapped(&word), [word]);
    }
}
