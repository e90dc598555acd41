//! Draws a terminal as an SVG image, in which one step appears after the other.
use std::fmt::Write;

/// The mark at the beginning of a step.
const MARK: char = '✓';
/// The width of a column and the height of a line, in the image's units.
const COLUMN: f32 = 7.8;
const LINE: usize = 18;
const MARGIN: usize = 16;
/// How long a step takes to appear, in seconds.
const STEP: f32 = 0.9;

/// The image of a command and its output.
pub fn svg(command: &str, output: &str) -> String {
    let lines: Vec<String> =
        std::iter::once(format!("$ {command}")).chain(output.lines().map(str::to_owned)).collect();
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default().max(80);
    let width = (columns as f32).mul_add(COLUMN, 2.0 * MARGIN as f32).ceil();
    let height = lines.len() * LINE + 2 * MARGIN;
    let mut image = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"ui-monospace, monospace\" font-size=\"13\">\n\
         <style>\n\
         text {{ fill: #d8dee9; white-space: pre; animation: appear 0.2s both }}\n\
         .mark {{ fill: #a3be8c }}\n\
         @keyframes appear {{ from {{ opacity: 0 }} }}\n\
         @media (prefers-reduced-motion) {{ text {{ animation: none }} }}\n\
         </style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#242933\"/>\n"
    );
    let mut steps = 0;
    for (n, line) in lines.iter().enumerate() {
        steps += usize::from(n == 1 || line.starts_with(MARK));
        let (y, delay) = (MARGIN + (n + 1) * LINE - 5, steps as f32 * STEP);
        let text = match line.strip_prefix(MARK) {
            Some(rest) => format!("<tspan class=\"mark\">{MARK}</tspan>{}", escaped(rest)),
            None => escaped(line),
        };
        let _ = writeln!(
            image,
            "<text x=\"{MARGIN}\" y=\"{y}\" xml:space=\"preserve\" style=\"animation-delay: {delay:.1}s\">{text}</text>"
        );
    }
    image + "</svg>\n"
}

/// The output in an image, without the command.
pub fn output_of(svg: &str) -> String {
    let texts = svg.lines().filter(|line| line.starts_with("<text ")).skip(1);
    let text = |line: &str| {
        let inner = line.split_once('>').map_or("", |(_, rest)| rest);
        let inner = inner.strip_suffix("</text>").unwrap_or(inner);
        let inner = inner.replace("<tspan class=\"mark\">", "").replace("</tspan>", "");
        inner.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") + "\n"
    };
    texts.map(text).collect()
}

/// An output in which digits and the random part of paths are replaced, because they differ in each run.
pub fn without_what_differs(output: &str) -> String {
    let mut words = String::new();
    for (n, word) in output.split("onecred-demo-").enumerate() {
        let random = word.chars().take_while(char::is_ascii_hexdigit).count();
        words += if n == 0 { word } else { &word[random..] };
        words += "onecred-demo-";
    }
    let mut text = String::new();
    for c in words.chars() {
        match c.is_ascii_digit() {
            true if text.ends_with('0') => {}
            true => text.push('0'),
            false => text.push(c),
        }
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_its_output() {
        let output =
            "a < b & \"c\"\n\n✓ done after 12.34 ms\n    in /tmp/onecred-demo-00ab12ff/secrets.json:4\n";
        assert_eq!(output_of(&svg("onecred demo", output)), output);
        let other = output.replace("12.34", "5.6").replace("00ab12ff", "ffffffff");
        assert_eq!(without_what_differs(output), without_what_differs(&other));
        assert_ne!(without_what_differs(output), without_what_differs(&other.replace("done", "begun")));
    }
}
