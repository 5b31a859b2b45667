//! JSON values one after another on a stream, without lengths or line ends between them.

use serde_json::Value;

/// Cuts a stream of bytes into JSON texts. Every byte is looked at once, however it arrives.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    /// How far the buffer has been looked at.
    seen: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

/// The most one message may hold, bytes: a southbound database of thousands of ports fits.
const MOST: usize = 256 << 20;

impl Splitter {
    /// Adds bytes that arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// What arrived is no JSON object or array, or is longer than a message may be.
    pub(super) fn next(&mut self) -> Result<Option<Value>, String> {
        while self.seen < self.buffer.len() {
            let byte = self.buffer[self.seen];
            self.seen += 1;
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let rest = self.buffer.split_off(self.seen);
                        let whole = std::mem::replace(&mut self.buffer, rest);
                        self.seen = 0;
                        return serde_json::from_slice(&whole)
                            .map(Some)
                            .map_err(|e| format!("not JSON: {e}"));
                    }
                }
                b'"' if self.depth > 0 => self.in_text = true,
                byte if self.depth == 0 && !byte.is_ascii_whitespace() => {
                    return Err("not a JSON object".to_owned());
                }
                _ => {}
            }
        }
        if self.buffer.len() > MOST {
            return Err(format!("a message of more than {MOST} bytes"));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_are_cut_wherever_the_stream_is() {
        let text = br#"{"a":"}\"{","b":[1,{}]} [2]{"c":3}"#;
        for piece in 1..text.len() {
            let mut splitter = Splitter::default();
            let mut found = Vec::new();
            for part in text.chunks(piece) {
                splitter.push(part);
                while let Some(message) = splitter.next().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(
                found,
                [
                    json!({"a": "}\"{", "b": [1, {}]}),
                    json!([2]),
                    json!({"c": 3})
                ],
                "in pieces of {piece}"
            );
        }
    }

    #[test]
    fn what_is_no_message_is_told() {
        for wrong in ["hello", "}", "\"text\"", "{]"] {
            let mut splitter = Splitter::default();
            splitter.push(wrong.as_bytes());
            assert!(splitter.next().is_err(), "{wrong}");
        }
    }
}
