//! The little XML that query and S3 answers need: elements with text, written in order.

/// Writes elements one after the other.
#[derive(Clone, Debug, Default)]
pub struct Xml(String);

impl Xml {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `<name>text</name>`, the text escaped.
    #[must_use]
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.0.extend(["<", name, ">"]);
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                // XML 1.0 has no way to write other control characters.
                '\t' | '\n' => self.0.push(character),
                '\r' => self.0.push_str("&#13;"),
                character if character < ' ' || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                    self.0.push('\u{fffd}');
                }
                character => self.0.push(character),
            }
        }
        self.0.extend(["</", name, ">"]);
        self
    }

    /// Adds `<name>…</name>` around what `inside` holds.
    #[must_use]
    pub fn element(self, name: &str, inside: Xml) -> Self {
        self.open(name, "", inside)
    }

    /// As [`Self::element`], with a namespace.
    #[must_use]
    pub fn root(self, name: &str, namespace: &str, inside: Xml) -> Self {
        self.open(name, &format!(" xmlns=\"{namespace}\""), inside)
    }

    fn open(mut self, name: &str, attributes: &str, inside: Xml) -> Self {
        self.0.extend(["<", name, attributes, ">", &inside.0, "</", name, ">"]);
        self
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let inside = Xml::new().text("A", "<&>\"\u{1}é\n").text("B", "");
        let xml = Xml::new().root("R", "urn:x", inside).into_string();
        assert_eq!(xml, "<R xmlns=\"urn:x\"><A>&lt;&amp;&gt;&quot;\u{fffd}é\n</A><B></B></R>");
    }
}
